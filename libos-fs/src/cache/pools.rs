//! Priority pools: who is asked for a victim first.

use super::{Cached, Order, PolicyKind, ReplacementPolicy};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;

/// The blocks of one priority, and the policy that orders them.
struct Pool {
    policy: Box<dyn ReplacementPolicy>,
    /// Front: used longest ago. Independent of the policy, so that another policy can take over in a sensible order, and
    /// so that there is a victim whatever the policy answers.
    recency: Order,
}

/// All pools, lowest priority first. Every resident block is in exactly one.
pub(super) struct Pools {
    pools: BTreeMap<i32, Pool>,
    default_policy: PolicyKind,
}

impl Pools {
    pub(super) fn new(default_policy: PolicyKind) -> Pools {
        Pools { pools: BTreeMap::new(), default_policy }
    }

    fn pool(&mut self, priority: i32) -> &mut Pool {
        let default_policy = self.default_policy;
        self.pools
            .entry(priority)
            .or_insert_with(|| Pool { policy: default_policy.build(), recency: Order::default() })
    }

    pub(super) fn policy_name(&self, priority: i32) -> &'static str {
        self.pools.get(&priority).map_or(self.default_policy.name(), |pool| pool.policy.name())
    }

    /// Gives a pool another policy, which is told of the pool's blocks from the one used longest ago to the last.
    pub(super) fn set_policy(
        &mut self,
        priority: i32,
        mut policy: Box<dyn ReplacementPolicy>,
        block_in: impl Fn(usize) -> u64,
    ) {
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

    /// Blocks in pools of negative priority: nobody wants them any more.
    pub(super) fn unwanted(&self) -> usize {
        self.pools.range(..0).map(|(_, pool)| pool.recency.len()).sum()
    }

    /// A victim that `may_go`, from the lowest priority that has one. Second: how many answers of policies could not
    /// be taken.
    pub(super) fn victim(&mut self, may_go: impl Fn(usize) -> bool) -> (Option<usize>, u64) {
        let mut rejected = 0;
        for pool in self.pools.values_mut() {
            if pool.recency.is_empty() {
                continue;
            }
            let named = pool.policy.victim();
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
