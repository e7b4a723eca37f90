//! Each in turn.

use super::scheduler::{Id, Refusal, Scheduler, Terms, Why};
use alloc::collections::VecDeque;

/// Who waits longest is next, for the same quantum as everybody.
#[derive(Clone, Debug)]
pub struct RoundRobin {
    quantum: u64,
    waiting: VecDeque<Id>,
}

impl RoundRobin {
    /// `quantum`: ticks that each may run.
    pub fn new(quantum: u64) -> RoundRobin {
        RoundRobin { quantum, waiting: VecDeque::new() }
    }
}

impl Scheduler for RoundRobin {
    fn enter(&mut self, _: Id, _: Terms, _: u64) -> Result<(), Refusal> {
        Ok(())
    }

    fn leave(&mut self, who: Id) {
        self.waiting.retain(|other| *other != who);
    }

    fn ready(&mut self, who: Id, _: Why, _: u64) {
        self.waiting.push_back(who);
    }

    fn next(&mut self, _: u64) -> Option<Id> {
        self.waiting.pop_front()
    }

    fn quantum(&self, _: Id) -> u64 {
        self.quantum
    }

    fn give(&mut self, may: &dyn Fn(Id) -> bool) -> Option<Id> {
        let at = self.waiting.iter().rposition(|who| may(*who))?;
        self.waiting.remove(at)
    }

    fn wants_time(&self) -> bool {
        false
    }
}
