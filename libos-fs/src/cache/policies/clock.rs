//! Second chance.

use super::{Cached, ReplacementPolicy};
use crate::cache::Order;
use alloc::vec::Vec;

/// First in, first out, but a block that was used since it was last looked at goes round once more (F. J. Corbató,
/// "A paging experiment with the Multics system", MIT Project MAC memo MAC-M-384, 1968). Close to LRU, without moving
/// anything on a hit.
#[derive(Default)]
pub struct Clock {
    /// The hand is at the front; what it passes goes to the back.
    ring: Order,
    used: Vec<bool>,
}

impl Clock {
    fn mark(&mut self, slot: usize, used: bool) {
        if slot >= self.used.len() {
            self.used.resize(slot + 1, false);
        }
        self.used[slot] = used;
    }
}

impl ReplacementPolicy for Clock {
    fn name(&self) -> &'static str {
        "clock"
    }

    fn inserted(&mut self, block: Cached) {
        self.ring.push_back(block.slot);
        self.mark(block.slot, false);
    }

    fn accessed(&mut self, block: Cached) {
        self.mark(block.slot, true);
    }

    fn removed(&mut self, block: Cached) {
        self.ring.remove(block.slot);
    }

    /// Constant time on average: every step of the hand is paid for by the access that set the mark.
    fn victim(&mut self, _: Option<u64>) -> Option<usize> {
        for _ in 0..self.ring.len() {
            let slot = self.ring.front()?;
            if !self.used[slot] {
                return Some(slot);
            }
            self.used[slot] = false;
            self.ring.push_back(slot);
        }
        self.ring.front()
    }
}
