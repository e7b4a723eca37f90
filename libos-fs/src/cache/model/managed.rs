//! A cache without contents: managers, priorities and policies alone, for simulations.

use super::simulation::Referenced;
use crate::cache::allocation::{Allocation, ManagerId, ManagerStatistics, Managers, Place};
use crate::cache::key::{Key, known_slots};
use crate::cache::policies::{MakePolicy, ReplacementPolicy};
use crate::file_id::FileId;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;
use hashbrown::HashMap;

/// The replacement of a [`BufferCache`](crate::cache::BufferCache) without blocks, files and device:
/// managers, priorities and policies are those of the cache, and so is the code. It counts as misses what a
/// cache without read-ahead reads. To simulate a single policy, take
/// [`Simulation`](crate::cache::Simulation).
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
    managers: Managers,
    capacity: usize,
    /// Block in each slot.
    blocks: Vec<Key>,
    /// Slot of each block.
    slot_of: HashMap<Key, usize>,
}

impl ManagedSimulation {
    /// A cache of so many blocks (at least 1), with LRU wherever nothing else is asked for.
    pub fn new(blocks: usize, allocation: Allocation) -> ManagedSimulation {
        let capacity = blocks.max(1);
        let managers = Managers::new(allocation, MakePolicy::default(), capacity);
        ManagedSimulation { managers, capacity, blocks: Vec::new(), slot_of: HashMap::new() }
    }

    /// The manager of this name; see [`BufferCache::manager`](crate::cache::BufferCache::manager).
    pub fn manager(&mut self, name: &str) -> ManagerId {
        self.managers.named(name)
    }

    /// Makes a file a manager's own, with a priority.
    pub fn set_priority(&mut self, manager: ManagerId, file: FileId, priority: i32) {
        self.managers.set_place(file, Place { manager, priority });
    }

    /// Gives a manager's blocks of a priority another policy.
    pub fn set_policy(
        &mut self,
        manager: ManagerId,
        priority: i32,
        policy: impl Into<Box<dyn ReplacementPolicy>>,
    ) {
        self.managers.set_policy(Place { manager, priority }, policy.into());
    }

    /// Gives blocks of a file a priority until each is next referenced or replaced.
    pub fn set_temporary_priority(&mut self, file: FileId, blocks: Range<u64>, priority: i32) {
        for slot in known_slots(&self.slot_of, file, blocks) {
            self.managers.set_temporary_priority(slot, priority);
        }
    }

    /// References a block.
    pub fn refer(&mut self, file: FileId, block: u64) -> Referenced {
        let key = (file, block);
        if let Some(&slot) = self.slot_of.get(&key) {
            self.managers.access(slot);
            return Referenced::Hit;
        }
        let mut evicted = None;
        let slot = if self.blocks.len() < self.capacity {
            self.blocks.push(key);
            self.blocks.len() - 1
        } else {
            // There is always one: without a device, every block may go.
            let Some(victim) = self.managers.victim(Some(key), |_| true).0 else {
                return Referenced::Miss { evicted: None };
            };
            evicted = self.managers.evict(victim);
            self.slot_of.remove(&self.blocks[victim.slot()]);
            self.blocks[victim.slot()] = key;
            victim.slot()
        };
        self.slot_of.insert(key, slot);
        self.managers.insert(slot, key);
        Referenced::Miss { evicted }
    }

    /// Counters of a manager.
    pub fn statistics(&self, manager: ManagerId) -> ManagerStatistics {
        self.managers.statistics(manager)
    }
}
