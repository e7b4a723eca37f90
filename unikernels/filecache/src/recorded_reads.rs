//! A device that remembers in which order blocks were read from it.

use crate::digest::mix;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::sync::Arc;
use core::cell::Cell;
use core::task::Waker;
use libos_fs::{BlockDevice, Completion, EndRequest, Operation, Rejected, Request};

/// Passes everything on to another device.
pub(crate) struct RecordedReads {
    device: Box<dyn BlockDevice>,
    digest: Rc<Cell<u64>>,
}

impl RecordedReads {
    /// In front of a device. The cell holds the digest of the numbers of all blocks read so far, in order:
    /// two runs with the same digest read the same blocks, one by one.
    pub(crate) fn new(device: Box<dyn BlockDevice>) -> (RecordedReads, Rc<Cell<u64>>) {
        let digest = Rc::new(Cell::new(0));
        (RecordedReads { device, digest: Rc::clone(&digest) }, digest)
    }
}

impl BlockDevice for RecordedReads {
    fn blocks(&self) -> u64 {
        self.device.blocks()
    }

    fn max_request_blocks(&self) -> usize {
        self.device.max_request_blocks()
    }

    fn read_only(&self) -> bool {
        self.device.read_only()
    }

    fn submit(&mut self, request: Request) -> Result<(), Rejected> {
        let blocks = match request.operation {
            Operation::Read => request.block..request.block + request.buffers.len() as u64,
            _ => 0..0,
        };
        self.device.submit(request)?;
        self.digest.set(blocks.fold(self.digest.get(), mix));
        Ok(())
    }

    fn poll(&mut self) -> Option<Completion> {
        self.device.poll()
    }

    fn wait(&mut self) {
        self.device.wait();
    }

    fn ready(&mut self, waker: &Waker) -> bool {
        self.device.ready(waker)
    }

    fn reference_log(&self) -> Option<fn(&str)> {
        self.device.reference_log()
    }

    fn end_request(&self) -> Option<Arc<dyn EndRequest>> {
        self.device.end_request()
    }
}
