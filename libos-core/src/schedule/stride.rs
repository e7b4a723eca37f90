//! In proportion to weights, exactly: Waldspurger and Weihl, *Stride Scheduling*, MIT/LCS/TM-528, 1995.

use super::scheduler::{ById, Id, Refusal, Scheduler, Terms, Why};
use alloc::collections::BTreeSet;

/// Who runs is charged the ticks that it ran, divided by its weight; who was charged least is next. Of any
/// two that are ready all the time, neither is ever more than a quantum away from its proportion.
#[derive(Clone, Debug)]
pub struct Stride {
    quantum: u64,
    clients: ById<Client>,
    /// By what they were charged; of equals, who came first.
    waiting: BTreeSet<(u128, u64, Id)>,
    /// What who ran last had been charged when it was named.
    pass: u128,
    /// Counts those that became ready.
    arrivals: u64,
}

#[derive(Clone, Copy, Debug)]
struct Client {
    weight: u64,
    /// What it was charged.
    pass: u128,
    /// Its place among equals.
    arrival: u64,
}

/// The charge for a tick with a weight of 1: weights divide it.
const TICK: u128 = 1 << 20;

impl Stride {
    /// `quantum`: ticks that each may run.
    pub fn new(quantum: u64) -> Stride {
        Stride { quantum, clients: ById::new(), waiting: BTreeSet::new(), pass: 0, arrivals: 0 }
    }
}

impl Scheduler for Stride {
    fn enter(&mut self, who: Id, terms: Terms, _: u64) -> Result<(), Refusal> {
        let weight = u64::from(terms.weight.max(1));
        self.clients.set(who, Client { weight, pass: self.pass, arrival: 0 });
        Ok(())
    }

    fn leave(&mut self, who: Id) {
        if let Some(Client { pass, arrival, .. }) = self.clients.take(who) {
            self.waiting.remove(&(pass, arrival, who));
        }
    }

    fn ready(&mut self, who: Id, why: Why, _: u64) {
        let Some(client) = self.clients.get_mut(who) else { return };
        if why == Why::Woken {
            // Who slept saves nothing up, and owes what it owed.
            client.pass = client.pass.max(self.pass);
        }
        self.arrivals += 1;
        client.arrival = self.arrivals;
        self.waiting.insert((client.pass, client.arrival, who));
    }

    fn ran(&mut self, who: Id, ticks: u64) {
        if let Some(client) = self.clients.get_mut(who) {
            client.pass += u128::from(ticks) * TICK / u128::from(client.weight);
        }
    }

    fn next(&mut self, _: u64) -> Option<Id> {
        let (pass, _, who) = self.waiting.pop_first()?;
        self.pass = pass;
        Some(who)
    }

    fn quantum(&self, _: Id) -> u64 {
        self.quantum
    }

    fn give(&mut self, may: &dyn Fn(Id) -> bool) -> Option<Id> {
        let last = *self.waiting.iter().rev().find(|(_, _, who)| may(*who))?;
        self.waiting.remove(&last);
        Some(last.2)
    }
}
