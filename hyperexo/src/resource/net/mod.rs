//! The network as environments see it: packets out of their frames and into them, by way of the classifier.
//!
//! The kernel copies a packet out of its sender's frame and judges the copy: may this environment send it?
//! Then it passes the packet on, to the environments whose filters match, or to the device. Nothing waits in
//! the kernel. A packet that finds no room at its receiver is dropped and counted there, as on any Ethernet.
//! A sender that finds no room at the device leaves its packets in its own ring. So an environment that
//! floods, or does not drain, harms only itself.
//!
//! Work for packets that arrive is bounded: after a batch of them the device is left alone for a while, so
//! that the rest of the machine goes on (Mogul and Ramakrishnan, "Eliminating receive livelock", 1997).

pub mod filters;
pub mod headers;
mod transmit;

use crate::device::net::NetDevice;
use crate::machine::clock::Clock;
use crate::machine::id::{EnvironmentId, EnvironmentSet};
use crate::resource::capability::{Current, Verified};
use crate::resource::frame::Pages;
use crate::resource::ring::KernelRing;
use crate::resource::{Calls, Resource, Work, count, holding_of, resize};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;
use filters::{FilterTable, Place};
use headers::Headers;
use hyperexo_abi::FRAME_BYTES;
use hyperexo_abi::accounting::{Accounting, MAX_ENVIRONMENTS};
use hyperexo_abi::capability::{Claim, Rights};
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::net::{
    Filter, MAX_PACKET_BYTES, MacAddress, NET_RING_FRAMES, NetRings, PacketCompletion, PacketCompletionSlot,
    PacketOutcome, PacketSubmission, PacketSubmissionSlot, RING_PACKETS,
};
use hyperexo_abi::offload::{Offload, Offloads};
use hyperexo_abi::upcall::Cause;
use transmit::Room;

/// Packets taken from the device before everybody else has a turn.
const BATCH: usize = 64;
/// Packets judged before others get the lock; large ones one by one.
const AT_ONCE: usize = 4;
/// How long the device is left alone when it had more.
const REST_US: u64 = 500;
/// How long a full device has to take a packet.
const PATIENCE_US: u64 = 2_000_000;

type PacketRing = KernelRing<PacketSubmissionSlot, PacketCompletionSlot, RING_PACKETS, RING_PACKETS>;

/// The kernel's side of an environment's rings.
struct Rings {
    transmit: PacketRing,
    receive: PacketRing,
    /// First frame of the rings.
    first_frame: u64,
    /// Index of the virtual CPU that bound them, and that is called.
    vcpu: usize,
    /// Whose packet each slot of a completion for received ones was used for last.
    senders: [u16; RING_PACKETS],
}

impl Rings {
    fn frames(&self) -> Range<u64> {
        self.first_frame..self.first_frame + NET_RING_FRAMES
    }
}

/// What the network keeps for an environment.
struct Holding {
    id: EnvironmentId,
    rings: Option<Rings>,
    /// Its next packet is for the device, and found no room there.
    waits: bool,
    accounting: &'static Accounting,
}

/// Whose packet it is that comes from the device; an environment's is its number's.
const DEVICE: u16 = 0;

/// What is known of the packet that is being judged.
struct Judged {
    headers: Headers,
    bytes: usize,
    offload: Offload,
    /// [`DEVICE`], or the number of an environment.
    sender: u16,
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
    device: Box<dyn NetDevice>,
    /// Who owns and has bound which filters.
    filters: FilterTable,
    /// By number of the environment; those that may use the network.
    holdings: Vec<Option<Holding>>,
    /// Since the device has had no room.
    jam: Option<Jam>,
    /// Packets that may still be taken from the device before it is left alone, if a batch has been begun.
    batch_left: Option<usize>,
    /// TSC value at which the device, which had too much to say, is looked at again.
    rest_until: Option<u64>,
    /// Ticks in [`PATIENCE_US`].
    patience: u64,
    /// Ticks in [`REST_US`].
    rest: u64,
    /// Number of the environment that is served first when the device has room again.
    first_served: usize,
    /// Environments whose rings are still to be looked at, from `first_served` on.
    to_serve: usize,
    /// Packets have been given to the device that it has not been told of.
    untold: bool,
}

impl Net {
    /// A network on this device. `secret` keys the classifier.
    pub fn new(device: Box<dyn NetDevice>, secret: [u8; 16], clock: &Clock) -> Net {
        Net {
            device,
            filters: FilterTable::new(secret),
            holdings: Vec::new(),
            jam: None,
            batch_left: None,
            rest_until: None,
            patience: clock.ticks_of_us(PATIENCE_US),
            rest: clock.ticks_of_us(REST_US),
            first_served: 0,
            to_serve: 0,
            untold: false,
        }
    }

    /// Makes room for the filters of this many environments, in about `bytes` bytes.
    ///
    /// # Errors
    ///
    /// [`Status::Exhausted`] without memory.
    pub fn expect(&mut self, environments: usize, bytes: usize) -> Result<(), Status> {
        resize(&mut self.holdings, environments)?;
        self.filters.admit(environments, bytes)
    }

    /// Lets an environment use the network.
    pub fn admit(&mut self, id: EnvironmentId, accounting: &'static Accounting) {
        self.holdings[id.index()] = Some(Holding { id, rings: None, waits: false, accounting });
    }

    /// What is kept for an environment that may use the network.
    fn holding(&mut self, id: EnvironmentId) -> Result<&mut Holding, Status> {
        holding_of(&mut self.holdings, id, |holding| holding.id).ok_or(Status::NoDevice)
    }

    /// The machine's hardware address.
    pub fn address(&self) -> MacAddress {
        self.device.address()
    }

    /// The hardware address of an environment.
    pub fn address_of(&self, id: EnvironmentId) -> MacAddress {
        const _: () = assert!(MAX_ENVIRONMENTS <= u8::MAX as usize);
        MacAddress::of_environment(self.address(), id.number() as u8)
    }

    /// Whose a unicast address is, as the classifier keeps them apart; `None`: nobody's on this machine.
    fn place_of(&self, address: MacAddress) -> Option<Place> {
        if address == self.address() {
            return Some(Place::Shared);
        }
        let number = usize::from(address.environment_on(self.address())?);
        // An address of this machine that nobody has: its packets are nobody's.
        let holding = self.holdings.get(number).and_then(Option::as_ref);
        Some(holding.map_or(Place::Nobody, |holding| Place::Own(holding.id)))
    }

    /// Makes a filter of an environment.
    ///
    /// # Errors
    ///
    /// [`Status::NoDevice`] if it may not use the network; those of [`FilterTable::allocate`].
    pub fn allocate(&mut self, id: EnvironmentId, filter: &Filter) -> Result<Claim, Status> {
        self.holding(id)?;
        self.filters.allocate(id, filter)
    }

    /// Ends a filter and all bindings of it.
    pub fn free(&mut self, current: Current) {
        self.filters.free(current);
    }

    /// Binds a filter.
    ///
    /// # Errors
    ///
    /// [`Status::NoDevice`] if it may not use the network; those of [`FilterTable::bind`].
    pub fn bind(&mut self, id: EnvironmentId, current: Current, rights: Rights) -> Result<(), Status> {
        self.holding(id)?;
        self.filters.bind(id, current, rights)
    }

    /// Ends an environment's binding of a filter.
    ///
    /// # Errors
    ///
    /// [`Status::NotBound`].
    pub fn unbind(&mut self, id: EnvironmentId, number: u64) -> Result<(), Status> {
        self.filters.unbind(id, number)
    }

    /// Takes rings, in [`NET_RING_FRAMES`] frames from `first` on, which are pinned; virtual CPU number
    /// `vcpu` will be called. Returns what is done for packets that it sends: what the device does, and
    /// checksums.
    ///
    /// # Errors
    ///
    /// [`Status::NoDevice`] if it may not use the network; [`Status::InUse`] if it has rings; those of
    /// [`Pages::pin_own`].
    pub fn bind_rings(
        &mut self,
        id: EnvironmentId,
        vcpu: usize,
        first: u64,
        pages: &mut Pages,
    ) -> Result<Offloads, Status> {
        if self.holding(id)?.rings.is_some() {
            return Err(Status::InUse);
        }
        let end = first.checked_add(NET_RING_FRAMES).ok_or(Status::BadArgument)?;
        pages.pin_own(id, first..end)?;
        // SAFETY: `NetRings` are atomics only; the frames are the environment's and pinned until it ends.
        let shared = unsafe { pages.memory.shared::<NetRings>(first) };
        let (transmit, receive) = (KernelRing::new(&shared.transmit), KernelRing::new(&shared.receive));
        let senders = [DEVICE; RING_PACKETS];
        self.holding(id)?.rings = Some(Rings { transmit, receive, first_frame: first, vcpu, senders });
        Ok(self.device.offloads().union(Offloads::CHECKSUM))
    }

    fn tell_device(&mut self) {
        if core::mem::take(&mut self.untold) {
            self.device.notify();
        }
    }

    /// Puts the packet that has been judged into the rings of those on this machine that it is for.
    fn route(&mut self, judged: &Judged, pages: &Pages, calls: &mut Calls) {
        let headers = &judged.headers;
        if headers.destination.is_group() {
            for number in self.listeners(headers).numbers() {
                let reader =
                    self.holdings.get(usize::from(number)).and_then(Option::as_ref).map(|holding| holding.id);
                if let Some(reader) = reader.filter(|_| number != judged.sender) {
                    self.deliver(reader, judged, pages, calls);
                }
            }
        } else if let Some(place) = self.place_of(headers.destination)
            && let Some(reader) = self.filters.classify(place, &headers.fields).reader
        {
            self.deliver(reader, judged, pages, calls);
        }
    }

    /// The environments that hear packets for groups with these headers, each once.
    fn listeners(&self, headers: &Headers) -> EnvironmentSet {
        let mut readers = EnvironmentSet::EMPTY;
        for holding in self.holdings.iter().flatten() {
            if let Some(reader) = self.filters.classify(Place::Group(holding.id), &headers.fields).reader {
                readers.insert(reader);
            }
        }
        readers
    }

    /// Puts the packet into the next room that an environment offers, or drops it.
    fn deliver(&mut self, reader: EnvironmentId, judged: &Judged, pages: &Pages, calls: &mut Calls) {
        let Net { holdings, device, .. } = self;
        let Some(holding) = holding_of(holdings, reader, |holding| holding.id) else { return };
        if put(holding, &device.packet()[..judged.bytes], judged, pages, calls).is_none() {
            count(&holding.accounting.net_packets_dropped, 1);
        }
    }

    /// Takes some packets that have arrived; whether there are more to take now.
    fn receive(&mut self, pages: &Pages, now: u64, calls: &mut Calls) -> Work {
        if self.rest_until.is_some_and(|until| now < until) {
            return Work::Done;
        }
        let left = self.batch_left.take().unwrap_or(BATCH);
        for _ in 0..AT_ONCE {
            match self.receive_one(pages, calls) {
                Some(bytes) if bytes > MAX_PACKET_BYTES => break,
                Some(_) => continue,
                None => {}
            }
            if self.rest_until.take().is_some() {
                self.device.interrupt_on_receive(true);
                // What came before the interrupt was on is not told.
                if self.receive_one(pages, calls).is_some() {
                    return Work::More;
                }
            }
            return Work::Done;
        }
        match left.saturating_sub(AT_ONCE) {
            0 => {
                self.device.interrupt_on_receive(false);
                self.rest_until = Some(now.saturating_add(self.rest));
                Work::Done
            }
            left => {
                self.batch_left = Some(left);
                Work::More
            }
        }
    }

    /// Takes a packet that has arrived, if there is one; returns its bytes.
    fn receive_one(&mut self, pages: &Pages, calls: &mut Calls) -> Option<usize> {
        let (bytes, said) = self.device.receive()?;
        self.untold = true;
        // What makes no sense is as good as nothing: the receiver checks then.
        let offload = if said.fits(bytes, bytes) { said } else { Offload::NONE };
        if let Some(headers) = Headers::parse(&self.device.packet()[..bytes]) {
            // Nobody out there has an address of this machine.
            if self.place_of(headers.source).is_none() && is_whole(&headers, bytes) {
                self.route(&Judged { headers, bytes, offload, sender: DEVICE }, pages, calls);
            }
        }
        self.device.recycle();
        Some(bytes)
    }

    /// Sends what waits in all rings, one environment after the other, another one first each time.
    fn serve_waiting(&mut self, pages: &Pages, now: u64, calls: &mut Calls) -> Work {
        while self.to_serve > 0 {
            let number = (self.first_served + self.to_serve) % MAX_ENVIRONMENTS;
            let with_rings =
                self.holdings.get(number).and_then(Option::as_ref).filter(|holding| holding.rings.is_some());
            let id = with_rings.map(|holding| holding.id);
            // An index that makes no sense is the business of its owner's next kick.
            if id.is_some_and(|id| self.serve(id, pages, now, calls) == Ok(Work::More)) {
                return Work::More;
            }
            self.to_serve -= 1;
            if id.is_some() {
                return Work::More;
            }
        }
        Work::Done
    }
}

impl Resource for Net {
    fn check(&self, claim: &Verified) -> Result<Current, Status> {
        self.filters.check(claim)
    }

    fn revoke(&mut self, current: Current, keeper: EnvironmentId) -> Result<u64, Status> {
        self.filters.revoke(current, keeper)
    }

    fn end(&mut self, id: EnvironmentId, pages: &mut Pages) -> bool {
        if let Ok(holding) = self.holding(id)
            && let Some(rings) = holding.rings.take()
        {
            pages.unpin(rings.frames());
        }
        self.filters.release_some(id)
    }

    fn attend(&mut self, pages: &mut Pages, now: u64) -> (Calls, Work) {
        let mut calls = Calls::new(Cause::Net);
        if self.receive(pages, now, &mut calls) == Work::More {
            return (calls, Work::More);
        }
        if self.to_serve == 0 && self.jam.is_some() && self.room(now) != Room::NotYet {
            self.first_served = (self.first_served + 1) % MAX_ENVIRONMENTS;
            self.to_serve = MAX_ENVIRONMENTS;
        }
        let work = self.serve_waiting(pages, now, &mut calls);
        if work == Work::Done {
            self.tell_device();
        }
        (calls, work)
    }

    fn next_deadline(&self) -> Option<u64> {
        let jam = self.jam.as_ref().filter(|jam| !jam.given_up).map(|jam| jam.deadline);
        let again = (self.untold || self.to_serve > 0).then_some(0);
        jam.into_iter().chain(self.rest_until).chain(again).min()
    }
}

/// Whether a packet may be so long. Copies of one for a group go to everybody at once, so it is a short one.
fn is_whole(headers: &Headers, bytes: usize) -> bool {
    bytes <= MAX_PACKET_BYTES || !headers.destination.is_group()
}

/// Puts a packet into the next frames that an environment offers. `None`: there is no room for all of it, or
/// its sender, a neighbour, has twice as many there that were not looked at as others would have room (the
/// dynamic threshold of Choudhury and Hahne, "Dynamic queue length thresholds", 1998).
fn put(
    holding: &mut Holding,
    packet: &[u8],
    judged: &Judged,
    pages: &Pages,
    calls: &mut Calls,
) -> Option<()> {
    let Judged { sender, offload, .. } = *judged;
    let Rings { receive: ring, vcpu, senders, .. } = holding.rings.as_mut()?;
    let frames = packet.len().div_ceil(FRAME_BYTES) as u16;
    let held = ring.unread().filter(|slot| sender != DEVICE && senders[*slot] == sender).count() as u32;
    if ring.waiting()? < held / 2 + u32::from(frames) || !ring.has_room(u32::from(frames) - 1) {
        return None;
    }
    let (mut whole, mut wanted) = (true, false);
    for (more, part) in (0..frames).rev().zip(packet.chunks(FRAME_BYTES)) {
        let PacketSubmission { frame, tag, .. } = ring.take();
        let writable = pages.has_bound(holding.id, frame, Rights::WRITE);
        whole &= writable;
        let (bytes, outcome) = if writable {
            pages.memory.write(frame, 0, part);
            (part.len() as u32, PacketOutcome::Ok)
        } else {
            (0, PacketOutcome::FrameNotBound)
        };
        wanted |= ring.post(&PacketCompletion { tag, bytes, more, outcome: Some(outcome), offload });
        ring.unread().take(1).for_each(|slot| senders[slot] = sender);
    }
    if wanted {
        calls.add(holding.id, *vcpu);
    }
    let (counters, bytes) = (holding.accounting, packet.len() as u64);
    count(&counters.net_bytes_copied, bytes);
    if whole {
        count(&counters.net_packets_received, 1);
        count(&counters.net_bytes_received, bytes);
    } else {
        count(&counters.net_packets_dropped, 1);
    }
    Some(())
}

#[cfg(test)]
impl Net {
    /// Frames that rings keep pinned.
    pub fn pinned(&self) -> Vec<u64> {
        self.holdings
            .iter()
            .flatten()
            .filter_map(|holding| holding.rings.as_ref())
            .flat_map(Rings::frames)
            .collect()
    }

    /// Filters that there are.
    pub fn filter_count(&self) -> usize {
        self.filters.filters()
    }
}
