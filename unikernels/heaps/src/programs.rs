//! Programs that make garbage, each with another way of writing to old objects.

use crate::collector::{Full, Heap, Root};
use crate::memory::Memory;
use core::fmt;
use core::str::FromStr;

/// What a heap is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Trees that are built from below and forgotten, beside one that stays: hardly a write to old objects.
    Trees,
    /// An old table, random places of which are made to refer to new objects.
    Table,
    /// An old table that is filled from its beginning.
    Log,
    /// Random words of data of old objects, beside new objects that die young: no reference is written.
    Counters,
}

impl Program {
    /// All of them.
    pub const ALL: [Program; 4] = [Program::Trees, Program::Table, Program::Log, Program::Counters];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Program::Trees => "trees",
            Program::Table => "table",
            Program::Log => "log",
            Program::Counters => "counters",
        }
    }

    /// Runs it; returns a digest of what is alive at the end.
    ///
    /// # Errors
    ///
    /// [`Full`], if the heap is too small: [`PAGES`] suffice.
    pub fn run<M: Memory, const SOFTWARE: bool>(self, heap: &mut Heap<M, SOFTWARE>) -> Result<u64, Full> {
        match self {
            Program::Trees => trees(heap),
            Program::Table => table(heap),
            Program::Log => log(heap),
            Program::Counters => counters(heap),
        }
    }
}

impl FromStr for Program {
    type Err = UnknownProgram;

    fn from_str(name: &str) -> Result<Program, UnknownProgram> {
        Program::ALL.into_iter().find(|program| program.name() == name).ok_or(UnknownProgram)
    }
}

/// There is no such program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownProgram;

impl fmt::Display for UnknownProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second, third, fourth] = Program::ALL.map(Program::name);
        write!(f, "there are {first}, {second}, {third}, {fourth}")
    }
}

/// Pages of a heap in which every program runs.
pub const PAGES: usize = 1025;
/// Those of them for new objects.
pub const YOUNG_PAGES: usize = 64;

/// References of the tables: pages, nearly.
const SLOTS: usize = 64 * 512;
/// Objects made by the programs with tables.
const STEPS: u64 = 40_000;

/// Numbers that look random (Knuth's multiplier).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn mix(digest: u64, word: u64) -> u64 {
    (digest.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Makes a tree of so many levels.
fn tree<M: Memory, const S: bool>(heap: &mut Heap<M, S>, levels: u32) -> Result<Root, Full> {
    let count = heap.roots();
    let children = match levels {
        0 => None,
        _ => Some((tree(heap, levels - 1)?, tree(heap, levels - 1)?)),
    };
    let node = heap.allocate(2, 1)?;
    let object = heap.at(node);
    heap.set_data(object, 0, u64::from(levels));
    if let Some((left, right)) = children {
        heap.set_reference(object, 0, heap.at(left));
        heap.set_reference(object, 1, heap.at(right));
    }
    heap.truncate_roots(count);
    Ok(heap.root(object))
}

fn tree_digest<M: Memory, const S: bool>(heap: &Heap<M, S>, object: u64) -> u64 {
    if object == 0 {
        return 1;
    }
    let below = [0, 1].map(|side| tree_digest(heap, heap.reference(object, side)));
    mix(mix(below[0], below[1]), heap.data(object, 0))
}

fn trees<M: Memory, const S: bool>(heap: &mut Heap<M, S>) -> Result<u64, Full> {
    let kept = tree(heap, 13)?;
    let mut digest = 0;
    for round in 0..200 {
        let count = heap.roots();
        let short = tree(heap, 6 + round % 5)?;
        digest = mix(digest, tree_digest(heap, heap.at(short)));
        heap.truncate_roots(count);
    }
    Ok(mix(digest, tree_digest(heap, heap.at(kept))))
}

/// A new object with two words, at a place of a table.
fn put<M: Memory, const S: bool>(
    heap: &mut Heap<M, S>,
    table: Root,
    slot: usize,
    word: u64,
) -> Result<(), Full> {
    let count = heap.roots();
    let entry = heap.allocate(1, 2)?;
    let (table, entry) = (heap.at(table), heap.at(entry));
    // The entry before stays reachable if it is one of three.
    let before = heap.reference(table, slot);
    if word.is_multiple_of(3) && before != 0 && heap.reference(before, 0) == 0 {
        heap.set_reference(entry, 0, before);
    }
    heap.set_data(entry, 0, word);
    heap.set_reference(table, slot, entry);
    heap.truncate_roots(count);
    Ok(())
}

fn table_digest<M: Memory, const S: bool>(heap: &Heap<M, S>, table: Root) -> u64 {
    let table = heap.at(table);
    (0..SLOTS).fold(0, |digest, slot| {
        let mut entry = heap.reference(table, slot);
        let mut digest = mix(digest, u64::from(entry != 0));
        while entry != 0 {
            digest = mix(digest, heap.data(entry, 0));
            entry = heap.reference(entry, 0);
        }
        digest
    })
}

fn table<M: Memory, const S: bool>(heap: &mut Heap<M, S>) -> Result<u64, Full> {
    let (table, mut numbers) = (heap.allocate(SLOTS, 0)?, Numbers(1));
    for step in 0..STEPS {
        let slot = numbers.below(SLOTS as u64) as usize;
        put(heap, table, slot, step)?;
    }
    Ok(table_digest(heap, table))
}

fn log<M: Memory, const S: bool>(heap: &mut Heap<M, S>) -> Result<u64, Full> {
    let table = heap.allocate(SLOTS, 0)?;
    for step in 0..STEPS {
        put(heap, table, step as usize % SLOTS, step)?;
    }
    Ok(table_digest(heap, table))
}

fn counters<M: Memory, const S: bool>(heap: &mut Heap<M, S>) -> Result<u64, Full> {
    let (counters, mut numbers) = (heap.allocate(0, SLOTS)?, Numbers(2));
    for step in 0..STEPS {
        let count = heap.roots();
        let short = heap.allocate(1, 4)?;
        let (counters, short) = (heap.at(counters), heap.at(short));
        heap.set_data(short, 0, step);
        let at = numbers.below(SLOTS as u64) as usize;
        heap.set_data(counters, at, heap.data(counters, at) + heap.data(short, 0));
        heap.truncate_roots(count);
    }
    let counters = heap.at(counters);
    Ok((0..SLOTS).fold(0, |digest, at| mix(digest, heap.data(counters, at))))
}
