//! Priorities and policies of them, as one policy: for caches that know nothing of files.

use super::allocation::{Allocation, ManagerId, ManagerStatistics, Managers, Place, Victim};
use super::key::{block_of, reference};
use super::policies::{Advice, Cached, PolicyKind, ReplacementPolicy};
use crate::file_id::FileId;
use alloc::boxed::Box;
use core::ops::Range;

/// What [`BufferCache`](super::BufferCache) does for its default manager, as a [`ReplacementPolicy`]: files
/// have priorities, and each priority has a policy of its own. For
/// [`SharedCache`](super::SharedCache), whose blocks must be named by [`reference()`](super::reference()).
pub struct Managed {
    managers: Managers,
    /// The last victim, which is still there.
    named: Option<Victim>,
}

impl Managed {
    /// With this policy wherever nothing else is asked for.
    pub fn new(policy: PolicyKind) -> Managed {
        Managed { managers: Managers::new(Allocation::default(), policy.into(), 1), named: None }
    }

    /// Gives the blocks of a priority another policy. It is told of those in the cache, from the one used
    /// longest ago to the last.
    pub fn set_policy(&mut self, priority: i32, policy: impl Into<Box<dyn ReplacementPolicy>>) {
        self.managers.set_policy(Place { manager: ManagerId::DEFAULT, priority }, policy.into());
    }

    /// Gives a file a priority; files that were given none have 0. Blocks of lower priority are replaced
    /// first. Looks at every block.
    pub fn set_priority(&mut self, file: FileId, priority: i32) {
        self.managers.set_place(file, Place { manager: ManagerId::DEFAULT, priority });
    }

    /// Gives the block in a slot a priority until it is next used or replaced.
    pub fn set_temporary_priority(&mut self, slot: usize, priority: i32) {
        self.managers.set_temporary_priority(slot, priority);
    }

    /// Says something about blocks of a file to the policy of its priority.
    pub fn advise(&mut self, file: FileId, blocks: Range<u64>, advice: Advice) {
        let last = blocks.end.min(1 << 32).saturating_sub(1);
        if blocks.start <= last {
            let blocks = reference(file, blocks.start)..reference(file, last).saturating_add(1);
            self.managers.advise(file, blocks, advice);
        }
    }

    /// Counters.
    pub fn statistics(&self) -> ManagerStatistics {
        self.managers.statistics(ManagerId::DEFAULT)
    }
}

impl ReplacementPolicy for Managed {
    fn name(&self) -> &'static str {
        "managed"
    }

    fn inserted(&mut self, block: Cached) {
        self.managers.insert(block.slot, block_of(block.block));
    }

    fn accessed(&mut self, block: Cached) {
        self.managers.access(block.slot);
    }

    fn removed(&mut self, block: Cached) {
        self.managers.remove(block.slot);
    }

    fn evicted(&mut self, block: Cached) {
        let named = self.named.take().filter(|victim| victim.slot() == block.slot);
        self.managers.evict(named.unwrap_or(Victim::unasked(block.slot)));
    }

    fn victim(&mut self, missing: Option<u64>) -> Option<usize> {
        let managers = &mut self.managers;
        self.named = managers.victim(missing.map(block_of), |_| true).0;
        self.named.map(Victim::slot)
    }

    fn resized(&mut self, blocks: usize) {
        self.managers.resize(blocks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{ManagedSimulation, Referenced, Simulation};
    use crate::device::fault::Dice;

    /// The same misses as of the managers themselves, priorities included.
    #[test]
    fn it_decides_as_the_managers_do() {
        let mut policy = Managed::new(PolicyKind::default());
        policy.set_policy(0, PolicyKind::Mru);
        policy.set_priority(FileId(2), 1);
        let mut cache = Simulation::new(&mut policy, 20);
        let mut model = ManagedSimulation::new(20, Allocation::default());
        model.set_policy(ManagerId::DEFAULT, 0, PolicyKind::Mru);
        model.set_priority(ManagerId::DEFAULT, FileId(2), 1);
        let mut dice = Dice::new(5);
        for _ in 0..5000 {
            let (file, block) = (FileId(1 + dice.below(2)), dice.below(25));
            let same = cache.reference(reference(file, block)) == model.refer(file, block);
            assert!(same, "{file:?} {block}");
        }
        assert_eq!(cache.reference(reference(FileId(3), 0)), model.refer(FileId(3), 0));
        assert!(matches!(cache.reference(reference(FileId(3), 1)), Referenced::Miss { .. }));
    }
}
