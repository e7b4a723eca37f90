//! The network: Ethernet packets, straight between the application's pages and the host.
//!
//! A [`Nic`] is the unikernel's part of the network: a hardware address, packets that come to it, and
//! packets it may send. Buffers travel by ownership. [`Nic::transmit`] gives a [`Packet`] to the host,
//! from where its pages come back by themselves. A packet from [`Nic::receive`] is the caller's: to keep,
//! to change, to send, or to give back with [`Nic::recycle`].
//!
//! A packet may have [`Piece`]s besides its head: bytes of pages that others share, such as those of a file
//! cache, which the device reads from where they are. Checksums can be left to it, and so can, if it offers
//! that, cutting a packet of up to 64 KiB into segments ([`Offload`]).
//!
//! [`Nic::wait`] sleeps until there is something; before that it looks a number of times, which the
//! application chooses. The methods fit a protocol stack that polls and takes tokens (such as smoltcp's
//! `phy::Device`): a received packet owns its buffer, so an answer can be sent while it is being read.
//!
//! Under HyperExo, packets come that match filters of this environment ([`hyperexo_abi::net::Filter`]).
//! Elsewhere a unikernel has the machine's device to itself and gets all that comes.
#![forbid(unsafe_code)]

use crate::cpu::upcall::{self, Waiter};
use crate::platform::{self, NetPort};
use crate::{thread, time};
use alloc::{boxed::Box, vec::Vec};
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use hyperexo_abi::FRAME_BYTES;
use hyperexo_abi::net::{Destination, Filter};
use hyperexo_abi::upcall::Cause;

pub use crate::platform::{DeviceFault, NetError, Packet, Pages, Piece, pages_for};
pub use hyperexo_abi::net::{ETHERNET_HEADER_BYTES, MAX_PACKET_BYTES, MacAddress, PacketOutcome};
pub use hyperexo_abi::offload::{MAX_LARGE_PACKET_BYTES, Offload, Offloads, checksum, ones_sum};

/// Pages that a [`Nic`] keeps for the next packets.
const SPARE_BUFFERS: usize = 64;
/// Runs of pages that it keeps for large ones.
const LARGE_BUFFERS: usize = 8;
/// How often [`Nic::wait`] looks before it sleeps, unless an application says otherwise.
const DEFAULT_LOOKS: u32 = 2_000;

/// Counts of packets, and of bytes. Copies are those that are made here: between the application's
/// packets and the host's buffers. HyperExo makes more:
/// [`hyperexo_abi::accounting::Accounting::net_bytes_copied`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NicStatistics {
    /// Packets handed to the application.
    pub received: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// Packets that the host has sent.
    pub sent: u64,
    /// Their bytes, without headers that a device makes when it cuts a packet into segments.
    pub bytes_sent: u64,
    /// Bytes copied because a packet lay in more places than the host takes.
    pub bytes_copied: u64,
    /// Bytes summed because the host completes no checksums.
    pub bytes_summed: u64,
    /// Packets that the host has refused to send.
    pub refused: u64,
    /// Why it refused the last of them.
    pub last_refusal: Option<PacketOutcome>,
}

/// The unikernel's part of the network.
pub struct Nic {
    port: Box<dyn NetPort>,
    offloads: Offloads,
    /// Single pages.
    spare: Vec<Pages>,
    /// As many as a large packet needs.
    large: Vec<Pages>,
    statistics: NicStatistics,
    /// How often [`Nic::wait`] looks before it sleeps.
    looks: u32,
    /// Something was sent since the last sleep.
    expects: bool,
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
        let mut nic = Nic {
            offloads: port.offloads(),
            port,
            spare: Vec::new(),
            large: Vec::new(),
            statistics: NicStatistics::default(),
            looks: DEFAULT_LOOKS,
            expects: false,
            _claim: claim,
        };
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

    /// What the host does for packets that are sent ([`Packet::set_offload`]). A checksum can be left to
    /// it in any case: where the host completes none, it is computed here.
    pub fn offloads(&self) -> Offloads {
        self.offloads
    }

    /// How often [`Nic::wait`] looks for packets before it sleeps, if some were sent since it slept last. To
    /// sleep and to be woken takes longer than most answers; to look takes the core from others meanwhile, so
    /// who was sent something that he does not answer does not. A look is a handful of instructions.
    pub fn set_looks(&mut self, looks: u32) {
        self.looks = looks;
    }

    /// The next packet that has come.
    pub fn receive(&mut self) -> Option<Packet> {
        loop {
            let (packet, outcome) = self.port.receive()?;
            match outcome {
                Ok(()) => {
                    self.statistics.received += 1;
                    self.statistics.bytes_received += packet.total_bytes() as u64;
                    self.refill();
                    return Some(packet);
                }
                // The host has no reason to refuse a page of the heap. The packet is lost, not the buffer.
                Err(_) => self.recycle(packet),
            }
        }
    }

    /// A packet of `bytes` bytes to be filled in, all in its head. It holds bytes of earlier packets. More
    /// than [`MAX_PACKET_BYTES`] are only sent if they are to be cut into segments.
    ///
    /// # Panics
    ///
    /// Beyond [`MAX_LARGE_PACKET_BYTES`].
    pub fn packet(&mut self, bytes: usize) -> Packet {
        assert!(bytes <= MAX_LARGE_PACKET_BYTES, "a packet of {bytes} bytes");
        let pages = if bytes <= FRAME_BYTES {
            self.page()
        } else {
            self.large.pop().unwrap_or_else(|| pages_for(MAX_LARGE_PACKET_BYTES))
        };
        Packet::new(pages, bytes)
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
    /// A packet that is too long, or asks for what makes no sense or what the host does not do
    /// ([`Nic::offloads`]), counts as refused for [`PacketOutcome::BadLength`].
    ///
    /// # Errors
    ///
    /// As [`Nic::transmit`].
    pub fn enqueue(&mut self, packet: Packet) -> Result<(), Packet> {
        self.reclaim();
        if !self.can_be_sent(&packet) {
            self.refuse(PacketOutcome::BadLength);
            self.recycle(packet);
            return Ok(());
        }
        let packet = self.prepared(packet);
        self.expects = true;
        self.port.transmit(packet)
    }

    /// Whether a packet has a length, and asks for work, that the host takes.
    fn can_be_sent(&self, packet: &Packet) -> bool {
        let (offload, bytes) = (packet.offload(), packet.total_bytes());
        let most = match offload.kind {
            0 => MAX_PACKET_BYTES,
            Offload::TCP4 if self.offloads.contains(Offloads::SEGMENTS4) => MAX_LARGE_PACKET_BYTES,
            Offload::TCP6 if self.offloads.contains(Offloads::SEGMENTS6) => MAX_LARGE_PACKET_BYTES,
            _ => return false,
        };
        bytes <= most && offload.fits(packet.len(), bytes)
    }

    /// Does what the host does not do.
    fn prepared(&mut self, mut packet: Packet) -> Packet {
        if packet.offload().needs_checksum() && !self.offloads.contains(Offloads::CHECKSUM) {
            self.statistics.bytes_summed += packet.total_bytes() as u64;
            packet.complete_checksum();
        }
        if !self.port.takes(&packet) {
            packet = self.gather(packet);
        }
        packet
    }

    /// The same packet, all in its head.
    pub fn gather(&mut self, packet: Packet) -> Packet {
        if packet.pieces().is_empty() {
            return packet;
        }
        let bytes = packet.total_bytes();
        let mut whole = self.packet(bytes);
        packet.copy_to(&mut whole);
        whole.set_offload(packet.offload());
        self.statistics.bytes_copied += bytes as u64;
        self.recycle(packet);
        whole
    }

    /// Tells the host of enqueued packets.
    pub fn kick(&mut self) {
        self.port.kick();
        self.reclaim();
    }

    /// Gives back a packet, so that its pages can hold another one. Those of pieces, if nobody else shares
    /// them.
    pub fn recycle(&mut self, packet: Packet) {
        let (head, pieces) = packet.into_parts();
        self.keep(head);
        pieces.into_iter().filter_map(Piece::into_pages).for_each(|pages| self.keep(pages));
    }

    /// Sleeps until [`Nic::receive`] has something or the timeout is over, or somebody wakes the caller as
    /// [`thread::park`] says. Returns whether it has.
    ///
    /// # Panics
    ///
    /// With interrupts disabled, see [`upcall::wait_until`].
    pub fn wait(&mut self, timeout: Option<Duration>) -> bool {
        self.wait_for(false, timeout, &mut || false)
    }

    /// Sleeps until a packet has left, been refused or come, or the timeout is over. Returns `false` if only
    /// the timeout is over, or the caller was woken as by [`Nic::wait`].
    ///
    /// # Panics
    ///
    /// As [`Nic::wait`].
    pub fn wait_for_room(&mut self, timeout: Option<Duration>) -> bool {
        self.wait_for(true, timeout, &mut || false)
    }

    /// [`Nic::wait`], or [`Nic::wait_for_room`] if `room`, which also ends when `other` holds: another core
    /// that makes it hold calls this one ([`crate::cores::wake`]). Returns whether the network is ready.
    ///
    /// # Panics
    ///
    /// As [`Nic::wait`].
    pub fn wait_or(
        &mut self,
        room: bool,
        timeout: Option<Duration>,
        other: &mut dyn FnMut() -> bool,
    ) -> bool {
        self.wait_for(room, timeout, other)
    }

    fn wait_for(&mut self, room: bool, timeout: Option<Duration>, other: &mut dyn FnMut() -> bool) -> bool {
        let deadline = timeout.map(time::deadline_after);
        if core::mem::take(&mut self.expects) && self.look(room, deadline, other) {
            return true;
        }
        WAITER.wait_here();
        let mut ready = false;
        // Whoever waits for packets may be wanted for something else, too.
        thread::park_until(|| {
            ready = self.port.ready_or_wake(room);
            ready || other() || deadline.is_some_and(|deadline| !time::wake_at(deadline))
        });
        ready
    }

    /// Looks a number of times whether there is something.
    fn look(&self, room: bool, deadline: Option<u64>, other: &mut dyn FnMut() -> bool) -> bool {
        /// Looks between looks at the clock. A pause after each would take longer than the look.
        const LOOKS_A_PAUSE: u32 = 1024;
        for look in 0..self.looks {
            if self.port.is_ready(room) {
                return true;
            }
            if other() {
                return false;
            }
            if look % LOOKS_A_PAUSE == LOOKS_A_PAUSE - 1 {
                if deadline.is_some_and(|deadline| deadline <= time::ticks()) {
                    return false;
                }
                core::hint::spin_loop();
            }
        }
        false
    }

    /// Takes back the buffers of packets that have left.
    fn reclaim(&mut self) {
        while let Some((packet, outcome)) = self.port.reclaim() {
            match outcome {
                Ok(()) => {
                    self.statistics.sent += 1;
                    self.statistics.bytes_sent += packet.total_bytes() as u64;
                }
                Err(why) => self.refuse(why),
            }
            self.recycle(packet);
        }
    }

    fn refuse(&mut self, why: PacketOutcome) {
        self.statistics.refused += 1;
        self.statistics.last_refusal = Some(why);
    }

    /// Gives the host as many buffers as it takes.
    fn refill(&mut self) {
        loop {
            let buffer = self.page();
            if let Err(buffer) = self.port.supply(buffer) {
                return self.keep(buffer);
            }
        }
    }

    fn page(&mut self) -> Pages {
        self.spare.pop().unwrap_or_else(|| pages_for(FRAME_BYTES))
    }

    /// Keeps pages for the next packets, if they are of a kind that is needed and there are not many.
    fn keep(&mut self, pages: Pages) {
        const LARGE: usize = MAX_LARGE_PACKET_BYTES.div_ceil(FRAME_BYTES);
        match pages.len() {
            1 if self.spare.len() < SPARE_BUFFERS => self.spare.push(pages),
            LARGE if self.large.len() < LARGE_BUFFERS => self.large.push(pages),
            _ => {}
        }
    }
}
