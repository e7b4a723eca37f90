//! Requests on their way between the cache and the device. Nothing is borrowed while waiting.

use super::options::CacheOptions;
use super::state::State;
use crate::cache::key::Key;
use crate::device::{DeviceError, DeviceQueue, Finished, Operation};
use crate::error::FsError;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Ref, RefCell, RefMut};
use hyperexo_abi::Page;

/// The cache of a volume. All methods take `&self`; see the [module](crate::cache) for what it promises.
pub struct BufferCache {
    queue: Rc<DeviceQueue>,
    state: RefCell<State>,
    /// By tag: requests for blocks of files that have not been settled.
    flights: RefCell<BTreeMap<u64, Flight>>,
}

/// A request on its way.
struct Flight {
    operation: Operation,
    /// First block on the device.
    disk: u64,
    slots: Vec<usize>,
    /// By slot. Of a read: what the contents must have; of a write: what they have.
    checksums: Vec<Option<u32>>,
}

impl Flight {
    fn error(&self, error: DeviceError) -> FsError {
        let (operation, block, blocks) = (self.operation, self.disk, self.slots.len() as u64);
        FsError::Device { operation, block, blocks, error }
    }
}

/// A block that is about to be read.
pub(super) struct Incoming {
    pub(super) key: Key,
    /// The slot that was taken for it.
    pub(super) slot: usize,
    /// CRC-32 that it must have, if the format knows.
    pub(super) checksum: Option<u32>,
}

/// The parts of a cache.
impl BufferCache {
    pub(crate) fn new(queue: Rc<DeviceQueue>, options: CacheOptions) -> BufferCache {
        let state = RefCell::new(State::new(&options));
        BufferCache { queue, state, flights: RefCell::default() }
    }

    /// What the cache knows, to change it. Not to be held while something is sent or waited for.
    pub(super) fn state(&self) -> RefMut<'_, State> {
        self.state.borrow_mut()
    }

    /// What the cache knows. Not to be held while something is sent or waited for.
    pub(super) fn look(&self) -> Ref<'_, State> {
        self.state.borrow()
    }

    /// Blocks of the device.
    pub(crate) fn device_blocks(&self) -> u64 {
        self.queue.blocks()
    }

    /// Whether the device refuses writes.
    pub(crate) fn device_read_only(&self) -> bool {
        self.queue.read_only()
    }

    /// Most blocks in a request.
    pub(super) fn max_request_blocks(&self) -> usize {
        self.queue.max_request_blocks()
    }

    /// Requests for blocks of files that have not been settled.
    pub(super) fn in_flight(&self) -> usize {
        self.flights.borrow().len()
    }

    /// Starts a request that concerns no slot. Returns its tag.
    pub(super) fn submit_metadata(&self, operation: Operation, block: u64, pages: Vec<Box<Page>>) -> u64 {
        self.queue.submit(operation, block, pages)
    }

    /// Waits for the end of a request that concerns no slot.
    pub(super) fn wait_for_metadata(&self, tag: u64) -> Finished {
        self.queue.wait_for(tag)
    }

    /// Makes everything that was written so far durable. If that fails, all that was written since the last
    /// flush is to be written again: the device may have dropped it.
    pub(crate) fn flush(&self) -> Result<(), FsError> {
        let tag = self.queue.submit(Operation::Flush, 0, Vec::new());
        let finished = self.queue.wait_for(tag);
        let state = &mut *self.state();
        state.counters().flushes += 1;
        state.flushed(finished.result.is_ok());
        finished.result.map_err(|error| FsError::Device {
            operation: Operation::Flush,
            block: 0,
            blocks: 0,
            error,
        })
    }
}

/// The start of a request.
impl BufferCache {
    /// Submits a read of adjacent blocks into slots that were taken for them. Returns its tag.
    pub(super) fn start_read(&self, disk: u64, incoming: Vec<Incoming>) -> u64 {
        let mut slots = Vec::with_capacity(incoming.len());
        let mut checksums = Vec::with_capacity(incoming.len());
        let mut pages = Vec::with_capacity(incoming.len());
        {
            let state = &mut *self.state();
            for (disk, Incoming { key, slot, checksum }) in (disk..).zip(incoming) {
                pages.push(state.begin_read(slot, key, disk));
                slots.push(slot);
                checksums.push(checksum);
            }
            state.counters().read_requests += 1;
        }
        self.launch(pages, Flight { operation: Operation::Read, disk, slots, checksums })
    }

    /// Submits a write of dirty blocks that are adjacent on the device. Returns its tag.
    pub(super) fn start_write(&self, slots: Vec<usize>) -> u64 {
        let mut checksums = Vec::with_capacity(slots.len());
        let mut pages = Vec::with_capacity(slots.len());
        let disk = {
            let state = &mut *self.state();
            for &slot in &slots {
                let page = state.begin_write(slot);
                checksums.push(Some(crc32fast::hash(&page.0)));
                pages.push(page);
            }
            state.counters().write_requests += 1;
            state.slots().disk(slots[0])
        };
        self.launch(pages, Flight { operation: Operation::Write, disk, slots, checksums })
    }

    fn launch(&self, pages: Vec<Box<Page>>, flight: Flight) -> u64 {
        let tag = self.queue.submit(flight.operation, flight.disk, pages);
        let state = &mut *self.state();
        for &slot in &flight.slots {
            match flight.operation {
                Operation::Read => state.set_reading(slot, tag),
                _ => state.set_writing(slot, tag),
            }
        }
        self.flights.borrow_mut().insert(tag, flight);
        tag
    }
}

/// The end of a request.
impl BufferCache {
    /// Waits for the end of a request of the cache. Returns the error of its first block, if any.
    pub(super) fn finish(&self, tag: u64) -> Option<FsError> {
        let finished = self.queue.wait_for(tag);
        self.settle(tag, finished)
    }

    /// Waits for everything in flight. Returns the first error of a write.
    pub(super) fn finish_all(&self) -> Option<FsError> {
        let mut first_error = None;
        loop {
            let next = self.flights.borrow().iter().next().map(|(tag, flight)| (*tag, flight.operation));
            let Some((tag, operation)) = next else { return first_error };
            let error = self.finish(tag);
            if operation == Operation::Write && first_error.is_none() {
                first_error = error;
            }
        }
    }

    /// Waits for all writes on their way. Those that failed are still dirty.
    pub(super) fn finish_writes(&self) {
        loop {
            let flights = self.flights.borrow();
            let write = flights.iter().find(|(_, flight)| flight.operation == Operation::Write);
            let tag = write.map(|(tag, _)| *tag);
            drop(flights);
            let Some(tag) = tag else { return };
            self.finish(tag);
        }
    }

    /// Waits for the oldest request. `false` if there is none.
    pub(super) fn finish_oldest(&self) -> bool {
        let oldest = self.flights.borrow().keys().next().copied();
        oldest.map(|tag| self.finish(tag)).is_some()
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

    /// Takes note of the end of a request of the cache. Returns the error of its first block, if any.
    fn settle(&self, tag: u64, finished: Finished) -> Option<FsError> {
        let flight = self.flights.borrow_mut().remove(&tag)?;
        let state = &mut *self.state();
        match flight.operation {
            Operation::Read => settle_read(state, &flight, finished),
            _ => settle_write(state, &flight, finished),
        }
    }
}

/// Takes note of the end of a read. Returns the error of its first block, if any.
fn settle_read(state: &mut State, flight: &Flight, finished: Finished) -> Option<FsError> {
    let mut error_of_first = None;
    let mut pages = finished.buffers.into_iter();
    match finished.result {
        Ok(()) => state.counters().blocks_read += flight.slots.len() as u64,
        Err(_) => state.counters().read_errors += 1,
    }
    for (position, &slot) in flight.slots.iter().enumerate() {
        let page = pages.next();
        let error = match (finished.result, &page) {
            (Err(error), _) => Some(flight.error(error)),
            (Ok(()), None) => Some(flight.error(DeviceError::Io)),
            (Ok(()), Some(page)) => {
                let right = flight.checksums[position].is_none_or(|sum| crc32fast::hash(&page.0) == sum);
                state.counters().read_errors += u64::from(!right);
                (!right).then_some(FsError::Checksum { block: flight.disk + position as u64 })
            }
        };
        state.end_read(slot, page, error.is_none());
        if position == 0 {
            error_of_first = error;
        }
    }
    error_of_first
}

/// Takes note of the end of a write. Blocks that were not written stay dirty.
fn settle_write(state: &mut State, flight: &Flight, finished: Finished) -> Option<FsError> {
    let mut pages = finished.buffers.into_iter();
    match finished.result {
        Ok(()) => state.counters().blocks_written += flight.slots.len() as u64,
        Err(_) => state.counters().write_errors += 1,
    }
    for (&slot, &checksum) in flight.slots.iter().zip(&flight.checksums) {
        state.end_write(slot, pages.next(), finished.result.is_ok(), checksum);
    }
    finished.result.err().map(|error| flight.error(error))
}
