//! First in, first out.

use super::replacement::{Cached, ReplacementPolicy};
use crate::cache::order::Order;

/// Replaces the block that came in longest ago, however often it was used since (L. A. Belady, "A study of
/// replacement algorithms for a virtual-storage computer", IBM Systems Journal 5(2), 1966).
#[derive(Default)]
pub struct Fifo {
    /// Front: came in longest ago.
    arrival: Order,
}

impl ReplacementPolicy for Fifo {
    fn name(&self) -> &'static str {
        "fifo"
    }

    fn inserted(&mut self, block: Cached) {
        self.arrival.push_back(block.slot);
    }

    fn accessed(&mut self, _: Cached) {}

    fn removed(&mut self, block: Cached) {
        self.arrival.remove(block.slot);
    }

    fn victim(&mut self, _: Option<u64>) -> Option<usize> {
        self.arrival.front()
    }
}
