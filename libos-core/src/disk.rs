//! The disk: asynchronous requests of whole blocks, straight from the application's pages to the device.
//!
//! A [`Disk`] is the extent that the environment's manifest names; its blocks count from 0. Buffers travel by ownership: a
//! [`Request`] takes boxed pages of the heap, its [`Completion`] brings them back. In between they belong to the device, and
//! nobody can touch them. After a timeout they stay there: the device may still write them.
//!
//! Requests go through a ring in shared memory (see [`hyperexo_abi::ring`]). The kernel is called only when it does not look
//! at the ring by itself, and calls back only when [`Disk::wait`] sleeps. It calls the virtual CPU that opened the disk first, which
//! passes the call on if another one is waiting: best use it on the core that opened it.

use crate::platform::exo;
use crate::{hypercall, memory, platform, upcall};
use alloc::{boxed::Box, vec::Vec};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, fence};
use hyperexo_abi::Page;
use hyperexo_abi::capability::Rights;
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::ring::{self, DiskRing, MAX_REQUEST_BLOCKS, Outcome, RING_FRAMES, SUBMISSIONS};
use hyperexo_hw::descriptor::core_number;

pub use hyperexo_abi::ring::Operation;

/// Requests in flight at most: every one has its place among the completions.
pub const MAX_IN_FLIGHT: usize = ring::COMPLETIONS;

/// Why the disk can't be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// The machine has no disk.
    NoDisk,
    /// The manifest gives this environment no extent.
    NoExtent,
    /// It is open already: there is one ring.
    AlreadyOpen,
    /// The kernel refused a step.
    Refused {
        /// What was asked.
        step: &'static str,
        /// The kernel's answer.
        status: Status,
    },
}

impl core::fmt::Display for DiskError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            DiskError::NoDisk => f.write_str("the machine has no disk"),
            DiskError::NoExtent => f.write_str("this environment was given no disk extent"),
            DiskError::AlreadyOpen => f.write_str("the disk is open already"),
            DiskError::Refused { step, status } => write!(f, "disk: {step}: {status}"),
        }
    }
}

impl core::error::Error for DiskError {}

/// Something to do.
#[derive(Debug)]
pub struct Request {
    /// Comes back with the completion; means nothing here.
    pub tag: u64,
    /// What to do.
    pub operation: Operation,
    /// First block, from 0.
    pub block: u64,
    /// A page for each of the blocks; none for a flush.
    pub buffers: Vec<Box<Page>>,
}

/// Something done.
#[derive(Debug)]
pub struct Completion {
    /// Tag of the request.
    pub tag: u64,
    /// Buffers of the request. Empty after a timeout: the device may still use them.
    pub buffers: Vec<Box<Page>>,
    /// How it ended; never `Err(Outcome::Ok)`.
    pub result: Result<(), Outcome>,
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// As many requests as possible are under way: poll, then try again.
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

/// The disk extent of this environment.
pub struct Disk {
    queue: Queue<'static>,
    extent: Extent,
}

/// What the manifest gave.
#[derive(Clone, Copy, Debug)]
struct Extent {
    first: u64,
    blocks: u64,
    rights: Rights,
}

impl Extent {
    /// Whether a request may be tried at all.
    fn check(&self, request: &Request) -> Result<(), Reason> {
        let count = request.buffers.len();
        match request.operation {
            Operation::Flush if count > 0 => return Err(Reason::FlushWithBuffers),
            Operation::Flush => return Ok(()),
            Operation::Write if !self.rights.contains(Rights::WRITE) => return Err(Reason::ReadOnly),
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
/// The ring that the kernel knows: bound once, used by one [`Disk`] after the other.
static RING: AtomicPtr<DiskRing> = AtomicPtr::new(core::ptr::null_mut());
/// Number of the virtual CPU that waits for the disk, or was the last to do so.
static WAITER: AtomicUsize = AtomicUsize::new(0);

/// Called by an upcall of the disk: wakes who waits for it, if that is another virtual CPU.
pub(crate) fn pass_on_upcall() {
    let waiter = WAITER.load(Ordering::Acquire);
    if waiter != core_number() {
        platform::current().call_core(waiter);
    }
}

impl Disk {
    /// Binds the extent, and gives the kernel a ring if it has none yet. The disk can be open once at a time.
    pub fn open() -> Result<Disk, DiskError> {
        let start = exo::start_info();
        if start.disk_blocks == 0 {
            return Err(DiskError::NoDisk);
        }
        let claim = start.disk_capability.claim().ok_or(DiskError::NoExtent)?;
        let rights = claim.rights.intersection(Rights::READ_WRITE);
        if OPEN.swap(true, Ordering::AcqRel) {
            return Err(DiskError::AlreadyOpen);
        }
        let opened = hypercall::disk_bind(&start.disk_capability, rights)
            .map_err(|status| DiskError::Refused { step: "binding the extent", status })
            .and_then(|()| ring());
        if opened.is_err() {
            OPEN.store(false, Ordering::Release);
        }
        let extent = Extent { first: claim.first, blocks: claim.count, rights };
        Ok(Disk { queue: Queue::new(opened?, memory::frame_of), extent })
    }

    /// Number of blocks.
    pub fn blocks(&self) -> u64 {
        self.extent.blocks
    }

    /// Number that block 0 has on the whole disk.
    pub fn first_block(&self) -> u64 {
        self.extent.first
    }

    /// Blocks of one request at most.
    pub fn max_request_blocks(&self) -> usize {
        MAX_REQUEST_BLOCKS
    }

    /// Whether writing is not allowed.
    pub fn read_only(&self) -> bool {
        !self.extent.rights.contains(Rights::WRITE)
    }

    /// Requests that have been taken and not yet polled.
    pub fn in_flight(&self) -> usize {
        self.queue.in_flight
    }

    /// Takes a request and lets the kernel know.
    pub fn submit(&mut self, request: Request) -> Result<(), Rejected> {
        self.enqueue(request)?;
        self.kick();
        Ok(())
    }

    /// Takes a request. Several can follow each other; then [`Disk::kick`] must be called.
    pub fn enqueue(&mut self, request: Request) -> Result<(), Rejected> {
        match self.extent.check(&request) {
            Ok(()) => self.queue.put(request, self.extent.first),
            Err(reason) => Err(Rejected { request, reason }),
        }
    }

    /// Lets the kernel know of enqueued requests, by a hypercall if it does not look by itself.
    ///
    /// # Panics
    /// If the kernel refuses to look at the ring: it has been damaged, and no request would ever end.
    pub fn kick(&mut self) {
        if self.queue.needs_kick() {
            // SAFETY: the ring holds requests of this queue only, whose frames it keeps.
            if let Err(status) = unsafe { hypercall::ring_kick() } {
                panic!("the kernel refuses the disk ring: {status}");
            }
        }
    }

    /// A finished request, if there is one.
    pub fn poll(&mut self) -> Option<Completion> {
        self.queue.take()
    }

    /// Sleeps until [`Disk::poll`] has something; returns at once if nothing is in flight.
    ///
    /// # Panics
    /// With interrupts disabled, see [`upcall::wait_until`].
    pub fn wait(&mut self) {
        if self.queue.in_flight > 0 && !self.queue.has_completion() {
            WAITER.store(core_number(), Ordering::Release);
            upcall::wait_until(|| self.queue.completion_or_wake());
        }
    }
}

/// Waits for what is in flight, so that no page is freed which the device may use, and ends the binding of the extent.
impl Drop for Disk {
    fn drop(&mut self) {
        while self.queue.in_flight > 0 {
            self.wait();
            self.poll();
        }
        // A binding that the kernel has ended by itself, by revocation, is gone already.
        let _ = hypercall::disk_unbind(self.extent.first, self.extent.blocks);
        OPEN.store(false, Ordering::Release);
    }
}

/// The ring that the kernel knows, with nothing in flight.
fn ring() -> Result<&'static DiskRing, DiskError> {
    // SAFETY: only `new_ring` below is stored, which lives for ever.
    if let Some(ring) = unsafe { RING.load(Ordering::Acquire).as_ref() } {
        return Ok(ring);
    }
    let ring = new_ring()?;
    RING.store(core::ptr::from_ref(ring).cast_mut(), Ordering::Release);
    Ok(ring)
}

/// An empty ring, bound.
fn new_ring() -> Result<&'static DiskRing, DiskError> {
    let first = memory::acquire_frames(RING_FRAMES, 1)
        .map_err(|status| DiskError::Refused { step: "frames for the ring", status })?;
    // SAFETY: the frames are fresh, hold zeros, which is an empty ring, and serve nothing else, for ever.
    let ring = unsafe { &*(memory::linear_address(first) as *const DiskRing) };
    // SAFETY: as above.
    unsafe { hypercall::ring_bind(first) }
        .map_err(|status| DiskError::Refused { step: "binding the ring", status })?;
    Ok(ring)
}

/// Buffers that the device may be using: nobody holds a reference to them.
struct Lent(Vec<*mut Page>);

// SAFETY: the pages are owned, like those of a vector of boxes.
unsafe impl Send for Lent {}

/// A request in flight.
struct InFlight {
    tag: u64,
    lent: Lent,
}

/// Our side of a ring.
///
/// Invariant: each submission in the ring, or taken from it and not completed, has the number of an occupied slot as its tag,
/// and names the frames of that slot's buffers only.
struct Queue<'a> {
    ring: &'a DiskRing,
    frame_of: fn(&Page) -> Option<u64>,
    slots: Vec<Option<InFlight>>,
    free_slots: Vec<usize>,
    in_flight: usize,
    tail: u32,
    head: u32,
}

impl<'a> Queue<'a> {
    /// A queue over a ring with nothing in flight; it goes on where the queue before it ended.
    fn new(ring: &'a DiskRing, frame_of: fn(&Page) -> Option<u64>) -> Queue<'a> {
        Queue {
            ring,
            frame_of,
            slots: (0..MAX_IN_FLIGHT).map(|_| None).collect(),
            free_slots: (0..MAX_IN_FLIGHT).rev().collect(),
            in_flight: 0,
            tail: ring.sq_tail.0.load(Ordering::Relaxed),
            head: ring.cq_head.0.load(Ordering::Relaxed),
        }
    }

    /// Writes a request into the ring, its block counted from `first`.
    fn put(&mut self, request: Request, first: u64) -> Result<(), Rejected> {
        let waiting = self.tail.wrapping_sub(self.ring.sq_head.0.load(Ordering::Acquire));
        if waiting as usize >= SUBMISSIONS || self.free_slots.is_empty() {
            return Err(Rejected { request, reason: Reason::QueueFull });
        }
        let mut frames = [0; MAX_REQUEST_BLOCKS];
        for (frame, buffer) in frames.iter_mut().zip(&request.buffers) {
            match (self.frame_of)(buffer) {
                Some(number) => *frame = number,
                None => return Err(Rejected { request, reason: Reason::ForeignBuffer }),
            }
        }
        let Some(slot) = self.free_slots.pop() else {
            return Err(Rejected { request, reason: Reason::QueueFull });
        };
        let submission = ring::Submission {
            tag: slot as u64,
            operation: request.operation as u8,
            block: first + request.block,
            count: request.buffers.len() as u32,
            frames,
        };
        let lent = Lent(request.buffers.into_iter().map(Box::into_raw).collect());
        self.slots[slot] = Some(InFlight { tag: request.tag, lent });
        self.in_flight += 1;
        self.ring.submissions[self.tail as usize % SUBMISSIONS].store(&submission);
        self.tail = self.tail.wrapping_add(1);
        self.ring.sq_tail.0.store(self.tail, Ordering::Release);
        Ok(())
    }

    /// Whether there are requests of which the kernel must be told.
    fn needs_kick(&self) -> bool {
        // The kernel sets `need_kick`, then looks at the tail once more; here the order is the reverse.
        fence(Ordering::SeqCst);
        self.ring.sq_head.0.load(Ordering::Relaxed) != self.tail
            && self.ring.need_kick.0.load(Ordering::Relaxed) != 0
    }

    fn has_completion(&self) -> bool {
        self.ring.cq_tail.0.load(Ordering::Acquire) != self.head
    }

    /// Takes a completion from the ring.
    fn take(&mut self) -> Option<Completion> {
        while self.has_completion() {
            let completion = self.ring.completions[self.head as usize % ring::COMPLETIONS].load();
            self.head = self.head.wrapping_add(1);
            self.ring.cq_head.0.store(self.head, Ordering::Release);
            let slot = completion.tag as usize;
            // A completion for an empty slot would be the kernel's mistake; there is nothing to give back.
            if let Some(request) = self.slots.get_mut(slot).and_then(Option::take) {
                self.in_flight -= 1;
                self.free_slots.push(slot);
                return Some(finish(request, completion.outcome));
            }
        }
        None
    }

    /// Whether there is a completion; if not, the next one raises an upcall.
    fn completion_or_wake(&self) -> bool {
        self.ring.wake.0.store(1, Ordering::Relaxed);
        // The kernel moves the tail, then looks at `wake`.
        fence(Ordering::SeqCst);
        let found = self.has_completion();
        if found {
            self.ring.wake.0.store(0, Ordering::Relaxed);
        }
        found
    }
}

/// The completion of a request whose outcome is known.
fn finish(request: InFlight, outcome: Outcome) -> Completion {
    let buffers = match outcome {
        Outcome::Timeout => Vec::new(),
        // SAFETY: the pointers came from boxes when the request was put, and the device does not use them any more.
        _ => request.lent.0.into_iter().map(|page| unsafe { Box::from_raw(page) }).collect(),
    };
    let result = match outcome {
        Outcome::Ok => Ok(()),
        error => Err(error),
    };
    Completion { tag: request.tag, buffers, result }
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
