//! SIEVE.

use super::marks::{Marks, OwnMarks};
use super::replacement::{Cached, ReplacementPolicy};
use crate::cache::order::Order;

/// First in, first out, where a block that was used is passed over and stays where it is (Y. Zhang et al.,
/// "SIEVE is simpler than LRU", NSDI 2024, algorithm 1). Unlike with [`Clock`](crate::cache::Clock), new
/// blocks come in behind the hand and are sifted out soon.
///
/// Good for skewed popularity. Does not resist scans of blocks that are used more than once in a row.
///
/// 13 bytes a slot. Constant time: a hit sets a mark; every step of the hand is paid for by the hit that set
/// the mark, or is the one step of this victim.
#[derive(Default)]
pub struct Sieve<M = OwnMarks> {
    /// Front: came in longest ago.
    queue: Order,
    /// Not 0: used since the hand last came by.
    visited: M,
    /// The next block to be looked at; `None`: the front.
    hand: Option<usize>,
}

impl<M: Marks> Sieve<M> {
    /// A policy with these marks, all 0.
    pub fn with_marks(visited: M) -> Sieve<M> {
        Sieve { queue: Order::default(), visited, hand: None }
    }
}

impl<M: Marks> ReplacementPolicy for Sieve<M> {
    fn name(&self) -> &'static str {
        "sieve"
    }

    fn inserted(&mut self, block: Cached) {
        self.queue.push_back(block.slot);
        self.visited.set(block.slot, 0);
    }

    fn accessed(&mut self, block: Cached) {
        self.visited.set(block.slot, 1);
    }

    fn removed(&mut self, block: Cached) {
        if self.hand == Some(block.slot) {
            self.hand = self.queue.after(block.slot);
        }
        self.queue.remove(block.slot);
    }

    #[inline]
    fn replaced(&mut self, _: Cached, new: Cached) {
        // In the same slot.
        if self.hand == Some(new.slot) {
            self.hand = self.queue.after(new.slot);
        }
        self.queue.push_back(new.slot);
        self.visited.set(new.slot, 0);
    }

    #[inline]
    fn victim(&mut self, _: Option<u64>) -> Option<usize> {
        loop {
            let slot = self.hand.or(self.queue.front())?;
            if self.visited.get(slot) == 0 {
                self.hand = Some(slot);
                return Some(slot);
            }
            self.visited.set(slot, 0);
            self.hand = self.queue.after(slot);
        }
    }
}
