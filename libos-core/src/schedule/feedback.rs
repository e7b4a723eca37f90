//! Queues by what was used lately: Corbató, Merwin-Daggett and Daley, *An Experimental Time-Sharing System*,
//! AFIPS 1962; with the allotments and the boost of Arpaci-Dusseau, *Operating Systems: Three Easy Pieces*,
//! chapter 8.

use super::scheduler::{ById, Id, Refusal, Scheduler, Terms, Why};
use alloc::collections::VecDeque;

/// Queues.
const LEVELS: usize = 6;

/// A queue that the ones above leave something runs; its turns are twice as long as those of the one above.
/// Who has used as much as a turn at its level goes down one, however often it slept in between. After each
/// `boost` all are on top again: so nobody starves, and who has become interactive is treated so.
#[derive(Clone, Debug)]
pub struct Feedback {
    quantum: u64,
    boost: u64,
    /// When all go up next; `None` before the first call that tells the time.
    next_boost: Option<u64>,
    clients: ById<Client>,
    waiting: [VecDeque<Id>; LEVELS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Client {
    level: usize,
    /// Ticks that it ran at this level.
    used: u64,
}

impl Feedback {
    /// `quantum`: ticks of a turn on top. `boost`: ticks after which all are on top again.
    pub fn new(quantum: u64, boost: u64) -> Feedback {
        Feedback {
            quantum,
            boost,
            next_boost: None,
            clients: ById::new(),
            waiting: [const { VecDeque::new() }; LEVELS],
        }
    }

    fn turn(&self, level: usize) -> u64 {
        self.quantum.saturating_mul(1 << level)
    }

    fn level(&self, who: Id) -> usize {
        self.clients.get(who).map_or(0, |client| client.level)
    }
}

impl Scheduler for Feedback {
    fn enter(&mut self, who: Id, _: Terms, _: u64) -> Result<(), Refusal> {
        self.clients.set(who, Client::default());
        Ok(())
    }

    fn leave(&mut self, who: Id) {
        self.waiting[self.level(who)].retain(|other| *other != who);
        self.clients.take(who);
    }

    fn ready(&mut self, who: Id, why: Why, _: u64) {
        let queue = &mut self.waiting[self.level(who)];
        match why {
            Why::Preempted => queue.push_front(who),
            Why::Woken | Why::Yielded | Why::Used => queue.push_back(who),
        }
    }

    fn ran(&mut self, who: Id, ticks: u64) {
        let turn = self.turn(self.level(who));
        if let Some(client) = self.clients.get_mut(who) {
            client.used += ticks;
            if client.used >= turn {
                *client = Client { level: (client.level + 1).min(LEVELS - 1), used: 0 };
            }
        }
    }

    fn tick(&mut self, now: u64) {
        match self.next_boost {
            Some(at) if now < at => return,
            Some(_) => {
                for client in self.clients.0.iter_mut().flatten() {
                    *client = Client::default();
                }
                let (top, lower) = self.waiting.split_at_mut(1);
                lower.iter_mut().for_each(|queue| top[0].append(queue));
            }
            None => (),
        }
        self.next_boost = Some(now.saturating_add(self.boost));
    }

    fn next(&mut self, now: u64) -> Option<Id> {
        self.tick(now);
        self.waiting.iter_mut().find_map(VecDeque::pop_front)
    }

    fn quantum(&self, who: Id) -> u64 {
        self.turn(self.level(who)) - self.clients.get(who).map_or(0, |client| client.used)
    }

    fn preempts(&self, running: Id) -> bool {
        self.waiting[..self.level(running)].iter().any(|queue| !queue.is_empty())
    }

    fn give(&mut self, may: &dyn Fn(Id) -> bool) -> Option<Id> {
        self.waiting.iter_mut().rev().find_map(|queue| {
            let at = queue.iter().rposition(|who| may(*who))?;
            queue.remove(at)
        })
    }
}
