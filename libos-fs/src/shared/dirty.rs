//! Blocks that were written to and are not on the device, or not durable there.
//!
//! A dirty block that had to make room is *displaced*: its contents wait here until they are written. That is
//! a short time, unless the device fails: then no core takes room for another block before they are.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;
use hyperexo_abi::Page;

/// A block and its place on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) block: u64,
    pub(super) disk: u64,
}

/// What is to be written, and what was written since the last flush.
///
/// Invariant: `by_disk` and `disk_of` hold the same pairs; a displaced block is dirty.
#[derive(Default)]
pub(super) struct Dirty {
    by_disk: BTreeMap<u64, u64>,
    disk_of: BTreeMap<u64, u64>,
    displaced: BTreeMap<u64, Box<Page>>,
    /// By place: blocks written since the last flush.
    unflushed: BTreeMap<u64, u64>,
    /// Contents that should have been written are gone.
    lost: bool,
}

impl Dirty {
    /// Whether a block is dirty.
    pub(super) fn contains(&self, block: u64) -> bool {
        self.disk_of.contains_key(&block)
    }

    /// A block is dirty, and belongs at this place.
    pub(super) fn insert(&mut self, block: u64, disk: u64) {
        if let Some(old) = self.disk_of.insert(block, disk) {
            self.by_disk.remove(&old);
        }
        self.by_disk.insert(disk, block);
    }

    /// Dirty blocks.
    pub(super) fn len(&self) -> usize {
        self.by_disk.len()
    }

    /// A dirty block had to make room.
    pub(super) fn shelter(&mut self, block: u64, page: Box<Page>) {
        self.displaced.insert(block, page);
    }

    /// The contents of a displaced block.
    pub(super) fn sheltered(&self, block: u64) -> Option<&Page> {
        self.displaced.get(&block).map(|page| &**page)
    }

    /// Takes the contents of a displaced block, which has a frame again.
    pub(super) fn take_sheltered(&mut self, block: u64) -> Option<Box<Page>> {
        self.displaced.remove(&block)
    }

    /// A displaced block of which `may_go` holds, and its place.
    pub(super) fn displaced(&self, may_go: impl Fn(u64) -> bool) -> Option<Placed> {
        let block = self.displaced.keys().copied().find(|block| may_go(*block))?;
        Some(Placed { block, disk: *self.disk_of.get(&block)? })
    }

    /// A dirty block and its dirty neighbours on the device, at most `most` in all, of which `may_go` holds.
    pub(super) fn around(&self, disk: u64, most: u64, may_go: impl Fn(u64) -> bool) -> Vec<Placed> {
        let at = |disk: u64| {
            let block = self.by_disk.get(&disk).copied().filter(|block| may_go(*block))?;
            Some(Placed { block, disk })
        };
        let floor = disk.saturating_sub(most - 1);
        let first = (floor..disk).rev().take_while(|disk| at(*disk).is_some()).last().unwrap_or(disk);
        (first..first.saturating_add(most)).map_while(at).collect()
    }

    /// The dirty blocks from a place on of which `may_go` holds, as far as they are adjacent there, at most
    /// `most`.
    pub(super) fn run_from(&self, disk: u64, most: usize, may_go: impl Fn(u64) -> bool) -> Vec<Placed> {
        let mut run: Vec<Placed> = Vec::new();
        for (&disk, &block) in self.by_disk.range(disk..) {
            let adjacent = run.last().is_none_or(|last| last.disk + 1 == disk);
            match (may_go(block), run.is_empty()) {
                (true, _) if adjacent && run.len() < most => run.push(Placed { block, disk }),
                (false, true) => {}
                _ => break,
            }
        }
        run
    }

    /// Blocks have been written to their places.
    pub(super) fn written(&mut self, blocks: &[Placed]) {
        for Placed { block, disk } in blocks {
            if self.disk_of.get(block) == Some(disk) {
                self.disk_of.remove(block);
                self.by_disk.remove(disk);
                self.displaced.remove(block);
            }
            self.unflushed.insert(*disk, *block);
        }
    }

    /// Contents are gone, or may have been written or not.
    pub(super) fn lose(&mut self) {
        self.lost = true;
    }

    /// Whether contents that should have been written are lost.
    pub(super) fn has_lost(&self) -> bool {
        self.lost
    }

    /// A flush has ended. If it failed, the device may have dropped the writes before it: blocks are dirty
    /// again, if they are `in_memory`, and else lost.
    pub(super) fn flushed(&mut self, ok: bool, in_memory: impl Fn(u64) -> bool) {
        for (disk, block) in core::mem::take(&mut self.unflushed) {
            match self.disk_of.get(&block) {
                _ if ok => {}
                // It is to be written anyhow.
                Some(_) => {}
                None if in_memory(block) => self.insert(block, disk),
                None => self.lost = true,
            }
        }
    }

    /// Nobody asks for the blocks of a range any more. Returns how many were dirty.
    pub(super) fn forget(&mut self, blocks: Range<u64>) -> u64 {
        let gone: Vec<(u64, u64)> =
            self.disk_of.range(blocks.clone()).map(|(block, disk)| (*block, *disk)).collect();
        for (block, disk) in &gone {
            self.disk_of.remove(block);
            self.by_disk.remove(disk);
            self.displaced.remove(block);
        }
        self.unflushed.retain(|_, block| !blocks.contains(block));
        gone.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::zeroed_page;

    #[test]
    fn neighbours_go_together() {
        let mut dirty = Dirty::default();
        for (block, disk) in [(1, 10), (2, 11), (9, 12), (3, 14)] {
            dirty.insert(block, disk);
        }
        let blocks = |run: Vec<Placed>| run.iter().map(|placed| placed.block).collect::<Vec<_>>();
        assert_eq!(blocks(dirty.around(11, 8, |_| true)), [1, 2, 9]);
        assert_eq!(blocks(dirty.around(11, 2, |_| true)), [1, 2]);
        assert_eq!(blocks(dirty.around(12, 8, |block| block != 2)), [9]);
        assert_eq!(blocks(dirty.run_from(0, 8, |block| block != 1)), [2, 9]);
        assert_eq!(blocks(dirty.run_from(13, 8, |_| true)), [3]);
        dirty.insert(9, 13);
        assert_eq!(blocks(dirty.around(13, 8, |_| true)), [9, 3]);
    }

    #[test]
    fn what_a_failed_flush_dropped_is_dirty_again_or_lost() {
        let mut dirty = Dirty::default();
        dirty.insert(1, 10);
        dirty.shelter(1, zeroed_page());
        assert_eq!(dirty.displaced(|_| true), Some(Placed { block: 1, disk: 10 }));
        dirty.written(&[Placed { block: 1, disk: 10 }]);
        assert!(!dirty.contains(1) && dirty.sheltered(1).is_none());
        dirty.flushed(false, |_| true);
        assert!(dirty.contains(1) && !dirty.has_lost());
        dirty.written(&[Placed { block: 1, disk: 10 }]);
        dirty.flushed(true, |_| false);
        dirty.flushed(false, |_| false);
        assert!(!dirty.has_lost(), "it was durable");
        dirty.insert(2, 20);
        dirty.written(&[Placed { block: 2, disk: 20 }]);
        assert_eq!(dirty.forget(2..3), 0);
        dirty.flushed(false, |_| false);
        assert!(!dirty.has_lost(), "nobody asks for it");
        dirty.insert(2, 20);
        dirty.written(&[Placed { block: 2, disk: 20 }]);
        dirty.flushed(false, |_| false);
        assert!(dirty.has_lost());
    }
}
