//! Stack algorithms: the misses of caches of many sizes in one pass over the references.
//!
//! Under a *stack algorithm* a larger cache always holds what a smaller one holds (R. L. Mattson, J. Gecsei,
//! D. R. Slutz, I. L. Traiger, "Evaluation techniques for storage hierarchies", IBM Systems Journal 9(2),
//! 1970). So the blocks stand in one stack, whose uppermost n are what a cache of n blocks holds, and one
//! number for each reference, the depth at which its block is found, says which caches it hits. LRU and the
//! optimum are such algorithms; most are not.

use super::optimum::{NEVER, next_uses};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use hashbrown::HashMap;

/// LRU's stack: the misses of caches of all sizes.
///
/// A block's depth is the number of distinct blocks used since its own last use, itself included. They are
/// counted in a tree of sums over the positions of last uses (P. M. Fenwick, "A new data structure for
/// cumulative frequency tables", Software: Practice and Experience 24(3), 1994; used so first, with another
/// tree, by F. Olken, "Efficient methods for calculating the success function of fixed space replacement
/// policies", LBL-12370, 1981). O(log n) a reference for n distinct blocks; the memory does not grow with the
/// number of references.
///
/// ```
/// use libos_fs::cache::LruStack;
///
/// let mut stack = LruStack::default();
/// [1, 2, 3, 1, 2, 3].iter().for_each(|block| stack.reference(*block));
/// assert_eq!([stack.misses(2), stack.misses(3)], [6, 3]);
/// ```
#[derive(Default)]
pub struct LruStack {
    /// Position of the last use of each block.
    last_use: HashMap<u64, usize>,
    /// 1 at each of these positions.
    uses: Sums,
    /// Position of the next use; smaller than the length of `uses`, or the positions are packed first.
    position: usize,
    /// Hits by depth, from depth 1 on.
    hits: Vec<u64>,
    references: u64,
}

impl LruStack {
    /// References a block.
    pub fn reference(&mut self, block: u64) {
        self.references += 1;
        if self.position == self.uses.length() {
            self.pack();
        }
        if let Some(last) = self.last_use.insert(block, self.position) {
            // All last uses but those up to and with `last`, and then the block itself.
            let depth = self.last_use.len() - self.uses.up_to(last) + 1;
            if self.hits.len() < depth {
                self.hits.resize(depth, 0);
            }
            self.hits[depth - 1] += 1;
            self.uses.remove(last);
        }
        self.uses.insert(self.position);
        self.position += 1;
    }

    /// Misses of a cache with so many buffers.
    pub fn misses(&self, capacity: usize) -> u64 {
        self.references - self.hits.iter().take(capacity).sum::<u64>()
    }

    /// Moves the last uses, in order, to the lowest positions, and leaves as many free behind them.
    fn pack(&mut self) {
        let mut uses: Vec<(usize, u64)> = self.last_use.iter().map(|(block, last)| (*last, *block)).collect();
        uses.sort_unstable();
        for (position, (_, block)) in uses.iter().enumerate() {
            self.last_use.insert(*block, position);
        }
        self.position = uses.len();
        self.uses = Sums::full(self.position, (2 * self.position).max(1024));
    }
}

/// A set of positions that can count its members up to a position in O(log n): Fenwick's tree.
#[derive(Default)]
struct Sums {
    /// Node n − 1 counts the members among the `n & n.wrapping_neg()` positions that end before position n.
    nodes: Vec<u32>,
}

impl Sums {
    /// `members` positions from 0 on are in the set, out of `length`.
    fn full(members: usize, length: usize) -> Sums {
        let count = |number: usize| {
            let first = number - lowest_bit(number);
            number.min(members).saturating_sub(first) as u32
        };
        Sums { nodes: (1..=length).map(count).collect() }
    }

    fn length(&self) -> usize {
        self.nodes.len()
    }

    /// Puts in a position that is not in.
    fn insert(&mut self, position: usize) {
        let mut number = position + 1;
        while number <= self.nodes.len() {
            self.nodes[number - 1] += 1;
            number += lowest_bit(number);
        }
    }

    /// Takes out a position that is in.
    fn remove(&mut self, position: usize) {
        let mut number = position + 1;
        while number <= self.nodes.len() {
            self.nodes[number - 1] -= 1;
            number += lowest_bit(number);
        }
    }

    /// Members up to a position, itself included.
    fn up_to(&self, position: usize) -> usize {
        let (mut number, mut sum) = (position + 1, 0);
        while number > 0 {
            sum += self.nodes[number - 1] as usize;
            number -= lowest_bit(number);
        }
        sum
    }
}

fn lowest_bit(number: usize) -> usize {
    number & number.wrapping_neg()
}

/// The optimum's stack ([`Opt`](super::Opt)): the misses of caches of several sizes.
///
/// The stack is kept in sections, one between each size and the next. A block that is used comes to the top;
/// then, of each section down to the one it came from, the block whose next use is farthest away falls into
/// the next. That is Mattson's procedure, for the sizes in question only: O(log n) for each size that misses.
/// Nothing else is done for a hit in the smallest cache.
///
/// ```
/// use libos_fs::cache::OptStack;
///
/// let references = [1, 2, 3, 1, 2, 3];
/// let mut stack = OptStack::new(&[2, 3], references.iter().copied());
/// references.iter().for_each(|block| stack.reference(*block));
/// assert_eq!(stack.misses(), [4, 3]);
/// ```
pub struct OptStack {
    /// For each reference, the position of the next one to the same block.
    next_use: Vec<usize>,
    /// Position of the reference that comes next.
    position: usize,
    sections: Vec<Section>,
    /// Section and next use of each block in the largest cache.
    found: HashMap<u64, (usize, usize)>,
}

/// What the cache of one size holds and that of the next smaller one does not.
struct Section {
    /// Blocks it has room for: the difference of the two sizes.
    room: usize,
    /// (next use, block), all different, so that every size decides ties in the same way.
    blocks: BTreeSet<(usize, u64)>,
    /// Misses of the cache that ends with this section.
    misses: u64,
}

impl OptStack {
    /// For these sizes, which must ascend from 1 or more, and exactly these references, in order.
    pub fn new(
        sizes: &[usize],
        references: impl DoubleEndedIterator<Item = u64> + ExactSizeIterator,
    ) -> OptStack {
        let before = core::iter::once(&0).chain(sizes);
        let section = |(size, before): (&usize, &usize)| Section {
            room: size.saturating_sub(*before),
            blocks: BTreeSet::new(),
            misses: 0,
        };
        OptStack {
            next_use: next_uses(references),
            position: 0,
            sections: sizes.iter().zip(before).map(section).collect(),
            found: HashMap::new(),
        }
    }

    /// References a block, which must be the next of those it was made for.
    pub fn reference(&mut self, block: u64) {
        let next = self.next_use.get(self.position).copied().unwrap_or(NEVER);
        self.position += 1;
        let from = match self.found.get(&block) {
            Some((section, next)) => {
                self.sections[*section].blocks.remove(&(*next, block));
                *section
            }
            None => self.sections.len(),
        };
        // What falls into the next section. The block itself stays in the first, whatever its next use.
        let mut falling = Some((next, block));
        for index in 0..self.sections.len() {
            let Some(arriving) = falling.take() else { break };
            let section = &mut self.sections[index];
            let full = section.blocks.len() >= section.room;
            if index > 0 {
                section.blocks.insert(arriving);
                self.found.insert(arriving.1, (index, arriving.0));
            }
            if full {
                falling = section.blocks.pop_last();
            }
            if index == 0 {
                section.blocks.insert(arriving);
                self.found.insert(arriving.1, (index, arriving.0));
            }
        }
        if let Some((_, fallen)) = falling {
            self.found.remove(&fallen);
        }
        self.sections.iter_mut().take(from).for_each(|section| section.misses += 1);
    }

    /// Misses so far, in the order of the sizes.
    pub fn misses(&self) -> Vec<u64> {
        self.sections.iter().map(|section| section.misses).collect()
    }
}
