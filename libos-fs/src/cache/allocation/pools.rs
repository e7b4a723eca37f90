//! Priority pools: who is asked for a victim first.

use crate::cache::order::Order;
use crate::cache::policies::{Advice, Cached, MakePolicy, ReplacementPolicy};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::ops::Range;

/// The blocks of one priority, and the policy that orders them.
struct Pool {
    policy: Box<dyn ReplacementPolicy>,
    /// Front: used longest ago. Kept beside the policy, for two uses: another policy takes over in this
    /// order, and there is a victim even if the policy names none.
    recency: Order,
}

/// All pools, lowest priority first. Every resident block is in exactly one.
pub(super) struct Pools {
    pools: BTreeMap<i32, Pool>,
    default_policy: MakePolicy,
    /// Blocks that the whole cache may hold. What a policy can count on: any pool may have all of it.
    capacity: usize,
}

impl Pools {
    pub(super) fn new(default_policy: MakePolicy, capacity: usize) -> Pools {
        Pools { pools: BTreeMap::new(), default_policy, capacity }
    }

    /// Tells all policies how many blocks there is room for.
    pub(super) fn resize(&mut self, capacity: usize) {
        self.capacity = capacity;
        self.pools.values_mut().for_each(|pool| pool.policy.resized(capacity));
    }

    fn pool(&mut self, priority: i32) -> &mut Pool {
        let (default_policy, capacity) = (self.default_policy, self.capacity);
        self.pools
            .entry(priority)
            .or_insert_with(|| Pool { policy: default_policy.build(capacity), recency: Order::default() })
    }

    pub(super) fn policy_name(&self, priority: i32) -> &'static str {
        self.pools.get(&priority).map_or(self.default_policy.name(), |pool| pool.policy.name())
    }

    /// Gives a pool another policy, which is told of the pool's blocks from the one used longest ago to the
    /// last.
    pub(super) fn set_policy(
        &mut self,
        priority: i32,
        mut policy: Box<dyn ReplacementPolicy>,
        block_in: impl Fn(usize) -> u64,
    ) {
        policy.resized(self.capacity);
        let pool = self.pool(priority);
        for slot in pool.recency.iter() {
            policy.inserted(Cached { slot, block: block_in(slot) });
        }
        pool.policy = policy;
    }

    pub(super) fn insert(&mut self, priority: i32, block: Cached) {
        let pool = self.pool(priority);
        pool.recency.push_back(block.slot);
        pool.policy.inserted(block);
    }

    pub(super) fn access(&mut self, priority: i32, block: Cached) {
        let pool = self.pool(priority);
        pool.recency.push_back(block.slot);
        pool.policy.accessed(block);
    }

    pub(super) fn remove(&mut self, priority: i32, block: Cached) {
        let pool = self.pool(priority);
        pool.recency.remove(block.slot);
        pool.policy.removed(block);
    }

    /// Like [`Pools::remove`], of a block that makes room.
    pub(super) fn evict(&mut self, priority: i32, block: Cached) {
        let pool = self.pool(priority);
        pool.recency.remove(block.slot);
        pool.policy.evicted(block);
    }

    /// Passes on to a pool's policy what the application says about blocks.
    pub(super) fn advise(&mut self, priority: i32, blocks: Range<u64>, advice: Advice) {
        self.pool(priority).policy.advised(blocks, advice);
    }

    /// Blocks in pools of negative priority: the application does not want them any more.
    pub(super) fn unwanted(&self) -> usize {
        self.pools.range(..0).map(|(_, pool)| pool.recency.len()).sum()
    }

    /// A victim that `may_go` to make room for block `missing`, from the lowest priority that has one.
    /// Second: how many answers of policies could not be taken.
    pub(super) fn victim(
        &mut self,
        missing: Option<u64>,
        may_go: impl Fn(usize) -> bool,
    ) -> (Option<usize>, u64) {
        let mut rejected = 0;
        for pool in self.pools.values_mut() {
            if pool.recency.is_empty() {
                continue;
            }
            let named = pool.policy.victim(missing);
            if let Some(slot) = named.filter(|slot| pool.recency.contains(*slot) && may_go(*slot)) {
                return (Some(slot), rejected);
            }
            rejected += 1;
            if let Some(slot) = pool.recency.iter().find(|slot| may_go(*slot)) {
                return (Some(slot), rejected);
            }
        }
        (None, rejected)
    }
}
