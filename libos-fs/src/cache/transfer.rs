//! Requests on their way between the cache and the device, room for them, and write-back. Nothing is borrowed
//! while waiting.

use super::BufferCache;
use super::state::{Condition, Key, State};
use crate::FsError;
use crate::device::{DeviceError, Finished, Operation, zeroed_page};
use alloc::vec::Vec;

/// A request on its way.
pub(super) struct Flight {
    pub(super) operation: Operation,
    /// First block on the device.
    pub(super) disk: u64,
    pub(super) slots: Vec<usize>,
    /// By slot. Of a read: what the contents must have; of a write: what they have.
    pub(super) checksums: Vec<Option<u32>>,
}

impl State {
    /// Takes note of the end of a read. Returns the error of its first block, if any.
    fn settle_read(&mut self, flight: &Flight, finished: Finished) -> Option<FsError> {
        let mut error_of_first = None;
        let mut pages = finished.buffers.into_iter();
        if finished.result.is_ok() {
            self.statistics.blocks_read += flight.slots.len() as u64;
        } else {
            self.statistics.read_errors += 1;
        }
        for (position, &slot) in flight.slots.iter().enumerate() {
            let page = pages.next();
            let disk = flight.disk + position as u64;
            let error = match (finished.result, &page) {
                (Err(error), _) => Some(flight.error(error)),
                (Ok(()), None) => Some(flight.error(DeviceError::Io)),
                (Ok(()), Some(page)) => {
                    let right = flight.checksums[position].is_none_or(|sum| crc32fast::hash(&page.0) == sum);
                    self.statistics.read_errors += u64::from(!right);
                    (!right).then_some(FsError::Checksum { block: disk })
                }
            };
            let kept_by_device = page.is_none();
            self.slots[slot].page = page;
            let wanted = self.index.get(&self.slots[slot].key) == Some(&slot);
            if error.is_none() && wanted {
                self.slots[slot].condition = Condition::Staged;
            } else {
                if wanted {
                    self.index.remove(&self.slots[slot].key);
                } else if error.is_none() {
                    self.statistics.staged_wasted += 1;
                }
                self.release_or_lose(slot, kept_by_device);
            }
            if position == 0 {
                error_of_first = error;
            }
        }
        error_of_first
    }

    /// Takes note of the end of a write. Blocks that were not written stay dirty.
    fn settle_write(&mut self, flight: &Flight, finished: Finished) -> Option<FsError> {
        let mut pages = finished.buffers.into_iter();
        match finished.result {
            Ok(()) => self.statistics.blocks_written += flight.slots.len() as u64,
            Err(_) => self.statistics.write_errors += 1,
        }
        for (position, &slot) in flight.slots.iter().enumerate() {
            self.slots[slot].condition = Condition::Resident;
            match pages.next() {
                Some(page) => self.slots[slot].page = Some(page),
                None => {
                    // The device may still write it, or not: nobody else has the contents.
                    self.lost_dirty = true;
                    self.set_clean(slot, false);
                    self.leave_pool(slot);
                    self.index.remove(&self.slots[slot].key);
                    self.release_or_lose(slot, true);
                    continue;
                }
            }
            if finished.result.is_ok() {
                self.set_clean(slot, false);
                self.unflushed.insert(self.slots[slot].disk, self.slots[slot].key);
                if let Some(checksum) = flight.checksums[position] {
                    self.written.insert(self.slots[slot].key, checksum);
                }
            }
        }
        finished.result.err().map(|error| flight.error(error))
    }

    fn release_or_lose(&mut self, slot: usize, kept_by_device: bool) {
        if kept_by_device {
            self.staged.remove(slot);
            self.slots[slot].condition = Condition::Lost;
        } else {
            self.release(slot);
        }
    }
}

impl Flight {
    fn error(&self, error: DeviceError) -> FsError {
        let (operation, block, blocks) = (self.operation, self.disk, self.slots.len() as u64);
        FsError::Device { operation, block, blocks, error }
    }
}

impl BufferCache {
    /// Takes note of a request that was submitted.
    pub(super) fn launch(&self, tag: u64, flight: Flight) {
        let state = &mut *self.state.borrow_mut();
        for &slot in &flight.slots {
            state.slots[slot].condition = match flight.operation {
                Operation::Read => Condition::Reading(tag),
                _ => Condition::Writing(tag),
            };
        }
        self.flights.borrow_mut().insert(tag, flight);
    }

    /// Waits for the end of a request of the cache. Returns the error of its first block, if any.
    pub(super) fn finish(&self, tag: u64) -> Option<FsError> {
        let finished = self.queue.wait_for(tag);
        self.settle(tag, finished)
    }

    /// Takes note of the end of a request of the cache. Returns the error of its first block, if any.
    fn settle(&self, tag: u64, finished: Finished) -> Option<FsError> {
        let flight = self.flights.borrow_mut().remove(&tag)?;
        let state = &mut *self.state.borrow_mut();
        match flight.operation {
            Operation::Read => state.settle_read(&flight, finished),
            _ => state.settle_write(&flight, finished),
        }
    }

    /// Takes note of the requests that have ended. Does not wait.
    pub(super) fn settle_finished(&self) {
        let tags: Vec<u64> = self.flights.borrow().keys().copied().collect();
        for tag in tags {
            if let Some(finished) = self.queue.take(tag) {
                self.settle(tag, finished);
            }
        }
    }

    /// Waits for everything in flight.
    pub(super) fn finish_all(&self) -> Option<FsError> {
        let mut first_error = None;
        loop {
            let tag = self.flights.borrow().keys().next().copied();
            let Some(tag) = tag else { return first_error };
            let write = self.flights.borrow().get(&tag).is_some_and(|f| f.operation == Operation::Write);
            let error = self.finish(tag);
            if write && first_error.is_none() {
                first_error = error;
            }
        }
    }

    /// A slot to fill, with block `missing` if it is for one: a vacant one, or that of a victim, which is
    /// written first if it is dirty.
    pub(super) fn take_slot(&self, missing: Option<Key>) -> Result<usize, FsError> {
        loop {
            let (victim, dirty) = {
                let state = &mut *self.state.borrow_mut();
                if let Some(slot) = state.take_vacant() {
                    return Ok(slot);
                }
                let victim = state.choose_victim(missing);
                (victim, victim.is_some_and(|victim| state.slots[victim.slot].dirty))
            };
            match victim {
                Some(victim) if dirty => {
                    let slot = victim.slot;
                    if let Some(error) = self.write_around(slot) {
                        return Err(error);
                    }
                    let state = &mut *self.state.borrow_mut();
                    if state.slots[slot].condition == Condition::Resident && !state.slots[slot].dirty {
                        state.evict(victim);
                        return Ok(slot);
                    }
                }
                Some(victim) => {
                    self.state.borrow_mut().evict(victim);
                    return Ok(victim.slot);
                }
                None => self.give_up_staging()?,
            }
        }
    }

    /// Makes a slot vacant when no resident block can go: drops the oldest staged block, or waits for a
    /// request.
    fn give_up_staging(&self) -> Result<(), FsError> {
        let is_staged = |state: &State, slot: usize| state.slots[slot].condition == Condition::Staged;
        let oldest = {
            let state = self.state.borrow();
            state.staged.iter().find(|slot| is_staged(&state, *slot))
        };
        if let Some(slot) = oldest {
            self.state.borrow_mut().drop_staged(slot);
            return Ok(());
        }
        let tag = self.flights.borrow().keys().next().copied();
        match tag {
            Some(tag) => {
                self.finish(tag);
                Ok(())
            }
            None => Err(FsError::NoBuffer { capacity: self.state.borrow().capacity }),
        }
    }

    /// Writes a dirty block and its dirty neighbours on the device, in one request, after what must be
    /// written before.
    fn write_around(&self, slot: usize) -> Option<FsError> {
        let slots = self.with_neighbours(slot);
        if let Err(error) = self.force_before(&slots) {
            return Some(error);
        }
        let ready = |slot: &usize| {
            let entry = &self.state.borrow().slots[*slot];
            entry.dirty && entry.condition == Condition::Resident
        };
        if !slots.iter().all(ready) {
            return None;
        }
        let tag = self.start_write(slots);
        self.finish(tag)
    }

    /// The slots of a dirty block and of its dirty neighbours on the device that may be written with it.
    pub(super) fn with_neighbours(&self, slot: usize) -> Vec<usize> {
        let state = self.state.borrow();
        let most = self.queue.max_request_blocks() as u64;
        let (disk, file) = (state.slots[slot].disk, state.slots[slot].key.0);
        let writable = |disk: &u64| {
            let other = state.dirty.get(disk).copied()?;
            let entry = &state.slots[other];
            let joins = state.write_order.may_join(file, entry.key.0);
            (joins && entry.condition == Condition::Resident).then_some(other)
        };
        let floor = disk.saturating_sub(most - 1);
        let first = (floor..disk).rev().take_while(|d| writable(d).is_some()).last().unwrap_or(disk);
        (first..first.saturating_add(most)).map_while(|disk| writable(&disk)).collect()
    }

    pub(super) fn start_write(&self, slots: Vec<usize>) -> u64 {
        let mut checksums = Vec::with_capacity(slots.len());
        let mut pages = Vec::with_capacity(slots.len());
        let disk = {
            let state = &mut *self.state.borrow_mut();
            for &slot in &slots {
                let page = state.slots[slot].page.take().unwrap_or_else(zeroed_page);
                checksums.push(Some(crc32fast::hash(&page.0)));
                pages.push(page);
            }
            state.statistics.write_requests += 1;
            state.slots[slots[0]].disk
        };
        let tag = self.queue.submit(Operation::Write, disk, pages);
        self.launch(tag, Flight { operation: Operation::Write, disk, slots, checksums });
        tag
    }
}
