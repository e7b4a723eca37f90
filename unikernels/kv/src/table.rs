//! The hash table below everything: chains of entries, under a keyed hash.
//!
//! ```text
//!  buckets (grown)   ┌──┬──┬──┬──┬──┬──┬──┬──┐     entries, by slot, in chunks of 256
//!                    │ 3│  │ 0│  │  │ 7│  │  │     ┌─────┬─────┬─────┬─────┐
//!                    └──┴──┴──┴──┴──┴──┴──┴──┘     │ 0   │ 1   │ 2   │ 3   │ …
//!  buckets (old)     ┌──┬──┬──┬──┐                 │ →2  │free │ end │ →1  │
//!                    │××│××│ 9│  │ moved in steps  └─────┴─────┴─────┴─────┘
//!                    └──┴──┴──┴──┘
//! ```
//!
//! * An entry keeps its slot until it is removed, so a slot can stand for it in other structures.
//! * The table grows and shrinks in steps: each change moves a few buckets, so none takes long.
//! * [`Table::scan`] has the guarantee of Redis's `SCAN`: an entry that is there from the first call to the
//!   last is visited at least once, whatever is added and removed meanwhile. Its cursors count in reversed
//!   bits (Pieter Noordhuis, `dict.c` of Redis), because a bucket's entries keep their low bits when the
//!   number of buckets changes.

use crate::bytes::Bytes;
use crate::random::Random;
use alloc::vec;
use alloc::vec::Vec;
use siphasher::sip::SipHasher13;

/// Entries of a chunk.
const CHUNK: usize = 256;
/// Buckets at least, if there are any.
const FEWEST: usize = 4;
/// Buckets that each change moves, while there are old ones.
const STEP: usize = 4;
/// The end of a chain.
const END: u32 = u32::MAX;

/// The secret that makes collisions unforeseeable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKey(pub [u64; 2]);

impl HashKey {
    /// The hash of a string under this key.
    pub fn hash(self, bytes: &[u8]) -> u64 {
        SipHasher13::new_with_keys(self.0[0], self.0[1]).hash(bytes)
    }
}

/// The place of an entry in its table.
pub type Slot = u32;

/// A hash table of strings and what belongs to them.
#[derive(Clone, Debug)]
pub struct Table<V> {
    key: HashKey,
    chunks: Vec<Chunk<V>>,
    /// Chunks that have room: a chunk is in here if it says so.
    roomy: Vec<u32>,
    length: usize,
    buckets: Vec<u32>,
    /// Buckets before the last change of their number; those below `moved` are empty.
    old: Vec<u32>,
    moved: usize,
}

#[derive(Clone, Debug)]
struct Chunk<V> {
    entries: Vec<Place<V>>,
    /// The first free place.
    free: u32,
    used: u32,
    listed: bool,
}

#[derive(Clone, Debug)]
enum Place<V> {
    Free { next: u32 },
    Used(Entry<V>),
}

#[derive(Clone, Debug)]
struct Entry<V> {
    key: Bytes,
    value: V,
    hash: u32,
    next: u32,
}

impl<V> Table<V> {
    /// An empty table, which needs no memory yet.
    pub const fn new(key: HashKey) -> Self {
        Self {
            key,
            chunks: Vec::new(),
            roomy: Vec::new(),
            length: 0,
            buckets: Vec::new(),
            old: Vec::new(),
            moved: 0,
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The secret of the hash.
    pub fn hash_key(&self) -> HashKey {
        self.key
    }

    /// Bytes of memory that an entry needs beside what its key and value have.
    pub const fn entry_bytes() -> usize {
        size_of::<Place<V>>() + size_of::<u32>()
    }

    /// Buckets in use, and those that are still to be moved.
    pub fn bucket_counts(&self) -> (usize, usize) {
        (self.buckets.len(), self.old.len())
    }

    /// The slot of a key.
    pub fn find(&self, key: &[u8]) -> Option<Slot> {
        if self.length == 0 {
            return None;
        }
        let hash = self.key.hash(key) as u32;
        let mut slot = *self.head(hash);
        while slot != END {
            let entry = self.entry(slot);
            if entry.hash == hash && entry.key.as_slice() == key {
                return Some(slot);
            }
            slot = entry.next;
        }
        None
    }

    /// Adds a key that is not there yet.
    pub fn insert(&mut self, key: Bytes, value: V) -> Slot {
        debug_assert!(self.find(&key).is_none(), "{key:?} is there already");
        self.step();
        if self.length >= self.buckets.len() && self.old.is_empty() {
            self.resize((self.buckets.len() * 2).max(FEWEST));
        }
        let hash = self.key.hash(&key) as u32;
        let next = *self.head(hash);
        let slot = self.place(Entry { key, value, hash, next });
        *self.head_mut(hash) = slot;
        self.length += 1;
        slot
    }

    /// Takes an entry out.
    ///
    /// # Panics
    ///
    /// If the slot is free.
    pub fn remove(&mut self, slot: Slot) -> (Bytes, V) {
        let (hash, next) = (self.entry(slot).hash, self.entry(slot).next);
        let mut before = *self.head(hash);
        if before == slot {
            *self.head_mut(hash) = next;
        } else {
            while self.entry(before).next != slot {
                before = self.entry(before).next;
            }
            self.entry_mut(before).next = next;
        }
        let entry = self.take(slot);
        self.length -= 1;
        self.step();
        if self.length == 0 {
            *self = Self::new(self.key);
        } else if self.buckets.len() > 16 && self.length * 8 < self.buckets.len() && self.old.is_empty() {
            self.resize((self.length * 2).next_power_of_two().max(FEWEST));
        }
        (entry.key, entry.value)
    }

    /// The key in a slot.
    ///
    /// # Panics
    ///
    /// If the slot is free, as the others that take one.
    pub fn key(&self, slot: Slot) -> &Bytes {
        &self.entry(slot).key
    }

    /// The value in a slot.
    pub fn value(&self, slot: Slot) -> &V {
        &self.entry(slot).value
    }

    /// The value in a slot, to be changed.
    pub fn value_mut(&mut self, slot: Slot) -> &mut V {
        &mut self.entry_mut(slot).value
    }

    /// Key and value in a slot, if there is an entry.
    pub fn get(&self, slot: Slot) -> Option<(&Bytes, &V)> {
        match self.chunks.get(slot as usize / CHUNK)?.entries.get(slot as usize % CHUNK)? {
            Place::Used(entry) => Some((&entry.key, &entry.value)),
            Place::Free { .. } => None,
        }
    }

    /// The 32 bits of its key's hash by which an entry is found.
    pub fn hash_of(&self, slot: Slot) -> u32 {
        self.entry(slot).hash
    }

    /// All entries, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &Bytes, &V)> + Clone {
        self.chunks.iter().enumerate().flat_map(|(chunk, content)| {
            content.entries.iter().enumerate().filter_map(move |(index, place)| match place {
                Place::Used(entry) => Some(((chunk * CHUNK + index) as u32, &entry.key, &entry.value)),
                Place::Free { .. } => None,
            })
        })
    }

    /// Any entry.
    pub fn random(&self, random: &mut Random) -> Option<Slot> {
        if self.length == 0 {
            return None;
        }
        // Chunks are full or nearly so, unless most has been removed. Then the next entry will do.
        let places =
            (self.chunks.len() - 1) * CHUNK + self.chunks.last().map_or(0, |last| last.entries.len());
        for _ in 0..128 {
            let slot = random.below(places) as u32;
            if self.get(slot).is_some() {
                return Some(slot);
            }
        }
        let start = random.below(places) as u32;
        (start..places as u32).chain(0..start).find(|slot| self.get(*slot).is_some())
    }

    /// Visits the entries of a few buckets, and returns the cursor with which to go on; 0 at the end. A scan
    /// begins with 0.
    pub fn scan(&self, cursor: u64, mut visit: impl FnMut(Slot)) -> u64 {
        if self.length == 0 {
            return 0;
        }
        let mut cursor = cursor;
        let mut chain = |mut slot: u32| {
            while slot != END {
                visit(slot);
                slot = self.entry(slot).next;
            }
        };
        let (small, large) = match self.old.len() {
            0 => (&self.buckets, &self.buckets),
            old if old < self.buckets.len() => (&self.old, &self.buckets),
            _ => (&self.buckets, &self.old),
        };
        let (few, many) = (small.len() as u64 - 1, large.len() as u64 - 1);
        if !self.old.is_empty() {
            chain(small[(cursor & few) as usize]);
        }
        loop {
            chain(large[(cursor & many) as usize]);
            cursor = (cursor | !many).reverse_bits().wrapping_add(1).reverse_bits();
            if cursor & (few ^ many) == 0 {
                return cursor;
            }
        }
    }

    /// The bucket in which a hash is.
    fn head(&self, hash: u32) -> &u32 {
        if !self.old.is_empty() {
            let bucket = hash as usize & (self.old.len() - 1);
            if bucket >= self.moved {
                return &self.old[bucket];
            }
        }
        &self.buckets[hash as usize & (self.buckets.len() - 1)]
    }

    fn head_mut(&mut self, hash: u32) -> &mut u32 {
        if !self.old.is_empty() {
            let bucket = hash as usize & (self.old.len() - 1);
            if bucket >= self.moved {
                return &mut self.old[bucket];
            }
        }
        let mask = self.buckets.len() - 1;
        &mut self.buckets[hash as usize & mask]
    }

    fn entry(&self, slot: u32) -> &Entry<V> {
        match &self.chunks[slot as usize / CHUNK].entries[slot as usize % CHUNK] {
            Place::Used(entry) => entry,
            Place::Free { .. } => panic!("slot {slot} is free"),
        }
    }

    fn entry_mut(&mut self, slot: u32) -> &mut Entry<V> {
        match &mut self.chunks[slot as usize / CHUNK].entries[slot as usize % CHUNK] {
            Place::Used(entry) => entry,
            Place::Free { .. } => panic!("slot {slot} is free"),
        }
    }

    fn place(&mut self, entry: Entry<V>) -> u32 {
        let chunk = match self.roomy.last() {
            Some(chunk) => *chunk as usize,
            None => {
                // The first one grows as it is needed: most tables are small.
                let capacity = if self.chunks.is_empty() { 0 } else { CHUNK };
                let entries = Vec::with_capacity(capacity);
                self.chunks.push(Chunk { entries, free: END, used: 0, listed: true });
                self.roomy.push(self.chunks.len() as u32 - 1);
                self.chunks.len() - 1
            }
        };
        let content = &mut self.chunks[chunk];
        content.used += 1;
        let index = if content.free == END {
            content.entries.push(Place::Used(entry));
            content.entries.len() - 1
        } else {
            let index = content.free as usize;
            let place = core::mem::replace(&mut content.entries[index], Place::Used(entry));
            let Place::Free { next } = place else { panic!("place {index} is not free") };
            content.free = next;
            index
        };
        if content.used as usize == CHUNK {
            content.listed = false;
            self.roomy.pop();
        }
        (chunk * CHUNK + index) as u32
    }

    fn take(&mut self, slot: u32) -> Entry<V> {
        let chunk = slot as usize / CHUNK;
        let content = &mut self.chunks[chunk];
        let index = slot as usize % CHUNK;
        let free = Place::Free { next: content.free };
        let Place::Used(entry) = core::mem::replace(&mut content.entries[index], free) else {
            panic!("slot {slot} is free")
        };
        content.free = index as u32;
        content.used -= 1;
        if !content.listed {
            content.listed = true;
            self.roomy.push(chunk as u32);
        }
        if content.used == 0 {
            content.entries = Vec::new();
            content.free = END;
        }
        entry
    }

    fn resize(&mut self, buckets: usize) {
        self.old = core::mem::replace(&mut self.buckets, vec![END; buckets]);
        self.moved = 0;
    }

    /// Moves a few buckets, if there are old ones.
    fn step(&mut self) {
        if self.old.is_empty() {
            return;
        }
        for _ in 0..STEP {
            let Some(head) = self.old.get_mut(self.moved) else { break };
            let mut slot = core::mem::replace(head, END);
            self.moved += 1;
            let mask = self.buckets.len() - 1;
            while slot != END {
                let bucket = self.entry(slot).hash as usize & mask;
                let head = core::mem::replace(&mut self.buckets[bucket], slot);
                slot = core::mem::replace(&mut self.entry_mut(slot).next, head);
            }
        }
        if self.moved == self.old.len() {
            self.old = Vec::new();
            self.moved = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::{BTreeMap, BTreeSet};
    use alloc::format;
    use alloc::string::String;

    fn key(number: usize) -> Bytes {
        Bytes::from(format!("key:{number}").as_bytes())
    }

    #[test]
    fn agrees_with_a_map() {
        let mut table = Table::new(HashKey([1, 2]));
        let mut map = BTreeMap::new();
        let mut random = Random::new(7);
        for step in 0..60_000 {
            // Grows to thousands, and shrinks to nothing, in turn.
            let growing = step / 10_000 % 2 == 0;
            let number = random.below(4000);
            match (table.find(&key(number)), random.below(10) < if growing { 8 } else { 1 }) {
                (None, true) => {
                    table.insert(key(number), step);
                    map.insert(number, step);
                }
                (Some(slot), false) => {
                    assert_eq!(table.remove(slot), (key(number), map[&number]));
                    map.remove(&number);
                }
                (found, _) => assert_eq!(found.map(|slot| *table.value(slot)), map.get(&number).copied()),
            }
            assert_eq!(table.len(), map.len());
        }
        let all: BTreeSet<String> = table.iter().map(|(_, key, value)| format!("{key:?} {value}")).collect();
        assert_eq!(all, map.iter().map(|(number, value)| format!("{:?} {value}", key(*number))).collect());
    }

    #[test]
    fn a_scan_misses_nothing_that_stays() {
        let mut random = Random::new(11);
        for round in 0..40 {
            let mut table = Table::new(HashKey([round, 2]));
            let stay = random.below(300);
            for number in 0..stay {
                table.insert(key(number), ());
            }
            let mut seen = BTreeSet::new();
            let mut cursor = 0;
            loop {
                cursor = table.scan(cursor, |slot| {
                    seen.insert(table.key(slot).clone());
                });
                if cursor == 0 {
                    break;
                }
                // Others come and go, so that the table grows and shrinks under the scan.
                let growing = random.below(2) == 0;
                for _ in 0..random.below(20) {
                    let other = key(1000 + random.below(2000));
                    match (table.find(&other), growing) {
                        (None, true) => drop(table.insert(other, ())),
                        (Some(slot), false) => drop(table.remove(slot)),
                        _ => {}
                    }
                }
            }
            assert!((0..stay).all(|number| seen.contains(&key(number))), "round {round}");
        }
    }

    #[test]
    fn memory_comes_back_with_the_last_entry() {
        let mut table = Table::new(HashKey([1, 2]));
        let slots: Vec<Slot> = (0..10_000).map(|number| table.insert(key(number), number)).collect();
        for slot in slots {
            table.remove(slot);
        }
        assert_eq!((table.chunks.len(), table.buckets.len(), table.old.len()), (0, 0, 0));
    }
}
