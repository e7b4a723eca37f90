//! What a host offers as a disk: a queue of requests for whole blocks.
//!
//! `crate::io::disk` owns the buffers and checks the requests. A host only moves blocks between frames and
//! the device.

use super::device::DeviceFault;
use alloc::boxed::Box;
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::ring::{Operation, Outcome};

/// Why the disk can't be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// The machine has no virtio disk.
    NoDisk {
        /// That in words, with what else there is that leads to disks.
        why: &'static str,
    },
    /// It is not clear which of the machine's disks is meant.
    NotChosen {
        /// That in words, with the disks there are.
        why: &'static str,
    },
    /// The manifest gives this environment no extent.
    NoExtent,
    /// The disk is open already; it can be open once at a time.
    AlreadyOpen,
    /// There is a disk, but it can't be used.
    Unusable(DeviceFault),
    /// The kernel refused a step.
    Refused {
        /// What was asked.
        step: &'static str,
        /// The kernel's answer.
        status: Status,
    },
}

impl core::fmt::Display for DiskError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            DiskError::NoDisk { why } | DiskError::NotChosen { why } => f.write_str(why),
            DiskError::NoExtent => f.write_str("this environment was given no disk extent"),
            DiskError::AlreadyOpen => f.write_str("the disk is open already"),
            DiskError::Unusable(fault) => write!(f, "the disk can't be used: {fault}"),
            DiskError::Refused { step, status } => write!(f, "disk: {step}: {status}"),
        }
    }
}

impl core::error::Error for DiskError {}

/// A disk just opened.
pub(crate) struct OpenDisk {
    /// Takes requests. Their blocks count from the first block of the whole disk.
    pub queue: Box<dyn BlockQueue>,
    /// Number of the unikernel's first block on the whole disk.
    pub first_block: u64,
    /// Blocks of the unikernel.
    pub blocks: u64,
    /// Whether writing is refused.
    pub read_only: bool,
}

/// The queue takes no more requests at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueFull;

/// The requests of an open disk.
pub(crate) trait BlockQueue: Send {
    /// Takes a request. Its completion will bear `number`. The device may learn of it only at the next
    /// [`BlockQueue::kick`].
    ///
    /// # Safety
    ///
    /// The frames serve this request alone until it is completed. If the outcome is [`Outcome::Timeout`],
    /// they serve it for ever.
    unsafe fn put(
        &mut self,
        number: usize,
        operation: Operation,
        block: u64,
        frames: &[u64],
    ) -> Result<(), QueueFull>;

    /// Tells the device of the requests that were put.
    fn kick(&mut self);

    /// Whether [`BlockQueue::take`] has something.
    fn has_completion(&self) -> bool;

    /// The next completion: the request's number, and how it ended.
    fn take(&mut self) -> Option<(usize, Outcome)>;

    /// Whether there is a completion. If not, the next completion raises an upcall, and so does the end of a
    /// request's time.
    fn completion_or_wake(&mut self) -> bool;
}
