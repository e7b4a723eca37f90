//! Most recently used.

use super::replacement::{Cached, ReplacementPolicy};
use crate::cache::order::Order;

/// Replaces the block that was used last (H.-T. Chou, D. J. DeWitt, "An evaluation of buffer management
/// strategies for relational database systems", VLDB 1985; P. Cao, E. W. Felten, K. Li, "Implementation and
/// performance of application-controlled file caching", OSDI 1994).
///
/// The right policy for a loop over more blocks than fit: what was just used comes back last. With C buffers
/// and k passes over N > C blocks it misses N + (k−1)(N−C) times while k ≤ C, as few as any policy can.
#[derive(Default)]
pub struct Mru {
    /// Back: used last.
    recency: Order,
}

impl ReplacementPolicy for Mru {
    fn name(&self) -> &'static str {
        "mru"
    }

    fn inserted(&mut self, block: Cached) {
        self.recency.push_back(block.slot);
    }

    fn accessed(&mut self, block: Cached) {
        self.recency.push_back(block.slot);
    }

    fn removed(&mut self, block: Cached) {
        self.recency.remove(block.slot);
    }

    fn victim(&mut self, _: Option<u64>) -> Option<usize> {
        self.recency.back()
    }
}
