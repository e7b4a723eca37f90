//! By what a key is worth: the application's own policy.

use super::level::{Level, ONE, log, plus_one};
use super::policy::{Eviction, Held};
use super::trial::Trial;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use hashbrown::HashMap;

/// Name, as `maxmemory-policy` has it.
pub const NAME: &str = "allkeys-own";

/// A way to count uses.
struct Way {
    /// After how many uses, in as many as keys are held, a use has lost half of its weight.
    life: u64,
    /// By how many halves a use counts less that a command makes of several keys at once.
    among_many: Level,
}

/// The ways that are tried. What is popular changes from one use to the next, soon, or hardly ever; and
/// what a scan touches may be of interest or not.
const WAYS: [Way; 4] = [
    Way { life: 40, among_many: 0 },
    Way { life: 40, among_many: 4 },
    Way { life: 3, among_many: 0 },
    Way { life: 1, among_many: 0 },
];

/// Uses are remembered of so many times the keys that are held.
const REMEMBERED: usize = 6;
/// And of so many at least.
const LEAST: usize = 1024;
/// Of so many keys, one is in the trials.
const TRIED: u64 = 8;
/// Times are so far apart at most; then all begins anew.
const LATEST: Level = Level::MAX / 4;

/// Gives up the key that is worth least: the uses that it had lately, for each byte that it takes, and only
/// for the time that it has left.
///
/// * *Uses*, not the last use: requests to a store are mostly independent of each other, and then how often a
///   key was asked for says when it will be asked for. They are counted of keys that have left as well, so
///   that one that comes back need not begin anew.
/// * *Lately*: how long ago "lately" is, shows. Each of four ways is tried on an eighth of the keys, in a
///   store without values and with an eighth of the memory; the one that would have missed least is what
///   all keys are judged by. So it counts for ever where what is popular stays, and goes by recency where
///   it moves.
/// * *By what command*: one that names several keys may be a scan, after which a use says little. That, too,
///   is tried.
/// * *For each byte*: a value of 10 KB must be wanted a hundred times as often as one of 100 bytes, which is
///   what a block of a file, of one size all, has no need of (GreedyDual-Size-Frequency: L. Cherkasova,
///   HP Labs report 98-69R1, 1998).
/// * *The time left*: a key that expires before it would be given up anyway is worth the part of its uses
///   that it lives to see.
///
/// 80 bytes a key, 40 for each one remembered, and some 30 for the trials; O(log n) a use.
#[derive(Default)]
pub struct Worth {
    /// By level, the use, the slot. The last use decides between equals, the oldest goes first.
    order: BTreeSet<(Level, u64, usize)>,
    /// What is known of the key in each slot.
    of_slot: Vec<Option<Place>>,
    /// The level of each key by each of the ways.
    uses: HashMap<u64, [Level; WAYS.len()]>,
    /// The time by each of the ways, in its lives.
    time: [Level; WAYS.len()],
    trials: [Trial; WAYS.len()],
    /// Uses in the trials since they were compared.
    tried: usize,
    /// The way that counts.
    way: usize,
    /// Bytes of all keys, and how many there were when there was no room last.
    bytes: u64,
    full: Option<u64>,
    /// Uses so far.
    now: u64,
    /// How long a key stays, on average over the last that left.
    stay_ms: u64,
}

#[derive(Clone, Copy)]
struct Place {
    key: Held,
    level: Level,
    used: u64,
    since_ms: u64,
}

impl Worth {
    /// Counts a use, by each of the ways.
    fn count(&mut self, key: Held, now_ms: u64) {
        let keys = self.order.len().max(100);
        for (time, way) in self.time.iter_mut().zip(&WAYS) {
            *time += ONE / (way.life * keys as u64) as Level;
        }
        if self.time.iter().any(|time| *time > LATEST) {
            self.begin_anew(now_ms);
        }
        if self.uses.len() > (keys * REMEMBERED).max(LEAST) {
            self.forget();
        }
        let levels = self.uses.entry(key.hash).or_insert([Level::MIN / 2; WAYS.len()]);
        for ((level, time), way) in levels.iter_mut().zip(self.time).zip(&WAYS) {
            let less = if key.among_many { way.among_many * ONE } else { 0 };
            *level = plus_one(*level - time + less) - less + time;
        }
        if key.hash.is_multiple_of(TRIED) {
            self.try_all(key, now_ms);
        }
    }

    /// Forgets half of what is known: of the keys that were used least.
    fn forget(&mut self) {
        let mut levels: Vec<Level> = self.uses.values().map(|levels| levels[0]).collect();
        let middle = levels.len() / 2;
        let middle = *levels.select_nth_unstable(middle).1;
        self.uses.retain(|_, levels| levels[0] > middle);
    }

    /// Forgets all uses.
    fn begin_anew(&mut self, now_ms: u64) {
        self.uses.clear();
        self.time = [0; WAYS.len()];
        self.trials.iter_mut().for_each(Trial::clear);
        self.judge_all(now_ms);
    }

    /// What a key is worth by one of the ways.
    fn level(&self, key: Held, way: usize, now_ms: u64) -> Level {
        let uses = self.uses.get(&key.hash).map_or(0, |levels| levels[way]);
        let part = match key.expires_ms.map(|end| end.saturating_sub(now_ms)) {
            Some(left) if left < self.stay_ms => log(self.stay_ms) - log(left),
            _ => 0,
        };
        uses - log(key.bytes as u64) - part
    }

    /// Tries a use in all ways, and from time to time changes to the best.
    fn try_all(&mut self, key: Held, now_ms: u64) {
        let memory = self.full.map_or(u64::MAX, |bytes| bytes / TRIED);
        for way in 0..WAYS.len() {
            let level = self.level(key, way, now_ms);
            self.trials[way].used(key.hash, level, key.bytes as u64, memory);
        }
        self.tried += 1;
        if self.tried < (2 * self.order.len() / TRIED as usize).max(50) {
            return;
        }
        self.tried = 0;
        let misses = |way: usize| self.trials[way].misses();
        let best = (0..WAYS.len()).min_by_key(|way| misses(*way)).unwrap_or(0);
        // Hardly better is no reason to judge all keys anew.
        if misses(best) + misses(self.way) / 100 < misses(self.way) {
            self.way = best;
            self.judge_all(now_ms);
        }
        self.trials.iter_mut().for_each(Trial::age);
    }

    /// Puts all keys in order.
    fn judge_all(&mut self, now_ms: u64) {
        self.order.clear();
        for slot in 0..self.of_slot.len() {
            let Some(mut place) = self.of_slot[slot] else { continue };
            place.level = self.level(place.key, self.way, now_ms);
            self.of_slot[slot] = Some(place);
            self.order.insert((place.level, place.used, slot));
        }
    }

    fn place(&mut self, key: Held, now_ms: u64) {
        self.now += 1;
        let old = self.take(key.slot);
        if key.slot >= self.of_slot.len() {
            self.of_slot.resize(key.slot + 1, None);
        }
        let since_ms = old.map_or(now_ms, |old| old.since_ms);
        let level = self.level(key, self.way, now_ms);
        self.of_slot[key.slot] = Some(Place { key, level, used: self.now, since_ms });
        self.order.insert((level, self.now, key.slot));
        self.bytes += key.bytes as u64;
    }

    fn take(&mut self, slot: usize) -> Option<Place> {
        let place = self.of_slot.get_mut(slot)?.take()?;
        self.order.remove(&(place.level, place.used, slot));
        self.bytes -= place.key.bytes as u64;
        Some(place)
    }
}

impl Eviction for Worth {
    fn name(&self) -> &str {
        NAME
    }

    fn inserted(&mut self, key: Held, now_ms: u64) {
        self.count(key, now_ms);
        self.place(key, now_ms);
    }

    fn accessed(&mut self, key: Held, now_ms: u64) {
        self.count(key, now_ms);
        self.place(key, now_ms);
    }

    fn removed(&mut self, key: Held) {
        self.take(key.slot);
        self.trials.iter_mut().for_each(|trial| _ = trial.removed(key.hash));
    }

    fn evicted(&mut self, key: Held) {
        self.take(key.slot);
    }

    fn victim(&mut self, now_ms: u64) -> Option<usize> {
        self.full = Some(self.bytes);
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
        Held { slot, hash: slot as u64, bytes, expires_ms: None, among_many: false }
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

    /// Misses of a store that has room for so many keys of the same size.
    fn misses(references: impl Iterator<Item = (u64, bool)>, room: usize) -> usize {
        let mut worth = Worth::default();
        let mut slots: Vec<Option<u64>> = alloc::vec![None; room + 1];
        let mut misses = 0;
        for (now_ms, (hash, among_many)) in references.enumerate() {
            let now_ms = now_ms as u64;
            let found = slots.iter().position(|slot| *slot == Some(hash));
            let held = |slot, hash| Held { slot, hash, bytes: 100, expires_ms: None, among_many };
            if let Some(slot) = found {
                worth.accessed(held(slot, hash), now_ms);
                continue;
            }
            misses += 1;
            let slot = slots.iter().position(Option::is_none).unwrap();
            slots[slot] = Some(hash);
            worth.inserted(held(slot, hash), now_ms);
            if slots.iter().all(Option::is_some) {
                let victim = worth.victim(now_ms).unwrap();
                let gone = slots[victim].take().unwrap();
                worth.evicted(held(victim, gone));
            }
        }
        misses
    }

    #[test]
    fn what_was_popular_once_goes_in_the_end() {
        // A hundred keys in turn, and after a while a hundred others, and so on.
        let moving = (0..200_000_u64).map(|use_of| (use_of / 4000 * 100 + use_of * 7 % 100, false));
        let found = misses(moving, 100);
        // 5,000 keys are new. It takes each hundred some uses more to be worth as much as those before.
        assert!((5_000..11_000).contains(&found), "{found}");
    }

    #[test]
    fn a_scan_leaves_alone_what_is_asked_for_by_itself() {
        // Keys by themselves, and now and then a thousand others together.
        let mixed = (0..100_000_u64).map(|use_of| match use_of % 2000 {
            within @ 0..1000 => (1_000 + within, true),
            within => (within * 7 % 100, false),
        });
        let found = misses(mixed, 100);
        assert!((50_000..52_000).contains(&found), "{found}");
    }

    #[test]
    fn a_key_that_ends_soon_is_worth_less() {
        let mut worth = Worth::default();
        // Keys stay for about a second.
        for hash in 100..200 {
            let passing = Held { slot: 9, hash, bytes: 100, expires_ms: None, among_many: false };
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
            let passing = Held { slot: 0, hash, bytes: 10, expires_ms: None, among_many: false };
            worth.inserted(passing, 0);
            worth.evicted(passing);
        }
        assert!(worth.uses.len() <= LEAST + 1 && worth.order.is_empty());
    }
}
