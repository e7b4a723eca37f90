//! The network of HyperExo: filters by hypercall, packets through rings in shared memory
//! ([`hyperexo_abi::net`]).

use super::hypercall;
use super::information::start_info;
use crate::cpu::upcall;
use crate::memory::{self, Lent};
use crate::platform::{NetError, NetPort, Packet, Pages, Piece};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicPtr, AtomicU8, Ordering, fence};
use hyperexo_abi::capability::{Capability, Rights};
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::net::{
    Filter, MacAddress, NET_RING_FRAMES, NetRings, PacketCompletion, PacketOutcome, PacketRing,
    PacketSubmission, RING_PACKETS,
};
use hyperexo_abi::offload::{MAX_PACKET_FRAMES, Offloads};
use hyperexo_abi::ring::Slot as _;
use hyperexo_abi::{FRAME_BYTES, Page};

/// The rings that the kernel knows. They are bound once, and used by one [`ExoPort`] after the other.
static RINGS: AtomicPtr<NetRings> = AtomicPtr::new(core::ptr::null_mut());
/// What the kernel said when it was given them.
static OFFLOADS: AtomicU8 = AtomicU8::new(0);

/// This environment's part of the network.
pub(super) struct ExoPort {
    address: MacAddress,
    offloads: Offloads,
    filters: Vec<Capability>,
    transmit: Lane<'static, Packet>,
    receive: Lane<'static, Lent<[Page]>>,
}

/// Opens the rings and binds filters.
pub(super) fn open(filters: &[Filter]) -> Result<ExoPort, NetError> {
    let address = start_info().net_address;
    if address == 0 {
        return Err(NetError::NoNetwork);
    }
    let rings = rings()?;
    let mut port = ExoPort {
        address: MacAddress::from_bits(address),
        offloads: Offloads(OFFLOADS.load(Ordering::Relaxed)),
        filters: Vec::new(),
        transmit: Lane::new(&rings.transmit),
        receive: Lane::new(&rings.receive),
    };
    for filter in filters {
        port.bind(filter)?;
    }
    Ok(port)
}

impl ExoPort {
    /// Allocates a filter and binds it with all its rights.
    fn bind(&mut self, filter: &Filter) -> Result<(), NetError> {
        let refused = |step| move |status| NetError::Refused { step, status };
        let capability = hypercall::filter_alloc(filter).map_err(refused("allocating a filter"))?;
        self.filters.push(capability);
        let rights = capability.claim().map_or(Rights::READ, |claim| claim.rights);
        hypercall::filter_bind(&capability, rights.intersection(Rights::READ_WRITE))
            .map_err(refused("binding a filter"))
    }
}

impl NetPort for ExoPort {
    fn address(&self) -> MacAddress {
        self.address
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn takes(&self, packet: &Packet) -> bool {
        runs(packet).map(|(pages, start, bytes)| frames(pages, start, bytes).count()).sum::<usize>()
            <= MAX_PACKET_FRAMES
    }

    fn supply(&mut self, buffer: Pages) -> Result<(), Pages> {
        let Some(frame) = memory::frame_of(&buffer[0]) else { return Err(buffer) };
        let entry = PacketSubmission { frame, ..Default::default() };
        if !self.receive.has_place(1) {
            return Err(buffer);
        }
        self.receive.put(Lent::new(buffer), &[entry]);
        Ok(())
    }

    fn receive(&mut self) -> Option<(Packet, Result<(), PacketOutcome>)> {
        receive(&mut self.receive)
    }

    fn transmit(&mut self, packet: Packet) -> Result<(), Packet> {
        let mut entries = [PacketSubmission::default(); MAX_PACKET_FRAMES];
        match entries_of(&packet, memory::frame_of, &mut entries) {
            Some(count) if self.transmit.has_place(count) => {
                self.transmit.put(packet, &entries[..count]);
                Ok(())
            }
            _ => Err(packet),
        }
    }

    fn reclaim(&mut self) -> Option<(Packet, Result<(), PacketOutcome>)> {
        let (packet, completion) = self.transmit.take()?;
        Some((packet, outcome(&completion)))
    }

    fn kick(&mut self) {
        // Room for packets needs no kick: the kernel looks for it when a packet comes.
        if self.transmit.needs_kick() {
            kick();
        }
    }

    fn ready_or_wake(&mut self, room: bool) -> bool {
        self.receive.completion_or_wake() || room && self.transmit.completion_or_wake()
    }

    fn is_ready(&self, room: bool) -> bool {
        self.receive.has_completion() || room && self.transmit.has_completion()
    }
}

/// Has the kernel look at the rings. When it returns, the kernel is done with what it did with them before.
///
/// # Panics
///
/// If the kernel refuses to look. The ring is damaged then, and no packet would ever leave.
fn kick() {
    // SAFETY: the transmit ring names frames of a lane only, which keeps them. They are read, not written.
    if let Err(status) = unsafe { hypercall::net_kick() } {
        panic!("the kernel refuses the ring of packets: {status}");
    }
}

/// Ends the filters, waits for packets on their way, and takes the buffers back.
impl Drop for ExoPort {
    fn drop(&mut self) {
        for capability in &self.filters {
            // A revocation may have ended the filter already.
            let _ = hypercall::filter_free(capability);
        }
        while self.transmit.in_flight() > 0 {
            self.kick();
            if self.transmit.take().is_none() {
                // The kernel gives up on a device that takes no packets, so this ends.
                upcall::wait_until(|| self.transmit.completion_or_wake());
            }
        }
        self.receive.withdraw(kick);
    }
}

/// The rings that the kernel knows, empty.
fn rings() -> Result<&'static NetRings, NetError> {
    // SAFETY: only the rings made below are stored, which live for ever.
    if let Some(rings) = unsafe { RINGS.load(Ordering::Acquire).as_ref() } {
        return Ok(rings);
    }
    let refused = |step| move |status: Status| NetError::Refused { step, status };
    let first = memory::acquire_frames(NET_RING_FRAMES, 1).map_err(refused("frames for the rings"))?;
    // SAFETY: the frames are fresh and serve nothing else, for ever. They hold zeros, which are empty rings.
    let rings = unsafe { &*(memory::linear_address(first) as *const NetRings) };
    // SAFETY: as above.
    let offloads = unsafe { hypercall::net_ring_bind(first) }.map_err(refused("binding the rings"))?;
    OFFLOADS.store(offloads.0, Ordering::Relaxed);
    RINGS.store(core::ptr::from_ref(rings).cast_mut(), Ordering::Release);
    Ok(rings)
}

/// Adjacent pages that a packet lies in: where in them, and how many bytes.
fn runs(packet: &Packet) -> impl Iterator<Item = (&[Page], usize, usize)> {
    let (pages, start) = packet.place();
    core::iter::once((pages, start, packet.len())).chain(packet.pieces().iter().map(|piece| {
        let (pages, start) = piece.place();
        (pages, start, piece.len())
    }))
}

/// The pages of a run that have bytes of a packet: where in each, and how many.
fn frames(pages: &[Page], start: usize, bytes: usize) -> impl Iterator<Item = (&Page, usize, usize)> {
    let end = start + bytes;
    let first = start / FRAME_BYTES;
    pages[first..end.div_ceil(FRAME_BYTES).max(first)].iter().zip(first..).map(move |(page, at)| {
        let (from, to) = (start.max(at * FRAME_BYTES), end.min((at + 1) * FRAME_BYTES));
        (page, from - at * FRAME_BYTES, to - from)
    })
}

/// Makes the entries of a packet; returns how many. `None` if there are too many, or if it is not all on the
/// heap. The tag is still missing.
fn entries_of(
    packet: &Packet,
    frame_of: fn(&Page) -> Option<u64>,
    entries: &mut [PacketSubmission; MAX_PACKET_FRAMES],
) -> Option<usize> {
    let mut count = 0;
    for (pages, start, bytes) in runs(packet) {
        for (page, offset, bytes) in frames(pages, start, bytes) {
            *entries.get_mut(count)? = PacketSubmission {
                frame: frame_of(page)?,
                tag: 0,
                bytes: bytes as u32,
                offset: offset as u16,
                more: true,
                offload: packet.offload(),
            };
            count += 1;
        }
    }
    // A packet without bytes has an entry, too: the kernel refuses it.
    entries[count.max(1) - 1].more = false;
    Some(count.max(1))
}

/// How a packet ended.
fn outcome(completion: &PacketCompletion) -> Result<(), PacketOutcome> {
    match completion.outcome {
        Some(PacketOutcome::Ok) => Ok(()),
        other => Err(other.unwrap_or(PacketOutcome::BadLength)),
    }
}

/// The next packet that has come whole.
fn receive(lane: &mut Lane<'_, Lent<[Page]>>) -> Option<(Packet, Result<(), PacketOutcome>)> {
    if lane.completions() <= lane.peek()?.more.into() {
        return None;
    }
    let mut next = || {
        let (lent, completion) = lane.take()?;
        // SAFETY: completed, so the kernel is done with it.
        Some((unsafe { lent.back() }, (completion.bytes as usize).min(FRAME_BYTES), completion))
    };
    let (pages, bytes, first) = next()?;
    let (mut packet, mut all) = (Packet::new(pages, bytes), outcome(&first));
    for _ in 0..first.more {
        let (pages, bytes, completion) = next()?;
        packet.push(Piece::new(Arc::new(pages), 0..bytes));
        all = all.and(outcome(&completion));
    }
    if first.offload.fits(packet.len(), packet.total_bytes()) {
        packet.set_offload(first.offload);
    }
    Some((packet, all))
}

/// Our side of a ring.
///
/// Invariant: each packet in the ring, or taken from it and not completed, has the number of an occupied slot
/// as its tag, and names frames of what is in that slot.
struct Lane<'a, T> {
    ring: &'a PacketRing,
    slots: Vec<Option<T>>,
    free: Vec<usize>,
    tail: u32,
    head: u32,
}

impl<'a, T> Lane<'a, T> {
    /// A lane over a ring with nothing in flight. It goes on where the lane before it ended.
    fn new(ring: &'a PacketRing) -> Lane<'a, T> {
        Lane {
            ring,
            slots: (0..RING_PACKETS).map(|_| None).collect(),
            free: (0..RING_PACKETS).rev().collect(),
            tail: ring.sq_tail.0.load(Ordering::Relaxed),
            head: ring.cq_head.0.load(Ordering::Relaxed),
        }
    }

    fn in_flight(&self) -> usize {
        RING_PACKETS - self.free.len()
    }

    /// Whether there is a place for a packet with so many entries.
    fn has_place(&self, entries: usize) -> bool {
        let waiting = self.tail.wrapping_sub(self.ring.sq_head.0.load(Ordering::Acquire)) as usize;
        !self.free.is_empty() && waiting + entries <= RING_PACKETS
    }

    /// Writes the entries of a packet into the ring, which has a place for them, and keeps what they name.
    fn put(&mut self, named: T, entries: &[PacketSubmission]) {
        let Some(slot) = self.free.pop() else { return };
        self.slots[slot] = Some(named);
        for entry in entries {
            let entry = PacketSubmission { tag: slot as u32, ..*entry };
            self.ring.submissions[self.tail as usize % RING_PACKETS].store(&entry);
            self.tail = self.tail.wrapping_add(1);
        }
        self.ring.sq_tail.0.store(self.tail, Ordering::Release);
    }

    /// Whether there are submissions of which the kernel must be told.
    fn needs_kick(&self) -> bool {
        // The kernel sets `need_kick`, then looks at the tail again. The order here is the reverse.
        fence(Ordering::SeqCst);
        self.ring.sq_head.0.load(Ordering::Relaxed) != self.tail
            && self.ring.need_kick.0.load(Ordering::Relaxed) != 0
    }

    /// Completions that are there.
    fn completions(&self) -> u32 {
        self.ring.cq_tail.0.load(Ordering::Acquire).wrapping_sub(self.head)
    }

    fn has_completion(&self) -> bool {
        self.completions() != 0
    }

    /// The next completion, which stays there.
    fn peek(&self) -> Option<PacketCompletion> {
        self.has_completion().then(|| self.ring.completions[self.head as usize % RING_PACKETS].load())
    }

    /// Takes a completion from the ring, and what its packet named.
    fn take(&mut self) -> Option<(T, PacketCompletion)> {
        while let Some(completion) = self.peek() {
            self.head = self.head.wrapping_add(1);
            self.ring.cq_head.0.store(self.head, Ordering::Release);
            let slot = completion.tag as usize;
            // A completion for an empty slot is a mistake of the kernel: there is nothing to give back.
            if let Some(named) = self.slots.get_mut(slot).and_then(Option::take) {
                self.free.push(slot);
                return Some((named, completion));
            }
        }
        None
    }

    /// Whether there is a completion. If not, the next one raises an upcall.
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

impl Lane<'_, Lent<[Page]>> {
    /// Takes back what the kernel has not taken. `kick` returns when the kernel is done with what it did with
    /// the ring before.
    fn withdraw(&mut self, kick: impl FnOnce()) {
        let taken = self.ring.sq_head.0.load(Ordering::Acquire);
        self.ring.sq_tail.0.store(taken, Ordering::Release);
        // A packet that came meanwhile may have found the old tail. After the kick none does.
        kick();
        self.tail = self.ring.sq_head.0.load(Ordering::Acquire);
        self.ring.sq_tail.0.store(self.tail, Ordering::Release);
        while let Some((lent, _)) = self.take() {
            // SAFETY: completed, so the kernel is done with it.
            drop(unsafe { lent.back() });
        }
        for slot in &mut self.slots {
            if let Some(lent) = slot.take() {
                // SAFETY: the submission is no longer in the ring. Nor has the kernel taken it without
                // completing it, as it does both at one look at the ring.
                drop(unsafe { lent.back() });
            }
        }
        self.free = (0..RING_PACKETS).rev().collect();
    }
}

#[cfg(test)]
mod tests;
