//! Belady's optimum, and the simulator.

use super::{Cached, ReplacementPolicy};
use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;
use hashbrown::HashMap;

/// Never again.
const NEVER: usize = usize::MAX;

/// Replaces the block whose next use is farthest away: no policy misses less (L. A. Belady, "A study of replacement
/// algorithms for a virtual-storage computer", IBM Systems Journal 5(2), 1966; R. L. Mattson et al., "Evaluation
/// techniques for storage hierarchies", IBM Systems Journal 9(2), 1970). It needs to know the future, so it serves only to
/// judge the others.
///
/// O(log n) an operation. Must be shown exactly the references that it was made for, in order.
pub struct Opt {
    /// For each reference, the position of the next one to the same block.
    next_use: Vec<usize>,
    /// Position of the reference that comes next.
    position: usize,
    /// (next use, slot) of all blocks in the cache.
    farthest: BTreeSet<(usize, usize)>,
    /// Next use by slot.
    by_slot: Vec<usize>,
}

impl Opt {
    /// The optimal policy for these references.
    pub fn new(references: &[u64]) -> Opt {
        let mut next_use = vec![NEVER; references.len()];
        let mut seen: HashMap<u64, usize> = HashMap::new();
        for (position, block) in references.iter().enumerate().rev() {
            if let Some(later) = seen.insert(*block, position) {
                next_use[position] = later;
            }
        }
        Opt { next_use, position: 0, farthest: BTreeSet::new(), by_slot: Vec::new() }
    }

    fn used(&mut self, slot: usize) {
        let next = self.next_use.get(self.position).copied().unwrap_or(NEVER);
        self.position += 1;
        if slot >= self.by_slot.len() {
            self.by_slot.resize(slot + 1, NEVER);
        }
        self.by_slot[slot] = next;
        self.farthest.insert((next, slot));
    }
}

impl ReplacementPolicy for Opt {
    fn name(&self) -> &'static str {
        "opt"
    }

    fn inserted(&mut self, block: Cached) {
        self.used(block.slot);
    }

    fn accessed(&mut self, block: Cached) {
        self.removed(block);
        self.used(block.slot);
    }

    fn removed(&mut self, block: Cached) {
        if let Some(next) = self.by_slot.get(block.slot) {
            self.farthest.remove(&(*next, block.slot));
        }
    }

    fn victim(&mut self, _: Option<u64>) -> Option<usize> {
        self.farthest.last().map(|(_, slot)| *slot)
    }
}

/// Misses of a policy on a sequence of block references with `capacity` buffers, none of which holds anything at first.
/// This runs the very code that the cache runs.
///
/// A policy that names no block of the cache as its victim loses the one in the lowest slot. With a capacity of 0
/// every reference misses.
pub fn simulate(policy: &mut dyn ReplacementPolicy, capacity: usize, references: &[u64]) -> u64 {
    let mut slot_of: HashMap<u64, usize> = HashMap::new();
    let mut blocks: Vec<u64> = Vec::new();
    let mut misses = 0;
    policy.resized(capacity);
    for &block in references {
        if let Some(&slot) = slot_of.get(&block) {
            policy.accessed(Cached { slot, block });
            continue;
        }
        misses += 1;
        if capacity == 0 {
            continue;
        }
        let slot = if blocks.len() < capacity {
            blocks.push(block);
            blocks.len() - 1
        } else {
            let slot = policy.victim(Some(block)).filter(|slot| *slot < blocks.len()).unwrap_or(0);
            policy.evicted(Cached { slot, block: blocks[slot] });
            slot_of.remove(&blocks[slot]);
            blocks[slot] = block;
            slot
        };
        slot_of.insert(block, slot);
        policy.inserted(Cached { slot, block });
    }
    misses
}

/// The fewest misses that any policy can have on these references with `capacity` buffers. O(n log n).
pub fn optimal_misses(capacity: usize, references: &[u64]) -> u64 {
    simulate(&mut Opt::new(references), capacity, references)
}
