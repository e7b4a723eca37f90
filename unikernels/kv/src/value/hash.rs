//! Hashes: strings by name. Small ones are a list of pairs, in the order in which they came.

use super::Compact;
use crate::bytes::Bytes;
use crate::random::Random;
use crate::table::{HashKey, Table};
use alloc::vec::Vec;

/// Strings by name.
#[derive(Clone, Debug)]
pub struct Hash {
    form: Form,
    /// Bytes that fields and values have beside themselves.
    heap: usize,
}

#[derive(Clone, Debug)]
enum Form {
    Small(Vec<(Bytes, Bytes)>),
    Large(Table<Bytes>),
}

impl Default for Hash {
    fn default() -> Self {
        Self { form: Form::Small(Vec::new()), heap: 0 }
    }
}

impl Hash {
    /// How many fields there are.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Small(pairs) => pairs.len(),
            Form::Large(table) => table.len(),
        }
    }

    /// The value of a field.
    pub fn get(&self, field: &[u8]) -> Option<&Bytes> {
        match &self.form {
            Form::Small(pairs) => pairs.iter().find(|(name, _)| name.as_slice() == field).map(|pair| &pair.1),
            Form::Large(table) => table.find(field).map(|slot| table.value(slot)),
        }
    }

    /// Sets a field. Whether it is a new one.
    pub fn set(&mut self, field: &[u8], value: Bytes, compact: &Compact, key: HashKey) -> bool {
        if field.len().max(value.len()) > compact.hash_bytes {
            self.grow(key);
        }
        self.heap += value.heap_bytes();
        let before = match &mut self.form {
            Form::Small(pairs) => match pairs.iter_mut().find(|(name, _)| name.as_slice() == field) {
                Some(pair) => Some(core::mem::replace(&mut pair.1, value)),
                None => {
                    pairs.push((Bytes::from(field), value));
                    None
                }
            },
            Form::Large(table) => match table.find(field) {
                Some(slot) => Some(core::mem::replace(table.value_mut(slot), value)),
                None => {
                    let name = Bytes::from(field);
                    self.heap += name.heap_bytes();
                    table.insert(name, value);
                    None
                }
            },
        };
        if self.len() > compact.hash_entries {
            self.grow(key);
        }
        if let Some(before) = &before {
            self.heap -= before.heap_bytes();
        } else if let Form::Small(pairs) = &self.form {
            self.heap += pairs.last().map_or(0, |pair| pair.0.heap_bytes());
        }
        before.is_none()
    }

    /// Removes a field. Whether it was there.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        let removed = match &mut self.form {
            Form::Small(pairs) => {
                let place = pairs.iter().position(|(name, _)| name.as_slice() == field);
                place.map(|place| pairs.remove(place))
            }
            Form::Large(table) => table.find(field).map(|slot| table.remove(slot)),
        };
        let Some((name, value)) = removed else { return false };
        self.heap -= name.heap_bytes() + value.heap_bytes();
        true
    }

    /// Visits all fields.
    pub fn visit(&self, mut visit: impl FnMut(&Bytes, &Bytes)) {
        match &self.form {
            Form::Small(pairs) => pairs.iter().for_each(|(name, value)| visit(name, value)),
            Form::Large(table) => table.iter().for_each(|(_, name, value)| visit(name, value)),
        }
    }

    /// Appends all fields and values.
    pub fn collect_into<'h>(&'h self, pairs: &mut Vec<(&'h Bytes, &'h Bytes)>) {
        match &self.form {
            Form::Small(small) => pairs.extend(small.iter().map(|(name, value)| (name, value))),
            Form::Large(table) => pairs.extend(table.iter().map(|(_, name, value)| (name, value))),
        }
    }

    /// Visits some fields from a cursor on, and returns the next one. A small hash is visited at once.
    pub fn scan(&self, cursor: u64, mut visit: impl FnMut(&Bytes, &Bytes)) -> u64 {
        match &self.form {
            Form::Small(_) => {
                self.visit(visit);
                0
            }
            Form::Large(table) => table.scan(cursor, |slot| visit(table.key(slot), table.value(slot))),
        }
    }

    /// Any field; there must be one.
    pub fn random(&self, random: &mut Random) -> (&Bytes, &Bytes) {
        match &self.form {
            Form::Small(pairs) => {
                let (name, value) = &pairs[random.below(pairs.len())];
                (name, value)
            }
            Form::Large(table) => {
                let slot = table.random(random).unwrap_or_default();
                (table.key(slot), table.value(slot))
            }
        }
    }

    /// The name of the form, as Redis calls it.
    pub fn encoding(&self) -> &'static str {
        if matches!(self.form, Form::Small(_)) { "listpack" } else { "hashtable" }
    }

    /// Bytes of memory beside the hash itself.
    pub fn heap_bytes(&self) -> usize {
        let places = match &self.form {
            Form::Small(pairs) => pairs.capacity() * size_of::<(Bytes, Bytes)>(),
            Form::Large(table) => table.len() * Table::<Bytes>::entry_bytes(),
        };
        places + self.heap
    }

    fn grow(&mut self, key: HashKey) {
        let Form::Small(pairs) = &mut self.form else { return };
        let mut table = Table::new(key);
        self.heap = 0;
        for (name, value) in core::mem::take(pairs) {
            self.heap += name.heap_bytes() + value.heap_bytes();
            table.insert(name, value);
        }
        self.form = Form::Large(table);
    }
}
