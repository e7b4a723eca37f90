//! Misses: one core reads a block, the others that want it sleep.

use super::Shared;
use super::desk::{Desk, Purpose, Submitted, Wish};
use crate::cache::{ReplacementPolicy, Run};
use crate::device::{DeviceError, Finished, Operation};
use crate::error::FsError;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use core::task::Waker;
use hyperexo_abi::Page;

/// What is wanted of a block that was missing a moment ago.
pub(super) struct Want {
    pub(super) block: u64,
    /// So many blocks from it on are asked for now, at least 1.
    pub(super) certain: u64,
    /// So many behind it should come ahead.
    pub(super) ahead: u64,
    /// Where in the block the caller's bytes begin.
    pub(super) offset: usize,
}

/// What became of it.
pub(super) enum Fetched {
    /// So many of the caller's bytes were copied, and a miss counted for each block.
    Copied(usize),
    /// It was in the cache, and all bytes of the block that the caller wants were copied.
    Hit,
    /// It is to be looked up again.
    Again,
    /// The device does not hold it.
    Hole,
}

/// What is to be done next.
enum Start {
    Done(Fetched),
    Reading(u64, Run),
}

impl<P: ReplacementPolicy> Shared<P> {
    /// Brings a block into the cache, with as many of those behind it as are wanted, missing and adjacent,
    /// and copies what is asked for to the caller: as many bytes as `into` has room for.
    pub(super) fn fetch(&self, want: &Want, into: &mut [u8]) -> Result<Fetched, FsError> {
        // What could not be written takes the room.
        self.write_displaced()?;
        let waker = self.sleep.waker();
        let (tag, run) = match self.start(want, into, &waker)? {
            Start::Done(fetched) => {
                self.try_write_displaced();
                return Ok(fetched);
            }
            Start::Reading(tag, run) => (tag, run),
        };
        let Finished { buffers, result } = self.outcome(tag, &waker);
        let (disk, blocks) = (run.disk, run.count);
        let error = |error| FsError::Device { operation: Operation::Read, block: disk, blocks, error };
        let copied = match result {
            Ok(()) if buffers.len() as u64 == run.count => {
                self.desk.lock().blocks_read += run.count;
                return self.arrived(tag, want, &run, buffers, into);
            }
            Ok(()) => Err(error(DeviceError::Io)),
            Err(reason) => Err(error(reason)),
        };
        let wakes = self.desk.lock().land(tag, buffers);
        wakes.wake();
        self.counters.read_errors.fetch_add(1, Relaxed);
        match copied {
            // A neighbour may be to blame: once more, alone.
            Err(FsError::Device { blocks: 2.., error, .. }) if error != DeviceError::Timeout => {
                self.fetch(&Want { certain: 1, ahead: 0, ..*want }, into)
            }
            other => other,
        }
    }

    /// Blocks have arrived: takes them in, and lets those go on who wait for them.
    fn arrived(
        &self,
        tag: u64,
        want: &Want,
        run: &Run,
        mut buffers: Vec<Box<Page>>,
        into: &mut [u8],
    ) -> Result<Fetched, FsError> {
        let certain = want.certain.min(run.count) as usize;
        let ahead = buffers.split_off(certain);
        let copied = self.take_in(want, run, &buffers, into);
        let wakes = {
            let desk = &mut *self.desk.lock();
            let sums = run.checksums.as_ref().and_then(|sums| sums.get(certain..));
            desk.put_in_staging(want.block + certain as u64, ahead, sums);
            let middle = (run.count / 2).max(certain as u64);
            desk.staging.set_goes_on(want.block + middle, want.block + run.count);
            desk.land(tag, buffers)
        };
        wakes.wake();
        self.counters.read_errors.fetch_add(u64::from(copied.is_none()), Relaxed);
        self.try_write_displaced();
        copied.map(Fetched::Copied).ok_or(FsError::Checksum { block: run.disk })
    }

    /// Finds a block that is somewhere in memory, waits for one that is on its way, or submits a request.
    fn start(&self, want: &Want, into: &mut [u8], waker: &Waker) -> Result<Start, FsError> {
        let block = want.block;
        let mut desk = self.desk.lock();
        if let Some(found) = self.find_in_memory(&mut desk, want, into) {
            return found.map(Start::Done);
        }
        if let Some(tag) = desk.on_its_way(block..block + 1) {
            self.counters.waits.fetch_add(1, Relaxed);
            self.wait_for(desk, tag, waker);
            return Ok(Start::Done(Fetched::Again));
        }
        let ahead = want.ahead.min(self.room_ahead(&mut desk));
        let most = want.certain.max(1 + ahead).min(self.max_request_blocks);
        let Some(mut run) = self.names.run(block, most) else { return Ok(Start::Done(Fetched::Hole)) };
        run.count = 1 + self.missing_from(&desk, block + 1, run.count - 1);
        let ahead = run.count.saturating_sub(want.certain);
        match self.submit_read(&mut desk, block, &run, ahead, true) {
            Submitted::OnItsWay(tag) => Ok(Start::Reading(tag, run)),
            Submitted::Full { completions, buffers } => {
                desk.give_back(buffers);
                self.wait_for_room(desk, completions, waker);
                Ok(Start::Done(Fetched::Again))
            }
            Submitted::Refused(error, buffers) => {
                desk.give_back(buffers);
                self.counters.read_errors.fetch_add(1, Relaxed);
                let (block, blocks) = (run.disk, run.count);
                Err(FsError::Device { operation: Operation::Read, block, blocks, error })
            }
        }
    }

    /// Looks for a block in the cache, in staging, and among those that had to make room and are not written.
    fn find_in_memory(
        &self,
        desk: &mut Desk,
        want: &Want,
        into: &mut [u8],
    ) -> Option<Result<Fetched, FsError>> {
        let (block, offset) = (want.block, want.offset);
        let bytes = into.len().min(hyperexo_abi::BLOCK_BYTES - offset);
        // Frames change under this lock: nobody writes there.
        if let Some(frame) = self.index.peek(block)
            && self.frames.copy(frame as usize, block, offset, &mut into[..bytes])
        {
            self.index.get(block);
            self.note_reference(block);
            return Some(Ok(Fetched::Hit));
        }
        let page = match self.take_from_memory(desk, block)? {
            Ok(page) => page,
            Err(error) => return Some(Err(error)),
        };
        into[..bytes].copy_from_slice(&page.0[offset..offset + bytes]);
        self.keep(desk, block, &page);
        desk.give_back([page]);
        Some(Ok(Fetched::Copied(bytes)))
    }

    /// Takes a block out of staging, or from among the displaced.
    pub(super) fn take_from_memory(&self, desk: &mut Desk, block: u64) -> Option<Result<Box<Page>, FsError>> {
        if let Some(page) = desk.dirty.take_sheltered(block) {
            self.counters.rescued.fetch_add(1, Relaxed);
            return Some(Ok(page));
        }
        let staged = desk.staging.take(block)?;
        if staged.checksum.is_some_and(|sum| crc32fast::hash(&staged.page.0) != sum) {
            desk.staged_wasted += 1;
            desk.give_back([staged.page]);
            self.counters.read_errors.fetch_add(1, Relaxed);
            // Once more, from the device.
            return None;
        }
        self.counters.staged_used.fetch_add(1, Relaxed);
        if let Some(next) = staged.goes_on {
            self.read_on(desk, next);
        }
        Some(Ok(staged.page))
    }

    /// Blocks from one on that are neither in memory nor on their way, `most` at most.
    fn missing_from(&self, desk: &Desk, block: u64, most: u64) -> u64 {
        let missing = |block: &u64| {
            let in_memory =
                self.index.contains(*block) || desk.staging.contains(*block) || desk.dirty.contains(*block);
            !in_memory && !desk.is_on_its_way(*block)
        };
        (block..block + most).take_while(missing).count() as u64
    }

    /// How many blocks may be read ahead now.
    fn room_ahead(&self, desk: &mut Desk) -> u64 {
        let stale = desk.staging.drop_stale(desk.misses);
        desk.staged_wasted += stale;
        let taken = desk.staging.len() as u64 + desk.on_their_way_ahead();
        (desk.staging.most() as u64).saturating_sub(taken)
    }

    /// Starts to fetch the blocks from one on for those who read in order. Does not wait, and does nothing if
    /// it would be a small request.
    fn read_on(&self, desk: &mut Desk, block: u64) {
        let most = self.room_ahead(desk).min(self.max_request_blocks);
        let wish = self.read_ahead().blocks(most, most);
        if wish == 0 || most < desk.staging.most() as u64 / 4 {
            return;
        }
        let count = self.missing_from(desk, block, wish);
        let Some(run) = (count > 0).then(|| self.names.run(block, count)).flatten() else { return };
        let submitted = self.submit_read(desk, block, &run, run.count, false);
        if let Submitted::Full { buffers, .. } | Submitted::Refused(_, buffers) = submitted {
            desk.give_back(buffers);
        }
    }

    fn submit_read(&self, desk: &mut Desk, block: u64, run: &Run, ahead: u64, owned: bool) -> Submitted {
        let buffers = (0..run.count).map(|_| desk.page()).collect();
        let purpose = Purpose::Fetch { block, checksums: run.checksums.clone() };
        let submitted =
            desk.submit(Wish { operation: Operation::Read, disk: run.disk, buffers, purpose, ahead, owned });
        if matches!(submitted, Submitted::OnItsWay(_)) {
            self.counters.read_requests.fetch_add(1, Relaxed);
        }
        submitted
    }

    /// Copies blocks that have arrived to the caller and puts them into the cache, in order, up to the first
    /// one whose checksum is wrong. Returns how many bytes were copied; nothing if that was the very first
    /// block.
    fn take_in(&self, want: &Want, run: &Run, pages: &[Box<Page>], into: &mut [u8]) -> Option<usize> {
        let mut copied = 0;
        for (position, page) in pages.iter().enumerate() {
            let promised = run.checksums.as_ref().and_then(|sums| sums.get(position));
            if promised.is_some_and(|sum| crc32fast::hash(&page.0) != *sum) {
                return (position > 0).then_some(copied);
            }
            let from = &page.0[if position == 0 { want.offset } else { 0 }..];
            let bytes = from.len().min(into.len() - copied);
            into[copied..copied + bytes].copy_from_slice(&from[..bytes]);
            copied += bytes;
            self.keep(&mut self.desk.lock(), want.block + position as u64, page);
        }
        Some(copied)
    }

    /// Puts a block that was missing into the cache. A dirty block that has to make room becomes displaced.
    pub(super) fn keep(&self, desk: &mut Desk, block: u64, page: &Page) {
        desk.misses += 1;
        self.note_reference(block);
        if self.index.contains(block) {
            return;
        }
        let frame = desk.fill_vacant(&self.frames, block, page);
        if let Some((old, frame)) = self.index.insert(block, frame as u64) {
            if desk.dirty.contains(old) {
                let mut shelter = desk.page();
                self.frames.copy(frame as usize, old, 0, &mut shelter.0);
                desk.dirty.shelter(old, shelter);
            }
            desk.vacate(frame as usize);
        }
    }
}
