//! LRU-2.

use super::ghosts::GhostQueue;
use super::per_slot::PerSlot;
use super::replacement::{Cached, ReplacementPolicy};
use super::share::Share;
use alloc::collections::BTreeSet;

/// When a block was used, in references. 0: never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct History {
    /// The last time but one. First, because the order of victims is that of this, and of `last` among
    /// equals.
    before: u64,
    last: u64,
}

/// Replaces the block whose last use but one is longest ago; first those that were used only once, least
/// recently used first (E. J. O'Neil, P. E. O'Neil, G. Weikum, "The LRU-K page replacement algorithm for
/// database disk buffering", SIGMOD 1993, with K = 2). One use says little about a block; the distance of two
/// says how popular it is.
///
/// The paper's *correlated reference period* is 0: every reference counts. Its *retained information period*,
/// for which the history of a block outlives its stay, is counted in blocks: as many as fit into the cache
/// are remembered. It matters much; [`Lru2::with`] takes another number, and [`Lru2::forgetful`] is for
/// comparison with simulators that have none.
///
/// About 60 bytes a slot, and up to 50 for each of as many ghosts. **Not constant time:** O(log n), for an
/// ordered set. [`TwoQ`](crate::cache::TwoQ) is a cheaper way.
pub struct Lru2 {
    now: u64,
    history: PerSlot<History>,
    /// First: to be replaced first.
    order: BTreeSet<(History, usize)>,
    ghosts: GhostQueue,
    /// Last use, by number of ghost.
    last_use: PerSlot<u64>,
    capacity: usize,
    history_share: Share,
}

impl Default for Lru2 {
    fn default() -> Lru2 {
        Lru2::with(Share::percent(100))
    }
}

impl Lru2 {
    /// A policy that remembers so many blocks that have left.
    pub fn with(history: Share) -> Lru2 {
        Lru2 {
            now: 0,
            history: PerSlot::default(),
            order: BTreeSet::new(),
            ghosts: GhostQueue::default(),
            last_use: PerSlot::default(),
            capacity: 0,
            history_share: history,
        }
    }

    /// A policy that knows of uses during a block's present stay only.
    pub fn forgetful() -> Lru2 {
        Lru2::with(Share::percent(0))
    }

    fn used(&mut self, slot: usize, last: u64) {
        self.now += 1;
        let history = History { before: last, last: self.now };
        self.history.set(slot, history);
        self.order.insert((history, slot));
    }
}

impl ReplacementPolicy for Lru2 {
    fn name(&self) -> &'static str {
        "lru-2"
    }

    fn resized(&mut self, blocks: usize) {
        self.capacity = blocks;
    }

    /// The missing block's own history is looked up first: remembering the victim's may push it out.
    fn inserted(&mut self, block: Cached) {
        let ghost = self.ghosts.find(block.block);
        let last = ghost.map_or(0, |ghost| self.last_use.get(ghost));
        self.ghosts.forget(block.block);
        self.ghosts.trim(self.history_share.of(self.capacity));
        self.used(block.slot, last);
    }

    fn accessed(&mut self, block: Cached) {
        self.removed(block);
        self.used(block.slot, self.history.get(block.slot).last);
    }

    fn removed(&mut self, block: Cached) {
        self.order.remove(&(self.history.get(block.slot), block.slot));
    }

    fn evicted(&mut self, block: Cached) {
        self.removed(block);
        let ghost = self.ghosts.push(block.block);
        self.last_use.set(ghost, self.history.get(block.slot).last);
    }

    fn victim(&mut self, _: Option<u64>) -> Option<usize> {
        self.order.first().map(|(_, slot)| *slot)
    }
}
