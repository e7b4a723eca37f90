//! S3-FIFO.

use super::ghost_ring::GhostRing;
use super::marks::{Marks, OwnMarks};
use super::replacement::{Cached, ReplacementPolicy};
use super::share::Share;
use crate::cache::order::Lists;

/// Blocks on trial.
const SMALL: usize = 0;
/// Blocks that proved themselves.
const MAIN: usize = 1;

/// Uses that are counted at most.
pub(crate) const MAX_FREQUENCY: u8 = 3;

/// Three first-in-first-out queues: new blocks go through a small one, from which those used more than once
/// move to the main one; the third remembers what the small one gave up, and a block that is found there goes
/// to the main queue directly (J. Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023,
/// algorithm 1). What is used once is gone soon; a hit moves nothing.
///
/// As in the paper: the small queue is a tenth of the cache, the main queue the rest, and as many ghosts are
/// remembered as the main queue has blocks. A block that is moved to the main queue starts to count anew. As
/// in the authors' own simulator, libCacheSim: as long as the cache fills, what does not fit into the small
/// queue goes to the main one. [`S3Fifo::with_shares`] takes other sizes.
///
/// 13 bytes a slot, and up to 32 for each of 0.9 times as many ghosts. Constant time: a hit counts up to 3;
/// every step in a search for a victim is paid for by a hit.
pub struct S3Fifo<M = OwnMarks> {
    /// Front: came in longest ago.
    queues: Lists,
    frequency: M,
    ghosts: GhostRing,
    /// The last victim, if it was one of the small queue's and is still there. The search may have made that
    /// queue so short that the next one would be the main queue's.
    named: Option<usize>,
    /// Whether there has been a victim.
    filled: bool,
    capacity: usize,
    /// Blocks of the small queue from which on it gives up blocks.
    small_target: usize,
    small_share: Share,
    ghost_share: Share,
}

impl Default for S3Fifo {
    fn default() -> S3Fifo {
        S3Fifo::with_marks(OwnMarks::default())
    }
}

impl<M: Marks> S3Fifo<M> {
    /// A policy with these marks, all 0.
    pub fn with_marks(frequency: M) -> S3Fifo<M> {
        S3Fifo {
            queues: Lists::new(2),
            frequency,
            ghosts: GhostRing::default(),
            named: None,
            filled: false,
            capacity: 0,
            small_target: 1,
            small_share: Share::percent(10),
            ghost_share: Share::percent(90),
        }
    }

    /// The same with this share of the cache for the small queue, at least one block, and so many ghosts.
    pub fn with_shares(self, small: Share, ghosts: Share) -> S3Fifo<M> {
        let mut policy = S3Fifo { small_share: small, ghost_share: ghosts, ..self };
        let capacity = policy.capacity;
        policy.resized(capacity);
        policy
    }

    fn ghost_target(&self) -> usize {
        self.ghost_share.of(self.capacity)
    }

    fn victim_of_small(&mut self) -> Option<usize> {
        while let Some(slot) = self.queues.front(SMALL) {
            if self.frequency.get(slot) <= 1 {
                self.named = Some(slot);
                return Some(slot);
            }
            self.frequency.set(slot, 0);
            self.queues.push_back(MAIN, slot);
        }
        None
    }

    fn victim_of_main(&mut self) -> Option<usize> {
        while let Some(slot) = self.queues.front(MAIN) {
            let frequency = self.frequency.get(slot);
            if frequency == 0 {
                return Some(slot);
            }
            self.frequency.set(slot, frequency - 1);
            self.queues.push_back(MAIN, slot);
        }
        None
    }
}

impl<M: Marks> ReplacementPolicy for S3Fifo<M> {
    fn name(&self) -> &'static str {
        "s3-fifo"
    }

    fn resized(&mut self, blocks: usize) {
        self.capacity = blocks;
        self.small_target = self.small_share.of(blocks).max(1);
        self.ghosts.resize(self.ghost_target());
    }

    /// The block is looked for among the ghosts before the ghost of its victim can push it out: the test
    /// comes with the miss.
    fn inserted(&mut self, block: Cached) {
        let came_back = self.ghosts.forget(block.block);
        self.ghosts.trim();
        let filling = !self.filled && self.queues.len(SMALL) >= self.small_target;
        self.frequency.set(block.slot, 0);
        self.queues.push_back(if came_back || filling { MAIN } else { SMALL }, block.slot);
    }

    fn accessed(&mut self, block: Cached) {
        self.frequency.set(block.slot, (self.frequency.get(block.slot) + 1).min(MAX_FREQUENCY));
    }

    fn removed(&mut self, block: Cached) {
        self.named = self.named.filter(|slot| *slot != block.slot);
        self.queues.remove(block.slot);
    }

    fn evicted(&mut self, block: Cached) {
        if self.queues.contains(SMALL, block.slot) {
            self.ghosts.push(block.block);
        }
        self.removed(block);
    }

    #[inline]
    fn replaced(&mut self, old: Cached, new: Cached) {
        // In the same slot.
        if self.queues.contains(SMALL, old.slot) {
            self.ghosts.push(old.block);
        }
        self.named = None;
        let came_back = self.ghosts.forget(new.block);
        self.ghosts.trim();
        self.frequency.set(new.slot, 0);
        self.queues.push_back(if came_back { MAIN } else { SMALL }, new.slot);
    }

    #[inline]
    fn victim(&mut self, _: Option<u64>) -> Option<usize> {
        self.filled = true;
        let small = self.named.is_some() || self.queues.len(SMALL) >= self.small_target;
        let victim = if small { self.victim_of_small() } else { self.victim_of_main() };
        victim.or_else(|| self.victim_of_main()).or_else(|| self.victim_of_small())
    }
}
