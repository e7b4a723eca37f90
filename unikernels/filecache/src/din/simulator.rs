//! The processor caches that are simulated.

use super::trace::{KINDS, Kind};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

/// Which line of a set is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Replacement {
    /// The one used longest ago.
    Lru,
    /// The one that came in first.
    Fifo,
}

/// A cache to simulate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Whether instructions and data have a cache each, of these dimensions. Otherwise they share one.
    pub split: bool,
    /// Bytes it holds; a power of two.
    pub bytes: u32,
    /// Bytes in a line; a power of two.
    pub line_bytes: u32,
    /// Lines in a set (associativity).
    pub ways: u32,
    /// Which line of a set is replaced.
    pub replacement: Replacement,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let split = if self.split { "split" } else { "unified" };
        let Shape { bytes, line_bytes, ways, replacement, .. } = self;
        write!(f, "{split} {bytes} bytes, lines of {line_bytes}, {ways} ways, {replacement:?}")
    }
}

/// A shape that no cache can have; holds the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadShape(pub String);

/// What a simulation counted, by [`Kind`]: loads, stores, fetches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// References.
    pub references: [u64; KINDS],
    /// References to lines that were not in the cache.
    pub misses: [u64; KINDS],
}

/// No address has this tag: tags are addresses without their low bits.
const EMPTY: u64 = u64::MAX;

/// One set-associative cache.
struct SetCache {
    line_shift: u32,
    set_mask: u64,
    ways: usize,
    replacement: Replacement,
    /// Tags (line numbers), a set's ways side by side, the one to be replaced last.
    tags: Vec<u64>,
}

impl SetCache {
    fn new(shape: &Shape) -> Result<SetCache, BadShape> {
        let bad = |reason: &str| Err(BadShape(alloc::format!("{shape}: {reason}")));
        if !shape.bytes.is_power_of_two() || !shape.line_bytes.is_power_of_two() || shape.line_bytes < 2 {
            return bad("sizes must be powers of two, lines of at least 2 bytes");
        }
        let lines = shape.bytes / shape.line_bytes;
        if shape.ways == 0 || lines == 0 || !lines.is_multiple_of(shape.ways) {
            return bad("the lines can't be divided into sets");
        }
        let sets = lines / shape.ways;
        if !sets.is_power_of_two() {
            return bad("the number of sets must be a power of two");
        }
        Ok(SetCache {
            line_shift: shape.line_bytes.trailing_zeros(),
            set_mask: u64::from(sets) - 1,
            ways: shape.ways as usize,
            replacement: shape.replacement,
            tags: vec![EMPTY; lines as usize],
        })
    }

    /// Refers to an address; returns whether its line was there.
    fn refer(&mut self, address: u64) -> bool {
        let line = address >> self.line_shift;
        let first = (line & self.set_mask) as usize * self.ways;
        let set = &mut self.tags[first..first + self.ways];
        if set[0] == line {
            return true;
        }
        match set.iter().position(|tag| *tag == line) {
            Some(way) => {
                if self.replacement == Replacement::Lru {
                    set[..=way].rotate_right(1);
                }
                true
            }
            None => {
                set.rotate_right(1);
                set[0] = line;
                false
            }
        }
    }
}

/// A simulation of one [`Shape`].
pub struct Simulator {
    /// The cache for everything, or for data.
    data: SetCache,
    instructions: Option<SetCache>,
    counts: Counts,
}

impl Simulator {
    /// An empty cache of that shape.
    pub fn new(shape: &Shape) -> Result<Simulator, BadShape> {
        let instructions = if shape.split { Some(SetCache::new(shape)?) } else { None };
        Ok(Simulator { data: SetCache::new(shape)?, instructions, counts: Counts::default() })
    }

    /// Simulates one reference. Stores allocate like loads.
    pub fn refer(&mut self, kind: Kind, address: u64) {
        let cache = match &mut self.instructions {
            Some(instructions) if kind == Kind::Fetch => instructions,
            _ => &mut self.data,
        };
        self.counts.references[kind as usize] += 1;
        self.counts.misses[kind as usize] += u64::from(!cache.refer(address));
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn misses(shape: Shape, addresses: &[u64]) -> u64 {
        let mut simulator = Simulator::new(&shape).expect("the shape is sound");
        addresses.iter().for_each(|address| simulator.refer(Kind::Load, *address));
        simulator.counts().misses[Kind::Load as usize]
    }

    const SMALL: Shape =
        Shape { split: false, bytes: 32, line_bytes: 16, ways: 2, replacement: Replacement::Lru };

    #[test]
    fn lru_keeps_what_was_used_and_fifo_what_came_late() {
        let addresses = [0, 16, 0, 32, 0];
        assert_eq!(misses(SMALL, &addresses), 3);
        assert_eq!(misses(Shape { replacement: Replacement::Fifo, ..SMALL }, &addresses), 4);
    }

    #[test]
    fn sets_divide_the_addresses() {
        let direct = Shape { ways: 1, ..SMALL };
        assert_eq!(misses(direct, &[0, 16, 0, 16]), 2);
        assert_eq!(misses(direct, &[0, 32, 0, 32]), 4);
        assert_eq!(misses(SMALL, &[0, 15, 16, 31]), 2, "neighbours share a line");
    }

    #[test]
    fn split_caches_do_not_disturb_each_other() {
        let mut split = Simulator::new(&Shape { split: true, ways: 1, ..SMALL }).expect("sound");
        let mut unified = Simulator::new(&Shape { ways: 1, ..SMALL }).expect("sound");
        for simulator in [&mut split, &mut unified] {
            for _ in 0..2 {
                simulator.refer(Kind::Fetch, 0);
                simulator.refer(Kind::Store, 32);
            }
        }
        assert_eq!(split.counts(), Counts { references: [0, 2, 2], misses: [0, 1, 1] });
        assert_eq!(unified.counts(), Counts { references: [0, 2, 2], misses: [0, 2, 2] });
    }

    #[test]
    fn impossible_shapes_are_refused() {
        for shape in [
            Shape { bytes: 48, ..SMALL },
            Shape { line_bytes: 0, ..SMALL },
            Shape { ways: 0, ..SMALL },
            Shape { ways: 4, ..SMALL },
            Shape { line_bytes: 64, ..SMALL },
        ] {
            assert!(Simulator::new(&shape).is_err(), "{shape}");
        }
    }
}
