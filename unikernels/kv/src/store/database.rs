//! One database: its keys, and when their time is over.

use crate::bytes::Bytes;
use crate::table::{HashKey, Slot, Table};
use crate::value::Value;
use alloc::collections::BTreeSet;

/// What belongs to a key.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it holds.
    pub value: Value,
    /// When its time is over, in milliseconds since 1970.
    pub expires_ms: Option<u64>,
    /// Bytes of memory for key and value, when they were changed last.
    pub bytes: usize,
    /// When it was used last, in seconds since 1970.
    pub accessed_s: u32,
}

impl Entry {
    /// Bytes of memory for a key and a value.
    pub fn bytes_of(key: &Bytes, value: &Value) -> usize {
        Table::<Self>::entry_bytes() + key.heap_bytes() + value.heap_bytes()
    }
}

/// One database.
#[derive(Debug)]
pub(super) struct Database {
    pub keys: Table<Entry>,
    /// Keys with an expiry: the time in milliseconds since 1970, and the slot.
    pub expiries: BTreeSet<(u64, Slot)>,
}

impl Database {
    pub fn new(hash_key: HashKey) -> Self {
        Self { keys: Table::new(hash_key), expiries: BTreeSet::new() }
    }

    pub fn insert(&mut self, key: Bytes, value: Value, bytes: usize) -> Slot {
        self.keys.insert(key, Entry { value, expires_ms: None, bytes, accessed_s: 0 })
    }

    /// Brings the account of an entry up to date: its bytes before and now.
    pub fn account(&mut self, slot: Slot) -> (usize, usize) {
        let before = self.keys.value(slot).bytes;
        let now = Entry::bytes_of(self.keys.key(slot), &self.keys.value(slot).value);
        self.keys.value_mut(slot).bytes = now;
        (before, now)
    }

    pub fn remove(&mut self, slot: Slot) -> (Bytes, Entry) {
        let (key, entry) = self.keys.remove(slot);
        if let Some(expires_ms) = entry.expires_ms {
            self.expiries.remove(&(expires_ms, slot));
        }
        (key, entry)
    }

    pub fn set_expiry(&mut self, slot: Slot, expires_ms: Option<u64>) {
        let entry = self.keys.value_mut(slot);
        if let Some(before) = core::mem::replace(&mut entry.expires_ms, expires_ms) {
            self.expiries.remove(&(before, slot));
        }
        if let Some(expires_ms) = expires_ms {
            self.expiries.insert((expires_ms, slot));
        }
    }
}
