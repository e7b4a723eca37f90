//! A disk in memory.

use super::{BLOCK_BYTES, BlockDevice, Completion, Operation, Rejected, Rejection, Request, validate};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::task::Waker;
use spin::Mutex;

/// Requests that a [`RamDisk`] takes before a completion must be fetched.
const QUEUE_DEPTH: usize = 32;

/// A disk in memory. Clones are further queues to the same blocks: keep one to look at the disk after a
/// volume is gone.
pub struct RamDisk {
    bytes: Arc<Mutex<Vec<u8>>>,
    completions: VecDeque<Completion>,
    max_request_blocks: usize,
    read_only: bool,
}

impl RamDisk {
    /// A disk of `blocks` blocks of zeros.
    ///
    /// # Panics
    ///
    /// If that many bytes can't be addressed.
    pub fn new(blocks: u64) -> RamDisk {
        let bytes = usize::try_from(blocks).ok().and_then(|blocks| blocks.checked_mul(BLOCK_BYTES));
        RamDisk::from_bytes(vec![0; bytes.expect("a RAM disk must fit into memory")])
    }

    /// A disk that holds `bytes`; an incomplete block at the end is not reachable.
    pub fn from_bytes(bytes: Vec<u8>) -> RamDisk {
        RamDisk {
            bytes: Arc::new(Mutex::new(bytes)),
            completions: VecDeque::new(),
            max_request_blocks: hyperexo_abi::ring::MAX_REQUEST_BLOCKS,
            read_only: false,
        }
    }

    /// The same blocks, with room for `blocks` in one request.
    pub fn with_max_request_blocks(self, blocks: usize) -> RamDisk {
        RamDisk { max_request_blocks: blocks.max(1), ..self }
    }

    /// The same blocks, read-only.
    pub fn into_read_only(self) -> RamDisk {
        RamDisk { read_only: true, ..self }
    }

    /// A copy of the contents.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.bytes.lock().clone()
    }

    /// Changes the contents behind the queue's back.
    pub fn modify(&self, change: impl FnOnce(&mut [u8])) {
        change(&mut self.bytes.lock());
    }
}

impl Clone for RamDisk {
    fn clone(&self) -> RamDisk {
        RamDisk {
            bytes: Arc::clone(&self.bytes),
            completions: VecDeque::new(),
            max_request_blocks: self.max_request_blocks,
            read_only: self.read_only,
        }
    }
}

impl BlockDevice for RamDisk {
    fn blocks(&self) -> u64 {
        (self.bytes.lock().len() / BLOCK_BYTES) as u64
    }

    fn max_request_blocks(&self) -> usize {
        self.max_request_blocks
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn submit(&mut self, mut request: Request) -> Result<(), Rejected> {
        if let Err(error) = validate(self, &request) {
            return Err(Rejected { request, reason: Rejection::Refused(error) });
        }
        if self.completions.len() >= QUEUE_DEPTH {
            return Err(Rejected { request, reason: Rejection::QueueFull });
        }
        let mut bytes = self.bytes.lock();
        let blocks = bytes.chunks_exact_mut(BLOCK_BYTES).skip(request.block as usize);
        match request.operation {
            Operation::Read => {
                for (buffer, block) in request.buffers.iter_mut().zip(blocks) {
                    buffer.0.copy_from_slice(block);
                }
            }
            Operation::Write => {
                for (buffer, block) in request.buffers.iter().zip(blocks) {
                    block.copy_from_slice(&buffer.0);
                }
            }
            Operation::Flush => {}
        }
        let completion = Completion { tag: request.tag, buffers: request.buffers, result: Ok(()) };
        self.completions.push_back(completion);
        Ok(())
    }

    fn poll(&mut self) -> Option<Completion> {
        self.completions.pop_front()
    }

    fn wait(&mut self) {}

    /// Every request has completed when it was taken.
    fn ready(&mut self, _: &Waker) -> bool {
        true
    }
}
