//! A hash join: a table of one relation, looked up for each tuple of the other.

use crate::memory::{Array, Draw, Memory};
use alloc::collections::VecDeque;

/// Tuples of the relation that goes into the table, two words each, at scale 1.
const BUILD: usize = 16 << 10;
/// Tuples of the other relation, two words each, at scale 1.
const PROBE: usize = 48 << 10;
/// Places of the table, two words each, at scale 1.
const PLACES: usize = 32 << 10;
/// Tuples that are read before the first of them is looked up: they foretell where the table is used.
const AHEAD: usize = 512;

/// Words of both relations and the table.
pub(super) fn arrays(scale: usize) -> [usize; 3] {
    [2 * BUILD * scale, 2 * PROBE * scale, 2 * PLACES * scale]
}

/// A key of the relation in the table: not 0.
fn key(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}

/// Where to look for a key first, in a table of so many places.
fn place(key: u64, places: usize) -> usize {
    (key.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 40) as usize % places
}

/// Calls `each` with the place, key and value of all tuples of a relation. Those that come next are read
/// before, and their places in the table foretold.
fn tuples<A: Array>(relation: &A, table: &A, mut each: impl FnMut(usize, u64, u64)) {
    let (count, places) = (relation.words() / 2, table.words() / 2);
    let mut ahead = VecDeque::with_capacity(AHEAD);
    let mut next = 0;
    for _ in 0..count {
        while next < count && ahead.len() < AHEAD {
            let (key, value) = (relation.get(2 * next), relation.get(2 * next + 1));
            let at = place(key, places);
            table.will_use(2 * at);
            ahead.push_back((at, key, value));
            next += 1;
        }
        if let Some((at, key, value)) = ahead.pop_front() {
            each(at, key, value);
            table.has_used(2 * at);
        }
    }
}

/// Sums the products of what belongs together.
pub(super) fn join(memory: &impl Memory, scale: usize) -> u64 {
    let [build, probe, table] = arrays(scale).map(|words| memory.array(words));
    let places = table.words() / 2;
    // Both relations are written and read once, in order.
    build.sequential(0..build.words());
    probe.sequential(0..probe.words());
    table.tells_all_of(0..table.words());
    fill(&build, &probe);
    tuples(&build, &table, |mut at, key, value| {
        while table.get(2 * at) != 0 {
            at = (at + 1) % places;
        }
        table.set(2 * at, key);
        table.set(2 * at + 1, value);
    });
    build.discard(0..build.words());
    let mut sum = 0u64;
    tuples(&probe, &table, |mut at, key, value| {
        loop {
            match table.get(2 * at) {
                0 => break,
                found if found == key => {
                    sum = sum.wrapping_add(value.wrapping_mul(table.get(2 * at + 1)));
                    break;
                }
                _ => at = (at + 1) % places,
            }
        }
    });
    sum
}

/// Makes both relations.
fn fill(build: &impl Array, probe: &impl Array) {
    let tuples = build.words() / 2;
    let mut draw = Draw::new(4);
    for number in 0..tuples {
        build.set(2 * number, key(number as u64));
        build.set(2 * number + 1, draw.number());
    }
    for number in 0..probe.words() / 2 {
        // Half of them match; few keys are asked for often.
        let far = (draw.below(1 << 20) * draw.below(1 << 20)) >> 20;
        probe.set(2 * number, key((far * 2 * tuples as u64) >> 20));
        probe.set(2 * number + 1, draw.number());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recording;
    use alloc::collections::BTreeMap;

    #[test]
    fn the_join_is_that_of_a_map() {
        let mut draw = Draw::new(4);
        let map: BTreeMap<u64, u64> = (0..BUILD as u64).map(|number| (key(number), draw.number())).collect();
        assert_eq!(map.len(), BUILD, "keys are distinct");
        let (mut sum, mut matches) = (0u64, 0);
        for _ in 0..PROBE {
            let far = (draw.below(1 << 20) * draw.below(1 << 20)) >> 20;
            let (key, value) = (key((far * 2 * BUILD as u64) >> 20), draw.number());
            if let Some(found) = map.get(&key) {
                sum = sum.wrapping_add(value.wrapping_mul(*found));
                matches += 1;
            }
        }
        assert!((PROBE / 3..PROBE).contains(&matches));
        assert_eq!(join(&Recording::default(), 1), sum);
    }
}
