//! In proportion to weights, by chance: Waldspurger and Weihl, *Lottery Scheduling*, OSDI 1994.

use super::scheduler::{ById, Id, Refusal, Scheduler, Terms, Why};
use alloc::vec::Vec;

/// Each holds as many tickets as its weight; one of those that are ready is drawn for each quantum. Who used
/// only part of a quantum holds more until it wins again (§4.5, compensation tickets), so that those who wait
/// for devices get their share, too.
#[derive(Clone, Debug)]
pub struct Lottery {
    quantum: u64,
    clients: ById<Client>,
    waiting: Vec<Id>,
    random: u64,
}

#[derive(Clone, Copy, Debug)]
struct Client {
    weight: u64,
    /// Tickets at the moment.
    tickets: u64,
    /// Ticks that it ran since it won.
    used: u64,
}

impl Lottery {
    /// `quantum`: ticks that each may run. `seed`: the draws are the same for the same seed.
    pub fn new(quantum: u64, seed: u64) -> Lottery {
        Lottery { quantum: quantum.max(1), clients: ById::new(), waiting: Vec::new(), random: seed }
    }

    /// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ self.random >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn tickets(&self, who: Id) -> u64 {
        self.clients.get(who).map_or(1, |client| client.tickets)
    }
}

impl Scheduler for Lottery {
    fn enter(&mut self, who: Id, terms: Terms, _: u64) -> Result<(), Refusal> {
        let weight = u64::from(terms.weight.max(1));
        self.clients.set(who, Client { weight, tickets: weight, used: 0 });
        Ok(())
    }

    fn leave(&mut self, who: Id) {
        self.waiting.retain(|other| *other != who);
        self.clients.take(who);
    }

    fn ready(&mut self, who: Id, why: Why, _: u64) {
        if why == Why::Yielded {
            self.compensate(who);
        }
        self.waiting.push(who);
    }

    fn blocked(&mut self, who: Id, _: u64) {
        self.compensate(who);
    }

    fn ran(&mut self, who: Id, ticks: u64) {
        if let Some(client) = self.clients.get_mut(who) {
            client.used += ticks;
        }
    }

    fn next(&mut self, _: u64) -> Option<Id> {
        let all: u64 = self.waiting.iter().map(|who| self.tickets(*who)).sum();
        // Of 2^64 numbers: the bias is below that of any experiment.
        let mut winner = ((u128::from(self.draw()) * u128::from(all)) >> 64) as u64;
        let at = self.waiting.iter().position(|who| {
            let tickets = self.tickets(*who);
            let wins = winner < tickets;
            winner = winner.saturating_sub(tickets);
            wins
        })?;
        let who = self.waiting.remove(at);
        if let Some(client) = self.clients.get_mut(who) {
            *client = Client { tickets: client.weight, used: 0, ..*client };
        }
        Some(who)
    }

    fn quantum(&self, _: Id) -> u64 {
        self.quantum
    }

    fn give(&mut self, may: &dyn Fn(Id) -> bool) -> Option<Id> {
        let at = self.waiting.iter().rposition(|who| may(*who))?;
        Some(self.waiting.remove(at))
    }
}

impl Lottery {
    /// Who ran for 1/n of its quantum holds n times its tickets until it wins, n being 1,000 at most.
    fn compensate(&mut self, who: Id) {
        const MOST: u64 = 1000;
        let quantum = self.quantum;
        if let Some(client) = self.clients.get_mut(who)
            && client.used < quantum
        {
            let times = u128::from(client.weight) * u128::from(quantum) / u128::from(client.used.max(1));
            let most = u128::from(client.weight * MOST);
            client.tickets = (times.min(most) as u64).max(client.weight);
        }
    }
}
