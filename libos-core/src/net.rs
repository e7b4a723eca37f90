//! The network: Ethernet packets, straight between the application's pages and the host.
//!
//! A [`Nic`] is what the unikernel has of the network: a hardware address, packets that come to it, and
//! packets it may send. Buffers travel by ownership: a [`Packet`] is a page of the heap, which goes to the
//! host with [`Nic::transmit`] and comes back by itself; one from [`Nic::receive`] is the caller's to keep,
//! to change and to send, or to give back with [`Nic::recycle`].
//!
//! Nothing spins: [`Nic::wait`] sleeps until there is something. The methods fit a protocol stack that polls
//! and takes tokens (such as smoltcp's `phy::Device`): a received packet owns its buffer, so that an answer
//! can be sent while it is being read.
//!
//! Under HyperExo the packets that come are those that match filters of this environment
//! ([`hyperexo_abi::net::Filter`]); elsewhere a unikernel has the machine's device alone, and gets whatever
//! comes.
#![forbid(unsafe_code)]

use crate::{platform, time, upcall};
use alloc::{boxed::Box, vec::Vec};
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::net::{Destination, Filter};
use hyperexo_abi::{FRAME_BYTES, Page};

pub use crate::platform::DeviceFault;
pub use hyperexo_abi::net::{ETHERNET_HEADER_BYTES, MAX_PACKET_BYTES, MacAddress, PacketOutcome};

/// Buffers that are kept for the next packets.
const SPARE_BUFFERS: usize = 64;

/// Why the network can't be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetError {
    /// There is no network here, or the manifest keeps this environment off it.
    NoNetwork,
    /// It is open already.
    AlreadyOpen,
    /// There is one, but it can't be used.
    Unusable(DeviceFault),
    /// The host refused a step.
    Refused {
        /// What was asked.
        step: &'static str,
        /// The host's answer.
        status: Status,
    },
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NetError::NoNetwork => f.write_str("this unikernel has no network (exo run --net gives it one)"),
            NetError::AlreadyOpen => f.write_str("the network is open already"),
            NetError::Unusable(fault) => write!(f, "the network can't be used: {fault}"),
            NetError::Refused { step, status } => write!(f, "network: {step}: {status}"),
        }
    }
}

impl core::error::Error for NetError {}

/// A host's side of a [`Nic`]. Buffers that it takes are its own until it gives them back.
pub(crate) trait NetPort: Send {
    /// The hardware address.
    fn address(&self) -> MacAddress;

    /// Takes a buffer for a packet that comes; gives it back if it holds as many as it can.
    fn supply(&mut self, buffer: Box<Page>) -> Result<(), Box<Page>>;

    /// A buffer that was supplied, and the bytes of the packet in it; none if it was not used.
    fn receive(&mut self) -> Option<(Box<Page>, Result<usize, PacketOutcome>)>;

    /// Takes a packet to be sent, which starts at the buffer's first byte; gives it back if it holds as many
    /// as it can.
    fn transmit(&mut self, buffer: Box<Page>, bytes: usize) -> Result<(), Box<Page>>;

    /// A buffer of a packet whose way is over.
    fn reclaim(&mut self) -> Option<(Box<Page>, Result<(), PacketOutcome>)>;

    /// Lets the host know of what was supplied and is to be sent.
    fn kick(&mut self);

    /// Whether [`NetPort::receive`] or, if `room` is asked for, [`NetPort::reclaim`] has something; if not,
    /// the next thing it will have raises [`hyperexo_abi::upcall::Cause::Net`]. Called with interrupts
    /// disabled.
    fn ready_or_wake(&mut self, room: bool) -> bool;
}

/// An Ethernet packet: header and body, without check sequence, in a page of its own.
#[derive(Debug)]
pub struct Packet {
    buffer: Box<Page>,
    bytes: usize,
}

impl Deref for Packet {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer.0[..self.bytes]
    }
}

impl DerefMut for Packet {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buffer.0[..self.bytes]
    }
}

/// What has happened to packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NicStatistics {
    /// Packets handed to the application.
    pub received: u64,
    /// Packets that the host has sent.
    pub sent: u64,
    /// Packets that the host has refused to send.
    pub refused: u64,
    /// Why it refused the last of them.
    pub last_refusal: Option<PacketOutcome>,
}

/// The network as one unikernel has it.
pub struct Nic {
    port: Box<dyn NetPort>,
    spare: Vec<Box<Page>>,
    statistics: NicStatistics,
    /// Dropped after the port.
    _claim: Claim,
}

/// Whether there is a [`Claim`].
static OPEN: AtomicBool = AtomicBool::new(false);

/// The right to open the network, which there is once.
struct Claim(());

impl Claim {
    fn take() -> Result<Claim, NetError> {
        if OPEN.swap(true, Ordering::AcqRel) { Err(NetError::AlreadyOpen) } else { Ok(Claim(())) }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        OPEN.store(false, Ordering::Release);
    }
}

/// Who waits for the network.
static WAITER: upcall::Waiter = upcall::Waiter::new();

/// Called by an upcall of the network: wakes who waits for it, if that is another virtual CPU.
pub(crate) fn pass_on_upcall() {
    WAITER.pass_on();
}

impl Nic {
    /// Opens the network for all packets to this unikernel's own address and to groups. It can be open once
    /// at a time.
    ///
    /// # Errors
    /// [`NetError`].
    pub fn open() -> Result<Nic, NetError> {
        Nic::open_with(&[Filter::all(Destination::Own), Filter::all(Destination::Group)])
    }

    /// Opens the network for packets that match one of some filters; packets can be sent that an answer to
    /// would match one. Running without HyperExo, all packets come, and all can be sent.
    ///
    /// # Errors
    /// [`NetError`].
    pub fn open_with(filters: &[Filter]) -> Result<Nic, NetError> {
        let claim = Claim::take()?;
        let port = platform::current().open_network(filters)?;
        let mut nic = Nic { port, spare: Vec::new(), statistics: NicStatistics::default(), _claim: claim };
        nic.refill();
        nic.port.kick();
        Ok(nic)
    }

    /// The hardware address of this unikernel.
    pub fn address(&self) -> MacAddress {
        self.port.address()
    }

    /// What has happened so far.
    pub fn statistics(&self) -> NicStatistics {
        self.statistics
    }

    /// The next packet that has come.
    pub fn receive(&mut self) -> Option<Packet> {
        loop {
            let (buffer, outcome) = self.port.receive()?;
            match outcome {
                Ok(bytes) => {
                    self.statistics.received += 1;
                    self.refill();
                    return Some(Packet { buffer, bytes: bytes.min(FRAME_BYTES) });
                }
                // Its page is of the heap, so the host has no reason; the packet is lost, the buffer is not.
                Err(_) => self.keep(buffer),
            }
        }
    }

    /// A packet of `bytes` bytes to be filled in; what it holds is left over from earlier ones.
    ///
    /// # Panics
    /// Beyond [`MAX_PACKET_BYTES`].
    pub fn packet(&mut self, bytes: usize) -> Packet {
        assert!(bytes <= MAX_PACKET_BYTES, "a packet of {bytes} bytes");
        Packet { buffer: self.buffer(), bytes }
    }

    /// Takes a packet to be sent, and lets the host know.
    ///
    /// # Errors
    /// The packet, if as many as possible are on their way: wait for room ([`Nic::wait_for_room`]), or drop
    /// it.
    pub fn transmit(&mut self, packet: Packet) -> Result<(), Packet> {
        self.enqueue(packet)?;
        self.kick();
        Ok(())
    }

    /// Takes a packet to be sent. Several can follow each other; then [`Nic::kick`] must be called.
    ///
    /// # Errors
    /// As [`Nic::transmit`].
    pub fn enqueue(&mut self, packet: Packet) -> Result<(), Packet> {
        self.reclaim();
        let Packet { buffer, bytes } = packet;
        self.port.transmit(buffer, bytes).map_err(|buffer| Packet { buffer, bytes })
    }

    /// Lets the host know of enqueued packets.
    pub fn kick(&mut self) {
        self.port.kick();
        self.reclaim();
    }

    /// Gives back a packet, so that its page serves for another one.
    pub fn recycle(&mut self, packet: Packet) {
        self.keep(packet.buffer);
    }

    /// Sleeps until [`Nic::receive`] has something, or a time is over. Returns whether it has.
    ///
    /// # Panics
    /// With interrupts disabled, see [`upcall::wait_until`].
    pub fn wait(&mut self, timeout: Option<Duration>) -> bool {
        self.wait_for(false, timeout)
    }

    /// Sleeps until a packet on its way has left or been refused, or a packet has come, or a time is over.
    /// Returns whether either has.
    ///
    /// # Panics
    /// As [`Nic::wait`].
    pub fn wait_for_room(&mut self, timeout: Option<Duration>) -> bool {
        self.wait_for(true, timeout)
    }

    fn wait_for(&mut self, room: bool, timeout: Option<Duration>) -> bool {
        WAITER.wait_here();
        let deadline = timeout.map(time::deadline_after);
        let mut ready = false;
        upcall::wait_until(|| {
            ready = self.port.ready_or_wake(room);
            ready || deadline.is_some_and(|deadline| !time::wake_at(deadline))
        });
        ready
    }

    /// Takes back the buffers of packets that have left.
    fn reclaim(&mut self) {
        while let Some((buffer, outcome)) = self.port.reclaim() {
            match outcome {
                Ok(()) => self.statistics.sent += 1,
                Err(why) => {
                    self.statistics.refused += 1;
                    self.statistics.last_refusal = Some(why);
                }
            }
            self.keep(buffer);
        }
    }

    /// Gives the host as many buffers as it takes.
    fn refill(&mut self) {
        loop {
            let buffer = self.buffer();
            if let Err(buffer) = self.port.supply(buffer) {
                return self.keep(buffer);
            }
        }
    }

    fn buffer(&mut self) -> Box<Page> {
        self.spare.pop().unwrap_or_else(|| Box::new(Page([0; FRAME_BYTES])))
    }

    fn keep(&mut self, buffer: Box<Page>) {
        if self.spare.len() < SPARE_BUFFERS {
            self.spare.push(buffer);
        }
    }
}
