//! Belady's optimum.

use super::simulation::simulate;
use crate::cache::policies::{Cached, ReplacementPolicy};
use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;
use hashbrown::HashMap;

/// Never again.
const NEVER: usize = usize::MAX;

/// For each reference, the position of the next one to the same block, or [`NEVER`].
fn next_uses(references: impl DoubleEndedIterator<Item = u64> + ExactSizeIterator) -> Vec<usize> {
    let mut next_use = vec![NEVER; references.len()];
    let mut seen: HashMap<u64, usize> = HashMap::new();
    for (position, block) in references.enumerate().rev() {
        if let Some(later) = seen.insert(block, position) {
            next_use[position] = later;
        }
    }
    next_use
}

/// Replaces the block whose next use is farthest away: no policy misses less (L. A. Belady, "A study of
/// replacement algorithms for a virtual-storage computer", IBM Systems Journal 5(2), 1966; R. L. Mattson et
/// al., "Evaluation techniques for storage hierarchies", IBM Systems Journal 9(2), 1970). It needs to know
/// the future, so it serves only to judge the others.
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
        Opt {
            next_use: next_uses(references.iter().copied()),
            position: 0,
            farthest: BTreeSet::new(),
            by_slot: Vec::new(),
        }
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

/// The fewest misses that any policy can have on these references with `capacity` buffers. O(n log n).
pub fn optimal_misses(capacity: usize, references: &[u64]) -> u64 {
    simulate(&mut Opt::new(references), capacity, references)
}
