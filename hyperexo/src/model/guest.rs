//! A guest's side of what it shares with the kernel.

use super::Machine;
use crate::machine::id::VcpuId;
use core::sync::atomic::Ordering;
use hyperexo_abi::ANY;
use hyperexo_abi::capability::Rights;
use hyperexo_abi::hypercall::Call;
use hyperexo_abi::net::{NET_RING_FRAMES, NetRings, PacketCompletion, PacketOutcome, PacketSubmission};
use hyperexo_abi::ring::{
    COMPLETIONS, DiskRing, MAX_REQUEST_BLOCKS, Operation, Outcome, RING_FRAMES, SUBMISSIONS, Slot, Submission,
};

/// A guest's side of its ring of block requests.
#[derive(Clone, Copy)]
pub struct GuestRing {
    /// First frame.
    pub first: u64,
    ring: &'static DiskRing,
}

impl GuestRing {
    /// The ring that a guest has given the kernel.
    pub fn at(machine: &Machine, first: u64) -> GuestRing {
        // SAFETY: atomics only, in frames of the model, which stay.
        GuestRing { first, ring: unsafe { machine.kernel.pages.memory.shared(first) } }
    }

    /// Puts a request into the ring, whatever it says.
    pub fn submit(&self, submission: &Submission) {
        let tail = self.ring.sq_tail.0.load(Ordering::Relaxed);
        self.ring.submissions[tail as usize % SUBMISSIONS].store(submission);
        self.ring.sq_tail.0.store(tail.wrapping_add(1), Ordering::Release);
    }

    /// Puts a request into the ring for one block after the other.
    pub fn request(&self, operation: Operation, block: u64, frames: &[u64]) {
        self.submit(&submission(operation as u8, block, frames));
    }

    /// Whether the ring has a place for one more.
    pub fn has_room(&self) -> bool {
        let head = self.ring.sq_head.0.load(Ordering::Relaxed);
        self.ring.sq_tail.0.load(Ordering::Relaxed).wrapping_sub(head) < SUBMISSIONS as u32
    }

    /// The index that the kernel goes by, to be spoilt.
    pub fn spoil(&self, tail: u32) {
        self.ring.sq_tail.0.store(tail, Ordering::Relaxed);
    }

    /// Outcomes that have come since the last time.
    pub fn outcomes(&self) -> Vec<Outcome> {
        let (head, tail) =
            (self.ring.cq_head.0.load(Ordering::Relaxed), self.ring.cq_tail.0.load(Ordering::Acquire));
        let count = tail.wrapping_sub(head);
        assert!(count as usize <= COMPLETIONS, "more completions than there is room for");
        self.ring.cq_head.0.store(tail, Ordering::Release);
        (0..count)
            .map(|at| self.ring.completions[head.wrapping_add(at) as usize % COMPLETIONS].load().outcome)
            .collect()
    }
}

/// A request.
pub fn submission(operation: u8, block: u64, frames: &[u64]) -> Submission {
    let mut all = [0; MAX_REQUEST_BLOCKS];
    all[..frames.len()].copy_from_slice(frames);
    Submission { tag: 7, operation, block, count: frames.len() as u32, frames: all }
}

impl Machine {
    /// Gives an environment a ring for block requests.
    pub fn ring(&mut self, who: VcpuId) -> GuestRing {
        let (first, _) = self.frames(who, RING_FRAMES);
        self.call(who, Call::RingBind, &[first]).unwrap();
        GuestRing::at(self, first)
    }

    /// Allocates blocks and binds them, read-write; returns the first.
    pub fn extent(&mut self, who: VcpuId, blocks: u64) -> u64 {
        let words = self.call(who, Call::DiskAlloc, &[ANY, blocks]).unwrap();
        let capability = hyperexo_abi::capability::Capability(words);
        self.call_with(who, Call::DiskBind, capability, &[3]).unwrap();
        capability.claim().unwrap().first
    }

    /// Gives an environment rings for packets, and room for some in its frames.
    pub fn net_rings(&mut self, who: VcpuId) -> &'static NetRings {
        let (first, _) = self.frames(who, NET_RING_FRAMES);
        self.call(who, Call::NetRingBind, &[first]).unwrap();
        // SAFETY: atomics only, in frames of the model, which stay.
        unsafe { self.kernel.pages.memory.shared(first) }
    }
}

/// Puts a packet, or room for one, into a ring.
pub fn offer(ring: &hyperexo_abi::net::PacketRing, frame: u64, bytes: u32) {
    offer_part(ring, &PacketSubmission { frame, bytes, tag: 1, ..Default::default() });
}

/// Puts an entry into a ring.
pub fn offer_part(ring: &hyperexo_abi::net::PacketRing, submission: &PacketSubmission) {
    let tail = ring.sq_tail.0.load(Ordering::Relaxed);
    ring.submissions[tail as usize % ring.submissions.len()].store(submission);
    ring.sq_tail.0.store(tail.wrapping_add(1), Ordering::Release);
}

/// Outcomes and bytes of packets that have come since the last time.
pub fn packets(ring: &hyperexo_abi::net::PacketRing) -> Vec<(Option<PacketOutcome>, u32)> {
    completions(ring).into_iter().map(|completion| (completion.outcome, completion.bytes)).collect()
}

/// Completions that have come since the last time.
pub fn completions(ring: &hyperexo_abi::net::PacketRing) -> Vec<PacketCompletion> {
    let (head, tail) = (ring.cq_head.0.load(Ordering::Relaxed), ring.cq_tail.0.load(Ordering::Acquire));
    ring.cq_head.0.store(tail, Ordering::Release);
    (0..tail.wrapping_sub(head))
        .map(|at| ring.completions[head.wrapping_add(at) as usize % ring.completions.len()].load())
        .collect()
}

/// Rights to read and write, in a register.
pub const READ_WRITE: u64 = Rights::READ_WRITE.0 as u64;
