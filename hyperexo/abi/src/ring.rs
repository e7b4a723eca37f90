//! Rings in shared memory, and the one of block requests.
//!
//! The environment owns the frames of a [`Ring`]; it writes submissions and moves `sq_tail`, the kernel takes
//! them, moves `sq_head`, and later writes completions and moves `cq_tail`; the environment moves `cq_head`.
//! Indices run freely and wrap at 2³²; slot = index modulo size. All words are atomic because the other side
//! may be changing them: each side reads a slot once, then judges its copy.
//!
//! * A submission needs a kick (for block requests [`crate::hypercall::Call::RingKick`]) only while
//!   `need_kick` is set.
//! * A completion raises an upcall (for block requests [`crate::upcall::Cause::Disk`]) only while `wake` is
//!   set; the kernel clears it when it does. To sleep: disable interrupts, set `wake`, look at the
//!   completions once more, then `sti; hlt`.
//! * Between taking a block request and posting its completion the kernel (and the device) use the frames it
//!   names. They can't be freed or unbound in that time.
//!
//! Packets go through two such rings: [`crate::net`].

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Submissions that the ring holds.
pub const SUBMISSIONS: usize = 32;
/// Completions that the ring holds. The kernel takes no submission whose completion might not find a place.
pub const COMPLETIONS: usize = 64;
/// Frames (blocks) that one request may name.
pub const MAX_REQUEST_BLOCKS: usize = 32;
/// Adjacent frames that a [`DiskRing`] takes.
pub const RING_FRAMES: u64 = 3;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Operation {
    /// Disk to frames.
    Read = 1,
    /// Frames to disk.
    Write = 2,
    /// Makes all completed writes durable. Names no blocks.
    Flush = 3,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Outcome {
    /// Done.
    Ok = 0,
    /// The request itself is malformed: unknown operation, no blocks or too many.
    BadRequest = 1,
    /// A block is not in an extent that the environment has bound with the right that is needed.
    BlockNotBound = 2,
    /// A frame is not bound by the environment with the right that is needed.
    FrameNotBound = 3,
    /// The device reported an error.
    DeviceError = 4,
    /// The device did not answer in time. Until it does, the frames stay in its hands: they can't be freed.
    Timeout = 5,
    /// The device does not support the operation, or is read-only.
    Unsupported = 6,
}

impl Outcome {
    /// The outcome with this number; numbers that nobody defined count as a malformed request.
    pub fn from_number(number: u32) -> Outcome {
        match number {
            0 => Outcome::Ok,
            2 => Outcome::BlockNotBound,
            3 => Outcome::FrameNotBound,
            4 => Outcome::DeviceError,
            5 => Outcome::Timeout,
            6 => Outcome::Unsupported,
            _ => Outcome::BadRequest,
        }
    }
}

impl core::fmt::Display for Outcome {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Outcome::Ok => "done",
            Outcome::BadRequest => "malformed request",
            Outcome::BlockNotBound => "block is not in a bound extent",
            Outcome::FrameNotBound => "frame is not bound",
            Outcome::DeviceError => "the device reported an error",
            Outcome::Timeout => "the device did not answer in time",
            Outcome::Unsupported => "the device does not support the operation or is read-only",
        })
    }
}

/// A request, as a value. `operation` is a raw byte because the other side may have written anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Returned with the completion; means nothing to the kernel.
    pub tag: u64,
    /// An [`Operation`], unchecked.
    pub operation: u8,
    /// First block.
    pub block: u64,
    /// Number of blocks, and of valid entries in `frames`.
    pub count: u32,
    /// Frame numbers, one a block.
    pub frames: [u64; MAX_REQUEST_BLOCKS],
}

/// A finished request, as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Tag of the submission.
    pub tag: u64,
    /// How it ended.
    pub outcome: Outcome,
}

/// Memory of one submission: tag, operation | count << 32, block, spare, frames.
#[repr(C)]
pub struct SubmissionSlot([AtomicU64; 4 + MAX_REQUEST_BLOCKS]);

impl Slot for SubmissionSlot {
    type Value = Submission;

    /// Frames beyond `count` are left as they are.
    fn store(&self, submission: &Submission) {
        let words = &self.0;
        words[0].store(submission.tag, Ordering::Relaxed);
        words[1]
            .store(u64::from(submission.operation) | u64::from(submission.count) << 32, Ordering::Relaxed);
        words[2].store(submission.block, Ordering::Relaxed);
        let used = (submission.count as usize).min(MAX_REQUEST_BLOCKS);
        for (word, frame) in words[4..].iter().zip(&submission.frames[..used]) {
            word.store(*frame, Ordering::Relaxed);
        }
    }

    /// `count` may exceed [`MAX_REQUEST_BLOCKS`]: the reader must check it.
    fn load(&self) -> Submission {
        let word = |index: usize| self.0[index].load(Ordering::Relaxed);
        let operation_and_count = word(1);
        let count = (operation_and_count >> 32) as u32;
        let mut frames = [0; MAX_REQUEST_BLOCKS];
        for (index, frame) in frames.iter_mut().enumerate().take(count as usize) {
            *frame = word(4 + index);
        }
        Submission { tag: word(0), operation: operation_and_count as u8, block: word(2), count, frames }
    }
}

/// Memory of one completion: tag, outcome.
#[repr(C)]
pub struct CompletionSlot([AtomicU64; 2]);

impl Slot for CompletionSlot {
    type Value = Completion;

    fn store(&self, completion: &Completion) {
        self.0[0].store(completion.tag, Ordering::Relaxed);
        self.0[1].store(completion.outcome as u64, Ordering::Relaxed);
    }

    fn load(&self) -> Completion {
        Completion {
            tag: self.0[0].load(Ordering::Relaxed),
            outcome: Outcome::from_number(self.0[1].load(Ordering::Relaxed) as u32),
        }
    }
}

/// An index in a cache line of its own, so that the two sides do not fight over it.
#[derive(Default)]
#[repr(C, align(64))]
pub struct Index(pub AtomicU32);

/// Words of shared memory that hold a value.
pub trait Slot {
    /// The value.
    type Value;

    /// Writes a value into the slot, each word once.
    fn store(&self, value: &Self::Value);

    /// Copies the value, each word once. The other side may have written anything.
    fn load(&self) -> Self::Value;
}

/// A ring of `SUBMISSIONS` and `COMPLETIONS` slots. A frame of zeros is an empty ring.
#[repr(C, align(4096))]
pub struct Ring<S, C, const SUBMISSIONS: usize, const COMPLETIONS: usize> {
    /// One past the last submission written. Moved by the environment.
    pub sq_tail: Index,
    /// First submission not yet taken. Moved by the kernel.
    pub sq_head: Index,
    /// One past the last completion written. Moved by the kernel.
    pub cq_tail: Index,
    /// First completion not yet taken. Moved by the environment.
    pub cq_head: Index,
    /// Non-zero when the kernel will not look at the ring unless kicked. Written by the kernel.
    pub need_kick: Index,
    /// Non-zero when the environment wants an upcall for the next completion. Set by the environment.
    pub wake: Index,
    /// Completions.
    pub completions: [C; COMPLETIONS],
    /// Submissions.
    pub submissions: [S; SUBMISSIONS],
}

/// The ring of block requests.
pub type DiskRing = Ring<SubmissionSlot, CompletionSlot, SUBMISSIONS, COMPLETIONS>;

const _: () = assert!(size_of::<DiskRing>() == RING_FRAMES as usize * crate::FRAME_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_give_back_what_was_stored() {
        let slot = SubmissionSlot([const { AtomicU64::new(0) }; 4 + MAX_REQUEST_BLOCKS]);
        let mut frames = [0; MAX_REQUEST_BLOCKS];
        frames[..3].copy_from_slice(&[7, 8, 1 << 40]);
        let submission = Submission { tag: 1, operation: Operation::Read as u8, block: 99, count: 3, frames };
        slot.store(&submission);
        assert_eq!(slot.load(), submission);
    }

    #[test]
    fn an_absurd_count_is_reported_as_it_stands() {
        let slot = SubmissionSlot([const { AtomicU64::new(u64::MAX) }; 4 + MAX_REQUEST_BLOCKS]);
        assert_eq!(slot.load().count, u32::MAX);
    }
}
