//! Stack algorithms: the misses of caches of many sizes in one pass over the references.
//!
//! Under a *stack algorithm* a larger cache always holds what a smaller one holds (R. L. Mattson, J. Gecsei,
//! D. R. Slutz, I. L. Traiger, "Evaluation techniques for storage hierarchies", IBM Systems Journal 9(2),
//! 1970). So the blocks stand in one stack, whose uppermost n are what a cache of n blocks holds, and one
//! number for each reference, the depth at which its block is found, says which caches it hits. LRU and the
//! optimum are such algorithms; most are not.

use super::string::ReferenceString;
use alloc::collections::BinaryHeap;
use alloc::vec;
use alloc::vec::Vec;

/// A block that has not been used, or a reference after which there is none to the same block.
const NEVER: u32 = u32::MAX;

/// LRU's stack: the misses of caches of all sizes.
///
/// A block's depth is the number of distinct blocks used since its own last use, itself included. They are
/// counted over the positions of last uses: one bit each, and a tree of sums over words of them (P. M.
/// Fenwick, "A new data structure for cumulative frequency tables", Software: Practice and Experience 24(3),
/// 1994; used so first, with another tree, by F. Olken, "Efficient methods for calculating the success
/// function of fixed space replacement policies", LBL-12370, 1981). O(log n) a reference for n distinct
/// blocks, in a tree of n/128 nodes. About 10 bytes for each of them.
///
/// ```
/// use libos_fs::cache::{LruStack, ReferenceString};
///
/// let string = ReferenceString::of([1, 2, 3, 1, 2, 3]).unwrap();
/// let mut stack = LruStack::default();
/// string.numbers().iter().for_each(|number| stack.reference(*number));
/// assert_eq!([stack.misses(2), stack.misses(3)], [6, 3]);
/// ```
#[derive(Default)]
pub struct LruStack {
    /// Position of the last use of each block, by its number.
    last_use: Vec<u32>,
    /// Blocks that have been used.
    distinct: usize,
    /// These positions.
    uses: Positions,
    /// Position of the next use; smaller than the length of `uses`, or the positions are packed first.
    position: usize,
    /// Hits by depth, from depth 1 on.
    hits: Vec<u64>,
    references: u64,
}

impl LruStack {
    /// References a block by its number. Numbers are dense from 0, as those of a [`ReferenceString`] are.
    pub fn reference(&mut self, number: u32) {
        self.references += 1;
        if self.position == self.uses.length() {
            self.pack();
        }
        let index = number as usize;
        if index >= self.last_use.len() {
            self.last_use.resize(index + 1, NEVER);
        }
        let last = core::mem::replace(&mut self.last_use[index], self.position as u32);
        if last == NEVER {
            self.distinct += 1;
        } else {
            // All last uses but those up to and with `last`, and then the block itself.
            let depth = self.distinct - self.uses.up_to(last as usize) + 1;
            if self.hits.len() < depth {
                self.hits.resize(depth, 0);
            }
            self.hits[depth - 1] += 1;
            self.uses.remove(last as usize);
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
        let mut block_at = vec![NEVER; self.uses.length()];
        for (number, last) in (0..).zip(&self.last_use) {
            if *last != NEVER {
                block_at[*last as usize] = number;
            }
        }
        self.position = 0;
        for number in block_at.into_iter().filter(|number| *number != NEVER) {
            self.last_use[number as usize] = self.position as u32;
            self.position += 1;
        }
        self.uses = Positions::full(self.position, (2 * self.position).max(1024));
    }
}

/// Bits of a word of [`Positions`].
const WORD_BITS: usize = u64::BITS as usize;
/// Words whose members a node of the tree counts at least.
const LEAF_WORDS: usize = 4;
/// Positions of these.
const LEAF_BITS: usize = LEAF_WORDS * WORD_BITS;

/// A set of positions that can count its members up to a position: Fenwick's tree, over some words at a time.
#[derive(Default)]
struct Positions {
    /// A bit for each position.
    words: Vec<u64>,
    /// Node n − 1 counts the members among the `n & n.wrapping_neg()` leaves that end before leaf n.
    nodes: Vec<u32>,
}

impl Positions {
    /// `members` positions from 0 on are in the set, out of `length` or a few more.
    fn full(members: usize, length: usize) -> Positions {
        let leaves = length.div_ceil(LEAF_BITS);
        let count = |number: usize| {
            let first = (number - lowest_bit(number)) * LEAF_BITS;
            (number * LEAF_BITS).min(members).saturating_sub(first) as u32
        };
        let word = |index: usize| match members.saturating_sub(index * WORD_BITS) {
            bits @ 0..WORD_BITS => (1 << bits) - 1,
            _ => u64::MAX,
        };
        Positions {
            words: (0..leaves * LEAF_WORDS).map(word).collect(),
            nodes: (1..=leaves).map(count).collect(),
        }
    }

    fn length(&self) -> usize {
        self.words.len() * WORD_BITS
    }

    /// Puts in a position that is not in.
    fn insert(&mut self, position: usize) {
        self.words[position / WORD_BITS] |= 1 << (position % WORD_BITS);
        let mut number = position / LEAF_BITS + 1;
        while let Some(node) = self.nodes.get_mut(number - 1) {
            *node += 1;
            number += lowest_bit(number);
        }
    }

    /// Takes out a position that is in.
    fn remove(&mut self, position: usize) {
        self.words[position / WORD_BITS] &= !(1 << (position % WORD_BITS));
        let mut number = position / LEAF_BITS + 1;
        while let Some(node) = self.nodes.get_mut(number - 1) {
            *node -= 1;
            number += lowest_bit(number);
        }
    }

    /// Members up to a position, itself included.
    fn up_to(&self, position: usize) -> usize {
        let (word, leaf) = (position / WORD_BITS, position / LEAF_BITS);
        let up_to_bit = self.words[word] << (WORD_BITS - 1 - position % WORD_BITS);
        let before = &self.words[leaf * LEAF_WORDS..word];
        let in_leaf = before.iter().map(|word| word.count_ones()).sum::<u32>() + up_to_bit.count_ones();
        let (mut number, mut sum) = (leaf, in_leaf as usize);
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
/// Nothing else is done for a hit in the smallest cache. 4 bytes for each reference, about 16 for each block
/// of the largest cache.
///
/// ```
/// use libos_fs::cache::{OptStack, ReferenceString};
///
/// let string = ReferenceString::of([1, 2, 3, 1, 2, 3]).unwrap();
/// let mut stack = OptStack::new(&[2, 3], &string);
/// string.numbers().iter().for_each(|_| stack.reference());
/// assert_eq!(stack.misses(), [4, 3]);
/// ```
pub struct OptStack<'s> {
    numbers: &'s [u32],
    /// For each reference, the position of the next one to the same block.
    next_use: Vec<u32>,
    /// Position of the reference that comes next.
    position: usize,
    sections: Vec<Section>,
    /// Section of each block, by its number; the number of sections if it is in none.
    section_of: Vec<u32>,
}

/// What the cache of one size holds and that of the next smaller one does not.
struct Section {
    /// Blocks it has room for: the difference of the two sizes.
    room: usize,
    /// Next uses of its blocks, which tell the blocks; and some that are over. Those are smaller than all
    /// others, so the largest is the block whose next use is farthest away.
    next_uses: BinaryHeap<u32>,
    /// How many of them are not over.
    used_again: usize,
    /// Blocks that are never used again: one is as good as the other.
    unused: usize,
    /// Misses of the cache that ends with this section.
    misses: u64,
}

/// Next uses in a section that may be over, beside as many as are not.
const OVER: usize = 64;

impl Section {
    fn is_full(&self) -> bool {
        self.used_again + self.unused >= self.room
    }

    fn put(&mut self, next: u32) {
        if next == NEVER {
            self.unused += 1;
        } else {
            self.used_again += 1;
            self.next_uses.push(next);
        }
    }

    /// Takes out the block whose next use is farthest away.
    fn fall(&mut self) -> Option<u32> {
        if self.unused > 0 {
            self.unused -= 1;
            return Some(NEVER);
        }
        self.used_again = self.used_again.checked_sub(1)?;
        self.next_uses.pop()
    }

    /// Takes out the block that is used now.
    fn used(&mut self, now: usize) {
        self.used_again -= 1;
        if self.next_uses.len() > 2 * self.used_again + OVER {
            self.next_uses.retain(|next| *next as usize > now);
        }
    }
}

/// For each reference, the position of the next one to the same block.
fn next_uses(string: &ReferenceString) -> Vec<u32> {
    let mut next_use = vec![NEVER; string.numbers().len()];
    let mut later = vec![NEVER; string.blocks().len()];
    for (position, number) in string.numbers().iter().enumerate().rev() {
        next_use[position] = core::mem::replace(&mut later[*number as usize], position as u32);
    }
    next_use
}

impl<'s> OptStack<'s> {
    /// For these sizes, which must ascend from 1 or more, and this string.
    pub fn new(sizes: &[usize], string: &'s ReferenceString) -> OptStack<'s> {
        let before = core::iter::once(&0).chain(sizes);
        let section = |(size, before): (&usize, &usize)| Section {
            room: size.saturating_sub(*before),
            next_uses: BinaryHeap::new(),
            used_again: 0,
            unused: 0,
            misses: 0,
        };
        OptStack {
            numbers: string.numbers(),
            next_use: next_uses(string),
            position: 0,
            sections: sizes.iter().zip(before).map(section).collect(),
            section_of: vec![sizes.len() as u32; string.blocks().len()],
        }
    }

    /// Makes the next reference of the string; after the last, nothing.
    pub fn reference(&mut self) {
        let now = self.position;
        let (Some(number), Some(next)) = (self.numbers.get(now), self.next_use.get(now)) else { return };
        self.position += 1;
        let from = core::mem::replace(&mut self.section_of[*number as usize], 0) as usize;
        if let Some(section) = self.sections.get_mut(from) {
            section.used(now);
        }
        // What falls into the next section. The block itself stays in the first, whatever its next use.
        let mut falling = Some(*next);
        for (index, section) in self.sections.iter_mut().enumerate() {
            let Some(arriving) = falling.take() else { break };
            let full = section.is_full();
            if index > 0 {
                section.put(arriving);
                if arriving != NEVER {
                    self.section_of[self.numbers[arriving as usize] as usize] = index as u32;
                }
            }
            if full {
                falling = section.fall();
            }
            if index == 0 {
                section.put(arriving);
            }
        }
        if let Some(fallen) = falling.filter(|next| *next != NEVER) {
            self.section_of[self.numbers[fallen as usize] as usize] = self.sections.len() as u32;
        }
        self.sections.iter_mut().take(from).for_each(|section| section.misses += 1);
    }

    /// Misses so far, in the order of the sizes.
    pub fn misses(&self) -> Vec<u64> {
        self.sections.iter().map(|section| section.misses).collect()
    }
}
