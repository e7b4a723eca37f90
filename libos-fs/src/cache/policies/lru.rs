//! Least recently used.

use super::replacement::{Cached, ReplacementPolicy};
use crate::cache::order::Order;

/// Replaces the block that was used longest ago (L. A. Belady, "A study of replacement algorithms for a
/// virtual-storage computer", IBM Systems Journal 5(2), 1966, discusses it; the default of most systems).
///
/// Good when recent use foretells use. On a loop over more blocks than fit it misses every time.
#[derive(Default)]
pub struct Lru {
    /// Front: used longest ago.
    recency: Order,
}

impl ReplacementPolicy for Lru {
    fn name(&self) -> &'static str {
        "lru"
    }

    #[inline]
    fn inserted(&mut self, block: Cached) {
        self.recency.push_back(block.slot);
    }

    #[inline]
    fn accessed(&mut self, block: Cached) {
        self.recency.push_back(block.slot);
    }

    fn removed(&mut self, block: Cached) {
        self.recency.remove(block.slot);
    }

    #[inline]
    fn replaced(&mut self, _: Cached, new: Cached) {
        // In the same slot.
        self.recency.push_back(new.slot);
    }

    #[inline]
    fn victim(&mut self, _: Option<u64>) -> Option<usize> {
        self.recency.front()
    }
}
