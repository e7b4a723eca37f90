//! Second chance.

use super::marks::{Marks, OwnMarks};
use super::replacement::{Cached, ReplacementPolicy};
use crate::cache::order::Order;

/// First in, first out, but a block that was used since it was last looked at goes round once more (F. J.
/// Corbató, "A paging experiment with the Multics system", MIT Project MAC memo MAC-M-384, 1968). Close to
/// LRU, without moving anything on a hit.
///
/// 13 bytes a slot. Constant time: a hit sets a mark; every step of the hand is paid for by the hit that set
/// the mark.
#[derive(Default)]
pub struct Clock<M = OwnMarks> {
    /// The hand is at the front; what it passes goes to the back.
    ring: Order,
    /// Not 0: used since the hand last came by.
    used: M,
}

impl<M: Marks> Clock<M> {
    /// A policy with these marks, all 0.
    pub fn with_marks(used: M) -> Clock<M> {
        Clock { ring: Order::default(), used }
    }
}

impl<M: Marks> ReplacementPolicy for Clock<M> {
    fn name(&self) -> &'static str {
        "clock"
    }

    fn inserted(&mut self, block: Cached) {
        self.ring.push_back(block.slot);
        self.used.set(block.slot, 0);
    }

    fn accessed(&mut self, block: Cached) {
        self.used.set(block.slot, 1);
    }

    fn removed(&mut self, block: Cached) {
        self.ring.remove(block.slot);
    }

    fn victim(&mut self, _: Option<u64>) -> Option<usize> {
        while let Some(slot) = self.ring.front() {
            if self.used.get(slot) == 0 {
                return Some(slot);
            }
            self.used.set(slot, 0);
            self.ring.push_back(slot);
        }
        None
    }
}
