//! Plans: which unit of files has which priority, which priority has which policy, and what that would miss.

use super::character::Reference;
use super::units::Unit;
use libos_fs::PolicyKind;
use libos_fs::cache::{Allocation, ManagedSimulation, ManagerId, Referenced};
use std::collections::BTreeMap;

/// Priorities of units, by their index, and policies of priorities. What is in no unit has priority 0.
///
/// No priority is negative: the cache takes blocks of negative priority for unwanted, and reads ahead into
/// their room. So what should go first stays at 0, and all else is raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The policy of each priority.
    pub policies: BTreeMap<i32, PolicyKind>,
    /// The priority of each unit.
    pub priorities: Vec<i32>,
}

impl Plan {
    /// One policy for everything, with so many units.
    pub fn general(policy: PolicyKind, units: usize) -> Plan {
        Plan { policies: [(0, policy)].into(), priorities: vec![0; units] }
    }

    /// The same with a unit at another priority, which has this policy if it is new. With a priority of −1
    /// all others are raised.
    pub fn with_unit(&self, unit: usize, priority: i32, policy: PolicyKind) -> Plan {
        let mut plan = self.clone();
        plan.policies.entry(priority).or_insert(policy);
        plan.priorities[unit] = priority;
        plan.policies.retain(|level, _| *level == 0 || plan.priorities.contains(level));
        let up = -plan.policies.keys().next().copied().unwrap_or_default().min(0);
        plan.policies = plan.policies.into_iter().map(|(level, policy)| (level + up, policy)).collect();
        plan.priorities.iter_mut().for_each(|level| *level += up);
        plan.policies.retain(|level, _| *level == 0 || plan.priorities.contains(level));
        plan
    }

    /// The same with another policy for a priority.
    pub fn with_policy(&self, priority: i32, policy: PolicyKind) -> Plan {
        let mut plan = self.clone();
        plan.policies.insert(priority, policy);
        plan
    }

    /// Whether it is what the library does anyway.
    pub fn is_default(&self) -> bool {
        *self == Plan::general(PolicyKind::default(), self.priorities.len())
    }

    /// Units whose priority is not 0, with it.
    pub fn raised(&self) -> impl Iterator<Item = (usize, i32)> + '_ {
        self.priorities.iter().copied().enumerate().filter(|(_, priority)| *priority != 0)
    }

    /// Whether blocks of priority 0 are not admitted: those of other files stay, and they replace each other.
    pub fn keeps_out_lowest(&self) -> bool {
        self.policies.len() > 1 && self.policies.get(&0) == Some(&PolicyKind::Mru)
    }

    /// Calls that it takes.
    pub fn calls(&self) -> usize {
        self.policies.len() + self.raised().count()
    }

    /// Misses with so many blocks of cache, by the code that the cache runs; `None` if they are `limit` or
    /// more. Also tells how many references that took.
    pub fn misses(
        &self,
        blocks: usize,
        references: &[Reference],
        units: &[Unit],
        limit: u64,
    ) -> (Option<u64>, u64) {
        let mut cache = ManagedSimulation::new(blocks, Allocation::default());
        for (priority, policy) in &self.policies {
            cache.set_policy(ManagerId::DEFAULT, *priority, *policy);
        }
        for (unit, priority) in self.raised() {
            for file in &units[unit].files {
                cache.set_priority(ManagerId::DEFAULT, *file, priority);
            }
        }
        let mut misses = 0;
        for (done, (file, block)) in references.iter().enumerate() {
            if cache.refer(*file, *block) != Referenced::Hit {
                misses += 1;
                if misses >= limit {
                    return (None, done as u64 + 1);
                }
            }
        }
        (Some(misses), references.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_first_stays_below_and_all_else_is_raised() {
        let plan = Plan::general(PolicyKind::Lirs, 3).with_unit(1, -1, PolicyKind::Mru);
        assert_eq!(plan.priorities, [1, 0, 1]);
        assert_eq!(plan.policies, [(0, PolicyKind::Mru), (1, PolicyKind::Lirs)].into());
        assert!(plan.keeps_out_lowest() && !Plan::general(PolicyKind::Mru, 3).keeps_out_lowest());
        let back = plan.with_unit(1, 1, PolicyKind::Fifo);
        assert_eq!(back.priorities, [1, 1, 1]);
        assert_eq!(back.calls(), 5, "and the policy of what is in no unit");
        let higher = plan.with_unit(2, 2, PolicyKind::Fifo);
        assert_eq!((higher.priorities, higher.policies[&2]), (vec![1, 0, 2], PolicyKind::Fifo));
    }
}
