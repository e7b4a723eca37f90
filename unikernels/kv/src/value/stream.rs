//! Streams: a log of entries, and groups of consumers that share it.

use crate::bytes::Bytes;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};

/// Names an entry: milliseconds since 1970, and a number among those of one millisecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Milliseconds.
    pub ms: u64,
    /// The number.
    pub sequence: u64,
}

impl Id {
    /// Before all entries.
    pub const LEAST: Self = Self { ms: 0, sequence: 0 };
    /// After all entries.
    pub const GREATEST: Self = Self { ms: u64::MAX, sequence: u64::MAX };

    /// The next one, if there is any.
    pub fn next(self) -> Option<Self> {
        match self.sequence.checked_add(1) {
            Some(sequence) => Some(Self { sequence, ..self }),
            None => Some(Self { ms: self.ms.checked_add(1)?, sequence: 0 }),
        }
    }

    /// The one before, if there is any.
    pub fn before(self) -> Option<Self> {
        match self.sequence.checked_sub(1) {
            Some(sequence) => Some(Self { sequence, ..self }),
            None => Some(Self { ms: self.ms.checked_sub(1)?, sequence: u64::MAX }),
        }
    }
}

/// A log of entries.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// Fields and values in turn, by entry.
    entries: BTreeMap<Id, Box<[Bytes]>>,
    /// Bytes of the entries.
    heap: usize,
    /// The id of the entry that was added last.
    pub last: Id,
    /// How many entries were added, ever.
    pub added: u64,
    /// The greatest id of those that were deleted, but for those that were trimmed away.
    pub greatest_deleted: Id,
    /// Groups of consumers by name.
    pub groups: BTreeMap<Bytes, Group>,
}

/// A group of consumers.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// The id of the entry that was given out last.
    pub last: Id,
    /// How many entries of the stream the group has read, if that is known.
    pub read: Option<u64>,
    /// Entries that were given out and not acknowledged.
    pub pending: BTreeMap<Id, Pending>,
    /// Consumers by name.
    pub consumers: BTreeMap<Bytes, Consumer>,
}

/// An entry that a consumer has and has not acknowledged.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Who has it.
    pub consumer: Bytes,
    /// When it was given out last, in milliseconds since 1970.
    pub delivered_ms: u64,
    /// How often it was given out.
    pub deliveries: u64,
}

/// A consumer.
#[derive(Clone, Debug, Default)]
pub struct Consumer {
    /// When it was heard of last, in milliseconds since 1970.
    pub seen_ms: u64,
    /// What it has of the group's pending entries.
    pub pending: BTreeSet<Id>,
}

impl Group {
    /// Gives a pending entry to a consumer, whoever had it.
    pub fn give(&mut self, id: Id, consumer: &Bytes, delivered_ms: u64, deliveries: u64) {
        let pending = Pending { consumer: consumer.clone(), delivered_ms, deliveries };
        if let Some(before) = self.pending.insert(id, pending)
            && let Some(before) = self.consumers.get_mut(&before.consumer)
        {
            before.pending.remove(&id);
        }
        self.consumers.entry(consumer.clone()).or_default().pending.insert(id);
    }

    /// Acknowledges an entry. Whether it was pending.
    pub fn acknowledge(&mut self, id: Id) -> bool {
        let Some(pending) = self.pending.remove(&id) else { return false };
        if let Some(consumer) = self.consumers.get_mut(&pending.consumer) {
            consumer.pending.remove(&id);
        }
        true
    }

    fn heap_bytes(&self) -> usize {
        let pending = self.pending.len() * (size_of::<(Id, Pending)>() + size_of::<Id>());
        size_of::<Self>() + pending + self.consumers.len() * size_of::<(Bytes, Consumer)>()
    }
}

impl Stream {
    /// How many entries there are.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Adds an entry after all others.
    pub fn add(&mut self, id: Id, fields: Box<[Bytes]>) {
        self.heap += Self::bytes_of(&fields);
        self.entries.insert(id, fields);
        self.last = id;
        self.added += 1;
    }

    /// The fields and values of an entry.
    pub fn get(&self, id: Id) -> Option<&[Bytes]> {
        self.entries.get(&id).map(|fields| &**fields)
    }

    /// Entries from one id to another, both included.
    pub fn range(&self, from: Id, to: Id) -> impl DoubleEndedIterator<Item = (Id, &[Bytes])> {
        // A range that ends before it begins is empty, not a mistake.
        let range = (from <= to).then(|| self.entries.range(from..=to));
        range.into_iter().flatten().map(|(id, fields)| (*id, &**fields))
    }

    /// The first entry.
    pub fn first(&self) -> Option<(Id, &[Bytes])> {
        self.entries.first_key_value().map(|(id, fields)| (*id, &**fields))
    }

    /// The last entry that is still there.
    pub fn final_entry(&self) -> Option<(Id, &[Bytes])> {
        self.entries.last_key_value().map(|(id, fields)| (*id, &**fields))
    }

    /// Deletes an entry. Whether it was there.
    pub fn delete(&mut self, id: Id) -> bool {
        let Some(fields) = self.entries.remove(&id) else { return false };
        self.heap -= Self::bytes_of(&fields);
        self.greatest_deleted = self.greatest_deleted.max(id);
        true
    }

    /// Removes the first entry: to trim.
    pub fn drop_first(&mut self) {
        if let Some((_, fields)) = self.entries.pop_first() {
            self.heap -= Self::bytes_of(&fields);
        }
    }

    /// How many entries a group has read when it has read up to one: the next, or by an estimate.
    pub fn read_after(&self, group: &Bytes, id: Id) -> Option<u64> {
        let read = self.groups.get(group)?.read;
        match read.filter(|_| !self.has_gaps_from(id)) {
            Some(read) => Some(read + 1),
            None if self.added > 0 => self.distance(id),
            None => read,
        }
    }

    /// How many entries a group has not read, if that can be known. It is negative if a group says that it
    /// has read more than there was.
    pub fn lag(&self, group: &Group) -> Option<i64> {
        if self.added == 0 {
            return Some(0);
        }
        let known = group.read.filter(|_| !self.has_gaps_from(group.last));
        known.or_else(|| self.distance(group.last)).map(|read| self.added as i64 - read as i64)
    }

    /// Whether an entry from an id on was deleted.
    fn has_gaps_from(&self, id: Id) -> bool {
        self.len() > 0 && self.greatest_deleted != Id::LEAST && self.greatest_deleted >= id
    }

    /// How many entries were added up to one, if that can be known.
    fn distance(&self, id: Id) -> Option<u64> {
        if self.added == 0 {
            return Some(0);
        }
        if id == self.last || self.len() == 0 && id < self.last {
            return Some(self.added);
        }
        let (first, _) = self.first()?;
        if id > self.last || self.greatest_deleted != Id::LEAST && self.greatest_deleted >= first {
            return None;
        }
        match id.cmp(&first) {
            core::cmp::Ordering::Less => Some(self.added - self.len() as u64),
            core::cmp::Ordering::Equal => Some(self.added - self.len() as u64 + 1),
            core::cmp::Ordering::Greater => None,
        }
    }

    /// Bytes of memory beside the stream itself.
    pub fn heap_bytes(&self) -> usize {
        self.heap + self.groups.values().map(Group::heap_bytes).sum::<usize>()
    }

    fn bytes_of(fields: &[Bytes]) -> usize {
        let entry = size_of::<(Id, Box<[Bytes]>)>() * 3 / 2;
        entry + fields.iter().map(|field| size_of::<Bytes>() + field.heap_bytes()).sum::<usize>()
    }
}
