//! ARC.

use super::ghosts::GhostQueue;
use super::replacement::{Cached, ReplacementPolicy};
use crate::cache::order::Lists;

/// Blocks used once since they came in.
const T1: usize = 0;
/// Blocks used more often.
const T2: usize = 1;

/// What was decided about a block when room was made for it, to be carried out when it comes in.
#[derive(Clone, Copy)]
struct Decision {
    block: u64,
    /// The new target.
    target: f64,
    /// Whether the victim is forgotten at once (case IV A, when L1 is all in the cache).
    forget_victim: bool,
}

/// Divides the cache between blocks used once (T1) and blocks used more often (T2), both LRU, and shifts the
/// line when a block comes back that one of the two gave up too early (N. Megiddo, D. S. Modha, "ARC: a
/// self-tuning, low overhead replacement cache", FAST 2003, figure 4). No parameters.
///
/// The line is adapted and the victim chosen when the miss is known, but the block comes in later, and may
/// not come at all: so what `victim` finds out about the missing block becomes true with `inserted`.
///
/// 12 bytes a slot, and up to 40 for each of as many ghosts. Constant time.
pub struct Arc {
    /// Front: used longest ago.
    resident: Lists,
    /// Blocks that T1 gave up.
    b1: GhostQueue,
    /// Blocks that T2 gave up.
    b2: GhostQueue,
    /// The paper's p: how long T1 should be, from 0 to the capacity.
    target: f64,
    decision: Option<Decision>,
    capacity: usize,
}

impl Default for Arc {
    fn default() -> Arc {
        Arc {
            resident: Lists::new(2),
            b1: GhostQueue::default(),
            b2: GhostQueue::default(),
            target: 0.0,
            decision: None,
            capacity: 0,
        }
    }
}

impl Arc {
    /// The target after a miss of this block.
    fn adapted(&self, block: u64) -> f64 {
        let (b1, b2) = (self.b1.len() as f64, self.b2.len() as f64);
        if self.b1.find(block).is_some() {
            (self.target + (b2 / b1).max(1.0)).min(self.capacity as f64)
        } else if self.b2.find(block).is_some() {
            (self.target - (b1 / b2).max(1.0)).max(0.0)
        } else {
            self.target
        }
    }

    fn known(&self, block: u64) -> bool {
        self.b1.find(block).is_some() || self.b2.find(block).is_some()
    }
}

impl ReplacementPolicy for Arc {
    fn name(&self) -> &'static str {
        "arc"
    }

    fn resized(&mut self, blocks: usize) {
        self.capacity = blocks;
        self.target = self.target.min(blocks as f64);
    }

    fn inserted(&mut self, block: Cached) {
        let decision = self.decision.take().filter(|decision| decision.block == block.block);
        self.target = decision.map_or_else(|| self.adapted(block.block), |decision| decision.target);
        let came_back = self.b1.forget(block.block) | self.b2.forget(block.block);
        if came_back {
            self.resident.push_back(T2, block.slot);
            return;
        }
        // Case IV: with the new block, |L1| must not exceed c, nor both together 2c.
        let t1 = self.resident.len(T1);
        self.b1.trim(self.capacity.saturating_sub(t1 + 1));
        let rest = t1 + self.resident.len(T2) + self.b1.len();
        self.b2.trim((2 * self.capacity).saturating_sub(rest + 1));
        self.resident.push_back(T1, block.slot);
    }

    fn accessed(&mut self, block: Cached) {
        self.resident.push_back(T2, block.slot);
    }

    fn removed(&mut self, block: Cached) {
        self.resident.remove(block.slot);
    }

    fn evicted(&mut self, block: Cached) {
        if self.resident.contains(T2, block.slot) {
            self.b2.push(block.block);
        } else if !self.decision.is_some_and(|decision| decision.forget_victim) {
            self.b1.push(block.block);
        }
        self.removed(block);
    }

    fn victim(&mut self, missing: Option<u64>) -> Option<usize> {
        let target = missing.map_or(self.target, |block| self.adapted(block));
        let t1 = self.resident.len(T1);
        let forget_victim =
            missing.is_some_and(|block| !self.known(block)) && t1 >= self.capacity && self.b1.len() == 0;
        self.decision = missing.map(|block| Decision { block, target, forget_victim });
        let in_b2 = missing.is_some_and(|block| self.b2.find(block).is_some());
        let from_t1 = t1 as f64 > target || in_b2 && t1 as f64 == target;
        let (once, often) = (self.resident.front(T1), self.resident.front(T2));
        if forget_victim || from_t1 { once.or(often) } else { often.or(once) }
    }
}
