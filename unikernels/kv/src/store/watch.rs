//! Keys that clients watch: whether they were changed meanwhile.

use crate::bytes::Bytes;
use alloc::collections::BTreeMap;

/// Stands for the content of a watched key. It is another after each change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    changes: u64,
    /// Whether the key's time was over, so that it was not there to anybody.
    over: bool,
}

/// The keys that are watched, and how often.
#[derive(Debug, Default)]
pub(super) struct Watched {
    keys: BTreeMap<(u8, Bytes), Key>,
    changes: u64,
}

#[derive(Debug)]
struct Key {
    watchers: usize,
    changes: u64,
}

impl Watched {
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub fn watch(&mut self, database: u8, key: &[u8], over: bool) -> Version {
        let fresh = Key { watchers: 0, changes: self.changes };
        let key = self.keys.entry((database, Bytes::from(key))).or_insert(fresh);
        key.watchers += 1;
        Version { changes: key.changes, over }
    }

    pub fn unwatch(&mut self, database: u8, key: &[u8]) {
        let place = (database, Bytes::from(key));
        let Some(key) = self.keys.get_mut(&place) else { return };
        key.watchers -= 1;
        if key.watchers == 0 {
            self.keys.remove(&place);
        }
    }

    pub fn version(&self, database: u8, key: &[u8], over: bool) -> Option<Version> {
        let key = self.keys.get(&(database, Bytes::from(key)))?;
        Some(Version { changes: key.changes, over })
    }

    pub fn touch(&mut self, database: u8, key: &Bytes) {
        if self.keys.is_empty() {
            return;
        }
        if let Some(key) = self.keys.get_mut(&(database, key.clone())) {
            self.changes += 1;
            key.changes = self.changes;
        }
    }

    /// Touches the watched keys of two databases that are in one of them or both.
    pub fn touch_databases(&mut self, first: u8, second: u8, is_there: impl Fn(u8, &[u8]) -> bool) {
        for ((database, name), key) in &mut self.keys {
            if (*database == first || *database == second)
                && (is_there(first, name) || is_there(second, name))
            {
                self.changes += 1;
                key.changes = self.changes;
            }
        }
    }
}
