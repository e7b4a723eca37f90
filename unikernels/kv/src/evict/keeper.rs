//! Between the store, which tells of keys, and a policy, which chooses among them.

use super::policy::{Eviction, Held};
use crate::store::{At, DATABASES, Observer, Store};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

/// No number.
const NONE: u32 = u32::MAX;

/// What happened to a key, in the order in which it did.
#[derive(Clone, Copy, Debug)]
enum Event {
    Inserted(At, u64),
    Accessed(At),
    Removed(At),
}

/// Keeps what the store tells, for the policy, which wants to know what the store knows by then.
struct Recorder(Rc<RefCell<Vec<Event>>>);

impl Observer for Recorder {
    fn inserted(&mut self, at: At, hash: u64) {
        self.0.borrow_mut().push(Event::Inserted(at, hash));
    }

    fn accessed(&mut self, at: At, _: u64) {
        self.0.borrow_mut().push(Event::Accessed(at));
    }

    fn removed(&mut self, at: At, _: u64) {
        self.0.borrow_mut().push(Event::Removed(at));
    }
}

/// Has a policy follow a store, and asks it who should leave.
pub struct Keeper {
    policy: Box<dyn Eviction>,
    events: Rc<RefCell<Vec<Event>>>,
    /// The number of each slot of each database: keys of all databases have numbers from one series.
    numbers: [Vec<u32>; DATABASES],
    /// Where the key of each number is, and its hash.
    keys: Vec<(At, u64)>,
    vacant: Vec<u32>,
    /// The key that is leaving to make room.
    leaving: Option<At>,
    /// How many keys the policy was told that there is room for.
    room: usize,
    has_evicted: bool,
    /// Whether what is being told of is a command with several keys.
    among_many: bool,
}

impl Keeper {
    /// Has a policy follow a store from now on.
    pub fn new(policy: Box<dyn Eviction>, store: &mut Store, now_ms: u64) -> Keeper {
        let events = Rc::default();
        store.observe(Some(Box::new(Recorder(Rc::clone(&events)))));
        let mut keeper = Keeper {
            policy,
            events,
            numbers: Default::default(),
            keys: Vec::new(),
            vacant: Vec::new(),
            leaving: None,
            room: 0,
            has_evicted: false,
            among_many: false,
        };
        keeper.follow(store, now_ms, false);
        keeper
    }

    /// The policy's name.
    pub fn name(&self) -> &str {
        self.policy.name()
    }

    /// Keys that it knows.
    pub fn len(&self) -> usize {
        self.keys.len() - self.vacant.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells the policy what has happened since the last time, by a command that names several keys or by
    /// another.
    pub fn follow(&mut self, store: &Store, now_ms: u64, among_many: bool) {
        if self.events.borrow().is_empty() {
            return;
        }
        self.among_many = among_many;
        let mut events = core::mem::take(&mut *self.events.borrow_mut());
        let removes = events.iter().any(|event| matches!(event, Event::Removed(_)));
        for (number, event) in events.iter().enumerate() {
            // What is gone by now has no size any more.
            let gone = |at: At| {
                let later = events[number + 1..].iter();
                removes && later.clone().any(|event| matches!(event, Event::Removed(other) if *other == at))
            };
            match *event {
                Event::Inserted(at, hash) => self.inserted(at, hash, (!gone(at)).then_some(store), now_ms),
                Event::Accessed(at) => self.accessed(at, (!gone(at)).then_some(store), now_ms),
                Event::Removed(at) => self.removed(at),
            }
        }
        events.clear();
        *self.events.borrow_mut() = events;
    }

    /// The key that should leave. Removing it is up to the caller; then [`Keeper::follow`] tells the policy.
    pub fn victim(&mut self, now_ms: u64) -> Option<At> {
        self.has_evicted = true;
        let keys = self.len();
        if keys < self.room - self.room / 4 || keys > self.room + self.room / 4 {
            self.room = keys;
            self.policy.resized(keys);
        }
        let slot = self.policy.victim(now_ms)?;
        self.leaving = self.keys.get(slot).map(|(at, _)| *at);
        self.leaving
    }

    fn number(&self, at: At) -> Option<usize> {
        let number = *self.numbers[usize::from(at.database)].get(at.slot as usize)?;
        (number != NONE).then_some(number as usize)
    }

    fn held(&self, number: usize, store: Option<&Store>) -> Held {
        let (at, hash) = self.keys[number];
        let entry = store.map(|store| store.entry(at));
        Held {
            slot: number,
            hash,
            bytes: entry.map_or(1, |entry| entry.bytes),
            expires_ms: entry.and_then(|entry| entry.expires_ms),
            among_many: self.among_many,
        }
    }

    fn inserted(&mut self, at: At, hash: u64, store: Option<&Store>, now_ms: u64) {
        let number = match self.vacant.pop() {
            Some(number) => {
                self.keys[number as usize] = (at, hash);
                number
            }
            None => {
                self.keys.push((at, hash));
                self.keys.len() as u32 - 1
            }
        };
        let numbers = &mut self.numbers[usize::from(at.database)];
        if at.slot as usize >= numbers.len() {
            numbers.resize(at.slot as usize + 1, NONE);
        }
        numbers[at.slot as usize] = number;
        // Until it is known how many fit, there is always room for more.
        if !self.has_evicted && self.len() > self.room {
            self.room = self.len() * 2;
            self.policy.resized(self.room);
        }
        self.policy.inserted(self.held(number as usize, store), now_ms);
    }

    fn accessed(&mut self, at: At, store: Option<&Store>, now_ms: u64) {
        if let Some(number) = self.number(at) {
            self.policy.accessed(self.held(number, store), now_ms);
        }
    }

    fn removed(&mut self, at: At) {
        let Some(number) = self.number(at) else { return };
        let held = self.held(number, None);
        if self.leaving == Some(at) {
            self.leaving = None;
            self.policy.evicted(held);
        } else {
            self.policy.removed(held);
        }
        self.numbers[usize::from(at.database)][at.slot as usize] = NONE;
        self.vacant.push(number as u32);
    }
}
