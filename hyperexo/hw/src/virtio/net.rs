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
//! A packet to send may lie in several places, which the device gathers. What the device computes or has
//! checked stands in the [`Words`] before each packet; who owns the packets says what they mean. A packet
//! that has come may fill several buffers, if the device offers that: only then may it put segments
//! together.
//!
//! Several pairs of queues and address filters in the device are not used. A device whose filters nobody sets
//! passes on all packets it sees (§5.1.6.5.1), so that environments can have addresses of their own behind
//! it.

pub use super::block::QueueFull;
use super::{LinearHal, pointer};
use alloc::boxed::Box;
use alloc::vec::Vec;
use bitflags::bitflags;
use core::slice;
use core::sync::atomic::{Ordering, fence};
use virtio_drivers::Error;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::Transport;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Buffers that can be in the device's hands, for each direction.
pub const SLOTS: usize = 128;
/// Bytes of the longest packet that is not cut into segments: an Ethernet header and 1,500 bytes. Buffers for
/// receiving have at least as many, and [`Arrival::start`] more.
pub const MAX_PACKET_BYTES: usize = 1514;
/// Places that a packet to send may lie in: a page of headers, and 64 KiB that begin anywhere in a page.
pub const MAX_PARTS: usize = 18;
/// Bytes of a hardware address.
pub const ADDRESS_BYTES: usize = 6;
/// Queue of packets that arrive.
pub const RECEIVE_QUEUE: u16 = 0;
/// Queue of packets that are sent.
pub const TRANSMIT_QUEUE: u16 = 1;

/// Entries of each queue: one for the header of a packet, one for the rest. Devices before virtio 1.0 insist
/// on the header being apart, later ones do not mind. A packet in several places takes more.
pub const QUEUE_ENTRIES: usize = 2 * SLOTS;
/// Offset of the hardware address in the configuration space.
const CONFIG_ADDRESS: usize = 0;

bitflags! {
    /// Features that the driver can use (§5.1.3). Not event indices, for the reason given in
    /// [`super::block`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Features: u64 {
        /// The device completes checksums of packets that are sent.
        const CHECKSUM = 1 << 0;
        /// Checksums of packets that come may be incomplete, or checked already.
        const RECEIVE_CHECKSUM = 1 << 1;
        /// It has a hardware address.
        const ADDRESS = 1 << 5;
        /// It puts segments of TCP over IPv4 that come together.
        const RECEIVE_SEGMENTS4 = 1 << 7;
        /// The same over IPv6.
        const RECEIVE_SEGMENTS6 = 1 << 8;
        /// It cuts TCP over IPv4 that is sent into segments.
        const SEGMENTS4 = 1 << 11;
        /// The same over IPv6.
        const SEGMENTS6 = 1 << 12;
        /// A packet that comes may fill several buffers.
        const SEVERAL_BUFFERS = 1 << 15;
        /// A header need not be apart from what follows it (§2.6.4.3; all devices from virtio 1.0 on).
        const ANY_LAYOUT = 1 << 27;
        /// It follows virtio 1.0 or later.
        const VERSION_1 = 1 << 32;
    }
}

impl Features {
    /// All that is work that somebody else does.
    pub const OFFLOADS: Features = Features::CHECKSUM
        .union(Features::RECEIVE_CHECKSUM)
        .union(Features::RECEIVE_SEGMENTS4)
        .union(Features::RECEIVE_SEGMENTS6)
        .union(Features::SEGMENTS4)
        .union(Features::SEGMENTS6)
        .union(Features::SEVERAL_BUFFERS)
        .union(Features::ANY_LAYOUT);

    /// What can be used of what a device offers.
    fn usable(offered: Features) -> Features {
        let mut usable = offered;
        if !offered.intersects(Features::VERSION_1 | Features::ANY_LAYOUT) {
            usable.remove(Features::SEVERAL_BUFFERS);
        }
        // Each needs another (§5.1.3.1); and a large packet needs several of our buffers.
        if !offered.contains(Features::CHECKSUM) {
            usable.remove(Features::SEGMENTS4 | Features::SEGMENTS6);
        }
        if !usable.contains(Features::RECEIVE_CHECKSUM | Features::SEVERAL_BUFFERS) {
            usable.remove(Features::RECEIVE_SEGMENTS4 | Features::RECEIVE_SEGMENTS6);
        }
        usable
    }
}

/// What is said of a packet besides its bytes, as it lies in memory (`struct virtio_net_hdr`, §5.1.6, without
/// the number of buffers). All zeros: no checksum to complete, no segments to cut.
pub type Words = [u8; LEGACY_HEADER_BYTES];

/// What precedes each packet: [`Words`], and the number of buffers that it fills.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    words: Words,
    buffers: [u8; 2],
}

/// Bytes of the header that devices before virtio 1.0 know.
const LEGACY_HEADER_BYTES: usize = 10;

/// A part of a packet in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its physical address.
    pub address: u64,
    /// Its bytes, at least one.
    pub bytes: usize,
}

/// A packet that has come, or the first part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its buffer.
    pub slot: usize,
    /// Where in the buffer it starts.
    pub start: usize,
    /// How many bytes of it the buffer has.
    pub bytes: usize,
    /// How many more buffers it fills, says the device: [`VirtioNet::receive_more`] brings each.
    pub more: usize,
    /// What the device says of it.
    pub words: Words,
}

/// What is in the device's hands in a slot.
struct Slot {
    token: u16,
    /// The parts of the packet. None: the slot is free.
    parts: Vec<Part>,
}

/// Who writes the buffers of a queue, and where the header is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writer {
    /// The device; the header is apart.
    Device,
    /// The device; the header is at the start of the buffer.
    DeviceInline,
    /// The driver; the header is apart.
    Driver,
}

/// One direction.
///
/// Invariant: an occupied slot's header and parts are in the device's hands, and nobody else touches the
/// header.
struct Direction {
    /// On the heap, as all that is large here: an image starts on a small stack.
    queue: Box<VirtQueue<LinearHal, QUEUE_ENTRIES>>,
    writer: Writer,
    header_bytes: usize,
    headers: Box<[Header; SLOTS]>,
    slots: Box<[Slot]>,
    /// Slots that are free.
    free: Vec<usize>,
    /// Slot of each token: the device gives back tokens.
    slot_of: Box<[u8; QUEUE_ENTRIES]>,
    /// Buffers have been given since the device was last told.
    untold: bool,
}

const _: () = assert!(SLOTS <= u8::MAX as usize + 1 && size_of::<Header>() == 12);

impl Direction {
    fn new<T: Transport>(
        transport: &mut T,
        number: u16,
        writer: Writer,
        header_bytes: usize,
    ) -> Result<Direction, Error> {
        let queue = Box::new(VirtQueue::new(transport, number, false, false)?);
        let headers = <[Header; SLOTS]>::new_box_zeroed().map_err(|_| Error::DmaError)?;
        let slot_of = <[u8; QUEUE_ENTRIES]>::new_box_zeroed().map_err(|_| Error::DmaError)?;
        let slots = (0..SLOTS).map(|_| Slot { token: 0, parts: Vec::new() }).collect();
        let free = (0..SLOTS).rev().collect();
        Ok(Direction { queue, writer, header_bytes, headers, slots, free, slot_of, untold: false })
    }

    /// Gives the parts of a packet to the device.
    ///
    /// # Safety
    ///
    /// As for [`VirtioNet::supply`] or [`VirtioNet::transmit`], by [`Direction::writer`].
    unsafe fn give(&mut self, words: Words, parts: &[Part]) -> Result<usize, QueueFull> {
        assert!((1..=MAX_PARTS).contains(&parts.len()), "a packet in {} parts", parts.len());
        let slot = *self.free.last().ok_or(QueueFull)?;
        self.headers[slot] = Header { words, buffers: [0; 2] };
        let header = &mut self.headers[slot].as_mut_bytes()[..self.header_bytes];
        // SAFETY: header and parts stay where they are until the device gives them back: the header because
        // its slot is taken, the parts by the caller's promise.
        let added = unsafe {
            with_buffers(self.writer, header, parts, |inputs, outputs| self.queue.add(inputs, outputs))
        };
        let token = added.map_err(|_| QueueFull)?;
        self.free.pop();
        self.slot_of[usize::from(token)] = slot as u8;
        let taken = &mut self.slots[slot];
        taken.token = token;
        taken.parts.extend_from_slice(parts);
        self.untold = true;
        Ok(slot)
    }

    /// The next slot that the device gives back, and how many bytes it claims to have written.
    fn take(&mut self) -> Option<(usize, usize)> {
        let token = self.queue.peek_used()?;
        let slot = usize::from(*self.slot_of.get(usize::from(token))?);
        let Slot { token: given, parts } = &mut self.slots[slot];
        // A token that was never issued would be a device gone mad: there is nothing to give back.
        if parts.is_empty() || *given != token {
            return None;
        }
        let header = &mut self.headers[slot].as_mut_bytes()[..self.header_bytes];
        // SAFETY: the same buffers as in `give`, and the device has returned them.
        let popped = unsafe {
            with_buffers(self.writer, header, parts, |inputs, outputs| {
                self.queue.pop_used(token, inputs, outputs)
            })
        };
        parts.clear();
        self.free.push(slot);
        // As in `VirtioBlock::complete`: whoever looks for another one from here on sees it, or is
        // interrupted.
        fence(Ordering::SeqCst);
        Some((slot, popped.map_or(0, |bytes| bytes as usize)))
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
    features: Features,
    /// Address and bytes of each buffer to receive into.
    room: Box<[Part; SLOTS]>,
}

impl<T: Transport> VirtioNet<T> {
    /// Starts the device, and uses those of these offloads ([`Features::OFFLOADS`]) that it offers. It has no
    /// buffers yet.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub fn new(mut transport: T, offloads: Features) -> Result<Self, StartError> {
        let wanted = Features::ADDRESS | Features::VERSION_1 | offloads & Features::OFFLOADS;
        let features = begin(&mut transport, wanted);
        if !features.contains(Features::ADDRESS) {
            return Err(StartError::NoAddress);
        }
        let address = transport.read_consistent(|| read_address(&transport))?;
        // With several buffers their number follows, whatever the version (§5.1.6.1).
        let header_bytes = match features.intersects(Features::VERSION_1 | Features::SEVERAL_BUFFERS) {
            true => size_of::<Header>(),
            false => LEGACY_HEADER_BYTES,
        };
        let receiver = match features.contains(Features::SEVERAL_BUFFERS) {
            true => Writer::DeviceInline,
            false => Writer::Device,
        };
        for number in [RECEIVE_QUEUE, TRANSMIT_QUEUE] {
            let entries = transport.max_queue_size(number);
            if entries < QUEUE_ENTRIES as u32 {
                return Err(StartError::ShortQueue { entries });
            }
        }
        let receive = Direction::new(&mut transport, RECEIVE_QUEUE, receiver, header_bytes)?;
        let mut transmit = Direction::new(&mut transport, TRANSMIT_QUEUE, Writer::Driver, header_bytes)?;
        transmit.queue.set_dev_notify(false);
        transport.finish_init();
        let room = Box::new([Part { address: 0, bytes: 0 }; SLOTS]);
        Ok(VirtioNet { transport, receive, transmit, address, features, room })
    }

    /// What the device and the driver have agreed upon.
    pub fn features(&self) -> Features {
        self.features
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
    /// The buffer is RAM that has at least [`MAX_PACKET_BYTES`] bytes and 12 more, and until it comes back
    /// nobody relies on its contents or gives it to another owner.
    pub unsafe fn supply(&mut self, address: u64, bytes: usize) -> Result<usize, QueueFull> {
        let part = Part { address, bytes };
        // SAFETY: by the caller's promise.
        let slot = unsafe { self.receive.give([0; LEGACY_HEADER_BYTES], &[part]) }?;
        self.room[slot] = part;
        Ok(slot)
    }

    /// The next packet that has arrived, or its first part. The device may claim anything: what it says of
    /// lengths is cut to the buffer, the rest is not judged.
    pub fn receive(&mut self) -> Option<Arrival> {
        let (slot, written) = self.receive.take()?;
        let (start, header) = match self.receive.writer {
            Writer::DeviceInline => {
                // SAFETY: the buffer is larger than a header, and the device has given it back.
                let header = unsafe { pointer(self.room[slot].address).cast::<Header>().read_unaligned() };
                (size_of::<Header>(), header)
            }
            Writer::Device | Writer::Driver => (0, Header { buffers: [0; 2], ..self.receive.headers[slot] }),
        };
        // The device counts the header too.
        let bytes = written.saturating_sub(self.receive.header_bytes).min(self.room[slot].bytes - start);
        let more = usize::from(u16::from_le_bytes(header.buffers)).saturating_sub(1);
        Some(Arrival { slot, start, bytes, more, words: header.words })
    }

    /// The next buffer of the packet that [`VirtioNet::receive`] brought the first part of, and how many
    /// bytes it has, from the first on. `None`: the device has not filled as many as it claims.
    pub fn receive_more(&mut self) -> Option<(usize, usize)> {
        let (slot, written) = self.receive.take()?;
        Some((slot, written.min(self.room[slot].bytes)))
    }

    /// Whether a packet has arrived.
    pub fn has_received(&self) -> bool {
        self.receive.queue.can_pop()
    }

    /// Sends a packet that lies in these parts, at most [`MAX_PARTS`]; the device hears of it at the next
    /// [`VirtioNet::notify`]. The result names it until [`VirtioNet::reclaim`] brings it back.
    ///
    /// # Errors
    ///
    /// [`QueueFull`].
    ///
    /// # Safety
    ///
    /// The parts are RAM, each holds at least one byte, and until the packet comes back nobody changes them
    /// expecting the change to stay off the wire or gives them to another owner.
    pub unsafe fn transmit(&mut self, words: Words, parts: &[Part]) -> Result<usize, QueueFull> {
        // SAFETY: by the caller's promise.
        unsafe { self.transmit.give(words, parts) }
    }

    /// The next packet that has been sent.
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

/// Agrees with the device upon features. It is asked twice what it offers: what is not usable must not be
/// accepted (§3.1.1).
fn begin<T: Transport>(transport: &mut T, wanted: Features) -> Features {
    let offered: Features = transport.begin_init(wanted);
    let usable = Features::usable(offered);
    if usable == offered { offered } else { transport.begin_init(usable) }
}

/// Calls `act` with header and parts as the crate wants them: what the device reads, what it writes.
///
/// # Safety
///
/// The parts are RAM. The slices exist only to carry address and length to the device: `act` must not look
/// into them.
unsafe fn with_buffers<R>(
    writer: Writer,
    header: &mut [u8],
    parts: &[Part],
    act: impl for<'s> FnOnce(&'s [&'s [u8]], &'s mut [&'s mut [u8]]) -> R,
) -> R {
    // SAFETY: by the caller's promise: address and length, no more.
    let data = |part: &Part| unsafe { slice::from_raw_parts_mut(pointer(part.address).as_ptr(), part.bytes) };
    match (writer, parts) {
        (Writer::Device, [part]) => act(&[], &mut [header, data(part)]),
        (Writer::DeviceInline, [part]) => act(&[], &mut [data(part)]),
        (Writer::Driver, [part]) => act(&[header, data(part)], &mut []),
        (_, parts) => {
            let header: &[u8] = header;
            let mut inputs = [header; MAX_PARTS + 1];
            let used = inputs[1..].iter_mut().zip(parts);
            used.for_each(|(input, part)| *input = data(part));
            act(&inputs[..1 + parts.len().min(MAX_PARTS)], &mut [])
        }
    }
}
