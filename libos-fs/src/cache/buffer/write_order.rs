//! Which files must be on stable storage before others are written.

use crate::error::FsError;
use crate::file_id::FileId;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// The order that an application has asked for.
#[derive(Default)]
pub(super) struct WriteOrder {
    /// By file: those that go before it. Without cycles.
    before: BTreeMap<FileId, BTreeSet<FileId>>,
}

impl WriteOrder {
    /// Whether no file has to wait for another.
    pub(super) fn is_empty(&self) -> bool {
        self.before.is_empty()
    }

    /// All files that go before a file, directly or not.
    pub(super) fn all_before(&self, file: FileId) -> BTreeSet<FileId> {
        let mut found = BTreeSet::new();
        let mut open = Vec::from([file]);
        while let Some(file) = open.pop() {
            for first in self.before.get(&file).into_iter().flatten() {
                if found.insert(*first) {
                    open.push(*first);
                }
            }
        }
        found
    }

    /// From now on `first` goes before `then`.
    pub(super) fn add(&mut self, first: FileId, then: FileId) -> Result<(), FsError> {
        if first == then || self.all_before(first).contains(&then) {
            return Err(FsError::OrderCycle { first, then });
        }
        self.before.entry(then).or_default().insert(first);
        Ok(())
    }

    /// Forgets a file. No other file has to wait for it from now on.
    pub(super) fn forget(&mut self, file: FileId) {
        self.before.remove(&file);
        self.before.values_mut().for_each(|before| {
            before.remove(&file);
        });
        self.before.retain(|_, before| !before.is_empty());
    }

    /// Whether blocks of these files may be in the same request, where one can arrive without the other.
    pub(super) fn may_join(&self, one: FileId, other: FileId) -> bool {
        let free = one == other || self.before.is_empty();
        free || !self.all_before(one).contains(&other) && !self.all_before(other).contains(&one)
    }

    /// How many files must be written one after the other before this one.
    pub(super) fn level(&self, file: FileId) -> usize {
        self.before.get(&file).into_iter().flatten().map(|first| 1 + self.level(*first)).max().unwrap_or(0)
    }
}
