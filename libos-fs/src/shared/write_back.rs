//! From the cache to the device.

use super::Shared;
use super::desk::{Desk, Purpose, Submitted, Wish};
use super::dirty::Placed;
use crate::cache::ReplacementPolicy;
use crate::device::{DeviceError, Finished, Operation};
use crate::error::FsError;
use crate::lock::MutexGuard;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use hyperexo_abi::Page;

impl<P: ReplacementPolicy> Shared<P> {
    /// Writes the blocks that had to make room, and their dirty neighbours on the device.
    pub(super) fn write_displaced(&self) -> Result<(), FsError> {
        self.write_displaced_but(None)
    }

    /// The same without the block that has just been written to, and may be again at once.
    pub(super) fn write_displaced_but(&self, spared: Option<u64>) -> Result<(), FsError> {
        self.collect();
        loop {
            let mut desk = self.desk.lock();
            let idle = |block| Some(block) != spared && !desk.is_on_its_way(block);
            let Some(placed) = desk.dirty.displaced(idle) else { return Ok(()) };
            let run = desk.dirty.around(placed.disk, self.max_request_blocks, idle);
            match self.submit_write(&mut desk, &run) {
                Submitted::OnItsWay(tag) => {
                    drop(desk);
                    self.finish_write(tag, &run)?;
                }
                other => self.not_submitted(desk, other, &run)?,
            }
        }
    }

    /// The same; what could not be written is still displaced, and who takes room next will be told.
    pub(super) fn try_write_displaced(&self) {
        let _ = self.write_displaced();
    }

    fn submit_write(&self, desk: &mut Desk, run: &[Placed]) -> Submitted {
        let mut buffers: Vec<Box<Page>> = Vec::with_capacity(run.len());
        for Placed { block, .. } in run {
            let mut page = desk.page();
            match (desk.dirty.sheltered(*block), self.index.peek(*block)) {
                (Some(shelter), _) => page.0.copy_from_slice(&shelter.0),
                (None, Some(frame)) => {
                    self.frames.copy(frame as usize, *block, 0, &mut page.0);
                }
                (None, None) => unreachable!("a dirty block is in a frame or displaced"),
            }
            if let Ok(metadata) = self.names.changeable() {
                let (file, number) = crate::cache::block_of(*block);
                metadata.write().set_checksum(file, number, crc32fast::hash(&page.0));
            }
            buffers.push(page);
        }
        let (disk, purpose) = (run[0].disk, Purpose::Write(run.to_vec()));
        let submitted =
            desk.submit(Wish { operation: Operation::Write, disk, buffers, purpose, ahead: 0, owned: true });
        if matches!(submitted, Submitted::OnItsWay(_)) {
            self.counters.write_requests.fetch_add(1, Relaxed);
        }
        submitted
    }

    /// Waits for room in the queue, or says why a write was refused.
    fn not_submitted(
        &self,
        mut desk: MutexGuard<'_, Desk>,
        submitted: Submitted,
        run: &[Placed],
    ) -> Result<(), FsError> {
        match submitted {
            Submitted::OnItsWay(_) => Ok(()),
            Submitted::Full { completions, buffers } => {
                desk.give_back(buffers);
                self.wait_for_room(desk, completions, &self.sleep.waker());
                Ok(())
            }
            Submitted::Refused(error, buffers) => {
                desk.give_back(buffers);
                self.counters.write_errors.fetch_add(1, Relaxed);
                Err(write_error(error, run))
            }
        }
    }

    /// Waits for the end of a write, and takes note of it.
    fn finish_write(&self, tag: u64, run: &[Placed]) -> Result<(), FsError> {
        let Finished { buffers, result } = self.outcome(tag, &self.sleep.waker());
        let mut desk = self.desk.lock();
        match result {
            Ok(()) => {
                desk.dirty.written(run);
                self.counters.blocks_written.fetch_add(run.len() as u64, Relaxed);
            }
            Err(error) => {
                self.counters.write_errors.fetch_add(1, Relaxed);
                if error == DeviceError::Timeout {
                    // The device may still write it, or not.
                    desk.dirty.lose();
                }
            }
        }
        let wakes = desk.land(tag, buffers);
        drop(desk);
        wakes.wake();
        result.map_err(|error| write_error(error, run))
    }

    /// Writes all dirty blocks, adjacent ones together, many requests at a time. Nobody makes others dirty
    /// meanwhile. After an error some are still dirty.
    pub(super) fn write_back(&self) -> Result<(), FsError> {
        let mut result = Ok(());
        while result.is_ok() {
            let started = self.start_writes()?;
            let none = started.is_empty();
            for (tag, run) in started {
                let ended = self.finish_write(tag, &run);
                result = result.and(ended);
            }
            if none && !self.await_others_write() {
                break;
            }
        }
        result?;
        if self.desk.lock().dirty.has_lost() { Err(FsError::LostWrite) } else { Ok(()) }
    }

    /// Waits for a write that another core has on its way. `false` if there is none, and nothing is dirty.
    fn await_others_write(&self) -> bool {
        let desk = self.desk.lock();
        match desk.any_write() {
            Some(tag) => {
                self.wait_for(desk, tag, &self.sleep.waker());
                true
            }
            None => desk.dirty.len() > 0,
        }
    }

    /// Submits writes until all that is dirty is on its way, or the queue is full.
    fn start_writes(&self) -> Result<Vec<(u64, Vec<Placed>)>, FsError> {
        let mut started = Vec::new();
        let mut from = 0;
        loop {
            let mut desk = self.desk.lock();
            let idle = |block| !desk.is_on_its_way(block);
            let run = desk.dirty.run_from(from, self.max_request_blocks as usize, idle);
            let Some(last) = run.last() else { return Ok(started) };
            from = last.disk + 1;
            match self.submit_write(&mut desk, &run) {
                Submitted::OnItsWay(tag) => started.push((tag, run)),
                Submitted::Full { buffers, .. } if !started.is_empty() => {
                    desk.give_back(buffers);
                    return Ok(started);
                }
                Submitted::Refused(error, buffers) if !started.is_empty() => {
                    desk.give_back(buffers);
                    let (operation, block, blocks) = (Operation::Write, run[0].disk, run.len() as u64);
                    drop(desk);
                    for (tag, run) in started {
                        let _ = self.finish_write(tag, &run);
                    }
                    return Err(FsError::Device { operation, block, blocks, error });
                }
                other => {
                    self.not_submitted(desk, other, &run)?;
                    from = 0;
                }
            }
        }
    }
}

fn write_error(error: DeviceError, run: &[Placed]) -> FsError {
    let (block, blocks) = (run.first().map_or(0, |placed| placed.disk), run.len() as u64);
    FsError::Device { operation: Operation::Write, block, blocks, error }
}
