//! When written blocks go to the device, and in which order.
//!
//! Written blocks go there when they are replaced and when the file system commits. A [`WriteBack`] policy
//! can send them earlier, while the application computes; [`BufferCache::write_before`] says which must not
//! go before others.

use super::BufferCache;
use super::state::{Condition, State};
use crate::{FileId, FsError};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

/// Most requests on their way while the policy can start another one.
const DEPTH: usize = 4;

/// What a write-back policy is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirtyBlocks {
    /// Blocks that must be written before they can go.
    pub dirty: usize,
    /// Blocks that the cache may hold.
    pub capacity: usize,
    /// References since the oldest of them was first written to.
    pub oldest_references: u64,
}

/// A write-back policy. It is asked after each write of the application; what it asks for is written oldest
/// first, with dirty neighbours in the same request, and not waited for. If a write fails its blocks stay
/// dirty.
pub trait WriteBack {
    /// Name in reports: lower case, one word.
    fn name(&self) -> &'static str;
    /// Whether the oldest dirty block should be written now.
    fn is_due(&mut self, blocks: &DirtyBlocks) -> bool;
}

/// Writes nothing before it has to be: blocks of files that are removed in time are never written.
pub struct OnReplacement;

impl WriteBack for OnReplacement {
    fn name(&self) -> &'static str {
        "on-replacement"
    }

    fn is_due(&mut self, _: &DirtyBlocks) -> bool {
        false
    }
}

/// Writes blocks that have been dirty for so many references. (UNIX's `update` counted seconds; a unikernel
/// may have no clock.)
pub struct ByAge(pub u64);

impl WriteBack for ByAge {
    fn name(&self) -> &'static str {
        "age"
    }

    fn is_due(&mut self, blocks: &DirtyBlocks) -> bool {
        blocks.oldest_references >= self.0
    }
}

/// Writes while more than so many percent of the cache are dirty: what Linux calls the background ratio.
pub struct ByRatio(pub usize);

impl WriteBack for ByRatio {
    fn name(&self) -> &'static str {
        "ratio"
    }

    fn is_due(&mut self, blocks: &DirtyBlocks) -> bool {
        blocks.dirty * 100 > blocks.capacity * self.0
    }
}

/// The write-back policies that come with the library.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WriteBackKind {
    /// [`OnReplacement`].
    #[default]
    OnReplacement,
    /// [`ByAge`], of 4096 references.
    Age,
    /// [`ByRatio`], of 10 percent.
    Ratio,
}

impl WriteBackKind {
    /// All of them.
    pub const ALL: [WriteBackKind; 3] =
        [WriteBackKind::OnReplacement, WriteBackKind::Age, WriteBackKind::Ratio];

    /// Its name, which [`WriteBackKind::from_str`] understands.
    pub fn name(self) -> &'static str {
        match self {
            WriteBackKind::OnReplacement => "on-replacement",
            WriteBackKind::Age => "age",
            WriteBackKind::Ratio => "ratio",
        }
    }

    /// A policy of this kind.
    pub fn build(self) -> Box<dyn WriteBack> {
        match self {
            WriteBackKind::OnReplacement => Box::new(OnReplacement),
            WriteBackKind::Age => Box::new(ByAge(4096)),
            WriteBackKind::Ratio => Box::new(ByRatio(10)),
        }
    }
}

impl From<WriteBackKind> for Box<dyn WriteBack> {
    fn from(kind: WriteBackKind) -> Box<dyn WriteBack> {
        kind.build()
    }
}

/// No write-back policy has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownWriteBack;

impl fmt::Display for UnknownWriteBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown write-back, there are: on-replacement, age, ratio")
    }
}

impl core::error::Error for UnknownWriteBack {}

impl FromStr for WriteBackKind {
    type Err = UnknownWriteBack;

    fn from_str(name: &str) -> Result<WriteBackKind, UnknownWriteBack> {
        WriteBackKind::ALL.into_iter().find(|kind| kind.name() == name).ok_or(UnknownWriteBack)
    }
}

/// Which files must be on stable storage before others are written.
#[derive(Default)]
pub(super) struct WriteOrder {
    /// By file: those that go before it. Without cycles.
    before: BTreeMap<FileId, BTreeSet<FileId>>,
}

impl WriteOrder {
    /// All files that go before a file, directly or not.
    fn all_before(&self, file: FileId) -> BTreeSet<FileId> {
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

    fn add(&mut self, first: FileId, then: FileId) -> Result<(), FsError> {
        if first == then || self.all_before(first).contains(&then) {
            return Err(FsError::OrderCycle { first, then });
        }
        self.before.entry(then).or_default().insert(first);
        Ok(())
    }

    /// Forgets a file. What had to wait for it need not any more.
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
    fn level(&self, file: FileId) -> usize {
        self.before.get(&file).into_iter().flatten().map(|first| 1 + self.level(*first)).max().unwrap_or(0)
    }
}

impl State {
    /// The oldest dirty block, if it should be written now by the policy. Those that are being written count
    /// as clean.
    fn due(&mut self) -> Option<usize> {
        let slots = &self.slots;
        let is_waiting = |slot: &usize| slots[*slot].condition == Condition::Resident;
        let oldest = self.dirtied.iter().find(is_waiting)?;
        let writing = self.dirtied.iter().take_while(|slot| !is_waiting(slot)).count();
        let blocks = DirtyBlocks {
            dirty: self.dirty.len().saturating_sub(writing),
            capacity: self.capacity,
            oldest_references: self.statistics.references.saturating_sub(slots[oldest].dirty_since),
        };
        self.write_back.is_due(&blocks).then_some(oldest)
    }

    /// Dirty blocks in the order of their places, cut into requests: adjacent blocks together, where their
    /// files allow it. Only of files that `wanted`.
    fn dirty_runs(&self, most: usize, wanted: impl Fn(FileId) -> bool) -> Vec<Vec<usize>> {
        let mut runs: Vec<Vec<usize>> = Vec::new();
        let mut last: Option<(u64, FileId)> = None;
        for (&disk, &slot) in &self.dirty {
            let file = self.slots[slot].key.0;
            if !wanted(file) {
                continue;
            }
            let joins = last
                .is_some_and(|(before, other)| before + 1 == disk && self.write_order.may_join(file, other));
            match runs.last_mut() {
                Some(run) if joins && run.len() < most => run.push(slot),
                _ => runs.push(Vec::from([slot])),
            }
            last = Some((disk, file));
        }
        runs
    }

    /// Whether blocks of a file were written and not made durable since.
    fn is_unflushed(&self, files: &BTreeSet<FileId>) -> bool {
        self.unflushed.values().any(|key| files.contains(&key.0))
    }

    /// A flush has succeeded, or failed: then nobody knows what became of the writes before it, and they
    /// count as not having happened.
    pub(super) fn flushed(&mut self, ok: bool) {
        for (disk, key) in core::mem::take(&mut self.unflushed) {
            if ok {
                continue;
            }
            match self.index.get(&key).copied() {
                // It has been written elsewhere since.
                Some(slot) if self.slots[slot].disk != disk => {}
                Some(slot) if self.slots[slot].in_a_pool() => self.set_dirty(slot),
                _ => self.lost_dirty = true,
            }
        }
    }
}

impl BufferCache {
    /// Chooses another write-back policy.
    pub fn set_write_back(&self, policy: impl Into<Box<dyn WriteBack>>) {
        self.state.borrow_mut().write_back = policy.into();
    }

    /// From now on no block of the file `then` is written to the device before all that was written to the
    /// file `first` until then is there, and durable: a database's log before its data (M. Stonebraker,
    /// "Operating system support for database management", CACM 24(7), 1981, calls it selected force-out).
    /// Holds until one of the files is removed.
    ///
    /// Costs a flush whenever a block of `then` is written while `first` is not durable.
    ///
    /// # Errors
    /// [`FsError::OrderCycle`] if `first` has to wait for `then` already, or is the same.
    pub fn write_before(&self, first: impl Into<FileId>, then: impl Into<FileId>) -> Result<(), FsError> {
        self.state.borrow_mut().write_order.add(first.into(), then.into())
    }

    /// Starts to write what is due. Does not wait, but for what has to be durable before.
    pub(super) fn write_behind(&self) -> Result<(), FsError> {
        for _ in 0..DEPTH {
            let due = self.state.borrow_mut().due();
            let Some(slot) = due else { return Ok(()) };
            self.settle_finished();
            if self.flights.borrow().len() >= DEPTH {
                return Ok(());
            }
            let slots = self.with_neighbours(slot);
            self.force_before(&slots)?;
            let state = self.state.borrow();
            let still = slots
                .iter()
                .all(|slot| state.slots[*slot].dirty && state.slots[*slot].condition == Condition::Resident);
            drop(state);
            if !still {
                return Ok(());
            }
            self.start_write(slots);
        }
        Ok(())
    }

    /// Waits for all writes on their way. Those that failed are still dirty.
    pub(super) fn finish_writes(&self) {
        loop {
            let flights = self.flights.borrow();
            let is_write = |flight: &super::transfer::Flight| flight.operation == crate::Operation::Write;
            let tag = flights.iter().find(|(_, flight)| is_write(flight)).map(|(tag, _)| *tag);
            drop(flights);
            let Some(tag) = tag else { return };
            self.finish(tag);
        }
    }

    /// Makes durable what must be before blocks in these slots are written.
    pub(super) fn force_before(&self, slots: &[usize]) -> Result<(), FsError> {
        let before = {
            let state = self.state.borrow();
            if state.write_order.before.is_empty() {
                return Ok(());
            }
            let files: BTreeSet<FileId> = slots.iter().map(|slot| state.slots[*slot].key.0).collect();
            files.into_iter().flat_map(|file| state.write_order.all_before(file)).collect::<BTreeSet<_>>()
        };
        if before.is_empty() {
            return Ok(());
        }
        self.finish_writes();
        self.write_files(|file| before.contains(&file))?;
        if self.state.borrow().is_unflushed(&before) { self.flush() } else { Ok(()) }
    }

    /// Writes all dirty blocks of some files, what goes before others first and durably.
    fn write_files(&self, wanted: impl Fn(FileId) -> bool) -> Result<(), FsError> {
        let most = self.queue.max_request_blocks();
        let levels: BTreeMap<usize, BTreeSet<FileId>> = {
            let state = self.state.borrow();
            let mut levels: BTreeMap<usize, BTreeSet<FileId>> = BTreeMap::new();
            for slot in state.dirty.values() {
                let file = state.slots[*slot].key.0;
                if wanted(file) {
                    levels.entry(state.write_order.level(file)).or_default().insert(file);
                }
            }
            levels
        };
        for files in levels.values() {
            let (runs, must_flush) = {
                let state = self.state.borrow();
                let before = files.iter().flat_map(|file| state.write_order.all_before(*file)).collect();
                let must_flush = state.is_unflushed(&before);
                (state.dirty_runs(most, |file| files.contains(&file)), must_flush)
            };
            if must_flush {
                self.flush()?;
            }
            for run in runs {
                self.start_write(run);
            }
            if let Some(error) = self.finish_all() {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Writes all dirty blocks, adjacent ones together, many requests at a time. After an error some are
    /// still dirty.
    pub(crate) fn write_back(&self) -> Result<(), FsError> {
        self.finish_writes();
        self.write_files(|_| true)?;
        if self.state.borrow().lost_dirty { Err(FsError::LostWrite) } else { Ok(()) }
    }
}
