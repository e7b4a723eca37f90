//! A cache without contents: replacement alone, for simulations.

use super::allocation::Place;
use super::state::State;
use super::{
    Allocation, CacheOptions, ManagerId, ManagerStatistics, Referenced, ReplacementPolicy, reference,
};
use crate::FileId;
use alloc::boxed::Box;
use core::ops::Range;

/// The replacement of a [`BufferCache`](super::BufferCache) without blocks, files and device: managers,
/// priorities and policies are those of the cache, and so is the code. What it counts as misses, a cache
/// without read-ahead reads. For a single policy on its own, [`Simulation`](super::Simulation) does.
///
/// ```
/// use libos_fs::cache::{Allocation, ManagerId, ManagedSimulation};
/// use libos_fs::{FileId, PolicyKind};
///
/// let mut cache = ManagedSimulation::new(80, Allocation::LruSp);
/// cache.set_policy(ManagerId::DEFAULT, 0, PolicyKind::Mru);
/// for _pass in 0..5 {
///     (0..100).for_each(|block| { cache.refer(FileId(1), block); });
/// }
/// assert_eq!(cache.statistics(ManagerId::DEFAULT).misses, 100 + 4 * (100 - 80));
/// ```
pub struct ManagedSimulation {
    state: State,
}

impl ManagedSimulation {
    /// A cache of so many blocks (at least 1), with LRU wherever nothing else is asked for.
    pub fn new(blocks: usize, allocation: Allocation) -> ManagedSimulation {
        ManagedSimulation {
            state: State::new(&CacheOptions { blocks, allocation, ..CacheOptions::default() }),
        }
    }

    /// The manager of this name; see [`BufferCache::manager`](super::BufferCache::manager).
    pub fn manager(&mut self, name: &str) -> ManagerId {
        self.state.managers.named(name)
    }

    /// Makes a file a manager's own, with a priority.
    pub fn set_priority(&mut self, manager: ManagerId, file: FileId, priority: i32) {
        self.state.set_place(file, Place { manager, priority });
    }

    /// Gives a manager's blocks of a priority another policy.
    pub fn set_policy(
        &mut self,
        manager: ManagerId,
        priority: i32,
        policy: impl Into<Box<dyn ReplacementPolicy>>,
    ) {
        self.state.set_policy(Place { manager, priority }, policy.into());
    }

    /// Gives blocks of a file a priority until each is next referenced or replaced.
    pub fn set_temporary_priority(&mut self, file: FileId, blocks: Range<u64>, priority: i32) {
        self.state.set_temporary_priority(file, blocks, priority);
    }

    /// References a block.
    pub fn refer(&mut self, file: FileId, block: u64) -> Referenced {
        let state = &mut self.state;
        let key = (file, block);
        if let Some(&slot) = state.index.get(&key) {
            state.hit(slot);
            return Referenced::Hit;
        }
        let mut evicted = None;
        let slot = state.take_vacant().or_else(|| {
            let victim = state.choose_victim(Some(key))?;
            let (file, block) = state.slots[victim.slot].key;
            evicted = Some(reference(file, block));
            state.evict(victim);
            Some(victim.slot)
        });
        // There is always one: without a device, nothing is on its way.
        if let Some(slot) = slot {
            state.slots[slot].key = key;
            state.index.insert(key, slot);
            state.promote(slot);
        }
        Referenced::Miss { evicted }
    }

    /// Counters of a manager.
    pub fn statistics(&self, manager: ManagerId) -> ManagerStatistics {
        self.state.managers.statistics(manager)
    }
}
