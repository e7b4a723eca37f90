//! Databases of keys, with expiry, watched keys and an account of memory.
//!
//! Invariants:
//!
//! * A key with an expiry is in its database's `expiries`, under exactly that time.
//! * `used` is the sum of what the entries' `bytes` say. [`Store::changed`] brings an entry up to date.
//! * A collection without elements is not kept: [`Store::changed`] removes its key.

mod database;
mod watch;

use crate::bytes::Bytes;
use crate::random::Random;
use crate::table::{HashKey, Slot};
use crate::value::{Compact, Value};
use alloc::boxed::Box;
use alloc::vec::Vec;
use database::Database;
pub use database::Entry;
pub use watch::Version;
use watch::Watched;

/// Databases of a store, as Redis has them without being told otherwise.
pub const DATABASES: usize = 16;

/// Where a key is: its database, and its slot there. Good until the key is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// The database.
    pub database: u8,
    /// The slot in its table.
    pub slot: Slot,
}

/// Who wants to know which keys are used: a policy of eviction.
pub trait Observer {
    /// A key has been added. `hash` stands for its name, whenever it comes again.
    fn inserted(&mut self, at: At, hash: u64);
    /// A key has been read or changed.
    fn accessed(&mut self, at: At, hash: u64);
    /// A key has been removed, by whomever.
    fn removed(&mut self, at: At, hash: u64);
}

/// What a store counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Keys that were looked for to be read, and found.
    pub hits: u64,
    /// Keys that were looked for to be read, and not there.
    pub misses: u64,
    /// Keys whose time was over.
    pub expired: u64,
}

/// All databases.
pub struct Store {
    databases: Vec<Database>,
    hash_key: HashKey,
    used: usize,
    watched: Watched,
    observer: Option<Box<dyn Observer>>,
    /// Choices at random.
    pub random: Random,
    /// What is counted.
    pub statistics: Statistics,
    /// Sizes of compact forms.
    pub compact: Compact,
    /// Bytes of a string at most: `proto-max-bulk-len`.
    pub longest_string: usize,
    /// Whether keys stay though their time is over: while a log is read, which has their removal in it.
    pub keep_expired: bool,
}

impl Store {
    /// An empty store. `seed` has random numbers: two for the secret of the hash tables, one for choices.
    pub fn new(seed: [u64; 3]) -> Self {
        let hash_key = HashKey([seed[0], seed[1]]);
        Self {
            databases: (0..DATABASES).map(|_| Database::new(hash_key)).collect(),
            hash_key,
            used: 0,
            watched: Watched::default(),
            observer: None,
            random: Random::new(seed[2]),
            statistics: Statistics::default(),
            compact: Compact::default(),
            longest_string: 512 << 20,
            keep_expired: false,
        }
    }

    /// The secret of the hash tables, for those inside values.
    pub fn hash_key(&self) -> HashKey {
        self.hash_key
    }

    /// Has an observer told of every key from now on; of those that are there at once.
    pub fn observe(&mut self, observer: Option<Box<dyn Observer>>) {
        self.observer = observer;
        let Some(observer) = &mut self.observer else { return };
        for (number, database) in self.databases.iter().enumerate() {
            for (slot, key, _) in database.keys.iter() {
                observer.inserted(At { database: number as u8, slot }, self.hash_key.hash(key));
            }
        }
    }

    /// Bytes of memory that keys and values need.
    pub fn used_bytes(&self) -> usize {
        self.used
    }

    /// How many keys a database has.
    pub fn len(&self, database: u8) -> usize {
        self.databases[usize::from(database)].keys.len()
    }

    /// Whether no database has any.
    pub fn is_empty(&self) -> bool {
        self.databases.iter().all(|database| database.keys.is_empty())
    }

    /// How many keys of a database have an expiry.
    pub fn expiring(&self, database: u8) -> usize {
        self.databases[usize::from(database)].expiries.len()
    }

    /// Mean of the milliseconds that keys with an expiry have left, of up to 64 that expire first.
    pub fn mean_ttl_ms(&self, database: u8, now_ms: u64) -> u64 {
        let first = self.databases[usize::from(database)].expiries.iter().take(64);
        let (sum, count) = first.fold((0u64, 0u64), |(sum, count), (expires_ms, _)| {
            (sum.saturating_add(expires_ms.saturating_sub(now_ms)), count + 1)
        });
        sum.checked_div(count).unwrap_or(0)
    }

    /// Where a key is, whether its time is over or not.
    pub fn find(&self, database: u8, key: &[u8]) -> Option<At> {
        self.databases[usize::from(database)].keys.find(key).map(|slot| At { database, slot })
    }

    /// Notes when a key was used, of which the observer knows: it has just been added.
    pub fn touch(&mut self, at: At, now_ms: u64) {
        self.databases[usize::from(at.database)].keys.value_mut(at.slot).accessed_s = (now_ms / 1000) as u32;
    }

    /// Notes that a key is used, and tells the observer.
    pub fn accessed(&mut self, at: At, now_ms: u64) {
        self.touch(at, now_ms);
        if let Some(observer) = &mut self.observer {
            let key = self.databases[usize::from(at.database)].keys.key(at.slot);
            observer.accessed(at, self.hash_key.hash(key));
        }
    }

    /// Whether a key's time is over.
    pub fn is_over(&self, at: At, now_ms: u64) -> bool {
        !self.keep_expired && self.expires_ms(at).is_some_and(|expires_ms| expires_ms <= now_ms)
    }

    /// The key in a place.
    ///
    /// # Panics
    ///
    /// If there is none, as all that takes a place.
    pub fn key(&self, at: At) -> &Bytes {
        self.databases[usize::from(at.database)].keys.key(at.slot)
    }

    /// What a key holds.
    pub fn value(&self, at: At) -> &Value {
        &self.entry(at).value
    }

    /// What a key holds, to be changed. [`Store::changed`] must follow.
    pub fn value_mut(&mut self, at: At) -> &mut Value {
        &mut self.databases[usize::from(at.database)].keys.value_mut(at.slot).value
    }

    /// Value, expiry and account of a key.
    pub fn entry(&self, at: At) -> &Entry {
        self.databases[usize::from(at.database)].keys.value(at.slot)
    }

    /// When a key's time is over, in milliseconds since 1970.
    pub fn expires_ms(&self, at: At) -> Option<u64> {
        self.entry(at).expires_ms
    }

    /// Adds a key that is not there.
    pub fn insert(&mut self, database: u8, key: Bytes, value: Value) -> At {
        let hash = self.observer.is_some().then(|| self.hash_key.hash(&key));
        let bytes = Entry::bytes_of(&key, &value);
        self.used += bytes;
        self.watched.touch(database, &key);
        let slot = self.databases[usize::from(database)].insert(key, value, bytes);
        let at = At { database, slot };
        if let (Some(observer), Some(hash)) = (&mut self.observer, hash) {
            observer.inserted(at, hash);
        }
        at
    }

    /// Sets what a key holds. Its expiry stays.
    pub fn replace(&mut self, at: At, value: Value) {
        *self.value_mut(at) = value;
        self.changed(at);
    }

    /// Says that a value was changed: brings the account up to date, and tells those who watch. A collection
    /// without elements is removed. Whether the key is still there.
    pub fn changed(&mut self, at: At) -> bool {
        let database = &mut self.databases[usize::from(at.database)];
        if database.keys.value(at.slot).value.is_empty() {
            self.remove(at);
            return false;
        }
        if !self.watched.is_empty() {
            self.watched.touch(at.database, database.keys.key(at.slot));
        }
        let (before, after) = database.account(at.slot);
        self.used = self.used - before + after;
        true
    }

    /// Removes a key. What it was and held.
    pub fn remove(&mut self, at: At) -> (Bytes, Entry) {
        let (key, entry) = self.databases[usize::from(at.database)].remove(at.slot);
        self.used -= entry.bytes;
        self.watched.touch(at.database, &key);
        if let Some(observer) = &mut self.observer {
            observer.removed(at, self.hash_key.hash(&key));
        }
        (key, entry)
    }

    /// Says when a key's time is over, or that it never is.
    pub fn set_expiry(&mut self, at: At, expires_ms: Option<u64>) {
        let database = &mut self.databases[usize::from(at.database)];
        if !self.watched.is_empty() {
            self.watched.touch(at.database, database.keys.key(at.slot));
        }
        database.set_expiry(at.slot, expires_ms);
    }

    /// When the first key's time is over, in milliseconds since 1970.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.databases.iter().filter_map(|database| database.expiries.first()).map(|first| first.0).min()
    }

    /// Removes keys whose time is over, so many at most. `removed` is told of each, with its database. How
    /// many were removed: less than `most` if no more are due.
    pub fn expire(&mut self, now_ms: u64, most: usize, mut removed: impl FnMut(u8, &[u8])) -> usize {
        if self.keep_expired {
            return 0;
        }
        let mut count = 0;
        for database in 0..DATABASES as u8 {
            while count < most {
                let first = self.databases[usize::from(database)].expiries.first().copied();
                let Some((_, slot)) = first.filter(|(expires_ms, _)| *expires_ms <= now_ms) else { break };
                let (key, _) = self.remove(At { database, slot });
                removed(database, &key);
                count += 1;
            }
        }
        self.statistics.expired += count as u64;
        count
    }

    /// All keys of a database, with what they hold: to write them down.
    pub fn iter(&self, database: u8) -> impl Iterator<Item = (At, &Bytes, &Entry)> + Clone {
        let keys = self.databases[usize::from(database)].keys.iter();
        keys.map(move |(slot, key, entry)| (At { database, slot }, key, entry))
    }

    /// Visits keys of a few buckets of a database, and returns the cursor with which to go on; 0 at the end.
    pub fn scan(&self, database: u8, cursor: u64, mut visit: impl FnMut(At)) -> u64 {
        self.databases[usize::from(database)].keys.scan(cursor, |slot| visit(At { database, slot }))
    }

    /// Any key of a database, whether its time is over or not.
    pub fn random_key(&mut self, database: u8) -> Option<At> {
        let slot = self.databases[usize::from(database)].keys.random(&mut self.random)?;
        Some(At { database, slot })
    }

    /// Any key of a database that has an expiry.
    pub fn random_expiring(&mut self, database: u8) -> Option<At> {
        let expiries = &self.databases[usize::from(database)].expiries;
        let (first, last) = (expiries.first()?, expiries.last()?);
        // Times are not spread evenly, so this is not fair. It is quick, and nobody is left out for ever.
        let between = last.0 - first.0;
        let time = first.0 + ((u128::from(self.random.next_u64()) * u128::from(between)) >> 64) as u64;
        let slot = self.random.next_u64() as u32;
        let (_, slot) = expiries.range((time, slot)..).next().or_else(|| expiries.first())?;
        Some(At { database, slot: *slot })
    }

    /// Removes all keys of a database.
    pub fn flush(&mut self, database: u8) {
        let slots: Vec<Slot> = match (&self.observer, self.watched.is_empty()) {
            (None, true) => Vec::new(),
            _ => self.databases[usize::from(database)].keys.iter().map(|(slot, ..)| slot).collect(),
        };
        // One by one if somebody wants to know of each.
        slots.into_iter().for_each(|slot| drop(self.remove(At { database, slot })));
        let gone =
            core::mem::replace(&mut self.databases[usize::from(database)], Database::new(self.hash_key));
        self.used -= gone.keys.iter().map(|(_, _, entry)| entry.bytes).sum::<usize>();
    }

    /// Exchanges the content of two databases.
    pub fn swap(&mut self, first: u8, second: u8) {
        if first == second {
            return;
        }
        let databases = &self.databases;
        let is_there = |database: u8, key: &[u8]| databases[usize::from(database)].keys.find(key).is_some();
        self.watched.touch_databases(first, second, is_there);
        let hash_key = self.hash_key;
        let observer = &mut self.observer;
        let mut tell = |databases: &[Database], added: bool| {
            let Some(observer) = observer else { return };
            for database in [first, second] {
                for (slot, key, _) in databases[usize::from(database)].keys.iter() {
                    let (at, hash) = (At { database, slot }, hash_key.hash(key));
                    if added { observer.inserted(at, hash) } else { observer.removed(at, hash) }
                }
            }
        };
        tell(&self.databases, false);
        self.databases.swap(usize::from(first), usize::from(second));
        tell(&self.databases, true);
    }

    /// Watches a key: the version that it has now. [`Store::unwatch`] must follow.
    pub fn watch(&mut self, database: u8, key: &[u8], now_ms: u64) -> Version {
        let over = self.find(database, key).is_some_and(|at| self.is_over(at, now_ms));
        self.watched.watch(database, key, over)
    }

    /// Watches a key no longer.
    pub fn unwatch(&mut self, database: u8, key: &[u8]) {
        self.watched.unwatch(database, key);
    }

    /// Whether a watched key is another than at a version; also if its time is over since.
    pub fn is_changed(&self, database: u8, key: &[u8], version: Version, now_ms: u64) -> bool {
        let over = self.find(database, key).is_some_and(|at| self.is_over(at, now_ms));
        self.watched.version(database, key, over) != Some(version)
    }
}
