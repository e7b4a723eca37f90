//! The most important first.

use super::scheduler::{ById, Id, Refusal, Scheduler, Terms, Why};
use alloc::collections::{BTreeMap, VecDeque};

/// The highest [`Terms::priority`] that is ready runs, at once; equals take turns. Lower ones wait as long as
/// that takes, and a lock does not lend its holder the priority of who waits for it.
#[derive(Clone, Debug)]
pub struct Priorities {
    quantum: u64,
    priorities: ById<u8>,
    waiting: BTreeMap<u8, VecDeque<Id>>,
}

impl Priorities {
    /// `quantum`: ticks after which an equal gets its turn.
    pub fn new(quantum: u64) -> Priorities {
        Priorities { quantum, priorities: ById::new(), waiting: BTreeMap::new() }
    }

    fn of(&self, who: Id) -> u8 {
        self.priorities.get(who).copied().unwrap_or_default()
    }
}

impl Scheduler for Priorities {
    fn enter(&mut self, who: Id, terms: Terms, _: u64) -> Result<(), Refusal> {
        self.priorities.set(who, terms.priority);
        Ok(())
    }

    fn leave(&mut self, who: Id) {
        if let Some(queue) = self.waiting.get_mut(&self.of(who)) {
            queue.retain(|other| *other != who);
        }
        self.priorities.take(who);
    }

    fn ready(&mut self, who: Id, why: Why, _: u64) {
        let queue = self.waiting.entry(self.of(who)).or_default();
        match why {
            // It has not had its turn yet.
            Why::Preempted => queue.push_front(who),
            Why::Woken | Why::Yielded | Why::Used => queue.push_back(who),
        }
    }

    fn next(&mut self, _: u64) -> Option<Id> {
        // Empty queues stay: there are 256 at most.
        self.waiting.values_mut().rev().find_map(VecDeque::pop_front)
    }

    fn quantum(&self, _: Id) -> u64 {
        self.quantum
    }

    fn preempts(&self, running: Id) -> bool {
        self.waiting.range(self.of(running).saturating_add(1)..).any(|(_, queue)| !queue.is_empty())
            && self.of(running) < u8::MAX
    }

    fn give(&mut self, may: &dyn Fn(Id) -> bool) -> Option<Id> {
        self.waiting.values_mut().rev().find_map(|queue| {
            let at = queue.iter().rposition(|who| may(*who))?;
            queue.remove(at)
        })
    }

    fn wants_time(&self) -> bool {
        false
    }
}
