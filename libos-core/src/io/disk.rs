//! The disk: asynchronous requests of whole blocks, straight from the application's pages to the device.
//!
//! A [`Disk`] is the extent that the environment's manifest names or, directly on a machine, its first disk.
//! Its blocks count from 0. Buffers travel by ownership: a [`Request`] takes boxed pages of the heap, and its
//! [`Completion`] brings them back. In between they belong to the device, and nobody can touch them. After a
//! timeout they do not come back, as the device may still write them.
//!
//! The platform brings requests to the device, through a ring that it shares with the exokernel or through a
//! virtio queue. It raises upcalls only while [`Disk::wait`] sleeps. They go to the virtual CPU that opened
//! the disk first, which passes them on if another one waits. So a disk is best used on the core that opened
//! it.

use crate::cpu::upcall::{self, Waiter};
use crate::memory::{self, Lent};
use crate::platform::{self, BlockQueue, OpenDisk, QueueFull};
use alloc::{boxed::Box, vec::Vec};
use core::sync::atomic::{AtomicBool, Ordering};
use hyperexo_abi::Page;
use hyperexo_abi::ring::{self, MAX_REQUEST_BLOCKS, Outcome};
use hyperexo_abi::upcall::Cause;

pub use crate::platform::{DeviceFault, DiskError};
pub use hyperexo_abi::ring::Operation;

/// Requests in flight at most. Each has its place among the completions.
pub const MAX_IN_FLIGHT: usize = ring::COMPLETIONS;

/// What the disk is asked to do.
#[derive(Debug)]
pub struct Request {
    /// Comes back with the completion. It means nothing here.
    pub tag: u64,
    /// What to do.
    pub operation: Operation,
    /// First block, from 0.
    pub block: u64,
    /// A page for each of the blocks; none for a flush.
    pub buffers: Vec<Box<Page>>,
}

/// A request that is done.
#[derive(Debug)]
pub struct Completion {
    /// Tag of the request.
    pub tag: u64,
    /// Buffers of the request. Empty after a timeout: the device may still use them.
    pub buffers: Vec<Box<Page>>,
    /// How it ended. Never `Err(Outcome::Ok)`.
    pub result: Result<(), Outcome>,
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// As many requests as possible are in flight: poll, then try again.
    QueueFull,
    /// A read or write without buffers.
    NoBuffers,
    /// More buffers than one request may have.
    TooManyBuffers {
        /// Buffers of the request.
        buffers: usize,
        /// The most allowed.
        most: usize,
    },
    /// A flush with buffers.
    FlushWithBuffers,
    /// The request reaches beyond the last block.
    OutOfRange {
        /// First block.
        block: u64,
        /// Blocks of the request.
        count: u64,
        /// Blocks of the disk.
        blocks: u64,
    },
    /// A write to a disk that may only be read.
    ReadOnly,
    /// A buffer does not lie on the heap of this unikernel.
    ForeignBuffer,
}

impl core::fmt::Display for Reason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Reason::QueueFull => f.write_str("too many requests in flight"),
            Reason::NoBuffers => f.write_str("request without buffers"),
            Reason::TooManyBuffers { buffers, most } => {
                write!(f, "request of {buffers} blocks, at most {most} are allowed")
            }
            Reason::FlushWithBuffers => f.write_str("flush with buffers"),
            Reason::OutOfRange { block, count, blocks } => {
                write!(f, "request for {count} blocks from {block} on a disk of {blocks}")
            }
            Reason::ReadOnly => f.write_str("the disk may only be read"),
            Reason::ForeignBuffer => f.write_str("a buffer does not lie on the heap"),
        }
    }
}

/// A request that was not taken, given back.
#[derive(Debug)]
pub struct Rejected {
    /// The request.
    pub request: Request,
    /// Why not.
    pub reason: Reason,
}

/// The disk of this unikernel.
pub struct Disk {
    requests: Requests<'static>,
    extent: Extent,
    /// Dropped last, after the queue is closed.
    _turn: Turn,
}

/// The blocks of this unikernel.
#[derive(Clone, Copy, Debug)]
struct Extent {
    first: u64,
    blocks: u64,
    read_only: bool,
}

impl Extent {
    /// Whether a request may be tried at all.
    fn check(&self, request: &Request) -> Result<(), Reason> {
        let count = request.buffers.len();
        match request.operation {
            Operation::Flush if count > 0 => return Err(Reason::FlushWithBuffers),
            Operation::Flush => return Ok(()),
            Operation::Write if self.read_only => return Err(Reason::ReadOnly),
            _ if count == 0 => return Err(Reason::NoBuffers),
            _ if count > MAX_REQUEST_BLOCKS => {
                return Err(Reason::TooManyBuffers { buffers: count, most: MAX_REQUEST_BLOCKS });
            }
            _ => (),
        }
        match request.block.checked_add(count as u64) {
            Some(end) if end <= self.blocks => Ok(()),
            _ => Err(Reason::OutOfRange { block: request.block, count: count as u64, blocks: self.blocks }),
        }
    }
}

/// Whether there is a [`Disk`].
static OPEN: AtomicBool = AtomicBool::new(false);

/// The right to have the disk open, until it is dropped.
struct Turn(());

impl Turn {
    fn take() -> Option<Turn> {
        (!OPEN.swap(true, Ordering::AcqRel)).then_some(Turn(()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        OPEN.store(false, Ordering::Release);
    }
}

/// The virtual CPU that waits for the disk.
static WAITER: Waiter = Waiter::new();

impl Disk {
    /// Opens the disk. It can be open once at a time.
    ///
    /// # Errors
    ///
    /// [`DiskError`].
    pub fn open() -> Result<Disk, DiskError> {
        let turn = Turn::take().ok_or(DiskError::AlreadyOpen)?;
        upcall::listen(Cause::Disk, || WAITER.pass_on());
        let OpenDisk { queue, first_block, blocks, read_only } = platform::current().open_disk()?;
        let extent = Extent { first: first_block, blocks, read_only };
        Ok(Disk { requests: Requests::new(queue, memory::frame_of), extent, _turn: turn })
    }

    /// Number of blocks.
    pub fn blocks(&self) -> u64 {
        self.extent.blocks
    }

    /// Number that block 0 has on the whole disk.
    pub fn first_block(&self) -> u64 {
        self.extent.first
    }

    /// Most blocks of one request.
    pub fn max_request_blocks(&self) -> usize {
        MAX_REQUEST_BLOCKS
    }

    /// Whether writing is refused.
    pub fn read_only(&self) -> bool {
        self.extent.read_only
    }

    /// Requests that have been taken and not yet polled.
    pub fn in_flight(&self) -> usize {
        self.requests.in_flight
    }

    /// Takes a request and tells the device.
    pub fn submit(&mut self, request: Request) -> Result<(), Rejected> {
        self.enqueue(request)?;
        self.kick();
        Ok(())
    }

    /// Takes a request. After the last of several, call [`Disk::kick`].
    pub fn enqueue(&mut self, request: Request) -> Result<(), Rejected> {
        match self.extent.check(&request) {
            Ok(()) => self.requests.put(request, self.extent.first),
            Err(reason) => Err(Rejected { request, reason }),
        }
    }

    /// Tells the device of enqueued requests.
    ///
    /// # Panics
    ///
    /// Under HyperExo, if the kernel refuses to look at the ring: it has been damaged, and no request would
    /// ever end.
    pub fn kick(&mut self) {
        self.requests.queue.kick();
    }

    /// A finished request, if there is one.
    pub fn poll(&mut self) -> Option<Completion> {
        self.requests.take()
    }

    /// Sleeps until [`Disk::poll`] has something. Returns at once if nothing is in flight.
    ///
    /// # Panics
    ///
    /// With interrupts disabled, see [`upcall::wait_until`].
    pub fn wait(&mut self) {
        if self.requests.in_flight > 0 && !self.requests.queue.has_completion() {
            upcall::wait_until(|| self.ready_or_call());
        }
    }

    /// Whether [`Disk::poll`] has something, or nothing is in flight. If neither, the next completion (or the
    /// end of a request's time) calls the calling virtual CPU and no other.
    ///
    /// This is a condition for [`upcall::wait_until`], for cores that take turns with a disk and must not
    /// keep it while they sleep.
    pub fn ready_or_call(&mut self) -> bool {
        if self.requests.in_flight == 0 || self.requests.queue.has_completion() {
            return true;
        }
        // The waiter is named before the wish, so that an upcall in between finds it.
        WAITER.wait_here();
        self.requests.queue.completion_or_wake()
    }
}

/// Waits for what is in flight, so that no page is freed which the device may use.
impl Drop for Disk {
    fn drop(&mut self) {
        while self.requests.in_flight > 0 {
            self.wait();
            self.poll();
        }
    }
}

/// A request in flight.
struct InFlight {
    tag: u64,
    lent: Vec<Lent>,
}

/// Requests in flight, with their buffers.
///
/// Invariant: the queue knows only requests with the numbers of occupied slots, and only frames of those
/// slots' buffers.
struct Requests<'a> {
    queue: Box<dyn BlockQueue + 'a>,
    frame_of: fn(&Page) -> Option<u64>,
    slots: Vec<Option<InFlight>>,
    free_slots: Vec<usize>,
    in_flight: usize,
}

impl<'a> Requests<'a> {
    /// No requests, over an empty queue.
    fn new(queue: Box<dyn BlockQueue + 'a>, frame_of: fn(&Page) -> Option<u64>) -> Requests<'a> {
        Requests {
            queue,
            frame_of,
            slots: (0..MAX_IN_FLIGHT).map(|_| None).collect(),
            free_slots: (0..MAX_IN_FLIGHT).rev().collect(),
            in_flight: 0,
        }
    }

    /// Puts a request into the queue, its block counted from `first`.
    fn put(&mut self, request: Request, first: u64) -> Result<(), Rejected> {
        let Some(slot) = self.free_slots.last().copied() else {
            return Err(Rejected { request, reason: Reason::QueueFull });
        };
        let mut frames = [0; MAX_REQUEST_BLOCKS];
        for (frame, buffer) in frames.iter_mut().zip(&request.buffers) {
            match (self.frame_of)(buffer) {
                Some(number) => *frame = number,
                None => return Err(Rejected { request, reason: Reason::ForeignBuffer }),
            }
        }
        let frames = &frames[..request.buffers.len()];
        // SAFETY: from here on the buffers belong to the slot. It gives them back with a completion that is
        // no timeout, or never.
        let put = unsafe { self.queue.put(slot, request.operation, first + request.block, frames) };
        if let Err(QueueFull) = put {
            return Err(Rejected { request, reason: Reason::QueueFull });
        }
        self.free_slots.pop();
        let lent = request.buffers.into_iter().map(Lent::new).collect();
        self.slots[slot] = Some(InFlight { tag: request.tag, lent });
        self.in_flight += 1;
        Ok(())
    }

    /// Takes a completion.
    fn take(&mut self) -> Option<Completion> {
        while let Some((slot, outcome)) = self.queue.take() {
            // A completion for an empty slot is a mistake of the platform: there is nothing to give back.
            if let Some(request) = self.slots.get_mut(slot).and_then(Option::take) {
                self.in_flight -= 1;
                self.free_slots.push(slot);
                return Some(finish(request, outcome));
            }
        }
        None
    }
}

/// The completion of a request whose outcome is known.
fn finish(request: InFlight, outcome: Outcome) -> Completion {
    let buffers = match outcome {
        Outcome::Timeout => Vec::new(),
        // SAFETY: the request is completed, so the device does not use the pages any more.
        _ => request.lent.into_iter().map(|page| unsafe { page.back() }).collect(),
    };
    let result = match outcome {
        Outcome::Ok => Ok(()),
        error => Err(error),
    };
    Completion { tag: request.tag, buffers, result }
}

#[cfg(test)]
mod tests;
