//! virtio-blk (virtio 1.1 §5.2) with many requests in flight and scattered buffers.
//!
//! The driver names memory by physical frame: buffers belong to somebody else (an environment, a cache), and
//! the device moves the data there and nowhere else. It never waits: [`VirtioBlock::submit`] starts a
//! request, an interrupt tells that some are done, [`VirtioBlock::complete`] says which.

use super::{LinearHal, pointer};
use alloc::boxed::Box;
use bitflags::bitflags;
use core::slice;
use core::sync::atomic::{Ordering, fence};
use virtio_drivers::Error;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::Transport;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Requests that can be in flight.
pub const SLOTS: usize = 64;
/// Blocks that one request can name.
pub const MAX_BLOCKS: usize = 32;
/// Bytes of a block, and of a frame.
pub const BLOCK_BYTES: usize = 4096;

const SECTOR_BYTES: u64 = 512;
const SECTORS_PER_BLOCK: u64 = BLOCK_BYTES as u64 / SECTOR_BYTES;
const QUEUE: u16 = 0;
/// Offset of the capacity (64 bits, in sectors) in the configuration space.
const CONFIG_CAPACITY: usize = 0;
const STATUS_OK: u8 = 0;
const STATUS_UNSUPPORTED: u8 = 2;

bitflags! {
    /// Features that the driver can use. Not event indices: the crate's test for "does the device want a
    /// notification" goes wrong when the 16-bit index wraps between two looks.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Features: u64 {
        const READ_ONLY = 1 << 5;
        const FLUSH = 1 << 9;
        const INDIRECT = 1 << 28;
        const VERSION_1 = 1 << 32;
    }
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Disk to memory.
    Read,
    /// Memory to disk.
    Write,
    /// Completed writes become durable.
    Flush,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Done,
    /// The device reported an error.
    Failed,
    /// The device does not know the operation.
    Unsupported,
}

/// The device can take no more requests now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

/// Whether a device must offer indirect descriptors, with which every request takes one entry of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indirect {
    /// It must: without them a few scattered requests would fill the queue for everybody.
    Required,
    /// It may.
    Optional,
}

/// Why a device can't be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// The transport or the queue refuses.
    Driver(Error),
    /// The device's queue has fewer than [`SLOTS`] entries.
    ShortQueue {
        /// Entries it has.
        entries: u32,
    },
    /// It offers no indirect descriptors, and they are required.
    NoIndirect,
}

impl From<Error> for StartError {
    fn from(error: Error) -> StartError {
        StartError::Driver(error)
    }
}

impl core::fmt::Display for StartError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            StartError::Driver(error) => error.fmt(f),
            StartError::ShortQueue { entries } => {
                write!(f, "its queue has {entries} entries, {SLOTS} are needed (QEMU: queue-size={SLOTS})")
            }
            StartError::NoIndirect => f.write_str("it has no indirect descriptors (QEMU: indirect_desc=on)"),
        }
    }
}

/// The part of a request that the device reads and writes besides the data.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    kind: u32,
    reserved: u32,
    sector: u64,
    status: u8,
    padding: [u8; 7],
}

/// Bytes of [`Header`] that the device reads.
const HEADER_READ_BYTES: usize = 16;

/// A request in the device's hands.
struct InFlight {
    operation: Operation,
    token: u16,
    /// Physical address and bytes of each piece.
    pieces: [(u64, usize); MAX_BLOCKS],
    count: usize,
}

/// The driver.
pub struct VirtioBlock<T: Transport> {
    transport: T,
    queue: VirtQueue<LinearHal, SLOTS>,
    headers: Box<[Header; SLOTS]>,
    /// On the heap: an image starts on a small stack.
    slots: Box<[Option<InFlight>]>,
    blocks: u64,
    features: Features,
}

impl<T: Transport> VirtioBlock<T> {
    /// Starts the device.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub fn new(mut transport: T, need: Indirect) -> Result<Self, StartError> {
        let features: Features = transport.begin_init(Features::all());
        let sectors: u64 = transport.read_consistent(|| {
            let low: u32 = transport.read_config_space(CONFIG_CAPACITY)?;
            let high: u32 = transport.read_config_space(CONFIG_CAPACITY + 4)?;
            Ok(u64::from(low) | u64::from(high) << 32)
        })?;
        let indirect = features.contains(Features::INDIRECT);
        if need == Indirect::Required && !indirect {
            return Err(StartError::NoIndirect);
        }
        let entries = transport.max_queue_size(QUEUE);
        if entries < SLOTS as u32 {
            return Err(StartError::ShortQueue { entries });
        }
        let queue = VirtQueue::new(&mut transport, QUEUE, indirect, false)?;
        transport.finish_init();
        let headers = <[Header; SLOTS]>::new_box_zeroed().map_err(|_| StartError::Driver(Error::DmaError))?;
        let blocks = sectors / SECTORS_PER_BLOCK;
        let slots = (0..SLOTS).map(|_| None).collect();
        Ok(VirtioBlock { transport, queue, headers, slots, blocks, features })
    }

    /// Whole blocks on the disk; a last partial one can't be reached.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Whether the device refuses writes.
    pub fn read_only(&self) -> bool {
        self.features.contains(Features::READ_ONLY)
    }

    /// Whether the device has a volatile cache that a flush empties. Without it, completed writes are
    /// durable.
    pub fn can_flush(&self) -> bool {
        self.features.contains(Features::FLUSH)
    }

    /// Requests in the device's hands.
    pub fn in_flight(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// Whether some request is done.
    pub fn has_completed(&self) -> bool {
        self.queue.can_pop()
    }

    /// Has the device interrupt when requests are done, or not: then somebody looks. A request that was done
    /// before does not interrupt: look after turning them on. The device may interrupt all the same.
    pub fn set_interrupts(&mut self, wanted: bool) {
        self.queue.set_dev_notify(wanted);
        // The device publishes a completion, then reads the flag; whoever looks for completions after this
        // sees it, or is interrupted.
        fence(Ordering::SeqCst);
    }

    /// Says that an interrupt of a pin has been seen: the device lets go of it.
    pub fn acknowledge(&mut self) {
        self.transport.ack_interrupt();
    }

    /// Tells the device to look at its queue if it wants to be told.
    pub fn notify(&mut self) {
        // The device goes to sleep by clearing its "do not notify" flag and then looking at the queue once
        // more; we must not read the flag before our request can be seen, and the queue's own stores do not
        // keep a later load from overtaking them.
        fence(Ordering::SeqCst);
        if self.queue.should_notify() {
            self.transport.notify(QUEUE);
        }
    }

    /// Starts a request for `frames.len()` blocks from `block`, one frame a block (none for a flush); the
    /// device hears of it at the next [`VirtioBlock::notify`]. The result names the request until its
    /// completion.
    ///
    /// # Errors
    ///
    /// [`QueueFull`].
    ///
    /// # Panics
    ///
    /// With more than [`MAX_BLOCKS`] frames.
    ///
    /// # Safety
    ///
    /// The frames are RAM, and until the request completes nobody relies on their contents (read) or changes
    /// them expecting the change to stay off the disk (write); they are not given to another owner in that
    /// time.
    pub unsafe fn submit(
        &mut self,
        operation: Operation,
        block: u64,
        frames: &[u64],
    ) -> Result<usize, QueueFull> {
        assert!(frames.len() <= MAX_BLOCKS, "{} frames in one request", frames.len());
        let slot = self.slots.iter().position(Option::is_none).ok_or(QueueFull)?;
        let (pieces, count) = merge(frames);
        let kind = match operation {
            Operation::Read => 0,
            Operation::Write => 1,
            Operation::Flush => 4,
        };
        self.headers[slot] =
            Header { kind, reserved: 0, sector: block * SECTORS_PER_BLOCK, status: u8::MAX, padding: [0; 7] };
        let mut request = InFlight { operation, token: 0, pieces, count };
        // SAFETY: header and frames stay where they are until the completion: the header because its slot is
        // taken, the frames by the caller's promise.
        let added = unsafe {
            with_buffers(&mut self.headers[slot], &request, |inputs, outputs| self.queue.add(inputs, outputs))
        };
        request.token = added.map_err(|_| QueueFull)?;
        self.slots[slot] = Some(request);
        Ok(slot)
    }

    /// The next request that is done, and how.
    pub fn complete(&mut self) -> Option<(usize, Outcome)> {
        let token = self.queue.peek_used()?;
        // A token that was never issued would be a device gone mad: there is nothing to complete.
        let slot =
            self.slots.iter().position(|slot| slot.as_ref().is_some_and(|request| request.token == token))?;
        let request = self.slots[slot].take()?;
        // SAFETY: the same buffers as at `submit`, and the device has returned them.
        let popped = unsafe {
            with_buffers(&mut self.headers[slot], &request, |inputs, outputs| {
                self.queue.pop_used(token, inputs, outputs)
            })
        };
        // Taking it has said after which completion to interrupt next. The device publishes one, then reads
        // that; whoever looks for another one from here on sees it, or is interrupted. The queue's own store
        // does not keep a later load back.
        fence(Ordering::SeqCst);
        let outcome = match (popped, self.headers[slot].status) {
            (Ok(_), STATUS_OK) => Outcome::Done,
            (Ok(_), STATUS_UNSUPPORTED) => Outcome::Unsupported,
            _ => Outcome::Failed,
        };
        Some((slot, outcome))
    }
}

/// Adjacent frames become one piece: fewer descriptors.
fn merge(frames: &[u64]) -> ([(u64, usize); MAX_BLOCKS], usize) {
    let mut pieces = [(0, 0); MAX_BLOCKS];
    let mut count = 0;
    for frame in frames {
        let address = frame * BLOCK_BYTES as u64;
        match pieces[..count].last_mut() {
            Some((start, bytes)) if *start + *bytes as u64 == address => *bytes += BLOCK_BYTES,
            _ => {
                pieces[count] = (address, BLOCK_BYTES);
                count += 1;
            }
        }
    }
    (pieces, count)
}

/// Calls `act` with the buffers of a request as the crate wants them: what the device reads, what it writes.
///
/// # Safety
///
/// The pieces are RAM. The slices exist only to carry address and length to the device: `act` must not look
/// into them.
unsafe fn with_buffers<R>(
    header: &mut Header,
    request: &InFlight,
    act: impl for<'s> FnOnce(&'s [&'s [u8]], &'s mut [&'s mut [u8]]) -> R,
) -> R {
    let (read, rest) = header.as_mut_bytes().split_at_mut(HEADER_READ_BYTES);
    let status = &mut rest[..1];
    let pieces = &request.pieces[..request.count];
    // SAFETY: by the caller's promise: the slices are addresses and lengths, their bytes are never looked at
    // here.
    let data = |(address, bytes): (u64, usize)| unsafe {
        slice::from_raw_parts_mut(pointer(address).as_ptr(), bytes)
    };
    match request.operation {
        Operation::Write => {
            let mut inputs: [&[u8]; MAX_BLOCKS + 1] = [&[]; MAX_BLOCKS + 1];
            inputs[0] = read;
            for (input, piece) in inputs[1..].iter_mut().zip(pieces) {
                *input = data(*piece);
            }
            act(&inputs[..=pieces.len()], &mut [status])
        }
        Operation::Read | Operation::Flush => {
            let mut outputs: [&mut [u8]; MAX_BLOCKS + 1] = core::array::from_fn(|_| Default::default());
            for (output, piece) in outputs.iter_mut().zip(pieces) {
                *output = data(*piece);
            }
            outputs[pieces.len()] = status;
            act(&[read], &mut outputs[..=pieces.len()])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_frames_become_one_piece() {
        let (pieces, count) = merge(&[7, 8, 9, 3, 5, 6]);
        assert_eq!(&pieces[..count], &[(7 * 4096, 3 * 4096), (3 * 4096, 4096), (5 * 4096, 2 * 4096)]);
        assert_eq!(merge(&[]).1, 0);
    }
}
