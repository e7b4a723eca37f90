//! Lies through the disk ring.

use crate::judge::{Attempt, Judge};
use crate::machine;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use hyperexo_abi::capability::Rights;
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::ring::{
    COMPLETIONS, DiskRing, MAX_REQUEST_BLOCKS, Operation, Outcome, RING_FRAMES, SUBMISSIONS, Slot as _,
    Submission,
};
use hyperexo_abi::{ANY, LINEAR_BASE};
use libos_core::exo::{hypercall, start_info};
use libos_core::time::sleep;

/// A frame of the kernel's image.
const KERNEL_FRAME: u64 = 0x100;
/// What the kernel may take for an answer.
const PATIENCE: core::time::Duration = core::time::Duration::from_millis(2);
const PATIENCE_TURNS: u32 = 5000;

pub const ATTEMPTS: &[Attempt] = &[
    Attempt::survives("ring-frames", "rings in frames that are not ours", ring_frames).with_disk(),
    Attempt::survives("ring-requests", "requests for foreign blocks and frames, absurd requests", requests)
        .with_disk(),
    Attempt::survives("ring-indices", "lies in the ring's indices", indices).with_disk(),
    Attempt::survives(
        "flush-of-highest-block",
        "a flush that names the highest block",
        flush_of_highest_block,
    )
    .with_disk(),
    Attempt::survives("disk-hoard", "allocating all disk blocks that there are", disk_hoard).with_disk(),
    Attempt::survives(
        "revoke-in-flight",
        "takes an extent away from itself while the disk writes to it",
        revoke_in_flight,
    )
    .with_disk(),
    Attempt::survives("pinned-frames", "freeing frames that the kernel is using", pinned).with_disk(),
    Attempt::killed("die-in-flight", "dies while the disk writes into its memory", die_in_flight).with_disk(),
];

/// A ring that the kernel knows, and our side of its indices.
struct Line {
    ring: &'static DiskRing,
    first_frame: u64,
    /// Frame for data, bound read-write.
    data_frame: u64,
}

/// The one ring of this run; the kernel takes no second.
fn line(judge: &mut Judge) -> Option<Line> {
    use core::sync::atomic::AtomicU64;
    static FIRST: AtomicU64 = AtomicU64::new(0);
    let mut first = FIRST.load(Ordering::Relaxed);
    if first == 0 {
        first = own_frames(judge, RING_FRAMES + 1, Rights::READ_WRITE)?;
        judge.allowed("binding the ring", machine::ring_bind(first))?;
        let start = start_info();
        let rights = start.disk_capability.claim()?.rights.intersection(Rights::READ_WRITE);
        judge.allowed("binding the extent", hypercall::disk_bind(&start.disk_capability, rights))?;
        FIRST.store(first, Ordering::Relaxed);
    }
    Some(Line { ring: machine::ring_at(first), first_frame: first, data_frame: first + RING_FRAMES })
}

fn own_frames(judge: &mut Judge, count: u64, rights: Rights) -> Option<u64> {
    let capability = judge.allowed("allocating frames", hypercall::page_alloc(ANY, count, 1))?;
    judge.allowed("binding frames", machine::page_bind(&capability, rights))?;
    capability.claim().map(|claim| claim.first)
}

impl Line {
    /// A read of the extent's first block into the data frame.
    fn good(&self) -> Submission {
        let first = start_info().disk_capability.claim().map_or(0, |claim| claim.first);
        let mut frames = [0; MAX_REQUEST_BLOCKS];
        frames[0] = self.data_frame;
        Submission { tag: 1, operation: Operation::Read as u8, block: first, count: 1, frames }
    }

    /// Sends a submission; the outcome, or `None` if none came in time.
    fn send(&self, submission: &Submission) -> Option<Outcome> {
        self.put(submission);
        machine::ring_kick().ok()?;
        self.receive()
    }

    /// Puts a submission into the ring; a kick is still to come.
    fn put(&self, submission: &Submission) {
        let tail = self.ring.sq_tail.0.load(Ordering::Relaxed);
        self.ring.submissions[tail as usize % SUBMISSIONS].store(submission);
        self.ring.sq_tail.0.store(tail.wrapping_add(1), Ordering::Release);
    }

    /// Whether a completion waits.
    fn has_completion(&self) -> bool {
        self.ring.cq_tail.0.load(Ordering::Acquire) != self.ring.cq_head.0.load(Ordering::Relaxed)
    }

    fn receive(&self) -> Option<Outcome> {
        for _ in 0..PATIENCE_TURNS {
            let head = self.ring.cq_head.0.load(Ordering::Relaxed);
            if self.ring.cq_tail.0.load(Ordering::Acquire) != head {
                let completion = self.ring.completions[head as usize % COMPLETIONS].load();
                self.ring.cq_head.0.store(head.wrapping_add(1), Ordering::Release);
                return Some(completion.outcome);
            }
            sleep(PATIENCE);
        }
        None
    }
}

/// After a revocation the blocks may be written for as long as requests from before are in the device's
/// hands. Binding the fresh capability is refused until they are over: who succeeds has the blocks for
/// itself.
fn revoke_in_flight(judge: &mut Judge) {
    let Some(line) = line(judge) else { return };
    let allocated = judge.allowed("an extent", hypercall::disk_alloc(ANY, 4));
    let Some(extent) = allocated else { return };
    let Some(first) = extent.claim().map(|claim| claim.first) else { return };
    judge.allowed("binding it", hypercall::disk_bind(&extent, Rights::READ_WRITE));
    line.put(&Submission { operation: Operation::Write as u8, block: first, ..line.good() });
    judge.allowed("a kick", machine::ring_kick());
    let Some(fresh) = judge.allowed("revoking", hypercall::revoke(&extent)) else { return };
    judge.refused(
        "binding the old one",
        hypercall::disk_bind(&extent, Rights::READ),
        Status::StaleCapability,
    );
    let mut bound = Err(Status::Busy);
    for _ in 0..PATIENCE_TURNS {
        bound = hypercall::disk_bind(&fresh, Rights::READ_WRITE);
        if bound != Err(Status::Busy) {
            break;
        }
    }
    judge.expect("the write was over when the extent could be bound", line.has_completion(), true);
    judge.allowed("binding the fresh one", bound);
    judge.expect("how it ended", line.receive(), Some(Outcome::Ok));
    judge.allowed("giving it back", hypercall::disk_free(&fresh));
}

fn ring_frames(judge: &mut Judge) {
    let start = start_info();
    judge.refused("the kernel's frames", machine::ring_bind(KERNEL_FRAME), Status::NotBound);
    judge.refused("read-only frames", machine::ring_bind(start.owners_frame), Status::NotBound);
    judge.refused("a frame of the kernel's", machine::ring_bind(start.doorbell_frame), Status::NotBound);
    judge.refused("beyond memory", machine::ring_bind(start.memory_end_frame), Status::NotBound);
    judge.refused("beyond numbers", machine::ring_bind(u64::MAX - 1), Status::BadArgument);
    judge.refused("a kick without a ring", machine::ring_kick(), Status::NotBound);
}

fn requests(judge: &mut Judge) {
    let Some(line) = line(judge) else { return };
    let Some(extent) = start_info().disk_capability.claim() else { return };
    let Some(read_only) = own_frames(judge, 1, Rights::READ) else { return };
    let good = line.good();
    let framed = |frame| {
        let mut bad = good;
        bad.frames[0] = frame;
        bad
    };
    let read = Operation::Read as u8;
    let most = MAX_REQUEST_BLOCKS as u32;
    let tries = [
        ("an honest read", good, Outcome::Ok),
        ("no blocks", Submission { count: 0, ..good }, Outcome::BadRequest),
        ("too many blocks", Submission { count: most + 1, ..good }, Outcome::BadRequest),
        ("absurdly many blocks", Submission { count: u32::MAX, ..good }, Outcome::BadRequest),
        ("operation 0", Submission { operation: 0, ..good }, Outcome::BadRequest),
        ("operation 4", Submission { operation: 4, ..good }, Outcome::BadRequest),
        ("operation 255", Submission { operation: 255, ..good }, Outcome::BadRequest),
        ("a flush of blocks", Submission { operation: Operation::Flush as u8, ..good }, Outcome::BadRequest),
        ("a block behind the extent", Submission { block: extent.end(), ..good }, Outcome::BlockNotBound),
        ("the highest block", Submission { block: u64::MAX, ..good }, Outcome::BlockNotBound),
        ("a block where sectors overflow", Submission { block: 1 << 61, ..good }, Outcome::BlockNotBound),
        ("the kernel's frame", framed(KERNEL_FRAME), Outcome::FrameNotBound),
        ("a frame behind memory", framed(start_info().memory_end_frame), Outcome::FrameNotBound),
        ("the highest frame", framed(u64::MAX), Outcome::FrameNotBound),
        ("our accounts", framed(start_info().accounting_frame), Outcome::FrameNotBound),
        ("a frame bound read-only", framed(read_only), Outcome::FrameNotBound),
        ("an honest read again", Submission { operation: read, ..good }, Outcome::Ok),
    ];
    for (what, submission, expected) in &tries {
        judge.expect(what, line.send(submission), Some(*expected));
    }
    if extent.first > 0 {
        let before = Submission { block: extent.first - 1, ..good };
        judge.expect("a block before the extent", line.send(&before), Some(Outcome::BlockNotBound));
    }
    let across = Submission { block: extent.end() - 1, count: 2, ..good };
    judge.expect("across the extent's end", line.send(&across), Some(Outcome::BlockNotBound));
    if !extent.rights.contains(Rights::WRITE) {
        let write = Submission { operation: Operation::Write as u8, ..good };
        judge.expect("a write to a read-only extent", line.send(&write), Some(Outcome::BlockNotBound));
    }
}

fn indices(judge: &mut Judge) {
    let Some(line) = line(judge) else { return };
    let ring = line.ring;
    let tail = ring.sq_tail.0.load(Ordering::Relaxed);
    for lead in [SUBMISSIONS as u32 + 1, 1000, 1 << 31, u32::MAX] {
        ring.sq_tail.0.store(tail.wrapping_add(lead), Ordering::Relaxed);
        judge.refused(format_args!("a tail {lead} ahead"), machine::ring_kick(), Status::BadArgument);
    }
    ring.sq_tail.0.store(tail, Ordering::Relaxed);
    judge.expect("honest again", line.send(&line.good()), Some(Outcome::Ok));
    // The kernel keeps its own indices: what we write over them in the ring is for our own eyes.
    ring.sq_head.0.store(tail.wrapping_add(77), Ordering::Relaxed);
    ring.need_kick.0.store(0, Ordering::Relaxed);
    judge.expect("with a spoilt head", line.send(&line.good()), Some(Outcome::Ok));
    // A completion head that makes no sense means that there is no room: nothing is taken until it is right
    // again.
    let head = ring.cq_head.0.load(Ordering::Relaxed);
    ring.cq_head.0.store(head.wrapping_sub(COMPLETIONS as u32), Ordering::Relaxed);
    let tail = ring.sq_tail.0.load(Ordering::Relaxed);
    ring.submissions[tail as usize % SUBMISSIONS].store(&line.good());
    ring.sq_tail.0.store(tail.wrapping_add(1), Ordering::Release);
    judge.allowed("a kick without room", machine::ring_kick());
    ring.cq_head.0.store(head, Ordering::Relaxed);
    judge.allowed("a kick with room", machine::ring_kick());
    judge.expect("the answer", line.receive(), Some(Outcome::Ok));
}

fn flush_of_highest_block(judge: &mut Judge) {
    let Some(line) = line(judge) else { return };
    let Some(extent) = start_info().disk_capability.claim() else { return };
    let may_write = extent.rights.contains(Rights::WRITE);
    let expected = if may_write { Outcome::Ok } else { Outcome::BlockNotBound };
    for block in [u64::MAX, u64::MAX - 1, 1 << 61, 1 << 63] {
        let flush = Submission { operation: Operation::Flush as u8, block, count: 0, ..line.good() };
        judge.expect(format_args!("a flush of block {block:#x}"), line.send(&flush), Some(expected));
    }
    judge.expect("an honest read", line.send(&line.good()), Some(Outcome::Ok));
}

fn disk_hoard(judge: &mut Judge) {
    /// What we can remember.
    const MOST: usize = 4096;
    let mut taken = Vec::with_capacity(MOST);
    let mut step = start_info().disk_blocks.next_power_of_two();
    let mut last = None;
    while step > 0 && taken.len() < MOST {
        match hypercall::disk_alloc(ANY, step) {
            Ok(capability) => taken.push(capability),
            Err(status) => {
                last = Some(status);
                step /= 2;
            }
        }
    }
    let clean = matches!(last, Some(Status::Exhausted | Status::QuotaExceeded));
    judge.expect(format_args!("the end of the hoard, {last:?}"), clean, true);
    if let Some(line) = line(judge) {
        judge.expect("an honest read, hoard in hand", line.send(&line.good()), Some(Outcome::Ok));
    }
    for capability in &taken {
        judge.allowed("giving back", hypercall::disk_free(capability));
    }
    // As much can be had as before.
    if let Some(first) = taken.first() {
        let blocks = first.claim().map_or(0, |claim| claim.count);
        judge.allowed("the largest part again", hypercall::disk_alloc(ANY, blocks));
    }
}

fn pinned(judge: &mut Judge) {
    let Some(line) = line(judge) else { return };
    judge.refused("a second ring", machine::ring_bind(line.first_frame), Status::InUse);
    for frame in line.first_frame..line.first_frame + RING_FRAMES {
        judge.refused(format_args!("unbinding frame {frame}"), machine::page_unbind(frame, 1), Status::Busy);
    }
    let Some(capability) = judge.allowed("allocating", hypercall::page_alloc(ANY, 1, 1)) else { return };
    judge.allowed("binding", machine::page_bind(&capability, Rights::READ_WRITE));
    let Some(frame) = capability.claim().map(|claim| claim.first) else { return };
    let mut submission = line.good();
    submission.frames[0] = frame;
    let tail = line.ring.sq_tail.0.load(Ordering::Relaxed);
    line.ring.submissions[tail as usize % SUBMISSIONS].store(&submission);
    line.ring.sq_tail.0.store(tail.wrapping_add(1), Ordering::Release);
    judge.allowed("kicking", machine::ring_kick());
    let early = machine::page_free(&capability);
    let answer = line.receive();
    // The device may have been faster than we: then freeing was right.
    if early.is_ok() {
        judge.expect("an answer to a read of a freed frame", answer.is_some(), true);
        return;
    }
    judge.refused("freeing a frame in flight", early, Status::Busy);
    judge.expect("the read", answer, Some(Outcome::Ok));
    judge.allowed("freeing it afterwards", machine::page_free(&capability));
}

fn die_in_flight(judge: &mut Judge) {
    let Some(line) = line(judge) else { return };
    let Some(first) = own_frames(judge, 16, Rights::READ_WRITE) else { return };
    for number in 0..16 {
        let mut submission = line.good();
        submission.frames[0] = first + number;
        line.ring.submissions[number as usize].store(&submission);
    }
    line.ring.sq_tail.0.store(16, Ordering::Release);
    judge.allowed("kicking", machine::ring_kick());
    machine::read_word(LINEAR_BASE);
}
