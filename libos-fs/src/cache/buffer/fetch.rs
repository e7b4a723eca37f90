//! References: finding a block in memory or bringing it there, with what comes after it. Nothing is borrowed
//! while waiting.

use super::slots::Found;
use super::transfer::{BufferCache, Incoming};
use crate::cache::key::Key;
use crate::device::DeviceError;
use crate::error::FsError;
use crate::file_id::FileId;
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
            let found = self.look().slots().find(key);
            match found {
                Found::Resident(slot) => {
                    let state = &mut *self.state();
                    state.hit(slot);
                    state.ask_read_ahead(key, 0);
                    return Ok(Some(slot));
                }
                Found::Staged(slot) => {
                    let goes_on = self.state().take_goes_on(slot);
                    if let Some(next) = goes_on {
                        // First, while the block is still out of reach of policies: one that replaces what
                        // was used last would give up this very block.
                        self.read_on(key, next, locate)?;
                        continue;
                    }
                    let state = &mut *self.state();
                    if fetched {
                        state.promote(slot);
                    } else {
                        state.use_staged(slot);
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
            let found = self.look().slots().find(key);
            match found {
                Found::Resident(slot) => {
                    self.state().hit(slot);
                    return Ok(slot);
                }
                Found::Staged(slot) => {
                    self.state().use_staged(slot);
                    return Ok(slot);
                }
                Found::OnItsWay(tag) => {
                    self.finish(tag);
                }
                Found::Absent => {
                    let slot = self.take_slot(Some(key))?;
                    self.state().allocate(slot, key);
                    return Ok(slot);
                }
            }
        }
    }

    /// Brings a block that is not in memory to staging, along with what read-ahead and the caller want after
    /// it. `false` if it is a hole.
    fn fetch(&self, key: Key, certain: u64, locate: Locate<'_>) -> Result<bool, FsError> {
        let max_request = self.max_request_blocks();
        let ahead = {
            let state = &mut *self.state();
            state.drop_stale();
            let room = state.room_ahead(key.0, REQUESTS_AHEAD * max_request - 1) as u64;
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
        let max_request = self.max_request_blocks();
        let wish = {
            let state = &mut *self.state();
            state.drop_stale();
            let room = state.room_ahead(key.0, max_request);
            if room < max_request / 2 { 0 } else { state.ask_read_ahead(key, room as u64) }
        };
        let next = (key.0, next);
        if wish == 0 || self.look().slots().slot_of(next).is_some() {
            return Ok(());
        }
        let Some(run) = locate(next.0, next.1, wish)? else { return Ok(()) };
        let slots = self.take_slots(next, run.count, 0)?;
        self.start_reads(next, &run, &slots, max_request);
        Ok(())
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
            self.state().set_goes_on(slots[slots.len() / 2], next);
        }
        first_tag
    }

    /// Part of a run, from `offset` on, with the slots that were taken for it.
    fn incoming(&self, key: Key, run: &Run, offset: u64, slots: &[usize]) -> Vec<Incoming> {
        let state = self.look();
        let mut incoming = Vec::with_capacity(slots.len());
        for (position, &slot) in (offset..).zip(slots) {
            let key = (key.0, key.1 + position);
            let promised = run.checksums.as_ref().and_then(|sums| sums.get(position as usize).copied());
            incoming.push(Incoming { key, slot, checksum: state.dirty().checksum(key).or(promised) });
        }
        incoming
    }
}
