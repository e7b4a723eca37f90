//! Blocks that have left the cache, for policies that learn from their return.

use crate::cache::chains::{Chains, mix};
use crate::cache::order::Order;
use alloc::vec::Vec;

/// An entry of a list that has both: a block in the cache, by its slot, or a ghost, by its number. In the
/// list they share one range of numbers, so that one can take the place of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Slot(usize),
    Ghost(usize),
}

impl Entry {
    /// Its number in the list.
    pub(super) fn item(self) -> usize {
        match self {
            Entry::Slot(slot) => 2 * slot,
            Entry::Ghost(number) => 2 * number + 1,
        }
    }

    /// The entry with this number in the list.
    pub(super) fn of(item: usize) -> Entry {
        if item.is_multiple_of(2) { Entry::Slot(item / 2) } else { Entry::Ghost(item / 2) }
    }
}

/// Numbers for blocks that have left, dense from 0, so that policies can keep them in
/// [`Lists`](crate::cache::Lists).
///
/// A ghost takes 16 to 24 bytes here (8 for its block, the rest in the hash table, which doubles as it
/// fills), and 12 more in a list.
#[derive(Default)]
pub(super) struct Ghosts {
    number_of: Chains,
    blocks: Vec<u64>,
    free: Vec<u32>,
}

impl Ghosts {
    /// Remembers a block, or finds it if it is remembered. Its number stays until [`Ghosts::forget`].
    pub(super) fn remember(&mut self, block: u64) -> usize {
        if let Some(number) = self.find(block) {
            return number;
        }
        let number = match self.free.pop() {
            Some(number) => number as usize,
            None => {
                self.blocks.push(block);
                self.blocks.len() - 1
            }
        };
        self.blocks[number] = block;
        if number < self.number_of.room() {
            self.number_of.link(mix(block), number);
        } else {
            self.grow();
        }
        number
    }

    /// Makes room for twice as many, when all that have a number are remembered.
    fn grow(&mut self) {
        self.number_of = Chains::new((2 * self.number_of.room()).max(8));
        for (number, block) in self.blocks.iter().enumerate() {
            self.number_of.link(mix(*block), number);
        }
    }

    /// The number of a block.
    pub(super) fn find(&self, block: u64) -> Option<usize> {
        self.number_of.find(mix(block), |number| self.blocks[number] == block)
    }

    /// Forgets a block. Returns the number it had.
    pub(super) fn forget(&mut self, block: u64) -> Option<usize> {
        let number = self.find(block)?;
        self.forget_number(number);
        Some(number)
    }

    /// Forgets the block with this number, which must be remembered.
    fn forget_number(&mut self, number: usize) {
        self.number_of.unlink(mix(self.blocks[number]), number);
        self.free.push(number as u32);
    }
}

/// Ghosts in the order in which they left.
#[derive(Default)]
pub(super) struct GhostQueue {
    ghosts: Ghosts,
    /// Front: left longest ago.
    order: Order,
}

impl GhostQueue {
    /// Remembers a block as the one that left last. Returns its number.
    pub(super) fn push(&mut self, block: u64) -> usize {
        let number = self.ghosts.remember(block);
        self.order.push_back(number);
        number
    }

    /// The number of a block, if it is remembered.
    pub(super) fn find(&self, block: u64) -> Option<usize> {
        self.ghosts.find(block)
    }

    /// Forgets a block; says whether it was remembered.
    pub(super) fn forget(&mut self, block: u64) -> bool {
        let number = self.ghosts.forget(block);
        if let Some(number) = number {
            self.order.remove(number);
        }
        number.is_some()
    }

    /// Forgets the block with this number.
    pub(super) fn forget_number(&mut self, number: usize) {
        self.ghosts.forget_number(number);
        self.order.remove(number);
    }

    /// Number of the block that left longest ago.
    pub(super) fn oldest(&self) -> Option<usize> {
        self.order.front()
    }

    /// Forgets those that left longest ago, until so many are left.
    pub(super) fn trim(&mut self, most: usize) {
        while self.len() > most
            && let Some(oldest) = self.oldest()
        {
            self.forget_number(oldest);
        }
    }

    /// Ghosts.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }
}
