//! The network of HyperExo: filters by hypercall, packets through rings in shared memory
//! ([`hyperexo_abi::net`]).

use super::hypercall;
use super::information::start_info;
use crate::cpu::upcall;
use crate::memory::{self, Lent};
use crate::platform::{NetError, NetPort, Packet, Pages};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicPtr, Ordering, fence};
use hyperexo_abi::capability::{Capability, Rights};
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::net::{
    Filter, MacAddress, NET_RING_FRAMES, NetRings, PacketOutcome, PacketRing, PacketSubmission, RING_PACKETS,
};
use hyperexo_abi::offload::Offloads;
use hyperexo_abi::ring::Slot as _;
use hyperexo_abi::{FRAME_BYTES, Page};

/// The rings that the kernel knows. They are bound once, and used by one [`ExoPort`] after the other.
static RINGS: AtomicPtr<NetRings> = AtomicPtr::new(core::ptr::null_mut());

/// This environment's part of the network.
pub(super) struct ExoPort {
    address: MacAddress,
    filters: Vec<Capability>,
    transmit: Lane<'static>,
    receive: Lane<'static>,
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
        filters: Vec::new(),
        transmit: Lane::new(&rings.transmit, memory::frame_of),
        receive: Lane::new(&rings.receive, memory::frame_of),
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
        Offloads::NONE
    }

    fn most_parts(&self) -> usize {
        1
    }

    fn supply(&mut self, buffer: Pages) -> Result<(), Pages> {
        self.receive.put(buffer, 0)
    }

    fn receive(&mut self) -> Option<(Packet, Result<(), PacketOutcome>)> {
        let (buffer, bytes, outcome) = self.receive.take()?;
        Some((Packet::new(buffer, bytes), outcome))
    }

    fn transmit(&mut self, packet: Packet) -> Result<(), Packet> {
        let bytes = packet.len();
        let (buffer, _) = packet.into_parts();
        self.transmit.put(buffer, bytes).map_err(|buffer| Packet::new(buffer, bytes))
    }

    fn reclaim(&mut self) -> Option<(Packet, Result<(), PacketOutcome>)> {
        let (buffer, bytes, outcome) = self.transmit.take()?;
        Some((Packet::new(buffer, bytes), outcome))
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
    unsafe { hypercall::net_ring_bind(first) }.map_err(refused("binding the rings"))?;
    RINGS.store(core::ptr::from_ref(rings).cast_mut(), Ordering::Release);
    Ok(rings)
}

/// Our side of a ring.
///
/// Invariant: each submission in the ring, or taken from it and not completed, has the number of an occupied
/// slot as its tag, and names the frame of that slot's buffer.
struct Lane<'a> {
    ring: &'a PacketRing,
    frame_of: fn(&Page) -> Option<u64>,
    slots: Vec<Option<Lent<[Page]>>>,
    free: Vec<usize>,
    tail: u32,
    head: u32,
}

impl<'a> Lane<'a> {
    /// A lane over a ring with nothing in flight. It goes on where the lane before it ended.
    fn new(ring: &'a PacketRing, frame_of: fn(&Page) -> Option<u64>) -> Lane<'a> {
        Lane {
            ring,
            frame_of,
            slots: (0..RING_PACKETS).map(|_| None).collect(),
            free: (0..RING_PACKETS).rev().collect(),
            tail: ring.sq_tail.0.load(Ordering::Relaxed),
            head: ring.cq_head.0.load(Ordering::Relaxed),
        }
    }

    fn in_flight(&self) -> usize {
        RING_PACKETS - self.free.len()
    }

    /// Writes a submission into the ring. Gives the buffer back if there is no place, or if it is not on the
    /// heap.
    fn put(&mut self, buffer: Pages, bytes: usize) -> Result<(), Pages> {
        // There are as many slots as places in the ring, so a free slot means a free place.
        let Some((slot, frame)) = self.free.last().copied().zip((self.frame_of)(&buffer[0])) else {
            return Err(buffer);
        };
        self.free.pop();
        self.slots[slot] = Some(Lent::new(buffer));
        let submission = PacketSubmission { frame, tag: slot as u32, bytes: bytes as u32 };
        self.ring.submissions[self.tail as usize % RING_PACKETS].store(&submission);
        self.tail = self.tail.wrapping_add(1);
        self.ring.sq_tail.0.store(self.tail, Ordering::Release);
        Ok(())
    }

    /// Whether there are submissions of which the kernel must be told.
    fn needs_kick(&self) -> bool {
        // The kernel sets `need_kick`, then looks at the tail again. The order here is the reverse.
        fence(Ordering::SeqCst);
        self.ring.sq_head.0.load(Ordering::Relaxed) != self.tail
            && self.ring.need_kick.0.load(Ordering::Relaxed) != 0
    }

    fn has_completion(&self) -> bool {
        self.ring.cq_tail.0.load(Ordering::Acquire) != self.head
    }

    /// Takes a completion from the ring: the buffer, the bytes moved, and how it went.
    fn take(&mut self) -> Option<(Pages, usize, Result<(), PacketOutcome>)> {
        while self.has_completion() {
            let completion = self.ring.completions[self.head as usize % RING_PACKETS].load();
            self.head = self.head.wrapping_add(1);
            self.ring.cq_head.0.store(self.head, Ordering::Release);
            let slot = completion.tag as usize;
            // A completion for an empty slot is a mistake of the kernel: there is nothing to give back.
            if let Some(lent) = self.slots.get_mut(slot).and_then(Option::take) {
                self.free.push(slot);
                // SAFETY: completed, so the kernel is done with it.
                let buffer = unsafe { lent.back() };
                let outcome = match completion.outcome {
                    Some(PacketOutcome::Ok) => Ok(()),
                    other => Err(other.unwrap_or(PacketOutcome::BadLength)),
                };
                let bytes = usize::from(completion.bytes).min(FRAME_BYTES);
                return Some((buffer, bytes, outcome));
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

    /// Takes back what the kernel has not taken. `kick` returns when the kernel is done with what it did with
    /// the ring before.
    fn withdraw(&mut self, kick: impl FnOnce()) {
        let taken = self.ring.sq_head.0.load(Ordering::Acquire);
        self.ring.sq_tail.0.store(taken, Ordering::Release);
        // A packet that came meanwhile may have found the old tail. After the kick none does.
        kick();
        self.tail = self.ring.sq_head.0.load(Ordering::Acquire);
        self.ring.sq_tail.0.store(self.tail, Ordering::Release);
        while self.take().is_some() {}
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
