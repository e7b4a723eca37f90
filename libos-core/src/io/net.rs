//! The network: Ethernet packets, straight between the application's pages and the host.
//!
//! A [`Nic`] is the unikernel's part of the network: a hardware address, packets that come to it, and packets
//! it may send. Buffers travel by ownership. A [`Packet`] is a page of the heap. [`Nic::transmit`] gives it
//! to the host, from where its page comes back by itself. A packet from [`Nic::receive`] is the caller's: to
//! keep, to change, to send, or to give back with [`Nic::recycle`].
//!
//! Nothing spins: [`Nic::wait`] sleeps until there is something. The methods fit a protocol stack that polls
//! and takes tokens (such as smoltcp's `phy::Device`): a received packet owns its buffer, so an answer can be
//! sent while it is being read.
//!
//! Under HyperExo, packets come that match filters of this environment ([`hyperexo_abi::net::Filter`]).
//! Elsewhere a unikernel has the machine's device to itself and gets all that comes.
#![forbid(unsafe_code)]

use crate::cpu::upcall::{self, Waiter};
use crate::platform::{self, NetPort};
use crate::time;
use alloc::{boxed::Box, vec::Vec};
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use hyperexo_abi::net::{Destination, Filter};
use hyperexo_abi::upcall::Cause;
use hyperexo_abi::{FRAME_BYTES, Page};

pub use crate::platform::{DeviceFault, NetError};
pub use hyperexo_abi::net::{ETHERNET_HEADER_BYTES, MAX_PACKET_BYTES, MacAddress, PacketOutcome};

/// Buffers that a [`Nic`] keeps for the next packets.
const SPARE_BUFFERS: usize = 64;

/// An Ethernet packet: header and body, without check sequence, in a page of its own.
#[derive(Debug)]
pub struct Packet {
    buffer: Box<Page>,
    bytes: usize,
}

impl Packet {
    /// A packet of `bytes` bytes, which this page holds.
    ///
    /// # Panics
    ///
    /// Beyond [`MAX_PACKET_BYTES`].
    pub fn from_page(buffer: Box<Page>, bytes: usize) -> Packet {
        assert!(bytes <= MAX_PACKET_BYTES, "a packet of {bytes} bytes");
        Packet { buffer, bytes }
    }

    /// The page, and how many of its bytes are the packet.
    pub fn into_page(self) -> (Box<Page>, usize) {
        (self.buffer, self.bytes)
    }
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

/// Counts of packets.
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

/// The unikernel's part of the network.
pub struct Nic {
    port: Box<dyn NetPort>,
    spare: Vec<Box<Page>>,
    statistics: NicStatistics,
    /// Dropped last, after the port is closed.
    _claim: Claim,
}

/// Whether there is a [`Claim`].
static OPEN: AtomicBool = AtomicBool::new(false);

/// The right to have the network open. There is one.
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

/// The virtual CPU that waits for the network.
static WAITER: Waiter = Waiter::new();

impl Nic {
    /// Opens the network for all packets to this unikernel's own address and to groups. It can be open once
    /// at a time.
    ///
    /// # Errors
    ///
    /// [`NetError`].
    pub fn open() -> Result<Nic, NetError> {
        Nic::open_with(&[Filter::all(Destination::Own), Filter::all(Destination::Group)])
    }

    /// Opens the network for packets that match one of these filters. A packet can be sent if the answer to
    /// it would match one. Without HyperExo, all packets come and all can be sent.
    ///
    /// # Errors
    ///
    /// [`NetError`].
    pub fn open_with(filters: &[Filter]) -> Result<Nic, NetError> {
        let claim = Claim::take()?;
        upcall::listen(Cause::Net, || WAITER.pass_on());
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
                // The host has no reason to refuse a page of the heap. The packet is lost, not the buffer.
                Err(_) => self.keep(buffer),
            }
        }
    }

    /// A packet of `bytes` bytes to be filled in. It holds bytes of earlier packets.
    ///
    /// # Panics
    ///
    /// Beyond [`MAX_PACKET_BYTES`].
    pub fn packet(&mut self, bytes: usize) -> Packet {
        assert!(bytes <= MAX_PACKET_BYTES, "a packet of {bytes} bytes");
        Packet { buffer: self.buffer(), bytes }
    }

    /// Takes a packet to be sent, and tells the host.
    ///
    /// # Errors
    ///
    /// The packet, if as many as possible are on their way. Wait for room ([`Nic::wait_for_room`]) or drop
    /// it.
    pub fn transmit(&mut self, packet: Packet) -> Result<(), Packet> {
        self.enqueue(packet)?;
        self.kick();
        Ok(())
    }

    /// Takes a packet to be sent. After the last of several, call [`Nic::kick`].
    ///
    /// # Errors
    ///
    /// As [`Nic::transmit`].
    pub fn enqueue(&mut self, packet: Packet) -> Result<(), Packet> {
        self.reclaim();
        let Packet { buffer, bytes } = packet;
        self.port.transmit(buffer, bytes).map_err(|buffer| Packet { buffer, bytes })
    }

    /// Tells the host of enqueued packets.
    pub fn kick(&mut self) {
        self.port.kick();
        self.reclaim();
    }

    /// Gives back a packet, so that its page can hold another one.
    pub fn recycle(&mut self, packet: Packet) {
        self.keep(packet.buffer);
    }

    /// Sleeps until [`Nic::receive`] has something or the timeout is over. Returns whether it has.
    ///
    /// # Panics
    ///
    /// With interrupts disabled, see [`upcall::wait_until`].
    pub fn wait(&mut self, timeout: Option<Duration>) -> bool {
        self.wait_for(false, timeout)
    }

    /// Sleeps until a packet has left, been refused or come, or the timeout is over. Returns `false` if only
    /// the timeout is over.
    ///
    /// # Panics
    ///
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
