//! Misses: one core reads a block, the others that want it sleep.

use super::Shared;
use super::desk::Submitted;
use crate::cache::{ReplacementPolicy, Run};
use crate::device::{DeviceError, Finished, Operation};
use crate::error::FsError;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use core::task::Waker;
use hyperexo_abi::Page;

impl<P: ReplacementPolicy> Shared<P> {
    /// Reads a block that was missing a moment ago, and as many of the blocks after it as are in `run` and
    /// missing too, and copies them to the caller: from `offset` in the first one on, as many bytes as `into`
    /// has room for.
    ///
    /// Returns how many bytes. None, if another core has brought the block meanwhile: it is to be looked up
    /// again.
    pub(super) fn fetch(
        &self,
        block: u64,
        run: &Run,
        offset: usize,
        into: &mut [u8],
    ) -> Result<usize, FsError> {
        let waker = self.sleep.waker();
        let Some((tag, count)) = self.start(block, run, &waker)? else { return Ok(0) };
        let Finished { buffers, result } = self.outcome(tag, &waker);
        let error =
            |error| FsError::Device { operation: Operation::Read, block: run.disk, blocks: count, error };
        let copied = match result {
            Ok(()) if buffers.len() as u64 == count => {
                self.take_in(block, run, &buffers, offset, into).ok_or(FsError::Checksum { block: run.disk })
            }
            Ok(()) => Err(error(DeviceError::Io)),
            Err(reason) => Err(error(reason)),
        };
        let wakes = self.desk.lock().land(tag, buffers);
        wakes.wake();
        self.errors.fetch_add(u64::from(copied.is_err()), Ordering::Relaxed);
        match copied {
            // A neighbour may be to blame: once more, alone.
            Err(FsError::Device { blocks: 2.., error, .. }) if error != DeviceError::Timeout => {
                let checksums = run.checksums.clone();
                self.fetch(block, &Run { disk: run.disk, count: 1, checksums }, offset, into)
            }
            copied => copied,
        }
    }

    /// Submits a request for a block and those after it that are missing too. Returns its tag, and how many
    /// blocks; nothing if the block is to be looked up again, after a sleep or at once.
    fn start(&self, block: u64, run: &Run, waker: &Waker) -> Result<Option<(u64, u64)>, FsError> {
        let mut desk = self.desk.lock();
        // Blocks come in under this lock: no other core fetches a block that is neither in nor on its way.
        if self.index.contains(block) {
            return Ok(None);
        }
        if let Some(tag) = desk.on_its_way(block) {
            desk.join(tag, waker.clone());
            drop(desk);
            self.waits.fetch_add(1, Ordering::Relaxed);
            self.sleep.sleep_until(&mut || self.desk.lock().has_landed(tag));
            return Ok(None);
        }
        let missing = |block: &u64| !self.index.contains(*block) && desk.on_its_way(*block).is_none();
        let count = 1 + (block + 1..block + run.count).take_while(missing).count() as u64;
        match desk.submit(run.disk, block, count, waker) {
            Submitted::OnItsWay(tag) => {
                self.requests.fetch_add(1, Ordering::Relaxed);
                Ok(Some((tag, count)))
            }
            Submitted::Full { completions } => {
                drop(desk);
                self.sleep.sleep_until(&mut || self.desk.lock().completions() != completions);
                Ok(None)
            }
            Submitted::Refused(error) => {
                self.errors.fetch_add(1, Ordering::Relaxed);
                Err(FsError::Device { operation: Operation::Read, block: run.disk, blocks: count, error })
            }
        }
    }

    /// Sleeps until a request has ended.
    fn outcome(&self, tag: u64, waker: &Waker) -> Finished {
        // Unknown requests count as landed. This one is known until it has landed.
        let mut found = Finished { buffers: Vec::new(), result: Err(DeviceError::Io) };
        self.sleep.sleep_until(&mut || {
            let (outcome, wakes) = self.desk.lock().outcome(tag, waker);
            wakes.wake();
            outcome.map(|outcome| found = outcome).is_some()
        });
        found
    }

    /// Copies blocks that have arrived to the caller and puts them into the cache, in order, up to the first
    /// one whose checksum is wrong. Returns how many bytes were copied; nothing if that was the very first
    /// block.
    fn take_in(
        &self,
        block: u64,
        run: &Run,
        pages: &[Box<Page>],
        offset: usize,
        into: &mut [u8],
    ) -> Option<usize> {
        let mut copied = 0;
        for (position, page) in pages.iter().enumerate() {
            let promised = run.checksums.as_ref().and_then(|sums| sums.get(position));
            if promised.is_some_and(|sum| crc32fast::hash(&page.0) != *sum) {
                return (position > 0).then_some(copied);
            }
            let from = &page.0[if position == 0 { offset } else { 0 }..];
            let bytes = from.len().min(into.len() - copied);
            into[copied..copied + bytes].copy_from_slice(&from[..bytes]);
            copied += bytes;
            self.keep(block + position as u64, page);
        }
        Some(copied)
    }

    /// Puts a block that was missing into the cache.
    fn keep(&self, block: u64, page: &Page) {
        let desk = &mut *self.desk.lock();
        self.frames.fill(desk.spare, block, page);
        desk.spare = match self.index.insert(block, desk.spare as u64) {
            Some((_, frame)) => frame as usize,
            None => {
                desk.used += 1;
                desk.used - 1
            }
        };
        self.misses.fetch_add(1, Ordering::Relaxed);
    }
}
