//! The simulator: a policy on a reference string, without blocks, files or a device.

use crate::cache::policies::{Cached, ReplacementPolicy};
use alloc::vec::Vec;
use hashbrown::HashMap;

/// What a reference came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Referenced {
    /// The block was in the cache.
    Hit,
    /// It was not.
    Miss {
        /// The block that made room for it, if one had to.
        evicted: Option<u64>,
    },
}

/// A cache that holds no contents, under a policy: this runs the very code that the buffer cache runs.
///
/// A policy that names no block of the cache as its victim loses the one in the lowest slot. With a capacity
/// of 0 every reference misses.
///
/// ```
/// use libos_fs::cache::{PolicyKind, Referenced, Simulation};
///
/// let mut policy = PolicyKind::Lru.build(2);
/// let mut cache = Simulation::new(&mut *policy, 2);
/// assert_eq!(cache.reference(7), Referenced::Miss { evicted: None });
/// assert_eq!(cache.reference(7), Referenced::Hit);
/// cache.reference(8);
/// assert_eq!(cache.reference(9), Referenced::Miss { evicted: Some(7) });
/// ```
pub struct Simulation<'p> {
    policy: &'p mut dyn ReplacementPolicy,
    capacity: usize,
    /// Slot of each block in the cache.
    slot_of: HashMap<u64, usize>,
    /// Block in each slot.
    blocks: Vec<u64>,
}

impl<'p> Simulation<'p> {
    /// An empty cache with so many buffers, under a policy with nothing in its care.
    pub fn new(policy: &'p mut dyn ReplacementPolicy, capacity: usize) -> Simulation<'p> {
        policy.resized(capacity);
        Simulation { policy, capacity, slot_of: HashMap::new(), blocks: Vec::new() }
    }

    /// References a block.
    pub fn reference(&mut self, block: u64) -> Referenced {
        if let Some(&slot) = self.slot_of.get(&block) {
            self.policy.accessed(Cached { slot, block });
            return Referenced::Hit;
        }
        let Some((slot, evicted)) = admit(self.policy, &mut self.blocks, self.capacity, block, |held| held)
        else {
            return Referenced::Miss { evicted: None };
        };
        if let Some(old) = evicted {
            self.slot_of.remove(&old);
        }
        self.slot_of.insert(block, slot);
        Referenced::Miss { evicted }
    }
}

/// Takes a block in that is missing, in place of the policy's victim if all buffers are taken. `held` is what
/// is in each slot, of which `block_of` says what block it is. Returns the slot and what left it; `None` if
/// there is no buffer at all.
#[inline]
pub(super) fn admit<P: ReplacementPolicy + ?Sized, H: Copy>(
    policy: &mut P,
    held: &mut Vec<H>,
    capacity: usize,
    new: H,
    block_of: impl Fn(H) -> u64,
) -> Option<(usize, Option<H>)> {
    if capacity == 0 {
        return None;
    }
    let block = block_of(new);
    let (slot, evicted) = if held.len() < capacity {
        held.push(new);
        (held.len() - 1, None)
    } else {
        let slot = policy.victim(Some(block)).filter(|slot| *slot < held.len()).unwrap_or(0);
        let old = core::mem::replace(&mut held[slot], new);
        policy.evicted(Cached { slot, block: block_of(old) });
        (slot, Some(old))
    };
    policy.inserted(Cached { slot, block });
    Some((slot, evicted))
}

/// Misses of a policy on a sequence of block references with `capacity` buffers, none of which holds anything
/// at first. See [`Simulation`].
pub fn simulate(policy: &mut dyn ReplacementPolicy, capacity: usize, references: &[u64]) -> u64 {
    let mut cache = Simulation::new(policy, capacity);
    references.iter().filter(|block| cache.reference(**block) != Referenced::Hit).count() as u64
}
