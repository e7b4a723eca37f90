//! Blocks whose contents the device does not have, or has not made durable.
//!
//! Invariant: `by_disk` and `oldest` hold the same slots, and each of these slots holds a resident block, at
//! this place on the device.

use super::write_order::WriteOrder;
use crate::cache::key::Key;
use crate::cache::order::Order;
use crate::file_id::FileId;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Range;

/// What is to be written, what was, and in which order.
#[derive(Default)]
pub(super) struct Dirty {
    /// Dirty slots by their block on the device.
    by_disk: BTreeMap<u64, usize>,
    /// Dirty slots in the order in which they became so.
    oldest: Order,
    /// By slot: how many references there had been when it became dirty.
    since: Vec<u64>,
    order: WriteOrder,
    /// By block on the device: what was written there since the last flush.
    unflushed: BTreeMap<u64, Key>,
    /// Checksums of blocks written to the device that the file system has not yet asked for.
    written: BTreeMap<Key, u32>,
}

impl Dirty {
    /// Dirty blocks.
    pub(super) fn len(&self) -> usize {
        self.by_disk.len()
    }

    /// Whether a slot is dirty.
    pub(super) fn contains(&self, slot: usize) -> bool {
        self.oldest.contains(slot)
    }

    /// A slot is dirty, with this place on the device, after so many references.
    pub(super) fn insert(&mut self, slot: usize, disk: u64, now: u64) {
        self.by_disk.insert(disk, slot);
        if self.oldest.contains(slot) {
            return;
        }
        self.oldest.push_back(slot);
        if slot >= self.since.len() {
            self.since.resize(slot + 1, 0);
        }
        self.since[slot] = now;
    }

    /// A slot is not dirty any more. Returns whether it was.
    pub(super) fn remove(&mut self, slot: usize, disk: u64) -> bool {
        let was_dirty = self.oldest.contains(slot);
        if was_dirty {
            self.oldest.remove(slot);
            self.by_disk.remove(&disk);
        }
        was_dirty
    }

    /// The dirty slots, from the one that became so first.
    pub(super) fn oldest_first(&self) -> impl Iterator<Item = usize> + '_ {
        self.oldest.iter()
    }

    /// How many references there had been when a slot became dirty.
    pub(super) fn since(&self, slot: usize) -> u64 {
        self.since.get(slot).copied().unwrap_or(0)
    }

    /// The order between files.
    pub(super) fn order(&self) -> &WriteOrder {
        &self.order
    }

    /// The order between files, to change it.
    pub(super) fn order_mut(&mut self) -> &mut WriteOrder {
        &mut self.order
    }

    /// Dirty slots in the order of their places, cut into requests of at most `most`: adjacent blocks
    /// together, where their files allow it. Only of files that `wanted`.
    pub(super) fn runs(
        &self,
        most: usize,
        file_in: impl Fn(usize) -> FileId,
        wanted: impl Fn(FileId) -> bool,
    ) -> Vec<Vec<usize>> {
        let mut runs: Vec<Vec<usize>> = Vec::new();
        let mut last: Option<(u64, FileId)> = None;
        for (&disk, &slot) in &self.by_disk {
            let file = file_in(slot);
            if !wanted(file) {
                continue;
            }
            let joins =
                last.is_some_and(|(before, other)| before + 1 == disk && self.order.may_join(file, other));
            match runs.last_mut() {
                Some(run) if joins && run.len() < most => run.push(slot),
                _ => runs.push(Vec::from([slot])),
            }
            last = Some((disk, file));
        }
        runs
    }

    /// A dirty slot at a place on the device and its neighbours there, at most `most` in all, as far as each
    /// `may_join` the first.
    pub(super) fn neighbours(&self, disk: u64, most: u64, may_join: impl Fn(usize) -> bool) -> Vec<usize> {
        let joining = |disk: &u64| self.by_disk.get(disk).copied().filter(|slot| may_join(*slot));
        let floor = disk.saturating_sub(most - 1);
        let first = (floor..disk).rev().take_while(|d| joining(d).is_some()).last().unwrap_or(disk);
        (first..first.saturating_add(most)).map_while(|disk| joining(&disk)).collect()
    }

    /// Files that `wanted` and that have dirty blocks, by how many files must be written before them.
    pub(super) fn levels(
        &self,
        file_in: impl Fn(usize) -> FileId,
        wanted: impl Fn(FileId) -> bool,
    ) -> BTreeMap<usize, BTreeSet<FileId>> {
        let mut levels: BTreeMap<usize, BTreeSet<FileId>> = BTreeMap::new();
        for file in self.by_disk.values().map(|slot| file_in(*slot)).filter(|file| wanted(*file)) {
            levels.entry(self.order.level(file)).or_default().insert(file);
        }
        levels
    }

    /// A block was written to a place on the device, with this checksum if there is one.
    pub(super) fn note_written(&mut self, key: Key, disk: u64, checksum: Option<u32>) {
        self.unflushed.insert(disk, key);
        if let Some(checksum) = checksum {
            self.written.insert(key, checksum);
        }
    }

    /// The checksum with which a block was last written, if the file system has not yet asked for it.
    pub(super) fn checksum(&self, key: Key) -> Option<u32> {
        self.written.get(&key).copied()
    }

    /// Checksums of the blocks written since the last call.
    pub(super) fn take_written(&mut self) -> BTreeMap<Key, u32> {
        core::mem::take(&mut self.written)
    }

    /// Whether blocks are dirty, or were written and the file system has not yet asked for their checksums.
    pub(super) fn has_news(&self) -> bool {
        !self.by_disk.is_empty() || !self.written.is_empty()
    }

    /// Whether blocks of these files were written and not made durable since.
    pub(super) fn is_unflushed(&self, files: &BTreeSet<FileId>) -> bool {
        self.unflushed.values().any(|key| files.contains(&key.0))
    }

    /// What was written since the last flush, by its place on the device. It counts as durable from now on.
    pub(super) fn take_unflushed(&mut self) -> BTreeMap<u64, Key> {
        core::mem::take(&mut self.unflushed)
    }

    /// Nobody asks for a block any more, which was at a place on the device.
    pub(super) fn forget(&mut self, key: Key, disk: u64) {
        self.written.remove(&key);
        self.unflushed.remove(&disk);
    }

    /// The same of all blocks of a range that were written.
    pub(super) fn forget_range(&mut self, file: FileId, blocks: &Range<u64>) {
        let of_range = self.written.range((file, blocks.start)..(file, blocks.end));
        let written: Vec<Key> = of_range.map(|(key, _)| *key).collect();
        for key in written {
            self.written.remove(&key);
        }
        self.unflushed.retain(|_, key| key.0 != file || !blocks.contains(&key.1));
    }
}
