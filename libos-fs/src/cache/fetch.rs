//! References: finding a block in memory or bringing it there, with what comes after it. Nothing is borrowed
//! while waiting.

use super::state::{Condition, Key, State, UNPLACED};
use super::transfer::Flight;
use super::{BufferCache, Reference};
use crate::device::{DeviceError, Operation, zeroed_page};
use crate::{FileId, FsError};
use alloc::vec::Vec;

/// Most requests of read-ahead that are started at once.
const REQUESTS_AHEAD: usize = 4;

/// Adjacent blocks on the device that hold adjacent blocks of a file.
pub(crate) struct Run {
    /// First block on the device.
    pub(crate) disk: u64,
    /// Number of blocks; at least 1.
    pub(crate) count: u64,
    /// CRC-32 of each block, if the format knows them.
    pub(crate) checksums: Option<Vec<u32>>,
}

/// Says where on the device a block of a file and at most a given number of blocks in all are, as far as they
/// are adjacent there. `None` for a block that the device does not hold: a hole, or beyond the end.
pub(crate) type Locate<'a> = &'a dyn Fn(FileId, u64, u64) -> Result<Option<Run>, FsError>;

/// A block that is about to be read.
pub(super) struct Incoming {
    pub(super) key: Key,
    /// The slot that was taken for it.
    pub(super) slot: usize,
    /// CRC-32 that it must have, if the format knows.
    pub(super) checksum: Option<u32>,
}

/// What a look at the index says.
enum Found {
    Resident(usize),
    Staged(usize),
    OnItsWay(u64),
    Absent,
}

impl State {
    fn find(&self, key: Key) -> Found {
        let Some(&slot) = self.index.get(&key) else { return Found::Absent };
        match self.slots[slot].condition {
            Condition::Resident => Found::Resident(slot),
            Condition::Reading(tag) | Condition::Writing(tag) => Found::OnItsWay(tag),
            _ => Found::Staged(slot),
        }
    }

    fn ask_read_ahead(&mut self, key: Key, limit: u64) -> u64 {
        if self.is_disclosed(key.0).is_some() {
            return 0;
        }
        let (FileId(file), block) = key;
        self.read_ahead.blocks_ahead(&Reference { file, block, limit }).min(limit)
    }
}

impl BufferCache {
    /// References a block and returns the slot in which it is resident now; `None` if it is a hole, which
    /// counts as no reference.
    ///
    /// `certain` blocks after it will be asked for next. `locate` is called only when something must be
    /// fetched, with nothing borrowed.
    pub(super) fn access(
        &self,
        key: Key,
        certain: u64,
        locate: Locate<'_>,
    ) -> Result<Option<usize>, FsError> {
        let mut fetched = false;
        loop {
            let found = self.state.borrow().find(key);
            match found {
                Found::Resident(slot) => {
                    {
                        let state = &mut *self.state.borrow_mut();
                        state.hit(slot);
                        state.ask_read_ahead(key, 0);
                    }
                    return Ok(Some(slot));
                }
                Found::Staged(slot) => {
                    let goes_on = self.state.borrow_mut().slots[slot].goes_on.take();
                    if let Some(next) = goes_on {
                        // First, while the block is still out of reach of policies: one that replaces what
                        // was used last would give up this very block.
                        self.read_on(key, next, locate)?;
                        continue;
                    }
                    let state = &mut *self.state.borrow_mut();
                    state.promote(slot);
                    if !fetched {
                        state.statistics.staged_used += 1;
                        state.ask_read_ahead(key, 0);
                    }
                    return Ok(Some(slot));
                }
                Found::OnItsWay(tag) => {
                    // If it fails, the block is absent next time round, and read by itself.
                    self.finish(tag);
                }
                Found::Absent => {
                    if !self.fetch(key, certain, locate)? {
                        return Ok(None);
                    }
                    fetched = true;
                }
            }
        }
    }

    /// References a block whose contents don't matter because all of it will be written. If it is not in
    /// memory it gets a page of zeros and no place on the device.
    pub(super) fn enter(&self, key: Key) -> Result<usize, FsError> {
        loop {
            let found = self.state.borrow().find(key);
            match found {
                Found::Resident(slot) => {
                    self.state.borrow_mut().hit(slot);
                    return Ok(slot);
                }
                Found::Staged(slot) => {
                    let state = &mut *self.state.borrow_mut();
                    state.promote(slot);
                    state.statistics.staged_used += 1;
                    return Ok(slot);
                }
                Found::OnItsWay(tag) => {
                    self.finish(tag);
                }
                Found::Absent => {
                    let slot = self.take_slot(Some(key))?;
                    let state = &mut *self.state.borrow_mut();
                    let entry = &mut state.slots[slot];
                    entry.key = key;
                    entry.disk = UNPLACED;
                    entry.dirty = false;
                    entry.goes_on = None;
                    entry.page.get_or_insert_with(zeroed_page).0.fill(0);
                    state.index.insert(key, slot);
                    state.statistics.allocated += 1;
                    state.promote(slot);
                    return Ok(slot);
                }
            }
        }
    }

    /// Brings a block that is not in memory to staging, along with what read-ahead and the caller want after
    /// it. `false` if it is a hole.
    fn fetch(&self, key: Key, certain: u64, locate: Locate<'_>) -> Result<bool, FsError> {
        let max_request = self.queue.max_request_blocks();
        let ahead = {
            let state = &mut *self.state.borrow_mut();
            state.drop_stale();
            let room =
                state.room_ahead(state.place_of(key.0).manager, REQUESTS_AHEAD * max_request - 1) as u64;
            let wish = state.ask_read_ahead(key, room.min(max_request as u64 - 1));
            wish.max(certain).min(room)
        };
        let Some(run) = locate(key.0, key.1, 1 + ahead)? else { return Ok(false) };
        let slots = self.take_slots(key, run.count, 1)?;
        let first = self.start_reads(key, &run, &slots, max_request);
        match first.and_then(|tag| self.finish(tag)) {
            // A neighbour may be to blame: once more, alone.
            Some(FsError::Device { blocks: 2.., error, .. }) if error != DeviceError::Timeout => {
                let slots = self.take_slots(key, 1, 1)?;
                let first = self.start_reads(key, &run, &slots, 1);
                first.and_then(|tag| self.finish(tag)).map_or(Ok(true), Err)
            }
            Some(error) => Err(error),
            None => Ok(true),
        }
    }

    /// Starts to fetch the blocks from `next` on, so that they have arrived when the reader gets there. `key`
    /// is the block that is being referenced. Does not wait for them, and does nothing if it would be a small
    /// request.
    fn read_on(&self, key: Key, next: u64, locate: Locate<'_>) -> Result<(), FsError> {
        let max_request = self.queue.max_request_blocks();
        let wish = {
            let state = &mut *self.state.borrow_mut();
            state.drop_stale();
            let room = state.room_ahead(state.place_of(key.0).manager, max_request);
            if room < max_request / 2 { 0 } else { state.ask_read_ahead(key, room as u64) }
        };
        let next = (key.0, next);
        if wish == 0 || self.state.borrow().index.contains_key(&next) {
            return Ok(());
        }
        let Some(run) = locate(next.0, next.1, wish)? else { return Ok(()) };
        let slots = self.take_slots(next, run.count, 0)?;
        self.start_reads(next, &run, &slots, max_request);
        Ok(())
    }

    /// Slots for as many blocks from `key` on as are not in memory, `most` at most. Fewer than `least` is an
    /// error; it is none of the reader's business if a dirty block can't be written to make room for more.
    fn take_slots(&self, key: Key, most: u64, least: u64) -> Result<Vec<usize>, FsError> {
        let mut slots = Vec::new();
        for position in 0..most {
            let missing = (key.0, key.1 + position);
            if self.state.borrow().index.contains_key(&missing) {
                break;
            }
            match self.take_slot(Some(missing)) {
                Ok(slot) => slots.push(slot),
                Err(error) if position < least => return Err(error),
                Err(_) => break,
            }
        }
        Ok(slots)
    }

    /// Submits reads of the first blocks of a run into slots that were taken for them. Returns the tag of the
    /// first request.
    fn start_reads(&self, key: Key, run: &Run, slots: &[usize], max_request: usize) -> Option<u64> {
        let mut first_tag = None;
        for (number, part) in slots.chunks(max_request).enumerate() {
            let offset = (number * max_request) as u64;
            let incoming = self.incoming(key, run, offset, part);
            let tag = self.start_read(run.disk + offset, incoming);
            first_tag.get_or_insert(tag);
        }
        if slots.len() > 2 {
            // Half-way through what was read ahead is the time to read on.
            let next = key.1 + slots.len() as u64;
            self.state.borrow_mut().slots[slots[slots.len() / 2]].goes_on = Some(next);
        }
        first_tag
    }

    /// Part of a run, from `offset` on, with the slots that were taken for it.
    fn incoming(&self, key: Key, run: &Run, offset: u64, slots: &[usize]) -> Vec<Incoming> {
        let state = self.state.borrow();
        let mut incoming = Vec::with_capacity(slots.len());
        for (position, &slot) in (offset..).zip(slots) {
            let key = (key.0, key.1 + position);
            let promised = run.checksums.as_ref().and_then(|sums| sums.get(position as usize).copied());
            incoming.push(Incoming { key, slot, checksum: state.written.get(&key).copied().or(promised) });
        }
        incoming
    }

    /// Submits a read of adjacent blocks into slots that were taken for them.
    pub(super) fn start_read(&self, disk: u64, incoming: Vec<Incoming>) -> u64 {
        let mut slots = Vec::with_capacity(incoming.len());
        let mut checksums = Vec::with_capacity(incoming.len());
        let mut pages = Vec::with_capacity(incoming.len());
        {
            let state = &mut *self.state.borrow_mut();
            let now = state.statistics.references;
            for (disk, Incoming { key, slot, checksum }) in (disk..).zip(incoming) {
                let entry = &mut state.slots[slot];
                pages.push(entry.page.take().unwrap_or_else(zeroed_page));
                entry.key = key;
                entry.disk = disk;
                entry.dirty = false;
                entry.staged_at = now;
                entry.goes_on = None;
                state.index.insert(key, slot);
                state.staged.push_back(slot);
                slots.push(slot);
                checksums.push(checksum);
            }
            state.statistics.read_requests += 1;
        }
        let tag = self.queue.submit(Operation::Read, disk, pages);
        self.launch(tag, Flight { operation: Operation::Read, disk, slots, checksums });
        tag
    }
}
