//! Errors and wrong bits.

use crate::device::{
    BLOCK_BYTES, BlockDevice, Completion, DeviceError, EndRequest, Operation, Rejected, Request,
};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::task::Waker;
use spin::Mutex;

#[derive(Default)]
struct Failures {
    blocks: BTreeMap<(u64, bool), DeviceError>,
    next: BTreeMap<u8, (u64, DeviceError)>,
}

/// Steers a [`FailingDevice`].
#[derive(Clone, Default)]
pub struct FailureControl(Arc<Mutex<Failures>>);

fn number(operation: Operation) -> u8 {
    match operation {
        Operation::Read => 0,
        Operation::Write => 1,
        Operation::Flush => 2,
    }
}

impl FailureControl {
    /// Reads that touch a block fail from now on.
    pub fn fail_reads_of(&self, block: u64, error: DeviceError) {
        self.0.lock().blocks.insert((block, false), error);
    }

    /// Writes that touch a block fail from now on.
    pub fn fail_writes_of(&self, block: u64, error: DeviceError) {
        self.0.lock().blocks.insert((block, true), error);
    }

    /// The request of a kind that comes after `skipped` others of its kind fails, and all later ones of its
    /// kind.
    pub fn fail_after(&self, operation: Operation, skipped: u64, error: DeviceError) {
        self.0.lock().next.insert(number(operation), (skipped, error));
    }

    /// Everything works again.
    pub fn heal(&self) {
        *self.0.lock() = Failures::default();
    }

    fn verdict(&self, request: &Request) -> Option<DeviceError> {
        let failures = &mut *self.0.lock();
        if let Some((skipped, error)) = failures.next.get_mut(&number(request.operation)) {
            if *skipped == 0 {
                return Some(*error);
            }
            *skipped -= 1;
        }
        let write = request.operation == Operation::Write;
        let end = request.block + request.buffers.len() as u64;
        (request.block..end).find_map(|block| failures.blocks.get(&(block, write)).copied())
    }
}

/// A device some of whose requests fail. A failed request does not reach the device below; after
/// [`DeviceError::Timeout`] its buffers are gone.
pub struct FailingDevice<D> {
    below: D,
    control: FailureControl,
    failed: VecDeque<Completion>,
}

impl<D: BlockDevice> FailingDevice<D> {
    /// Wraps a device; nothing fails yet.
    pub fn new(below: D) -> (FailingDevice<D>, FailureControl) {
        let control = FailureControl::default();
        (FailingDevice { below, control: control.clone(), failed: VecDeque::new() }, control)
    }
}

impl<D: BlockDevice> BlockDevice for FailingDevice<D> {
    fn blocks(&self) -> u64 {
        self.below.blocks()
    }
    fn max_request_blocks(&self) -> usize {
        self.below.max_request_blocks()
    }
    fn read_only(&self) -> bool {
        self.below.read_only()
    }

    fn submit(&mut self, request: Request) -> Result<(), Rejected> {
        let Some(error) = self.control.verdict(&request) else { return self.below.submit(request) };
        let buffers = if error == DeviceError::Timeout { Vec::new() } else { request.buffers };
        self.failed.push_back(Completion { tag: request.tag, buffers, result: Err(error) });
        Ok(())
    }

    fn poll(&mut self) -> Option<Completion> {
        self.failed.pop_front().or_else(|| self.below.poll())
    }

    fn wait(&mut self) {
        if self.failed.is_empty() {
            self.below.wait();
        }
    }

    fn ready(&mut self, waker: &Waker) -> bool {
        !self.failed.is_empty() || self.below.ready(waker)
    }

    fn end_request(&self) -> Option<Arc<dyn EndRequest>> {
        self.below.end_request()
    }
}

/// A device on which bits of certain blocks are always read wrong.
pub struct BitFlipper<D> {
    below: D,
    /// (block, bit) pairs.
    flipped: BTreeSet<(u64, usize)>,
    reads: BTreeMap<u64, u64>,
}

impl<D: BlockDevice> BitFlipper<D> {
    /// Wraps a device. Each pair is a block and a bit in it, from 0; bits beyond a block count from its start
    /// again.
    pub fn new(below: D, flipped: impl IntoIterator<Item = (u64, usize)>) -> BitFlipper<D> {
        BitFlipper { below, flipped: flipped.into_iter().collect(), reads: BTreeMap::new() }
    }
}

impl<D: BlockDevice> BlockDevice for BitFlipper<D> {
    fn blocks(&self) -> u64 {
        self.below.blocks()
    }
    fn max_request_blocks(&self) -> usize {
        self.below.max_request_blocks()
    }
    fn read_only(&self) -> bool {
        self.below.read_only()
    }

    fn submit(&mut self, request: Request) -> Result<(), Rejected> {
        let read = (request.operation == Operation::Read).then_some((request.tag, request.block));
        self.below.submit(request)?;
        self.reads.extend(read);
        Ok(())
    }

    fn poll(&mut self) -> Option<Completion> {
        let mut completion = self.below.poll()?;
        let Some(first) = self.reads.remove(&completion.tag) else { return Some(completion) };
        for (block, buffer) in (first..).zip(&mut completion.buffers) {
            for (_, bit) in self.flipped.range((block, 0)..=(block, usize::MAX)) {
                let bit = bit % (BLOCK_BYTES * 8);
                buffer.0[bit / 8] ^= 1 << (bit % 8);
            }
        }
        Some(completion)
    }

    fn wait(&mut self) {
        self.below.wait();
    }

    fn ready(&mut self, waker: &Waker) -> bool {
        self.below.ready(waker)
    }

    fn end_request(&self) -> Option<Arc<dyn EndRequest>> {
        self.below.end_request()
    }
}
