//! Dirty blocks on their way to the device, and in which order.
//!
//! Written blocks go there when they are replaced, when the file system commits, and when the
//! [`WriteBack`] policy sends them; [`BufferCache::write_before`] says which must not go before others.

use super::transfer::BufferCache;
use crate::cache::policies::WriteBack;
use crate::error::FsError;
use crate::file_id::FileId;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Most requests on their way while the policy can start another one.
const DEPTH: usize = 4;

impl BufferCache {
    /// Chooses another write-back policy.
    pub fn set_write_back(&self, policy: impl Into<Box<dyn WriteBack>>) {
        self.state().set_write_back(policy.into());
    }

    /// From now on no block of the file `then` is written to the device before all that was written to the
    /// file `first` until then is there, and durable: a database's log before its data (M. Stonebraker,
    /// "Operating system support for database management", CACM 24(7), 1981, calls it selected force-out).
    /// Holds until one of the files is removed.
    ///
    /// Costs a flush whenever a block of `then` is written while `first` is not durable.
    ///
    /// # Errors
    ///
    /// [`FsError::OrderCycle`] if `first` has to wait for `then` already, or is the same.
    pub fn write_before(&self, first: impl Into<FileId>, then: impl Into<FileId>) -> Result<(), FsError> {
        self.state().write_before(first.into(), then.into())
    }

    /// Writes what is due by the write-back policy.
    pub(crate) fn after_write(&self) {
        // What could not be written is still dirty, and the next commit will say so.
        let _ = self.write_behind();
    }

    /// Starts to write what is due. Does not wait, but for what has to be durable before.
    fn write_behind(&self) -> Result<(), FsError> {
        for _ in 0..DEPTH {
            let due = self.state().due();
            let Some(slot) = due else { return Ok(()) };
            self.settle_finished();
            if self.in_flight() >= DEPTH {
                return Ok(());
            }
            match self.writable_around(slot)? {
                Some(slots) => self.start_write(slots),
                None => return Ok(()),
            };
        }
        Ok(())
    }

    /// Writes a dirty block and its dirty neighbours on the device, in one request, after what must be
    /// written before.
    pub(super) fn write_around(&self, slot: usize) -> Result<(), FsError> {
        let Some(slots) = self.writable_around(slot)? else { return Ok(()) };
        let tag = self.start_write(slots);
        self.finish(tag).map_or(Ok(()), Err)
    }

    /// The slots of a dirty block and of its dirty neighbours on the device, when all that must be written
    /// before them is durable. `None` if one of them was written or dropped meanwhile.
    fn writable_around(&self, slot: usize) -> Result<Option<Vec<usize>>, FsError> {
        let slots = self.look().with_neighbours(slot, self.max_request_blocks() as u64);
        self.force_before(&slots)?;
        let writable = slots.iter().all(|slot| self.look().is_writable(*slot));
        Ok(writable.then_some(slots))
    }

    /// Makes durable what must be before blocks in these slots are written.
    fn force_before(&self, slots: &[usize]) -> Result<(), FsError> {
        let before = self.look().files_before(slots);
        if before.is_empty() {
            return Ok(());
        }
        self.finish_writes();
        self.write_files(|file| before.contains(&file))?;
        let must_flush = self.look().dirty().is_unflushed(&before);
        if must_flush { self.flush() } else { Ok(()) }
    }

    /// Writes all dirty blocks of some files, what goes before others first and durably.
    fn write_files(&self, wanted: impl Fn(FileId) -> bool) -> Result<(), FsError> {
        let most = self.max_request_blocks();
        let levels = self.look().dirty_levels(wanted);
        for files in levels.values() {
            let (runs, must_flush) = {
                let state = self.look();
                let dirty = state.dirty();
                let before = files.iter().flat_map(|file| dirty.order().all_before(*file)).collect();
                (state.dirty_runs(most, files), dirty.is_unflushed(&before))
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
        if self.look().has_lost_dirty() { Err(FsError::LostWrite) } else { Ok(()) }
    }
}
