//! 2Q.

use super::ghosts::GhostQueue;
use super::replacement::{Cached, ReplacementPolicy};
use super::share::Share;
use crate::cache::order::Lists;

/// Blocks that came in once.
const A1_IN: usize = 0;
/// Blocks that came back.
const AM: usize = 1;

/// A block comes in on trial, first in, first out; only if it comes back soon after that does it get into the
/// main list, which is LRU (T. Johnson, D. Shasha, "2Q: a low overhead high performance buffer management
/// replacement algorithm", VLDB 1994, "2Q, full version"). A scan passes through the trial queue and leaves
/// the main list alone.
///
/// As the paper recommends: Kin, the size of the trial queue `A1in` from which on it is the one to give up a
/// block, is a quarter of the cache; Kout, the number of blocks remembered in `A1out`, half of it; at least 1
/// each. [`TwoQ::with`] takes others.
///
/// 12 bytes a slot, and up to 40 for each of the ghosts, of which there are half as many. Constant time.
pub struct TwoQ {
    /// `A1in`, front: came in longest ago; `Am`, front: used longest ago.
    resident: Lists,
    a1_out: GhostQueue,
    capacity: usize,
    in_share: Share,
    out_share: Share,
}

impl Default for TwoQ {
    fn default() -> TwoQ {
        TwoQ::with(Share::percent(25), Share::percent(50))
    }
}

impl TwoQ {
    /// A policy with these shares of the cache as Kin and Kout, at least 1 each.
    pub fn with(k_in: Share, k_out: Share) -> TwoQ {
        TwoQ {
            resident: Lists::new(2),
            a1_out: GhostQueue::default(),
            capacity: 0,
            in_share: k_in,
            out_share: k_out,
        }
    }

    fn k_in(&self) -> usize {
        self.in_share.of(self.capacity).max(1)
    }

    fn k_out(&self) -> usize {
        self.out_share.of(self.capacity).max(1)
    }
}

impl ReplacementPolicy for TwoQ {
    fn name(&self) -> &'static str {
        "2q"
    }

    fn resized(&mut self, blocks: usize) {
        self.capacity = blocks;
    }

    /// A block that comes back is judged before the victim's place in `A1out` is paid for, as in the paper,
    /// where the test precedes `reclaimfor`. So ghosts are cut back to Kout here and not when they are made.
    fn inserted(&mut self, block: Cached) {
        let came_back = self.a1_out.forget(block.block);
        self.resident.push_back(if came_back { AM } else { A1_IN }, block.slot);
        self.a1_out.trim(self.k_out());
    }

    fn accessed(&mut self, block: Cached) {
        if self.resident.contains(AM, block.slot) {
            self.resident.push_back(AM, block.slot);
        }
    }

    fn removed(&mut self, block: Cached) {
        self.resident.remove(block.slot);
    }

    fn evicted(&mut self, block: Cached) {
        if self.resident.contains(A1_IN, block.slot) {
            self.a1_out.push(block.block);
        }
        self.removed(block);
    }

    fn victim(&mut self, _: Option<u64>) -> Option<usize> {
        let (trial, main) = (self.resident.front(A1_IN), self.resident.front(AM));
        if self.resident.len(A1_IN) > self.k_in() { trial } else { main.or(trial) }
    }
}
