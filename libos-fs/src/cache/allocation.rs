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
use super::{Advice, Cached, Order, PolicyKind, ReplacementPolicy};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use core::str::FromStr;

/// How room is divided between managers. With a single manager all are the same, but for
/// [`Allocation::GlobalLru`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Allocation {
    /// The manager of the block used longest ago pays, with swapping and placeholders. The one to use.
    #[default]
    LruSp,
    /// The same without placeholders: a foolish manager takes from the others.
    LruS,
    /// The same without swapping either: a manager that keeps its oldest blocks pays again and again.
    AllocLru,
    /// The block used longest ago goes, and nobody is asked: what a kernel does that knows no managers.
    GlobalLru,
}

impl Allocation {
    /// All of them.
    pub const ALL: [Allocation; 4] =
        [Allocation::LruSp, Allocation::LruS, Allocation::AllocLru, Allocation::GlobalLru];

    /// Its name, which [`Allocation::from_str`] understands.
    pub fn name(self) -> &'static str {
        match self {
            Allocation::LruSp => "lru-sp",
            Allocation::LruS => "lru-s",
            Allocation::AllocLru => "alloc-lru",
            Allocation::GlobalLru => "global-lru",
        }
    }
}

/// No allocation policy has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownAllocation;

impl fmt::Display for UnknownAllocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown allocation, there are: lru-sp, lru-s, alloc-lru, global-lru")
    }
}

impl core::error::Error for UnknownAllocation {}

impl FromStr for Allocation {
    type Err = UnknownAllocation;

    fn from_str(name: &str) -> Result<Allocation, UnknownAllocation> {
        Allocation::ALL.into_iter().find(|kind| kind.name() == name).ok_or(UnknownAllocation)
    }
}

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
pub(super) struct Place {
    pub(super) manager: ManagerId,
    pub(super) priority: i32,
}

/// A block chosen to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Victim {
    pub(super) slot: usize,
    /// The candidate, if the manager gave up `slot` instead.
    kept: Option<usize>,
    /// Whether a placeholder named the candidate.
    mistake: bool,
}

impl Victim {
    /// A block that leaves though nobody chose it.
    pub(super) fn unasked(slot: usize) -> Victim {
        Victim { slot, kept: None, mistake: false }
    }
}

/// All managers of a cache. Every resident block is in exactly one pool of one of them, and in `recency`.
pub(super) struct Managers {
    managers: Vec<Manager>,
    allocation: Allocation,
    /// All resident blocks; front: used longest ago, but for swaps.
    recency: Order,
    /// By slot: whose block is in it, while it is in `recency`.
    owners: Vec<ManagerId>,
    placeholders: Placeholders,
    default_policy: PolicyKind,
    capacity: usize,
}

impl Managers {
    pub(super) fn new(allocation: Allocation, default_policy: PolicyKind, capacity: usize) -> Managers {
        let mut managers = Managers {
            managers: Vec::new(),
            allocation,
            recency: Order::default(),
            owners: Vec::new(),
            placeholders: Placeholders::new(capacity),
            default_policy,
            capacity,
        };
        managers.named("default");
        managers
    }

    /// The manager of this name; there is one from now on.
    pub(super) fn named(&mut self, name: &str) -> ManagerId {
        let known = self.managers.iter().position(|manager| manager.name == name);
        let index = known.unwrap_or_else(|| {
            let pools = Pools::new(self.default_policy, self.capacity);
            let statistics = ManagerStatistics::default();
            self.managers.push(Manager { name: name.into(), pools, statistics });
            self.managers.len() - 1
        });
        ManagerId(index as u32)
    }

    pub(super) fn resize(&mut self, capacity: usize) {
        self.capacity = capacity;
        self.placeholders.resize(capacity);
        self.managers.iter_mut().for_each(|manager| manager.pools.resize(capacity));
    }

    pub(super) fn statistics(&self, manager: ManagerId) -> ManagerStatistics {
        self.managers[manager.index()].statistics
    }

    pub(super) fn policy_name(&self, place: Place) -> &'static str {
        self.managers[place.manager.index()].pools.policy_name(place.priority)
    }

    pub(super) fn set_policy(
        &mut self,
        place: Place,
        policy: Box<dyn ReplacementPolicy>,
        block_in: impl Fn(usize) -> u64,
    ) {
        self.pools(place).set_policy(place.priority, policy, block_in);
    }

    pub(super) fn advise(&mut self, place: Place, blocks: Range<u64>, advice: Advice) {
        self.pools(place).advise(place.priority, blocks, advice);
    }

    /// Blocks of a manager that it wants no more.
    pub(super) fn unwanted(&self, manager: ManagerId) -> usize {
        self.managers[manager.index()].pools.unwanted()
    }

    /// A block has come in, and was missed and thereby used once.
    pub(super) fn insert(&mut self, place: Place, block: Cached) {
        self.placeholders.block_is_back(block.block);
        if block.slot >= self.owners.len() {
            self.owners.resize(block.slot + 1, ManagerId::DEFAULT);
        }
        self.owners[block.slot] = place.manager;
        self.recency.push_back(block.slot);
        self.pools(place).insert(place.priority, block);
        let statistics = self.counters(place.manager);
        statistics.references += 1;
        statistics.misses += 1;
        statistics.resident += 1;
    }

    /// A block was used again. `place` is where it is, `back` where it belongs from now on.
    pub(super) fn access(&mut self, place: Place, back: Place, block: Cached) {
        self.placeholders.slot_is_over(block.slot);
        self.recency.push_back(block.slot);
        if place == back {
            self.pools(place).access(place.priority, block);
        } else {
            self.transfer(place, back, block);
        }
        let statistics = self.counters(back.manager);
        statistics.references += 1;
        statistics.hits += 1;
    }

    /// A block belongs elsewhere, without having been used.
    pub(super) fn transfer(&mut self, from: Place, to: Place, block: Cached) {
        self.pools(from).remove(from.priority, block);
        self.pools(to).insert(to.priority, block);
        if from.manager != to.manager {
            self.placeholders.slot_is_over(block.slot);
            self.owners[block.slot] = to.manager;
            self.counters(from.manager).resident -= 1;
            self.counters(to.manager).resident += 1;
        }
    }

    /// A block is gone for a reason that says nothing about its worth.
    pub(super) fn remove(&mut self, place: Place, block: Cached) {
        self.pools(place).remove(place.priority, block);
        self.placeholders.slot_is_over(block.slot);
        self.recency.remove(block.slot);
        self.counters(place.manager).resident -= 1;
    }

    /// A block that `may_go` to make room for block `missing`. Second: how many answers of policies could not
    /// be taken.
    ///
    /// Nothing changes until [`Managers::evict`].
    pub(super) fn victim(
        &mut self,
        missing: Option<u64>,
        may_go: impl Fn(usize) -> bool,
    ) -> (Option<Victim>, u64) {
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
        let owner = self.owners[candidate];
        let (slot, rejected) = self.managers[owner.index()].pools.victim(missing, may_go);
        let victim = slot.map(|slot| Victim {
            slot,
            kept: (slot != candidate).then_some(candidate),
            mistake: remembered.is_some(),
        });
        (victim, rejected)
    }

    /// The block that a manager would give up itself.
    pub(super) fn own_victim(
        &mut self,
        manager: ManagerId,
        missing: u64,
        may_go: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        self.managers.get_mut(manager.index())?.pools.victim(Some(missing), may_go).0
    }

    /// A block leaves to make room.
    pub(super) fn evict(&mut self, place: Place, victim: Victim, block: Cached) {
        // Between choice and eviction, while a dirty block was being written, the candidate may have gone.
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
    }

    fn pools(&mut self, place: Place) -> &mut Pools {
        &mut self.managers[place.manager.index()].pools
    }

    fn counters(&mut self, manager: ManagerId) -> &mut ManagerStatistics {
        &mut self.managers[manager.index()].statistics
    }
}
