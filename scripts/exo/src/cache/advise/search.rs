//! The search for a plan: from the best general policies, step by step, as long as a step gains.
//!
//! A step gives one unit of files another priority, with a policy if nobody has that priority yet, or gives a
//! priority another policy. Of all steps the one that gains most is taken (hill climbing). The search does
//! not try every plan, so a better one may exist; what it finds is exact for what it found.

use super::character::Reference;
use super::plan::Plan;
use super::units::Unit;
use crate::cache::replay::in_parallel;
use indicatif::ProgressBar;
use libos_fs::PolicyKind;
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};

/// Priorities that a plan has at most.
const MOST_PRIORITIES: usize = 4;
/// General policies that a search begins from.
const BEGINNINGS: usize = 3;
/// Steps of a search at most.
const MOST_STEPS: usize = 12;

/// A step that was taken.
#[derive(Clone, Debug)]
pub struct Step {
    /// The plan after it.
    pub plan: Plan,
    /// What it misses.
    pub misses: u64,
}

/// What a search does, and how far it may go.
pub struct Search<'a> {
    /// All references.
    pub references: &'a [Reference],
    /// What can be put apart.
    pub units: &'a [Unit],
    /// Whether there is more than one file.
    pub several_files: bool,
    /// Threads that simulate.
    pub threads: NonZero<usize>,
    /// References that may still be simulated.
    pub effort: &'a AtomicU64,
    /// Told of references simulated.
    pub progress: &'a ProgressBar,
}

impl Search<'_> {
    /// The steps from a general policy to the best plan that is found for a cache of so many blocks.
    /// `general` has the misses of each policy alone. The first step is the policy that the rest begins from.
    pub fn best(&self, blocks: usize, general: &[(PolicyKind, u64)]) -> Vec<Step> {
        let mut ranked = general.to_vec();
        ranked.sort_by_key(|(_, misses)| *misses);
        let worth = worth_trying(&ranked);
        let climbs = ranked.iter().take(BEGINNINGS).map(|(policy, misses)| {
            let first = Step { plan: Plan::general(*policy, self.units.len()), misses: *misses };
            self.climb(blocks, first, &worth)
        });
        let last = |steps: &Vec<Step>| steps.last().map(|step| (step.misses, step.plan.calls()));
        climbs.min_by_key(last).unwrap_or_default()
    }

    fn climb(&self, blocks: usize, first: Step, worth: &[PolicyKind]) -> Vec<Step> {
        // Less is not worth a line of code.
        let least_gain = (self.references.len() as u64 / 1000).max(1);
        let mut steps = vec![first];
        while let Some(best) = steps.last()
            && steps.len() <= MOST_STEPS
        {
            let limit = AtomicU64::new(best.misses.saturating_sub(least_gain - 1));
            let plans = self.neighbours(&best.plan, worth);
            let judged = in_parallel(plans, self.threads, |plan| {
                let misses = self.judge(&plan, blocks, limit.load(Ordering::Relaxed))?;
                // One that is as good is judged too, so that the choice does not depend on who was first.
                limit.fetch_min(misses + 1, Ordering::Relaxed);
                Some(Step { plan, misses })
            });
            let taken = judged.into_iter().flatten().min_by_key(|step| (step.misses, step.plan.calls()));
            match taken {
                Some(step) => steps.push(step),
                None => break,
            }
        }
        steps
    }

    fn judge(&self, plan: &Plan, blocks: usize, limit: u64) -> Option<u64> {
        if self.effort.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let (misses, work) = plan.misses(blocks, self.references, self.units, limit);
        let left = |left: u64| Some(left.saturating_sub(work));
        let _ = self.effort.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
        self.progress.inc(work);
        misses
    }

    /// All plans that are one step away.
    fn neighbours(&self, plan: &Plan, worth: &[PolicyKind]) -> Vec<Plan> {
        let mut plans = Vec::new();
        for policy in worth {
            let others = plan.policies.iter().filter(|(_, known)| *known != policy);
            plans.extend(others.map(|(priority, _)| plan.with_policy(*priority, *policy)));
        }
        // With one file there is nothing to put apart.
        if !self.several_files {
            return plans;
        }
        let highest = plan.policies.keys().next_back().copied().unwrap_or_default();
        for unit in 0..self.units.len() {
            for priority in -1..=highest + 1 {
                if priority == plan.priorities[unit] {
                    continue;
                }
                if plan.policies.contains_key(&priority) {
                    plans.push(plan.with_unit(unit, priority, PolicyKind::Lru));
                } else if plan.policies.len() < MOST_PRIORITIES {
                    plans.extend(worth.iter().map(|policy| plan.with_unit(unit, priority, *policy)));
                }
            }
        }
        plans
    }
}

/// Policies that are tried for a priority: the best general ones, the simple ones that suit a file of one
/// kind, and those that admit: MRU keeps a file out, W-TinyLFU lets blocks in by their frequency.
fn worth_trying(ranked: &[(PolicyKind, u64)]) -> Vec<PolicyKind> {
    const GENERAL: usize = 5;
    let mut worth: Vec<PolicyKind> = ranked.iter().take(GENERAL).map(|(policy, _)| *policy).collect();
    for simple in [PolicyKind::Lru, PolicyKind::Mru, PolicyKind::Lfu, PolicyKind::WTinyLfu] {
        if !worth.contains(&simple) {
            worth.push(simple);
        }
    }
    worth
}

#[cfg(test)]
mod tests {
    use super::*;
    use libos_fs::FileId;
    use libos_fs::cache::simulate;

    /// An index that is used now and then, and a text that is read again and again.
    fn references() -> Vec<Reference> {
        (0..20_u64)
            .flat_map(|pass| {
                (0..100).flat_map(move |block| [(FileId(1), block), (FileId(2), (block * 7 + pass) % 30)])
            })
            .collect()
    }

    fn units(count: u64) -> Vec<Unit> {
        (1..=count).map(|file| Unit { path: format!("/{file}"), files: vec![FileId(file)] }).collect()
    }

    fn search(units: &[Unit], effort: u64) -> Vec<Step> {
        let references = references();
        let numbers: Vec<u64> = references.iter().map(|(file, block)| file.0 << 32 | block).collect();
        let general: Vec<(PolicyKind, u64)> =
            PolicyKind::ALL.map(|kind| (kind, simulate(&mut *kind.build(60), 60, &numbers))).into();
        let search = Search {
            references: &references,
            units,
            several_files: true,
            threads: NonZero::<usize>::MIN,
            effort: &AtomicU64::new(effort),
            progress: &ProgressBar::hidden(),
        };
        search.best(60, &general)
    }

    #[test]
    fn each_step_gains_and_is_exact() {
        let steps = search(&units(2), u64::MAX);
        assert!(steps.len() > 1 && steps.windows(2).all(|pair| pair[1].misses < pair[0].misses), "{steps:?}");
        for step in &steps {
            assert_eq!(step.plan.misses(60, &references(), &units(2), u64::MAX).0, Some(step.misses));
        }
        let best = steps.last().unwrap();
        // The index stays, the text gets what is left: 100 + 30 blocks once, then 100 - 30 of the text a
        // pass.
        assert!(best.misses <= 130 + 19 * 71, "{best:?}");
        assert_ne!(best.plan.priorities[0], best.plan.priorities[1]);
    }

    #[test]
    fn files_that_have_no_name_stay_where_they_are_and_effort_ends() {
        let steps = search(&[], u64::MAX);
        assert!(steps.iter().all(|step| step.plan.raised().next().is_none()));
        assert_eq!(search(&units(2), 0).len(), 1);
    }
}
