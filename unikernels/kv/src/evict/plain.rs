//! Policies of Redis that no policy for blocks is: at random, and the one that expires soonest.

use super::policy::{Eviction, Held};
use crate::random::Random;
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Any key.
pub struct AtRandom {
    slots: Vec<usize>,
    /// Where each slot stands in `slots`.
    places: Vec<Option<usize>>,
    random: Random,
}

impl AtRandom {
    /// One whose choices begin at `seed`.
    pub fn new(seed: u64) -> AtRandom {
        AtRandom { slots: Vec::new(), places: Vec::new(), random: Random::new(seed) }
    }
}

impl Eviction for AtRandom {
    fn name(&self) -> &str {
        "allkeys-random"
    }

    fn inserted(&mut self, key: Held, _: u64) {
        if key.slot >= self.places.len() {
            self.places.resize(key.slot + 1, None);
        }
        if self.places[key.slot].is_none() {
            self.places[key.slot] = Some(self.slots.len());
            self.slots.push(key.slot);
        }
    }

    fn accessed(&mut self, _: Held, _: u64) {}

    fn removed(&mut self, key: Held) {
        let Some(place) = self.places.get_mut(key.slot).and_then(Option::take) else { return };
        self.slots.swap_remove(place);
        if let Some(moved) = self.slots.get(place) {
            self.places[*moved] = Some(place);
        }
    }

    fn victim(&mut self, _: u64) -> Option<usize> {
        if self.slots.is_empty() { None } else { Some(self.slots[self.random.below(self.slots.len())]) }
    }
}

/// The key that expires soonest.
#[derive(Default)]
pub struct Soonest {
    order: BTreeSet<(u64, usize)>,
    ends: Vec<Option<u64>>,
}

impl Eviction for Soonest {
    fn name(&self) -> &str {
        "volatile-ttl"
    }

    fn inserted(&mut self, key: Held, _: u64) {
        self.removed(key);
        let Some(end) = key.expires_ms else { return };
        if key.slot >= self.ends.len() {
            self.ends.resize(key.slot + 1, None);
        }
        self.ends[key.slot] = Some(end);
        self.order.insert((end, key.slot));
    }

    fn accessed(&mut self, key: Held, now_ms: u64) {
        self.inserted(key, now_ms);
    }

    fn removed(&mut self, key: Held) {
        if let Some(end) = self.ends.get_mut(key.slot).and_then(Option::take) {
            self.order.remove(&(end, key.slot));
        }
    }

    fn victim(&mut self, _: u64) -> Option<usize> {
        self.order.first().map(|(_, slot)| *slot)
    }
}

/// Another policy, in whose care are only keys that expire some time.
pub struct Expiring {
    name: String,
    policy: Box<dyn Eviction>,
    /// Slots in its care.
    cared_for: Vec<bool>,
}

impl Expiring {
    /// The volatile form of a policy for all keys.
    pub fn new(policy: Box<dyn Eviction>) -> Expiring {
        let kind = policy.name().trim_start_matches("allkeys-");
        Expiring { name: format!("volatile-{kind}"), policy, cared_for: Vec::new() }
    }

    fn cares_for(&self, slot: usize) -> bool {
        self.cared_for.get(slot).copied().unwrap_or(false)
    }

    fn set(&mut self, slot: usize, cared_for: bool) {
        if slot >= self.cared_for.len() {
            self.cared_for.resize(slot + 1, false);
        }
        self.cared_for[slot] = cared_for;
    }
}

impl Eviction for Expiring {
    fn name(&self) -> &str {
        &self.name
    }

    fn inserted(&mut self, key: Held, now_ms: u64) {
        if key.expires_ms.is_some() {
            self.set(key.slot, true);
            self.policy.inserted(key, now_ms);
        }
    }

    fn accessed(&mut self, key: Held, now_ms: u64) {
        match (self.cares_for(key.slot), key.expires_ms.is_some()) {
            (true, true) => self.policy.accessed(key, now_ms),
            (true, false) => self.removed(key),
            (false, _) => self.inserted(key, now_ms),
        }
    }

    fn removed(&mut self, key: Held) {
        if self.cares_for(key.slot) {
            self.set(key.slot, false);
            self.policy.removed(key);
        }
    }

    fn evicted(&mut self, key: Held) {
        if self.cares_for(key.slot) {
            self.set(key.slot, false);
            self.policy.evicted(key);
        }
    }

    fn resized(&mut self, keys: usize) {
        self.policy.resized(keys);
    }

    fn victim(&mut self, now_ms: u64) -> Option<usize> {
        self.policy.victim(now_ms)
    }
}
