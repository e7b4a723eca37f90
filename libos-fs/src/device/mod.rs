//! Block devices: an asynchronous queue of requests that own their buffers.
//!
//! [`BlockDevice`] is the only thing this crate knows about disks. [`RamDisk`] holds its blocks in memory,
//! [`FileDisk`] in a file of the host (feature `std`), `RingDevice` is the disk of a HyperExo environment
//! (feature `unikernel`). The wrappers of [`fault`] misbehave on demand, [`TimedDisk`] calculates time,
//! [`BlankDisk`] keeps nothing.
//!
//! A request gives its buffers away and gets them back with its completion, so nobody can touch a buffer that
//! the device is using.

mod blank;
pub mod fault;
#[cfg(feature = "std")]
mod file;
mod queue;
mod ram;
#[cfg(feature = "unikernel")]
mod ring;
mod timed;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
pub use blank::BlankDisk;
use core::fmt;
use core::task::Waker;
#[cfg(feature = "std")]
pub use file::FileDisk;
use hyperexo_abi::Page;
pub(crate) use queue::{DeviceQueue, Finished};
pub use ram::RamDisk;
#[cfg(feature = "unikernel")]
pub use ring::RingDevice;
pub use timed::{DiskTime, SimulatedClock, TimedDisk};

/// Bytes in a block.
pub const BLOCK_BYTES: usize = hyperexo_abi::BLOCK_BYTES;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Disk to buffers.
    Read,
    /// Buffers to disk. Durable only after a later [`Operation::Flush`] has completed.
    Write,
    /// Makes all writes that completed before it was submitted durable. Has no buffers.
    Flush,
}

/// A request for `buffers.len()` adjacent blocks.
pub struct Request {
    /// Comes back with the completion; means nothing to the device.
    pub tag: u64,
    /// What to do.
    pub operation: Operation,
    /// First block.
    pub block: u64,
    /// One buffer a block.
    pub buffers: Vec<Box<Page>>,
}

/// A finished request.
pub struct Completion {
    /// Tag of the request.
    pub tag: u64,
    /// The buffers of the request. Empty after [`DeviceError::Timeout`]: the device may still be using them.
    pub buffers: Vec<Box<Page>>,
    /// How it ended. After an error the contents of read buffers, or of the blocks to be written, are
    /// unknown.
    pub result: Result<(), DeviceError>,
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceError {
    /// The device could not read or write.
    Io,
    /// The request goes past the last block.
    OutOfRange,
    /// A write to a device that can't be written.
    ReadOnly,
    /// The device did not answer in time.
    Timeout,
    /// The environment has not bound the blocks or the frames of the request.
    NotBound,
    /// No buffers, or more than [`BlockDevice::max_request_blocks`].
    BadRequest,
    /// The device does not know the operation.
    Unsupported,
    /// The device has lost its power and answers nothing any more.
    NoPower,
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DeviceError::Io => "I/O error",
            DeviceError::OutOfRange => "beyond the end of the device",
            DeviceError::ReadOnly => "the device is read-only",
            DeviceError::Timeout => "the device did not answer in time",
            DeviceError::NotBound => "blocks or frames are not bound",
            DeviceError::BadRequest => "malformed request",
            DeviceError::Unsupported => "operation not supported by the device",
            DeviceError::NoPower => "the device has lost its power",
        })
    }
}

/// A request that the device did not take, given back.
pub struct Rejected {
    /// The request as it was submitted.
    pub request: Request,
    /// Why the device did not take it.
    pub reason: Rejection,
}

/// Why a device does not take a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The queue is full: take a completion, then try again.
    QueueFull,
    /// It will never be taken.
    Refused(DeviceError),
}

/// Where it shows that everything is to come to an end, such as the power button of a machine.
pub trait EndRequest: Send + Sync {
    /// Whether it is to, now.
    fn is_there(&self) -> bool;
    /// Whether there is something to commit from now on. While there is nothing, the end need not wait for
    /// anybody to look.
    fn has_something(&self, there_is: bool);
    /// Ends the program after a commit, or after one that failed. It returns only where there is nothing to
    /// be ended.
    fn end(&self, failure: Option<&dyn fmt::Display>);
}

/// A disk, as a queue of requests.
///
/// Requests in flight may complete in any order; a write is on stable storage only after a flush.
pub trait BlockDevice {
    /// Number of blocks.
    fn blocks(&self) -> u64;
    /// Most blocks that one request may name; at least 1.
    fn max_request_blocks(&self) -> usize;
    /// Whether writes are refused.
    fn read_only(&self) -> bool;
    /// Starts a request, or gives it back.
    fn submit(&mut self, request: Request) -> Result<(), Rejected>;
    /// Takes a completion if there is one.
    fn poll(&mut self) -> Option<Completion>;
    /// Sleeps until [`BlockDevice::poll`] may have something. May return early; returns at once if nothing is
    /// in flight.
    fn wait(&mut self);
    /// Whether [`BlockDevice::poll`] may have something. If not, the device interrupts the core that asks, or
    /// wakes `waker`, as soon as it has. [`crate::shared`] asks, because its cores take turns at the device.
    ///
    /// Must not sleep: the caller holds the lock under which all cores use the device. A device that
    /// completes every request at once says `true`. A device in front of another passes the question on.
    fn ready(&mut self, waker: &Waker) -> bool;
    /// Where to print the references to blocks of files on this device, line by line, if this run is to
    /// record them; see [`crate::cache::references`].
    fn reference_log(&self) -> Option<fn(&str)> {
        None
    }
    /// Where a volume on this device should look, from time to time, whether it is to commit and end. A
    /// device in front of another passes the question on.
    fn end_request(&self) -> Option<Arc<dyn EndRequest>> {
        None
    }
}

impl<D: BlockDevice + ?Sized> BlockDevice for Box<D> {
    fn blocks(&self) -> u64 {
        (**self).blocks()
    }
    fn max_request_blocks(&self) -> usize {
        (**self).max_request_blocks()
    }
    fn read_only(&self) -> bool {
        (**self).read_only()
    }
    fn submit(&mut self, request: Request) -> Result<(), Rejected> {
        (**self).submit(request)
    }
    fn poll(&mut self) -> Option<Completion> {
        (**self).poll()
    }
    fn wait(&mut self) {
        (**self).wait()
    }
    fn ready(&mut self, waker: &Waker) -> bool {
        (**self).ready(waker)
    }
    fn reference_log(&self) -> Option<fn(&str)> {
        (**self).reference_log()
    }
    fn end_request(&self) -> Option<Arc<dyn EndRequest>> {
        (**self).end_request()
    }
}

/// A buffer of zeros.
pub fn zeroed_page() -> Box<Page> {
    Box::new(Page([0; BLOCK_BYTES]))
}

/// Judges a request by the rules that all devices share.
pub(crate) fn validate(device: &dyn BlockDevice, request: &Request) -> Result<(), DeviceError> {
    if request.operation == Operation::Flush {
        return if request.buffers.is_empty() { Ok(()) } else { Err(DeviceError::BadRequest) };
    }
    if request.operation == Operation::Write && device.read_only() {
        return Err(DeviceError::ReadOnly);
    }
    let count = request.buffers.len();
    if count == 0 || count > device.max_request_blocks() {
        return Err(DeviceError::BadRequest);
    }
    match request.block.checked_add(count as u64) {
        Some(end) if end <= device.blocks() => Ok(()),
        _ => Err(DeviceError::OutOfRange),
    }
}
