//! A device shared by the cache and the file system: hands out tags and sorts completions by tag.

use super::{BlockDevice, Completion, DeviceError, Operation, Rejected, Rejection, Request};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use hyperexo_abi::Page;

/// How a request ended, and its buffers (none if the device kept them).
pub(crate) struct Finished {
    pub(crate) buffers: Vec<Box<Page>>,
    pub(crate) result: Result<(), DeviceError>,
}

/// A device and the completions that nobody has asked for yet.
///
/// The device is borrowed only inside these methods. Nothing else of this crate is borrowed while one of them
/// waits.
pub(crate) struct DeviceQueue {
    device: RefCell<Box<dyn BlockDevice>>,
    finished: RefCell<BTreeMap<u64, Finished>>,
    in_flight: Cell<usize>,
    next_tag: Cell<u64>,
}

impl DeviceQueue {
    pub(crate) fn new(device: Box<dyn BlockDevice>) -> DeviceQueue {
        DeviceQueue {
            device: RefCell::new(device),
            finished: RefCell::default(),
            in_flight: Cell::new(0),
            next_tag: Cell::new(0),
        }
    }

    pub(crate) fn blocks(&self) -> u64 {
        self.device.borrow().blocks()
    }

    pub(crate) fn max_request_blocks(&self) -> usize {
        self.device.borrow().max_request_blocks().max(1)
    }

    pub(crate) fn read_only(&self) -> bool {
        self.device.borrow().read_only()
    }

    /// Starts a request and returns its tag. A refusal is an outcome like any other: it is found under the
    /// tag. Waits only while the queue is full.
    pub(crate) fn submit(&self, operation: Operation, block: u64, buffers: Vec<Box<Page>>) -> u64 {
        let tag = self.next_tag.get();
        self.next_tag.set(tag + 1);
        let mut request = Request { tag, operation, block, buffers };
        loop {
            let submitted = self.device.borrow_mut().submit(request);
            match submitted {
                Ok(()) => {
                    self.in_flight.set(self.in_flight.get() + 1);
                    return tag;
                }
                Err(Rejected { request: back, reason: Rejection::QueueFull }) if self.in_flight.get() > 0 => {
                    request = back;
                    self.wait_for_any();
                }
                Err(Rejected { request: back, reason }) => {
                    let error = match reason {
                        Rejection::Refused(error) => error,
                        // Full with nothing in flight: it will never have room.
                        Rejection::QueueFull => DeviceError::Io,
                    };
                    let finished = Finished { buffers: back.buffers, result: Err(error) };
                    self.finished.borrow_mut().insert(tag, finished);
                    return tag;
                }
            }
        }
    }

    /// Takes the outcome of a request if it has ended.
    pub(crate) fn take(&self, tag: u64) -> Option<Finished> {
        self.collect();
        self.finished.borrow_mut().remove(&tag)
    }

    /// Waits for the end of a request. Each tag can be waited for once.
    pub(crate) fn wait_for(&self, tag: u64) -> Finished {
        loop {
            if let Some(finished) = self.take(tag) {
                return finished;
            }
            self.device.borrow_mut().wait();
        }
    }

    fn wait_for_any(&self) {
        while self.collect() == 0 {
            self.device.borrow_mut().wait();
        }
    }

    fn collect(&self) -> usize {
        let mut collected = 0;
        while let Some(completion) = self.poll() {
            let Completion { tag, buffers, result } = completion;
            self.finished.borrow_mut().insert(tag, Finished { buffers, result });
            self.in_flight.set(self.in_flight.get().saturating_sub(1));
            collected += 1;
        }
        collected
    }

    fn poll(&self) -> Option<Completion> {
        self.device.borrow_mut().poll()
    }
}
