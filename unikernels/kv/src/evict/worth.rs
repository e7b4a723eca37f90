//! By what a key is worth: the application's own policy.

use super::policy::{Eviction, Held};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use hashbrown::HashMap;

/// Name, as `maxmemory-policy` has it.
pub const NAME: &str = "allkeys-own";
/// What a use is worth at most for each byte, in fractions: so a key of one byte and a use still fits.
const SCALE: u64 = 1 << 24;
/// Uses are remembered of so many times the keys that are held.
const REMEMBERED: usize = 8;
/// And of so many at least.
const LEAST: usize = 1024;

/// Gives up the key that is worth least: the uses that it had, for each byte that it takes, and only for the
/// time that it has left.
///
/// * *Uses*, not the last use: requests to a store are mostly independent of each other, and then how often a
///   key was asked for says when it will be asked for. They are counted of keys that have left as well, so
///   that one that comes back need not begin anew; when too many are known all are halved, and those that
///   come to nothing are forgotten.
/// * *For each byte*: a value of 10 KB must be wanted a hundred times as often as one of 100 bytes, which is
///   what a block of a file, of one size all, has no need of (GreedyDual-Size-Frequency: L. Cherkasova,
///   HP Labs report 98-69R1, 1998).
/// * *The time left*: a key that expires before it would be given up anyway is worth the part of its uses
///   that it lives to see.
/// * *Aging* as in GreedyDual: what a key was worth that left is the level from which others start. So a key
///   that was popular once goes in the end, and one that was just added has a chance.
///
/// 40 bytes a key and 12 for each one remembered; O(log n) a use.
#[derive(Default)]
pub struct Worth {
    /// By what they are worth, the use, the slot. The last use decides between equals, the oldest goes first.
    order: BTreeSet<(u64, u64, usize)>,
    /// What stands in `order` of each slot, and when the key came.
    of_slot: Vec<Option<Place>>,
    uses: HashMap<u64, u32>,
    /// What the key was worth that left last.
    level: u64,
    /// Uses so far.
    now: u64,
    /// How long a key stays, on average over the last that left.
    stay_ms: u64,
}

#[derive(Clone, Copy)]
struct Place {
    worth: u64,
    used: u64,
    since_ms: u64,
}

impl Worth {
    /// Counts a use.
    fn count(&mut self, hash: u64) {
        let uses = self.uses.entry(hash).or_insert(0);
        *uses = uses.saturating_add(1);
        let most = (self.order.len() * REMEMBERED).max(LEAST);
        if self.uses.len() > most {
            self.uses.retain(|_, uses| {
                *uses /= 2;
                *uses > 0
            });
        }
    }

    fn worth(&self, key: Held, now_ms: u64) -> u64 {
        let uses = u64::from(self.uses.get(&key.hash).copied().unwrap_or(1)).max(1);
        let whole = uses.saturating_mul(SCALE) / key.bytes.max(1) as u64;
        let part = match key.expires_ms.map(|end| end.saturating_sub(now_ms)) {
            Some(left) if left < self.stay_ms => {
                (u128::from(whole) * u128::from(left) / u128::from(self.stay_ms)) as u64
            }
            _ => whole,
        };
        self.level.saturating_add(part)
    }

    fn place(&mut self, key: Held, now_ms: u64) {
        let worth = self.worth(key, now_ms);
        self.now += 1;
        if key.slot >= self.of_slot.len() {
            self.of_slot.resize(key.slot + 1, None);
        }
        let old = self.of_slot[key.slot];
        if let Some(old) = old {
            self.order.remove(&(old.worth, old.used, key.slot));
        }
        let since_ms = old.map_or(now_ms, |old| old.since_ms);
        self.of_slot[key.slot] = Some(Place { worth, used: self.now, since_ms });
        self.order.insert((worth, self.now, key.slot));
    }

    fn take(&mut self, slot: usize) -> Option<Place> {
        let place = self.of_slot.get_mut(slot)?.take()?;
        self.order.remove(&(place.worth, place.used, slot));
        Some(place)
    }
}

impl Eviction for Worth {
    fn name(&self) -> &str {
        NAME
    }

    fn inserted(&mut self, key: Held, now_ms: u64) {
        self.count(key.hash);
        self.place(key, now_ms);
    }

    fn accessed(&mut self, key: Held, now_ms: u64) {
        self.count(key.hash);
        self.place(key, now_ms);
    }

    fn removed(&mut self, key: Held) {
        self.take(key.slot);
    }

    fn evicted(&mut self, key: Held) {
        if let Some(place) = self.take(key.slot) {
            self.level = self.level.max(place.worth);
        }
    }

    fn victim(&mut self, now_ms: u64) -> Option<usize> {
        let (_, _, slot) = *self.order.first()?;
        if let Some(Some(place)) = self.of_slot.get(slot) {
            let stayed = now_ms.saturating_sub(place.since_ms);
            self.stay_ms = self.stay_ms - self.stay_ms / 16 + stayed / 16;
        }
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(slot: usize, bytes: usize) -> Held {
        Held { slot, hash: slot as u64, bytes, expires_ms: None }
    }

    #[test]
    fn large_keys_go_before_small_ones_unless_they_are_used_more() {
        let mut worth = Worth::default();
        for (slot, bytes) in [(0, 100), (1, 1000), (2, 100)] {
            worth.inserted(key(slot, bytes), 0);
        }
        assert_eq!(worth.victim(0), Some(1));
        (0..20).for_each(|_| worth.accessed(key(1, 1000), 0));
        assert_eq!(worth.victim(0), Some(0), "used longest ago of two that are worth the same");
        worth.accessed(key(1, 100_000), 0);
        assert_eq!(worth.victim(0), Some(1));
    }

    #[test]
    fn uses_are_remembered_of_keys_that_have_left() {
        let mut worth = Worth::default();
        worth.inserted(key(0, 100), 0);
        (0..10).for_each(|_| worth.accessed(key(0, 100), 0));
        worth.evicted(key(0, 100));
        worth.inserted(key(0, 100), 1);
        worth.inserted(key(1, 100), 1);
        assert_eq!(worth.victim(1), Some(1));
    }

    #[test]
    fn what_was_popular_once_goes_in_the_end() {
        let mut worth = Worth::default();
        worth.inserted(key(0, 100), 0);
        (0..10).for_each(|_| worth.accessed(key(0, 100), 0));
        let mut turns = 0;
        for hash in 1..1000 {
            let new = Held { slot: 1, hash, bytes: 100, expires_ms: None };
            worth.inserted(new, 0);
            worth.accessed(new, 0);
            turns += 1;
            match worth.victim(0) {
                Some(1) => worth.evicted(new),
                other => {
                    assert_eq!(other, Some(0));
                    break;
                }
            }
        }
        assert!((3..20).contains(&turns), "{turns}");
    }

    #[test]
    fn a_key_that_ends_soon_is_worth_less() {
        let mut worth = Worth::default();
        // Keys stay for about a second.
        for hash in 100..200 {
            let passing = Held { slot: 9, hash, bytes: 100, expires_ms: None };
            worth.inserted(passing, hash * 1000);
            assert_eq!(worth.victim(hash * 1000 + 1000), Some(9));
            worth.evicted(passing);
        }
        worth.inserted(key(0, 100), 300_000);
        worth.inserted(Held { expires_ms: Some(300_010), ..key(1, 100) }, 300_000);
        assert_eq!(worth.victim(300_000), Some(1));
    }

    #[test]
    fn memory_of_what_was_used_is_bounded() {
        let mut worth = Worth::default();
        for hash in 0..100_000 {
            let passing = Held { slot: 0, hash, bytes: 10, expires_ms: None };
            worth.inserted(passing, 0);
            worth.evicted(passing);
        }
        assert!(worth.uses.len() <= LEAST + 1 && worth.order.is_empty());
    }
}
