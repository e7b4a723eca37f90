//! Late and out of order.

use super::Dice;
use crate::device::{BlockDevice, Completion, EndRequest, Operation, Rejected, Rejection, Request};
use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::task::Waker;

#[derive(Default)]
struct Seen {
    depth: usize,
    deepest: usize,
    deepest_reads: usize,
    requests: Vec<(Operation, u64, usize)>,
}

/// Questions a [`DelayedDevice`].
#[derive(Clone, Default)]
pub struct DelayControl(Rc<RefCell<Seen>>);

impl DelayControl {
    /// Requests in flight now.
    pub fn depth(&self) -> usize {
        self.0.borrow().depth
    }

    /// Most requests that were in flight at a time.
    pub fn deepest(&self) -> usize {
        self.0.borrow().deepest
    }

    /// Most reads that were in flight at a time.
    pub fn deepest_reads(&self) -> usize {
        self.0.borrow().deepest_reads
    }

    /// All requests so far: operation, first block, number of blocks.
    pub fn requests(&self) -> Vec<(Operation, u64, usize)> {
        self.0.borrow().requests.clone()
    }

    /// Blocks moved so far by requests of a kind.
    pub fn blocks(&self, operation: Operation) -> u64 {
        self.0.borrow().requests.iter().filter(|(o, ..)| *o == operation).map(|(.., n)| *n as u64).sum()
    }

    /// Forgets what was seen.
    pub fn reset(&self) {
        let seen = &mut *self.0.borrow_mut();
        *seen = Seen { depth: seen.depth, ..Seen::default() };
    }
}

/// A device that completes one request, in an order of its own, each time that it is waited for.
pub struct DelayedDevice<D> {
    below: D,
    control: DelayControl,
    held: Vec<(Operation, Completion)>,
    ready: Vec<Completion>,
    dice: Dice,
    queue_depth: usize,
}

impl<D: BlockDevice> DelayedDevice<D> {
    /// Wraps a device that completes requests at once. At most `queue_depth` are taken at a time.
    pub fn new(below: D, queue_depth: usize, seed: u64) -> (DelayedDevice<D>, DelayControl) {
        let control = DelayControl::default();
        let device = DelayedDevice {
            below,
            control: control.clone(),
            held: Vec::new(),
            ready: Vec::new(),
            dice: Dice::new(seed),
            queue_depth: queue_depth.max(1),
        };
        (device, control)
    }
}

impl<D: BlockDevice> BlockDevice for DelayedDevice<D> {
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
        if self.held.len() + self.ready.len() >= self.queue_depth {
            return Err(Rejected { request, reason: Rejection::QueueFull });
        }
        let (operation, block, blocks) = (request.operation, request.block, request.buffers.len());
        self.below.submit(request)?;
        while let Some(completion) = self.below.poll() {
            self.held.push((operation, completion));
        }
        let reads = self.held.iter().filter(|(operation, _)| *operation == Operation::Read).count();
        let seen = &mut *self.control.0.borrow_mut();
        seen.depth = self.held.len() + self.ready.len();
        seen.deepest = seen.deepest.max(seen.depth);
        seen.deepest_reads = seen.deepest_reads.max(reads);
        seen.requests.push((operation, block, blocks));
        Ok(())
    }

    fn poll(&mut self) -> Option<Completion> {
        let completion = self.ready.pop()?;
        self.control.0.borrow_mut().depth = self.held.len() + self.ready.len();
        Some(completion)
    }

    fn wait(&mut self) {
        if self.ready.is_empty() && !self.held.is_empty() {
            let chosen = self.dice.below(self.held.len() as u64) as usize;
            self.ready.push(self.held.swap_remove(chosen).1);
        }
    }

    /// Completes a request, as waiting does: nothing else makes it.
    fn ready(&mut self, _: &Waker) -> bool {
        self.wait();
        true
    }

    fn end_request(&self) -> Option<Arc<dyn EndRequest>> {
        self.below.end_request()
    }
}
