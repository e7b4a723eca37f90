//! The earliest deadline first: Liu and Layland, *Scheduling Algorithms for Multiprogramming in a
//! Hard-Real-Time Environment*, JACM 1973. With budgets: Abeni and Buttazzo, *Integrating Multimedia
//! Applications in Hard Real-Time Systems*, RTSS 1998 (constant bandwidth server).

use super::scheduler::{ById, Id, Periodic, Refusal, Scheduler, Terms, Why};
use alloc::collections::{BTreeSet, VecDeque};

/// Of those with [`Terms::periodic`], who must be done first runs, at once. Work comes when its thread is
/// woken, and must be done a period later. Who needs more than its budget has its deadline put off by a
/// period, so that nobody else misses one. Others run when nobody with a deadline is ready, each in turn.
#[derive(Clone, Debug)]
pub struct EarliestDeadline {
    quantum: u64,
    jobs: ById<Job>,
    /// Those that are ready, by deadline; of equals, the lower number.
    waiting: BTreeSet<(u64, Id)>,
    background: VecDeque<Id>,
    /// Parts of a million of the processor that are promised.
    promised: u64,
}

#[derive(Clone, Copy, Debug)]
struct Job {
    terms: Periodic,
    deadline: u64,
    /// Ticks left of the budget.
    left: u64,
}

/// Parts of the processor that can be promised.
const WHOLE: u64 = 1_000_000;

/// What somebody needs, rounded up.
fn part(terms: Periodic) -> u64 {
    (u128::from(terms.budget) * u128::from(WHOLE)).div_ceil(u128::from(terms.period.max(1))) as u64
}

impl EarliestDeadline {
    /// `quantum`: ticks after which those without deadlines take turns.
    pub fn new(quantum: u64) -> EarliestDeadline {
        EarliestDeadline {
            quantum,
            jobs: ById::new(),
            waiting: BTreeSet::new(),
            background: VecDeque::new(),
            promised: 0,
        }
    }
}

impl Scheduler for EarliestDeadline {
    fn enter(&mut self, who: Id, terms: Terms, now: u64) -> Result<(), Refusal> {
        let Some(terms) = terms.periodic else { return Ok(()) };
        if terms.budget == 0 || terms.budget > terms.period {
            return Err(Refusal::Impossible(terms));
        }
        let promised = self.promised + part(terms);
        if promised > WHOLE {
            return Err(Refusal::Overload { promised });
        }
        self.promised = promised;
        self.jobs.set(who, Job { terms, deadline: now, left: 0 });
        Ok(())
    }

    fn leave(&mut self, who: Id) {
        match self.jobs.take(who) {
            Some(job) => {
                self.promised -= part(job.terms);
                self.waiting.remove(&(job.deadline, who));
            }
            None => self.background.retain(|other| *other != who),
        }
    }

    fn ready(&mut self, who: Id, why: Why, now: u64) {
        let Some(job) = self.jobs.get_mut(who) else {
            return match why {
                Why::Preempted => self.background.push_front(who),
                Why::Woken | Why::Yielded | Why::Used => self.background.push_back(who),
            };
        };
        if why == Why::Woken {
            // What is left may be used up to the old deadline, unless that is more than was promised (§4.1).
            let ahead = u128::from(job.deadline.saturating_sub(now));
            if u128::from(job.left) * u128::from(job.terms.period) >= ahead * u128::from(job.terms.budget) {
                (job.deadline, job.left) = (now.saturating_add(job.terms.period), job.terms.budget);
            }
        }
        self.waiting.insert((job.deadline, who));
    }

    fn ran(&mut self, who: Id, ticks: u64) {
        let Some(job) = self.jobs.get_mut(who) else { return };
        let mut over = ticks;
        while over >= job.left {
            over -= job.left;
            job.left = job.terms.budget;
            job.deadline = job.deadline.saturating_add(job.terms.period);
        }
        job.left -= over;
    }

    fn next(&mut self, _: u64) -> Option<Id> {
        self.waiting.pop_first().map(|(_, who)| who).or_else(|| self.background.pop_front())
    }

    fn quantum(&self, who: Id) -> u64 {
        self.jobs.get(who).map_or(self.quantum, |job| job.left)
    }

    fn preempts(&self, running: Id) -> bool {
        match (self.waiting.first(), self.jobs.get(running)) {
            (Some((first, _)), Some(job)) => *first < job.deadline,
            (first, None) => first.is_some(),
            (None, _) => false,
        }
    }

    /// Who has no deadline: what was promised holds on this core.
    fn give(&mut self, may: &dyn Fn(Id) -> bool) -> Option<Id> {
        let at = self.background.iter().rposition(|who| may(*who))?;
        self.background.remove(at)
    }
}
