//! Two-level replacement: which manager pays for a missing block, and which block it gives up.
//!
//! ```text
//!   missing block
//!        │
//!   Managers     all blocks by last use; the oldest is the candidate A, its manager pays     first level
//!        │
//!   Pools        that manager's priorities and policies give up B, which may be A            second level
//!        │
//!   swap         A takes B's place among all blocks, B leaves; a placeholder remembers A
//! ```
//!
//! This is LRU-SP (P. Cao, E. W. Felten, K. Li, "Implementation and performance of application-controlled
//! file caching", OSDI 1994; "Application-controlled file caching policies", USENIX Summer 1994). What it is
//! meant to give:
//!
//! * a manager that never overrules the candidate (an *oblivious* one) fares as under one LRU for all;
//! * a *foolish* one hurts itself only: by placeholders;
//! * a *smart* one fares at least as well as under LRU: by swapping.

use super::placeholders::Placeholders;
use super::pools::Pools;
use super::rule::Allocation;
use crate::cache::key::{Key, reference};
use crate::cache::order::Order;
use crate::cache::policies::{Advice, Cached, MakePolicy, ReplacementPolicy};
use crate::file_id::FileId;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use hashbrown::HashMap;

/// A manager of a cache: an application, a set of files, a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ManagerId(u32);

impl ManagerId {
    /// The manager of all files that were given no other.
    pub const DEFAULT: ManagerId = ManagerId(0);

    fn index(self) -> usize {
        self.0 as usize
    }
}

/// Counters of a manager.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ManagerStatistics {
    /// References to blocks of its files.
    pub references: u64,
    /// Those that found their block in the cache.
    pub hits: u64,
    /// Those that did not.
    pub misses: u64,
    /// Its blocks in the cache now, without those in staging.
    pub resident: usize,
    /// Blocks of it that made room.
    pub evictions: u64,
    /// Of these, blocks that it gave up instead of the candidate.
    pub overruled: u64,
    /// Candidates that it had to offer because it missed what it had given up before.
    pub mistakes: u64,
}

struct Manager {
    name: String,
    pools: Pools,
    statistics: ManagerStatistics,
}

/// Where a block belongs: a manager, and one of its priorities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) manager: ManagerId,
    pub(crate) priority: i32,
}

/// A resident block: what it is, and the pool it is in.
#[derive(Clone, Copy)]
struct Resident {
    key: Key,
    place: Place,
    /// Whether the priority lasts only until the next reference.
    temporary: bool,
}

impl Resident {
    fn in_slot(self, slot: usize) -> Cached {
        Cached { slot, block: reference(self.key.0, self.key.1) }
    }
}

/// A block chosen to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Victim {
    slot: usize,
    /// The candidate, if the manager gave up `slot` instead.
    kept: Option<usize>,
    /// Whether a placeholder named the candidate.
    mistake: bool,
}

impl Victim {
    /// A block that leaves though no policy chose it.
    pub(crate) fn unasked(slot: usize) -> Victim {
        Victim { slot, kept: None, mistake: false }
    }

    /// The slot it is in.
    pub(crate) fn slot(self) -> usize {
        self.slot
    }
}

/// All managers of a cache.
///
/// Invariant: the slots with an entry in `residents` are those in `recency`, and each is in exactly one pool:
/// that of its place.
pub(crate) struct Managers {
    managers: Vec<Manager>,
    allocation: Allocation,
    /// Where blocks of a file belong, if not in priority 0 of the default manager.
    places: HashMap<FileId, Place>,
    /// All resident blocks; front: used longest ago, but for swaps.
    recency: Order,
    /// By slot.
    residents: Vec<Option<Resident>>,
    placeholders: Placeholders,
    default_policy: MakePolicy,
    capacity: usize,
}

impl Managers {
    /// No block is resident; there is the default manager.
    pub(crate) fn new(allocation: Allocation, default_policy: MakePolicy, capacity: usize) -> Managers {
        let mut managers = Managers {
            managers: Vec::new(),
            allocation,
            places: HashMap::new(),
            recency: Order::default(),
            residents: Vec::new(),
            placeholders: Placeholders::new(capacity),
            default_policy,
            capacity,
        };
        managers.named("default");
        managers
    }

    /// The manager of this name. It is made if there is none.
    pub(crate) fn named(&mut self, name: &str) -> ManagerId {
        let known = self.managers.iter().position(|manager| manager.name == name);
        let index = known.unwrap_or_else(|| {
            let pools = Pools::new(self.default_policy, self.capacity);
            let statistics = ManagerStatistics::default();
            self.managers.push(Manager { name: name.into(), pools, statistics });
            self.managers.len() - 1
        });
        ManagerId(index as u32)
    }

    /// Changes how many blocks there is room for in all.
    pub(crate) fn resize(&mut self, capacity: usize) {
        self.capacity = capacity;
        self.placeholders.resize(capacity);
        self.managers.iter_mut().for_each(|manager| manager.pools.resize(capacity));
    }

    /// Counters of a manager.
    pub(crate) fn statistics(&self, manager: ManagerId) -> ManagerStatistics {
        self.managers[manager.index()].statistics
    }

    /// Name of the policy of a place.
    pub(crate) fn policy_name(&self, place: Place) -> &'static str {
        self.managers[place.manager.index()].pools.policy_name(place.priority)
    }

    /// Gives a place another policy. It is told of the blocks there, from the one used longest ago to the
    /// last.
    pub(crate) fn set_policy(&mut self, place: Place, policy: Box<dyn ReplacementPolicy>) {
        let residents = &self.residents;
        let block_in = |slot: usize| {
            let resident = residents.get(slot).copied().flatten();
            resident.map_or(0, |resident| resident.in_slot(slot).block)
        };
        self.managers[place.manager.index()].pools.set_policy(place.priority, policy, block_in);
    }

    /// Passes on to the policy of a file's place what the application says about blocks of the file.
    pub(crate) fn advise(&mut self, file: FileId, blocks: Range<u64>, advice: Advice) {
        let place = self.place_of(file);
        self.pools(place).advise(place.priority, blocks, advice);
    }

    /// Blocks of a manager that have a negative priority.
    pub(crate) fn unwanted(&self, manager: ManagerId) -> usize {
        self.managers[manager.index()].pools.unwanted()
    }

    /// Where blocks of a file belong.
    pub(crate) fn place_of(&self, file: FileId) -> Place {
        self.places.get(&file).copied().unwrap_or_default()
    }

    /// Where the block in a slot is, if it is resident.
    pub(crate) fn place_in(&self, slot: usize) -> Option<Place> {
        self.resident(slot).map(|resident| resident.place)
    }

    /// Says where blocks of a file belong from now on. Those with a temporary priority keep it, within the
    /// manager. Looks at every slot.
    pub(crate) fn set_place(&mut self, file: FileId, place: Place) {
        if self.places.insert(file, place).unwrap_or_default() == place {
            return;
        }
        for slot in 0..self.residents.len() {
            let Some(resident) = self.resident(slot).filter(|resident| resident.key.0 == file) else {
                continue;
            };
            let priority = if resident.temporary { resident.place.priority } else { place.priority };
            let place = Place { priority, ..place };
            if resident.place != place {
                self.transfer(slot, resident, place);
            }
        }
    }

    /// A file is gone, and so are its blocks: where they belonged is forgotten.
    pub(crate) fn forget_file(&mut self, file: FileId) {
        self.places.remove(&file);
    }

    /// Gives the block in a slot, if it is resident, a priority until it is next referenced or replaced.
    pub(crate) fn set_temporary_priority(&mut self, slot: usize, priority: i32) {
        let Some(resident) = self.resident(slot) else { return };
        let place = Place { priority, ..resident.place };
        self.transfer(slot, resident, place);
        self.residents[slot] = Some(Resident { place, temporary: true, ..resident });
    }

    /// A block has come into a slot. It was missed and thereby used once.
    pub(crate) fn insert(&mut self, slot: usize, key: Key) {
        let resident = Resident { key, place: self.place_of(key.0), temporary: false };
        let (place, block) = (resident.place, resident.in_slot(slot));
        self.placeholders.block_is_back(block.block);
        if slot >= self.residents.len() {
            self.residents.resize(slot + 1, None);
        }
        self.residents[slot] = Some(resident);
        self.recency.push_back(slot);
        self.pools(place).insert(place.priority, block);
        let statistics = self.counters(place.manager);
        statistics.references += 1;
        statistics.misses += 1;
        statistics.resident += 1;
    }

    /// The block in a slot was used again. A temporary priority ends.
    pub(crate) fn access(&mut self, slot: usize) {
        let Some(resident) = self.resident(slot) else { return };
        let place = resident.place;
        let back = if resident.temporary { self.place_of(resident.key.0) } else { place };
        self.placeholders.slot_is_over(slot);
        self.recency.push_back(slot);
        if place == back {
            self.pools(place).access(place.priority, resident.in_slot(slot));
        } else {
            self.transfer(slot, resident, back);
        }
        self.residents[slot] = Some(Resident { place: back, temporary: false, ..resident });
        let statistics = self.counters(back.manager);
        statistics.references += 1;
        statistics.hits += 1;
    }

    /// The block in a slot belongs elsewhere, without having been used.
    fn transfer(&mut self, slot: usize, resident: Resident, to: Place) {
        let (from, block) = (resident.place, resident.in_slot(slot));
        self.pools(from).remove(from.priority, block);
        self.pools(to).insert(to.priority, block);
        self.residents[slot] = Some(Resident { place: to, ..resident });
        if from.manager != to.manager {
            self.placeholders.slot_is_over(slot);
            self.counters(from.manager).resident -= 1;
            self.counters(to.manager).resident += 1;
        }
    }

    /// The block in a slot is gone for a reason that says nothing about its worth.
    pub(crate) fn remove(&mut self, slot: usize) {
        let Some(resident) = self.take_out(slot) else { return };
        let place = resident.place;
        self.pools(place).remove(place.priority, resident.in_slot(slot));
        self.placeholders.slot_is_over(slot);
        self.recency.remove(slot);
        self.counters(place.manager).resident -= 1;
    }

    /// A block that `may_go` to make room for block `missing`. Second: how many answers of policies could not
    /// be taken.
    ///
    /// Nothing changes until [`Managers::evict`], and the caller may take another block, or none.
    pub(crate) fn victim(
        &mut self,
        missing: Option<Key>,
        may_go: impl Fn(usize) -> bool,
    ) -> (Option<Victim>, u64) {
        let missing = missing.map(|(file, block)| reference(file, block));
        if self.managers.len() == 1 && self.allocation != Allocation::GlobalLru {
            // Whatever the candidate, its manager is this one.
            let (slot, rejected) = self.managers[0].pools.victim(missing, may_go);
            return (slot.map(Victim::unasked), rejected);
        }
        let remembered =
            missing.and_then(|block| self.placeholders.slot_for(block)).filter(|slot| may_go(*slot));
        let candidate = remembered.or_else(|| self.recency.iter().find(|slot| may_go(*slot)));
        let Some(candidate) = candidate else { return (None, 0) };
        if self.allocation == Allocation::GlobalLru {
            return (Some(Victim::unasked(candidate)), 0);
        }
        let owner = self.place_in(candidate).unwrap_or_default().manager;
        let (slot, rejected) = self.managers[owner.index()].pools.victim(missing, may_go);
        let victim = slot.map(|slot| Victim {
            slot,
            kept: (slot != candidate).then_some(candidate),
            mistake: remembered.is_some(),
        });
        (victim, rejected)
    }

    /// The slot whose block a manager would give up itself.
    pub(crate) fn own_victim(
        &mut self,
        manager: ManagerId,
        missing: Key,
        may_go: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let missing = reference(missing.0, missing.1);
        self.managers.get_mut(manager.index())?.pools.victim(Some(missing), may_go).0
    }

    /// A block leaves to make room. Returns its number.
    pub(crate) fn evict(&mut self, victim: Victim) -> Option<u64> {
        let resident = self.take_out(victim.slot)?;
        let (place, block) = (resident.place, resident.in_slot(victim.slot));
        // The candidate may have gone since it was chosen, while a dirty block was being written.
        let kept = victim.kept.filter(|kept| self.recency.contains(*kept));
        match (self.allocation, kept) {
            (Allocation::LruSp, Some(kept)) => {
                self.recency.replace(victim.slot, kept);
                self.placeholders.make(block.block, kept);
            }
            (Allocation::LruS, Some(kept)) => self.recency.replace(victim.slot, kept),
            _ => self.recency.remove(victim.slot),
        }
        self.placeholders.slot_is_over(victim.slot);
        self.pools(place).evict(place.priority, block);
        let statistics = self.counters(place.manager);
        statistics.resident -= 1;
        statistics.evictions += 1;
        statistics.overruled += u64::from(victim.kept.is_some());
        statistics.mistakes += u64::from(victim.mistake);
        Some(block.block)
    }

    fn resident(&self, slot: usize) -> Option<Resident> {
        self.residents.get(slot).copied().flatten()
    }

    fn take_out(&mut self, slot: usize) -> Option<Resident> {
        self.residents.get_mut(slot)?.take()
    }

    fn pools(&mut self, place: Place) -> &mut Pools {
        &mut self.managers[place.manager.index()].pools
    }

    fn counters(&mut self, manager: ManagerId) -> &mut ManagerStatistics {
        &mut self.managers[manager.index()].statistics
    }
}
