//! virtio-net (virtio 1.1 §5.1): Ethernet packets between a device and buffers that belong to somebody else.
//!
//! The driver names buffers by physical address, and the device moves the packets there and nowhere else. It
//! never waits:
//!
//! * to receive, buffers are given to the device with [`VirtioNet::supply`]; [`VirtioNet::receive`] brings
//!   them back filled, in the order of the packets;
//! * [`VirtioNet::transmit`] starts a packet on its way; [`VirtioNet::reclaim`] brings its buffer back;
//! * after either, [`VirtioNet::notify`] tells the device;
//! * an interrupt says that there is something to take. Those for packets sent are off unless asked for with
//!   [`VirtioNet::interrupt_on_reclaim`].
//!
//! Offloads, several pairs of queues and address filters in the device are not used. A device whose filters
//! nobody sets passes on all packets it sees (§5.1.6.5.1), so that environments can have addresses of their
//! own behind it.

pub use super::block::QueueFull;
use super::{LinearHal, pointer};
use alloc::boxed::Box;
use bitflags::bitflags;
use core::slice;
use core::sync::atomic::{Ordering, fence};
use virtio_drivers::Error;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::Transport;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Buffers that can be in the device's hands, for each direction.
pub const SLOTS: usize = 64;
/// Bytes of the longest packet: an Ethernet header and 1,500 bytes. Buffers for receiving have at least as
/// many.
pub const MAX_PACKET_BYTES: usize = 1514;
/// Bytes of a hardware address.
pub const ADDRESS_BYTES: usize = 6;
/// Queue of packets that arrive.
pub const RECEIVE_QUEUE: u16 = 0;
/// Queue of packets that are sent.
pub const TRANSMIT_QUEUE: u16 = 1;

/// Entries of each queue: one for the header of a packet, one for the rest. Devices before virtio 1.0 insist
/// on the header being apart, later ones do not mind.
pub const QUEUE_ENTRIES: usize = 2 * SLOTS;
/// Offset of the hardware address in the configuration space.
const CONFIG_ADDRESS: usize = 0;

bitflags! {
    /// Features that the driver can use. Not event indices, for the reason given in [`super::block`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Features: u64 {
        const ADDRESS = 1 << 5;
        const VERSION_1 = 1 << 32;
    }
}

/// What precedes each packet (§5.1.6). All zeros: no checksum to fill in, no segments to cut.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header([u8; 12]);

/// Bytes of the header that devices before virtio 1.0 know.
const LEGACY_HEADER_BYTES: usize = 10;

/// A buffer in the device's hands.
#[derive(Clone, Copy)]
struct Buffer {
    token: u16,
    address: u64,
    bytes: usize,
}

/// Who writes the buffers of a queue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writer {
    Device,
    Driver,
}

/// One direction.
///
/// Invariant: an occupied slot's header and buffer are in the device's hands, and nobody else touches the
/// header.
struct Direction {
    /// On the heap, as all that is large here: an image starts on a small stack.
    queue: Box<VirtQueue<LinearHal, QUEUE_ENTRIES>>,
    writer: Writer,
    header_bytes: usize,
    headers: Box<[Header; SLOTS]>,
    slots: Box<[Option<Buffer>]>,
    /// Buffers have been given since the device was last told.
    untold: bool,
}

impl Direction {
    fn new<T: Transport>(
        transport: &mut T,
        number: u16,
        writer: Writer,
        header_bytes: usize,
    ) -> Result<Direction, Error> {
        let queue = Box::new(VirtQueue::new(transport, number, false, false)?);
        let headers = <[Header; SLOTS]>::new_box_zeroed().map_err(|_| Error::DmaError)?;
        let slots = (0..SLOTS).map(|_| None).collect();
        Ok(Direction { queue, writer, header_bytes, headers, slots, untold: false })
    }

    /// Gives a buffer to the device.
    ///
    /// # Safety
    ///
    /// As for [`VirtioNet::supply`] or [`VirtioNet::transmit`], by [`Direction::writer`].
    unsafe fn give(&mut self, address: u64, bytes: usize) -> Result<usize, QueueFull> {
        let slot = self.slots.iter().position(Option::is_none).ok_or(QueueFull)?;
        let mut buffer = Buffer { token: 0, address, bytes };
        let header = &mut self.headers[slot];
        *header = Header([0; 12]);
        let header = &mut header.as_mut_bytes()[..self.header_bytes];
        // SAFETY: header and buffer stay where they are until the device gives them back: the header because
        // its slot is taken, the buffer by the caller's promise.
        let added = unsafe {
            with_buffers(self.writer, header, &buffer, |inputs, outputs| self.queue.add(inputs, outputs))
        };
        buffer.token = added.map_err(|_| QueueFull)?;
        self.slots[slot] = Some(buffer);
        self.untold = true;
        Ok(slot)
    }

    /// The next buffer that the device gives back, and how many bytes of it the device wrote.
    fn take(&mut self) -> Option<(usize, usize)> {
        let token = self.queue.peek_used()?;
        // A token that was never issued would be a device gone mad: there is nothing to give back.
        let slot =
            self.slots.iter().position(|slot| slot.is_some_and(|buffer: Buffer| buffer.token == token))?;
        let buffer = self.slots[slot].take()?;
        let header = &mut self.headers[slot].as_mut_bytes()[..self.header_bytes];
        // SAFETY: the same buffers as in `give`, and the device has returned them.
        let popped = unsafe {
            with_buffers(self.writer, header, &buffer, |inputs, outputs| {
                self.queue.pop_used(token, inputs, outputs)
            })
        };
        // As in `VirtioBlock::complete`: whoever looks for another one from here on sees it, or is
        // interrupted.
        fence(Ordering::SeqCst);
        // The device counts the header too, and may claim anything.
        let written = popped.map_or(0, |bytes| (bytes as usize).saturating_sub(self.header_bytes));
        Some((slot, written.min(buffer.bytes)))
    }
}

/// Why a device can't be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// The transport or a queue refuses.
    Driver(Error),
    /// A queue of the device has fewer than [`QUEUE_ENTRIES`] entries.
    ShortQueue {
        /// Entries it has.
        entries: u32,
    },
    /// It tells no hardware address.
    NoAddress,
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
            StartError::ShortQueue { entries } => write!(
                f,
                "a queue of it has {entries} entries, {QUEUE_ENTRIES} are needed (QEMU: rx_queue_size={QUEUE_ENTRIES})"
            ),
            StartError::NoAddress => f.write_str("it has no hardware address"),
        }
    }
}

/// The driver.
pub struct VirtioNet<T: Transport> {
    transport: T,
    receive: Direction,
    transmit: Direction,
    address: [u8; ADDRESS_BYTES],
}

impl<T: Transport> VirtioNet<T> {
    /// Starts the device. It has no buffers yet.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub fn new(mut transport: T) -> Result<Self, StartError> {
        let features: Features = transport.begin_init(Features::all());
        if !features.contains(Features::ADDRESS) {
            return Err(StartError::NoAddress);
        }
        let address = transport.read_consistent(|| read_address(&transport))?;
        let header_bytes = match features.contains(Features::VERSION_1) {
            true => size_of::<Header>(),
            false => LEGACY_HEADER_BYTES,
        };
        for number in [RECEIVE_QUEUE, TRANSMIT_QUEUE] {
            let entries = transport.max_queue_size(number);
            if entries < QUEUE_ENTRIES as u32 {
                return Err(StartError::ShortQueue { entries });
            }
        }
        let receive = Direction::new(&mut transport, RECEIVE_QUEUE, Writer::Device, header_bytes)?;
        let mut transmit = Direction::new(&mut transport, TRANSMIT_QUEUE, Writer::Driver, header_bytes)?;
        transmit.queue.set_dev_notify(false);
        transport.finish_init();
        Ok(VirtioNet { transport, receive, transmit, address })
    }

    /// The device's hardware address.
    pub fn address(&self) -> [u8; ADDRESS_BYTES] {
        self.address
    }

    /// Gives the device a buffer of `bytes` bytes for a packet that arrives; it hears of it at the next
    /// [`VirtioNet::notify`]. The result names the buffer until [`VirtioNet::receive`] brings it back.
    ///
    /// # Errors
    ///
    /// [`QueueFull`].
    ///
    /// # Safety
    ///
    /// The buffer is RAM that has at least [`MAX_PACKET_BYTES`] bytes, and until it comes back nobody relies
    /// on its contents or gives it to another owner.
    pub unsafe fn supply(&mut self, address: u64, bytes: usize) -> Result<usize, QueueFull> {
        // SAFETY: by the caller's promise.
        unsafe { self.receive.give(address, bytes) }
    }

    /// The next packet that has arrived: its buffer, and its bytes.
    pub fn receive(&mut self) -> Option<(usize, usize)> {
        self.receive.take()
    }

    /// Whether a packet has arrived.
    pub fn has_received(&self) -> bool {
        self.receive.queue.can_pop()
    }

    /// Sends a packet of `bytes` bytes; the device hears of it at the next [`VirtioNet::notify`]. The result
    /// names its buffer until [`VirtioNet::reclaim`] brings it back.
    ///
    /// # Errors
    ///
    /// [`QueueFull`].
    ///
    /// # Safety
    ///
    /// The buffer is RAM, holds at least one byte, and until it comes back nobody changes it expecting the
    /// change to stay off the wire or gives it to another owner.
    pub unsafe fn transmit(&mut self, address: u64, bytes: usize) -> Result<usize, QueueFull> {
        // SAFETY: by the caller's promise.
        unsafe { self.transmit.give(address, bytes) }
    }

    /// The next buffer of a packet that has been sent.
    pub fn reclaim(&mut self) -> Option<usize> {
        self.transmit.take().map(|(slot, _)| slot)
    }

    /// Whether a packet has been sent.
    pub fn has_sent(&self) -> bool {
        self.transmit.queue.can_pop()
    }

    /// Whether the device raises an interrupt when a packet has arrived; it does so from the start. Whoever
    /// turns it on looks at [`VirtioNet::receive`] once more: what came in between is not told.
    pub fn interrupt_on_receive(&mut self, wanted: bool) {
        self.receive.queue.set_dev_notify(wanted);
        fence(Ordering::SeqCst);
    }

    /// Whether the device raises an interrupt when a packet has been sent; it does not from the start.
    /// Whoever turns it on looks at [`VirtioNet::reclaim`] once more.
    pub fn interrupt_on_reclaim(&mut self, wanted: bool) {
        self.transmit.queue.set_dev_notify(wanted);
        fence(Ordering::SeqCst);
    }

    /// Tells the device of buffers given since the last time, if it wants to be told.
    pub fn notify(&mut self) {
        // As in `VirtioBlock::notify`: the flags must not be read before our buffers can be seen.
        fence(Ordering::SeqCst);
        for (direction, number) in [(&mut self.receive, RECEIVE_QUEUE), (&mut self.transmit, TRANSMIT_QUEUE)]
        {
            if core::mem::take(&mut direction.untold) && direction.queue.should_notify() {
                self.transport.notify(number);
            }
        }
    }

    /// Tells the device that its interrupt has been taken. Needed where the interrupt is not MSI-X: a level
    /// stays raised until then.
    pub fn acknowledge_interrupt(&mut self) {
        self.transport.ack_interrupt();
    }
}

fn read_address<T: Transport>(transport: &T) -> Result<[u8; ADDRESS_BYTES], Error> {
    let mut address = [0; ADDRESS_BYTES];
    for (offset, byte) in address.iter_mut().enumerate() {
        *byte = transport.read_config_space(CONFIG_ADDRESS + offset)?;
    }
    Ok(address)
}

/// Calls `act` with header and buffer as the crate wants them: what the device reads, what it writes.
///
/// # Safety
///
/// The buffer is RAM. The slices exist only to carry address and length to the device: `act` must not look
/// into them.
unsafe fn with_buffers<R>(
    writer: Writer,
    header: &mut [u8],
    buffer: &Buffer,
    act: impl for<'s> FnOnce(&'s [&'s [u8]], &'s mut [&'s mut [u8]]) -> R,
) -> R {
    // SAFETY: by the caller's promise: address and length, no more.
    let data = unsafe { slice::from_raw_parts_mut(pointer(buffer.address).as_ptr(), buffer.bytes) };
    match writer {
        Writer::Device => act(&[], &mut [header, data]),
        Writer::Driver => act(&[header, data], &mut []),
    }
}
