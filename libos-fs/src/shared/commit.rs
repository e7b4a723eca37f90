//! Commits: everything that was written becomes permanent, at once or not at all. Who changes the volume
//! waits meanwhile; who reads does not.

use super::Shared;
use super::desk::{Purpose, Submitted, Wish};
use crate::cache::ReplacementPolicy;
use crate::device::{Finished, Operation};
use crate::error::FsError;
use crate::extent_fs::{Committing, Metadata, commit};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use hyperexo_abi::Page;

impl<P: ReplacementPolicy> Shared<P> {
    /// For an operation that begins now: if the program is to end, commits and ends it. Before the operation
    /// nothing of this core's is half done.
    #[inline]
    pub(super) fn look_for_the_end(&self) {
        if let Some(end) = self.end.as_deref().filter(|end| end.is_there()) {
            match self.commit_now() {
                Ok(()) => end.end(None),
                Err(error) => end.end(Some(&error)),
            }
        }
    }

    /// Makes all changes permanent. Nothing to do on a device that can't be written.
    pub(super) fn commit(&self) -> Result<(), FsError> {
        self.look_for_the_end();
        self.commit_now()
    }

    fn commit_now(&self) -> Result<(), FsError> {
        let Ok(metadata) = self.names.changeable() else { return Ok(()) };
        if self.read_only {
            return Ok(());
        }
        let _closed = self.changes.close(&*self.sleep);
        if metadata.read().commit_unknown {
            return Err(FsError::CommitUnknown);
        }
        self.write_back()?;
        commit(self)?;
        // Still with nobody inside who changes something.
        if let Some(end) = &self.end {
            end.has_something(false);
        }
        Ok(())
    }

    /// Sends a request that concerns no block of the cache, and waits for its end.
    fn request(&self, operation: Operation, disk: u64, buffers: Vec<Box<Page>>) -> Result<(), FsError> {
        let blocks = buffers.len() as u64;
        let failed = |error| FsError::Device { operation, block: disk, blocks, error };
        let waker = self.sleep.waker();
        let mut buffers = buffers;
        loop {
            let mut desk = self.desk.lock();
            let purpose = Purpose::Metadata;
            match desk.submit(Wish { operation, disk, buffers, purpose, ahead: 0, owned: true }) {
                Submitted::OnItsWay(tag) => {
                    drop(desk);
                    let Finished { buffers, result } = self.outcome(tag, &waker);
                    let wakes = self.desk.lock().land(tag, buffers);
                    wakes.wake();
                    return result.map_err(failed);
                }
                Submitted::Full { completions, buffers: back } => {
                    buffers = back;
                    self.wait_for_room(desk, completions, &waker);
                }
                Submitted::Refused(error, back) => {
                    desk.give_back(back);
                    return Err(failed(error));
                }
            }
        }
    }
}

impl<P: ReplacementPolicy> Committing for Shared<P> {
    fn with_metadata<R>(&self, change: impl FnOnce(&mut Metadata) -> R) -> R {
        match self.names.changeable() {
            Ok(metadata) => change(&mut metadata.write()),
            Err(_) => unreachable!("only what can be changed is committed"),
        }
    }

    fn write_metadata(&self, blocks: Vec<(u64, Box<Page>)>) -> Result<(), FsError> {
        let mut requests: Vec<(u64, Vec<Box<Page>>)> = Vec::new();
        for (block, page) in blocks {
            match requests.last_mut() {
                Some((first, pages))
                    if *first + pages.len() as u64 == block
                        && (pages.len() as u64) < self.max_request_blocks =>
                {
                    pages.push(page);
                }
                _ => requests.push((block, Vec::from([page]))),
            }
        }
        for (first, pages) in requests {
            let count = pages.len() as u64;
            self.counters.metadata_write_requests.fetch_add(1, Relaxed);
            let written = self.request(Operation::Write, first, pages);
            self.counters.write_errors.fetch_add(u64::from(written.is_err()), Relaxed);
            written?;
            self.counters.metadata_writes.fetch_add(count, Relaxed);
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), FsError> {
        let flushed = self.request(Operation::Flush, 0, Vec::new());
        self.counters.flushes.fetch_add(1, Relaxed);
        let desk = &mut *self.desk.lock();
        desk.dirty.flushed(flushed.is_ok(), |block| self.index.contains(block));
        flushed
    }
}
