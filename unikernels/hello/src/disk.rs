//! Reads the disk extent from its start, several requests at a time.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use hyperexo_abi::ring::Outcome;
use hyperexo_abi::{FRAME_BYTES, Page};
use libos_core::disk::{Completion, Disk, DiskError, Operation, Rejected, Request};

/// Blocks of one request.
const REQUEST_BLOCKS: u64 = 8;
/// Requests in flight.
const DEPTH: usize = 4;

/// Why reading ended early.
pub enum ReadError {
    /// The disk can't be opened.
    Open(DiskError),
    /// A request was not taken.
    Rejected(Rejected),
    /// A request failed.
    Failed {
        /// First block of the request.
        block: u64,
        /// How it ended.
        outcome: Outcome,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Open(error) => error.fmt(f),
            ReadError::Rejected(rejected) => write!(f, "disk: {}", rejected.reason),
            ReadError::Failed { block, outcome } => write!(f, "reading block {block}: {outcome}"),
        }
    }
}

/// The sum of all bytes of the first `count` blocks (or of all, if there are fewer), and the number of
/// blocks.
pub fn sum_blocks(count: u64) -> Result<(u64, u64), ReadError> {
    let mut disk = Disk::open().map_err(ReadError::Open)?;
    let end = count.min(disk.blocks());
    let (mut next, mut sum) = (0, 0);
    while next < end || disk.in_flight() > 0 {
        if next < end && disk.in_flight() < DEPTH {
            let blocks = REQUEST_BLOCKS.min(end - next);
            let buffers = (0..blocks).map(|_| Box::new(Page([0; FRAME_BYTES]))).collect::<Vec<_>>();
            let request = Request { tag: next, operation: Operation::Read, block: next, buffers };
            disk.submit(request).map_err(ReadError::Rejected)?;
            next += blocks;
        } else if let Some(completion) = disk.poll() {
            sum += sum_of(&completion)?;
        } else {
            disk.wait();
        }
    }
    Ok((sum, end))
}

fn sum_of(completion: &Completion) -> Result<u64, ReadError> {
    match completion.result {
        Ok(()) => Ok(completion.buffers.iter().flat_map(|page| &page.0).map(|byte| u64::from(*byte)).sum()),
        Err(outcome) => Err(ReadError::Failed { block: completion.tag, outcome }),
    }
}
