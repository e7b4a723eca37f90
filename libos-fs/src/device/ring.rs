//! The disk of a HyperExo environment.

use super::{BlockDevice, Completion, DeviceError, EndRequest, Operation, Rejected, Rejection, Request};
use alloc::sync::Arc;
use core::fmt::Display;
use core::task::Waker;
use hyperexo_abi::ring::{self, Outcome};
use libos_core::disk::{self, Disk, DiskError, Reason};
use libos_core::power::Keeper;

/// Word of the command line that has all references printed: `exo run --record-references` adds it.
pub const RECORD_WORD: &str = "record-references=1";

/// The disk extent of this environment: requests go through the ring it shares with the exokernel, buffers go
/// to the device without being copied.
pub struct RingDevice {
    disk: Disk,
}

impl RingDevice {
    /// Opens the extent that the environment's manifest names. It can be open once at a time.
    pub fn open() -> Result<RingDevice, DiskError> {
        Ok(RingDevice { disk: Disk::open()? })
    }

    /// Over a disk that is open already.
    pub fn new(disk: Disk) -> RingDevice {
        RingDevice { disk }
    }
}

fn operation_to_ring(operation: Operation) -> ring::Operation {
    match operation {
        Operation::Read => ring::Operation::Read,
        Operation::Write => ring::Operation::Write,
        Operation::Flush => ring::Operation::Flush,
    }
}

fn operation_from_ring(operation: ring::Operation) -> Operation {
    match operation {
        ring::Operation::Read => Operation::Read,
        ring::Operation::Write => Operation::Write,
        ring::Operation::Flush => Operation::Flush,
    }
}

fn rejection(reason: Reason) -> Rejection {
    match reason {
        Reason::QueueFull => Rejection::QueueFull,
        Reason::OutOfRange { .. } => Rejection::Refused(DeviceError::OutOfRange),
        Reason::ReadOnly => Rejection::Refused(DeviceError::ReadOnly),
        Reason::ForeignBuffer => Rejection::Refused(DeviceError::NotBound),
        Reason::NoBuffers | Reason::TooManyBuffers { .. } | Reason::FlushWithBuffers => {
            Rejection::Refused(DeviceError::BadRequest)
        }
    }
}

fn error(outcome: Outcome) -> DeviceError {
    match outcome {
        Outcome::Ok | Outcome::DeviceError => DeviceError::Io,
        Outcome::BadRequest => DeviceError::BadRequest,
        Outcome::BlockNotBound | Outcome::FrameNotBound => DeviceError::NotBound,
        Outcome::Timeout => DeviceError::Timeout,
        Outcome::Unsupported => DeviceError::Unsupported,
    }
}

impl BlockDevice for RingDevice {
    fn blocks(&self) -> u64 {
        self.disk.blocks()
    }

    fn max_request_blocks(&self) -> usize {
        self.disk.max_request_blocks()
    }

    fn read_only(&self) -> bool {
        self.disk.read_only()
    }

    fn submit(&mut self, request: Request) -> Result<(), Rejected> {
        let Request { tag, operation, block, buffers } = request;
        let request = disk::Request { tag, operation: operation_to_ring(operation), block, buffers };
        self.disk.submit(request).map_err(|rejected| {
            let disk::Request { tag, operation, block, buffers } = rejected.request;
            let request = Request { tag, operation: operation_from_ring(operation), block, buffers };
            Rejected { request, reason: rejection(rejected.reason) }
        })
    }

    fn poll(&mut self) -> Option<Completion> {
        let disk::Completion { tag, buffers, result } = self.disk.poll()?;
        Some(Completion { tag, buffers, result: result.map_err(error) })
    }

    fn wait(&mut self) {
        self.disk.wait();
    }

    /// The disk calls the core that asks.
    fn ready(&mut self, _: &Waker) -> bool {
        self.disk.ready_or_call()
    }

    /// The console, if the command line has the word `RECORD_WORD`.
    fn reference_log(&self) -> Option<fn(&str)> {
        let wanted = libos_core::command_line().split(' ').any(|word| word == RECORD_WORD);
        wanted.then_some(|line| libos_core::println!("{line}"))
    }

    /// The power button, unless the program has taken it over.
    fn end_request(&self) -> Option<Arc<dyn EndRequest>> {
        Some(Arc::new(Keeper::new()))
    }
}

impl EndRequest for Keeper {
    fn is_there(&self) -> bool {
        self.is_asked()
    }

    fn has_something(&self, there_is: bool) {
        self.keep(there_is);
    }

    fn end(&self, failure: Option<&dyn Display>) {
        Keeper::end(self, failure.map_or(Ok(()), Err))
    }
}
