//! The network as environments see it: packets out of their frames and into them, by way of the classifier.
//!
//! The kernel copies a packet out of its sender's frame, judges the copy (may this environment send it?), and
//! passes it on: to the environments whose filters match, or to the device. Nothing waits in the kernel: a
//! packet that finds no room at its receiver is dropped and counted there, as on any Ethernet; a sender that
//! finds no room at the device leaves its packets in its own ring. So whoever floods, or does not drain,
//! harms itself.
//!
//! Work done for packets that arrive is bounded: after a batch of them the device is left alone for a while,
//! so that the rest of the machine goes on whatever comes (Mogul and Ramakrishnan, "Eliminating receive
//! livelock", 1997).
#![forbid(unsafe_code)]

pub mod calls;

use crate::device::net::NetDevice;
use crate::env::{Environment, count};
use crate::kernel::Clock;
use crate::memory::PhysicalMemory;
use crate::resource::net::headers::Headers;
use crate::resource::net::{FilterTable, Place};
use crate::resource::page::EnvironmentId;
use crate::ring::KernelRing;
use alloc::boxed::Box;
use hyperexo_abi::accounting::MAX_ENVIRONMENTS;
use hyperexo_abi::capability::Rights;
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::net::{
    ETHERNET_HEADER_BYTES, MAX_PACKET_BYTES, MacAddress, NetRings, PacketCompletion, PacketCompletionSlot,
    PacketOutcome, PacketSubmission, PacketSubmissionSlot, RING_PACKETS,
};
use hyperexo_abi::upcall::Cause;

/// Packets taken from the device before everybody else has a turn.
const BATCH: usize = 64;
/// How long the device is left alone when it had more.
const REST_US: u64 = 500;
/// How long a full device has to take a packet.
const PATIENCE_US: u64 = 2_000_000;
/// Packets of one environment sent before the next has a turn, when all wait for the device.
const TURN: usize = 8;

type PacketRing = KernelRing<PacketSubmissionSlot, PacketCompletionSlot, RING_PACKETS, RING_PACKETS>;

/// The kernel's side of an environment's rings.
pub struct Rings {
    transmit: PacketRing,
    receive: PacketRing,
    /// First frame of the rings.
    pub first_frame: u64,
    /// Index of the virtual CPU that bound them, and that is called.
    vcpu: usize,
}

impl Rings {
    /// Rings in pinned frames of the environment, from `first_frame` on.
    pub fn new(shared: &'static NetRings, first_frame: u64, vcpu: usize) -> Rings {
        let transmit = KernelRing::new(&shared.transmit);
        Rings { transmit, receive: KernelRing::new(&shared.receive), first_frame, vcpu }
    }
}

/// Where a packet comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Environment(EnvironmentId),
    Device,
}

/// What is known of the packet that is being judged.
struct Judged {
    headers: Headers,
    bytes: usize,
}

/// A full device.
struct Jam {
    /// TSC value at which its time is up.
    deadline: u64,
    /// Its time was up: nobody waits for it any more.
    given_up: bool,
}

/// The network.
pub struct Net {
    device: NetDevice,
    /// Who owns and has bound which filters.
    pub filters: FilterTable,
    /// The packet that is being judged.
    packet: Box<[u8; MAX_PACKET_BYTES]>,
    /// Since the device has had no room.
    jam: Option<Jam>,
    /// TSC value at which the device, which had too much to say, is looked at again.
    rest_until: Option<u64>,
    /// Ticks in [`PATIENCE_US`].
    patience: u64,
    /// Ticks in [`REST_US`].
    rest: u64,
    /// Index of the environment that is served first when the device has room again.
    first_served: usize,
}

impl Net {
    /// A network on this device. `secret` keys the classifier.
    pub fn new(device: NetDevice, secret: [u8; 16], clock: &Clock) -> Net {
        Net {
            device,
            filters: FilterTable::new(secret),
            packet: Box::new([0; MAX_PACKET_BYTES]),
            jam: None,
            rest_until: None,
            patience: clock.ticks_of_us(PATIENCE_US),
            rest: clock.ticks_of_us(REST_US),
            first_served: 0,
        }
    }

    /// The machine's hardware address.
    pub fn address(&self) -> MacAddress {
        self.device.address()
    }

    /// The hardware address of an environment.
    pub fn address_of(&self, id: EnvironmentId) -> MacAddress {
        const _: () = assert!(MAX_ENVIRONMENTS <= u8::MAX as usize);
        MacAddress::of_environment(self.address(), id as u8)
    }

    /// Whose a unicast address is, as the classifier keeps them apart; `None`: nobody's on this machine.
    fn place_of(&self, address: MacAddress) -> Option<Place> {
        if address == self.address() {
            return Some(Place::Shared);
        }
        address.environment_on(self.address()).map(|number| Place::Own(number.into()))
    }

    /// When something is due.
    pub fn next_deadline(&self) -> Option<u64> {
        let jam = self.jam.as_ref().filter(|jam| !jam.given_up).map(|jam| jam.deadline);
        jam.into_iter().chain(self.rest_until).min()
    }

    /// Takes what is in an environment's transmit ring, at most `most` packets, as far as device and ring
    /// have room.
    ///
    /// # Errors
    ///
    /// [`Status::NotBound`] without rings; [`Status::BadArgument`] when the ring's index makes no sense.
    pub fn serve(
        &mut self,
        environments: &mut [Environment],
        id: EnvironmentId,
        most: usize,
        memory: PhysicalMemory,
        now: u64,
    ) -> Result<(), Status> {
        let mut result = Ok(());
        let mut call = false;
        for _ in 0..most {
            let sender = &mut environments[usize::from(id) - 1];
            let Some(rings) = &sender.net_rings else { return Err(Status::NotBound) };
            let Some(waiting) = rings.transmit.waiting() else {
                result = Err(Status::BadArgument);
                break;
            };
            if waiting == 0 || !rings.transmit.has_room(0) {
                break;
            }
            let submission = rings.transmit.peek();
            let judged = self.judge(sender, &submission, memory);
            // Only what goes there waits for the device: those who talk to each other don't care.
            let outside = judged.as_ref().is_ok_and(|judged| self.goes_outside(&judged.headers));
            let room = if outside { self.room(now) } else { Room::Yes };
            if room == Room::NotYet {
                // It stays in the ring, and is copied and judged anew.
                break;
            }
            let sent = judged.and_then(|judged| self.pass_on(environments, id, &judged, room, memory));
            call |= complete(&mut environments[usize::from(id) - 1], submission.tag, sent);
        }
        self.device.notify();
        if call {
            call_owner(&mut environments[usize::from(id) - 1]);
        }
        result
    }

    /// Whether the device takes a packet. Once it does not, its time runs.
    fn room(&mut self, now: u64) -> Room {
        if self.device.has_room() {
            if self.jam.take().is_some() {
                self.device.interrupt_on_room(false);
            }
            return Room::Yes;
        }
        match &mut self.jam {
            Some(jam) => {
                jam.given_up |= jam.deadline <= now;
                if jam.given_up { Room::Never } else { Room::NotYet }
            }
            None => {
                self.device.interrupt_on_room(true);
                let deadline = now.saturating_add(self.patience);
                self.jam = Some(Jam { deadline, given_up: false });
                // What left before the interrupt was on is not told.
                if self.device.has_room() { self.room(now) } else { Room::NotYet }
            }
        }
    }

    /// Copies a packet and judges the copy.
    fn judge(
        &mut self,
        sender: &Environment,
        submission: &PacketSubmission,
        memory: PhysicalMemory,
    ) -> Result<Judged, PacketOutcome> {
        let bytes = submission.bytes as usize;
        if !(ETHERNET_HEADER_BYTES..=MAX_PACKET_BYTES).contains(&bytes) {
            return Err(PacketOutcome::BadLength);
        }
        if !has_bound(sender, memory, submission.frame, Rights::READ) {
            return Err(PacketOutcome::FrameNotBound);
        }
        // The one time that it is read: the sender may be changing it.
        memory.read(submission.frame, 0, &mut self.packet[..bytes]);
        let headers = Headers::parse(&self.packet[..bytes]).ok_or(PacketOutcome::BadLength)?;
        if self.may_send(sender.id, &headers) {
            Ok(Judged { headers, bytes })
        } else {
            Err(PacketOutcome::NotAllowed)
        }
    }

    /// Whether a packet of an environment is for somebody, or also for somebody, beyond the device.
    fn goes_outside(&self, headers: &Headers) -> bool {
        headers.destination.is_group() || self.place_of(headers.destination).is_none()
    }

    /// Whether an environment may be the sender that a packet names.
    fn may_send(&self, id: EnvironmentId, headers: &Headers) -> bool {
        let honest = headers.claimed_source.is_none_or(|claimed| claimed == headers.source);
        let place = self.place_of(headers.source).filter(|_| honest);
        place.is_some_and(|place| self.filters.permits(id, place, &headers.fields.swapped()))
    }

    /// Passes the packet that has been judged on to everybody it is for; returns its bytes.
    fn pass_on(
        &mut self,
        environments: &mut [Environment],
        id: EnvironmentId,
        judged: &Judged,
        room: Room,
        memory: PhysicalMemory,
    ) -> Result<u16, PacketOutcome> {
        self.route(environments, Origin::Environment(id), judged, memory);
        if self.goes_outside(&judged.headers) {
            if room == Room::Never {
                return Err(PacketOutcome::Timeout);
            }
            self.device.send(&self.packet[..judged.bytes]);
        }
        Ok(judged.bytes as u16)
    }

    /// Puts the packet that has been judged into the rings of whom on this machine it is for.
    fn route(
        &mut self,
        environments: &mut [Environment],
        origin: Origin,
        judged: &Judged,
        memory: PhysicalMemory,
    ) {
        let Judged { headers, bytes } = judged;
        let packet = &self.packet[..*bytes];
        if headers.destination.is_group() {
            for reader in self.listeners(environments.len(), headers) {
                if origin != Origin::Environment(reader) {
                    deliver(&mut environments[usize::from(reader) - 1], packet, memory);
                }
            }
        } else if let Some(place) = self.place_of(headers.destination)
            && let Some(reader) = self.filters.classify(place, &headers.fields).reader
        {
            deliver(&mut environments[usize::from(reader) - 1], packet, memory);
        }
    }

    /// The environments that hear packets for groups with these headers, each once.
    fn listeners(
        &self,
        environments: usize,
        headers: &Headers,
    ) -> impl Iterator<Item = EnvironmentId> + use<> {
        let mut readers = 0u64;
        for id in 1..=environments as EnvironmentId {
            if let Some(reader) = self.filters.classify(Place::Group(id), &headers.fields).reader {
                readers |= 1 << reader;
            }
        }
        (0..MAX_ENVIRONMENTS as EnvironmentId).filter(move |id| readers >> id & 1 != 0)
    }

    /// Takes what has arrived, and sends what had to wait. `environments` are all that there are.
    pub fn attend(&mut self, environments: &mut [Environment], memory: PhysicalMemory, now: u64) {
        self.receive(environments, memory, now);
        if self.jam.is_some() && self.room(now) != Room::NotYet {
            self.serve_all(environments, memory, now);
        }
        self.device.notify();
    }

    /// Takes what has arrived, at most [`BATCH`] packets.
    fn receive(&mut self, environments: &mut [Environment], memory: PhysicalMemory, now: u64) {
        if self.rest_until.is_some_and(|until| now < until) {
            return;
        }
        let resting = self.rest_until.take().is_some();
        let mut left = BATCH;
        if !self.receive_some(environments, memory, &mut left) && resting {
            self.device.interrupt_on_receive(true);
            // What came before the interrupt was on is not told.
            self.receive_some(environments, memory, &mut left);
        }
        if left == 0 {
            self.device.interrupt_on_receive(false);
            self.rest_until = Some(now.saturating_add(self.rest));
        }
    }

    /// Takes packets until there are none or `left` is 0; returns whether the latter.
    fn receive_some(
        &mut self,
        environments: &mut [Environment],
        memory: PhysicalMemory,
        left: &mut usize,
    ) -> bool {
        while *left > 0 {
            let Some(bytes) = self.device.receive(&mut self.packet) else { return false };
            *left -= 1;
            let Some(headers) = Headers::parse(&self.packet[..bytes]) else { continue };
            // Nobody out there has an address of this machine.
            if self.place_of(headers.source).is_none() {
                self.route(environments, Origin::Device, &Judged { headers, bytes }, memory);
            }
        }
        true
    }

    /// Sends what waits in all rings, another one first each time.
    fn serve_all(&mut self, environments: &mut [Environment], memory: PhysicalMemory, now: u64) {
        let all = environments.len().max(1);
        self.first_served = (self.first_served + 1) % all;
        // As many rounds as a ring may need.
        for round in 0..RING_PACKETS.div_ceil(TURN) * environments.len() {
            let index = (self.first_served + round) % all;
            if environments[index].net_rings.is_some() {
                // An index that makes no sense is the business of its owner's next kick.
                let _ = self.serve(environments, environments[index].id, TURN, memory, now);
            }
        }
    }
}

/// Whether a full device is worth waiting for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Yes,
    NotYet,
    /// It has stopped answering.
    Never,
}

fn has_bound(environment: &Environment, memory: PhysicalMemory, frame: u64, rights: Rights) -> bool {
    let nested = environment.nested.as_ref();
    nested.and_then(|nested| nested.lookup(&memory, frame)).is_some_and(|bound| bound.contains(rights))
}

/// Passes over a submission and posts its completion; returns whether the sender wants to be called.
fn complete(sender: &mut Environment, tag: u32, sent: Result<u16, PacketOutcome>) -> bool {
    let counters = sender.accounting;
    let (bytes, outcome) = match sent {
        Ok(bytes) => {
            count(&counters.net_packets_sent, 1);
            count(&counters.net_bytes_sent, u64::from(bytes));
            (bytes, PacketOutcome::Ok)
        }
        Err(outcome) => {
            count(&counters.net_packets_refused, 1);
            (0, outcome)
        }
    };
    sender.net_rings.as_mut().is_some_and(|rings| {
        rings.transmit.pass();
        rings.transmit.post(&PacketCompletion { tag, bytes, outcome: Some(outcome) })
    })
}

/// Puts a packet into the next room that an environment offers, or drops it.
fn deliver(environment: &mut Environment, packet: &[u8], memory: PhysicalMemory) {
    let call = match put(environment, packet, memory) {
        Some(call) => call,
        None => {
            count(&environment.accounting.net_packets_dropped, 1);
            false
        }
    };
    if call {
        call_owner(environment);
    }
}

/// Puts a packet into the next room that an environment offers; returns whether it wants to be called.
/// `None`: there is no room.
fn put(environment: &mut Environment, packet: &[u8], memory: PhysicalMemory) -> Option<bool> {
    let ring = &mut environment.net_rings.as_mut()?.receive;
    if ring.waiting()? == 0 || !ring.has_room(0) {
        return None;
    }
    let PacketSubmission { frame, tag, .. } = ring.take();
    let writable = has_bound(environment, memory, frame, Rights::WRITE);
    let (counters, bytes) = (environment.accounting, packet.len() as u16);
    let completion = if writable {
        memory.write(frame, 0, packet);
        count(&counters.net_packets_received, 1);
        count(&counters.net_bytes_received, u64::from(bytes));
        PacketCompletion { tag, bytes, outcome: Some(PacketOutcome::Ok) }
    } else {
        count(&counters.net_packets_dropped, 1);
        PacketCompletion { tag, bytes: 0, outcome: Some(PacketOutcome::FrameNotBound) }
    };
    Some(environment.net_rings.as_mut()?.receive.post(&completion))
}

/// Tells the virtual CPU that bound the rings.
fn call_owner(environment: &mut Environment) {
    if let Some(vcpu) = environment.net_rings.as_ref().map(|rings| rings.vcpu) {
        environment.upcall(vcpu, Cause::Net);
    }
}
