//! Second chance.

use super::per_slot::PerSlot;
use super::{Cached, ReplacementPolicy};
use crate::cache::Order;

/// First in, first out, but a block that was used since it was last looked at goes round once more (F. J. Corbató,
/// "A paging experiment with the Multics system", MIT Project MAC memo MAC-M-384, 1968). Close to LRU, without moving
/// anything on a hit.
///
/// 13 bytes a slot. Constant time: a hit sets a mark; every step of the hand is paid for by the hit that set the mark.
#[derive(Default)]
pub struct Clock {
    /// The hand is at the front; what it passes goes to the back.
    ring: Order,
    used: PerSlot<bool>,
}

impl ReplacementPolicy for Clock {
    fn name(&self) -> &'static str {
        "clock"
    }

    fn inserted(&mut self, block: Cached) {
        self.ring.push_back(block.slot);
        self.used.set(block.slot, false);
    }

    fn accessed(&mut self, block: Cached) {
        self.used.set(block.slot, true);
    }

    fn removed(&mut self, block: Cached) {
        self.ring.remove(block.slot);
    }

    fn victim(&mut self, _: Option<u64>) -> Option<usize> {
        while let Some(slot) = self.ring.front() {
            if !self.used.get(slot) {
                return Some(slot);
            }
            self.used.set(slot, false);
            self.ring.push_back(slot);
        }
        None
    }
}
