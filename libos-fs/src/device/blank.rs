//! A disk that keeps nothing.

use super::{BlockDevice, Completion, Rejected, Rejection, Request, validate};
use alloc::collections::VecDeque;
use core::task::Waker;

/// A disk for models, where only the requests count: a read leaves its buffers as they are, a write goes
/// nowhere. So it can have any number of blocks.
pub struct BlankDisk {
    blocks: u64,
    completions: VecDeque<Completion>,
}

impl BlankDisk {
    /// A disk of so many blocks.
    pub fn new(blocks: u64) -> BlankDisk {
        BlankDisk { blocks, completions: VecDeque::new() }
    }
}

impl BlockDevice for BlankDisk {
    fn blocks(&self) -> u64 {
        self.blocks
    }

    fn max_request_blocks(&self) -> usize {
        hyperexo_abi::ring::MAX_REQUEST_BLOCKS
    }

    fn read_only(&self) -> bool {
        false
    }

    fn submit(&mut self, request: Request) -> Result<(), Rejected> {
        if let Err(error) = validate(self, &request) {
            return Err(Rejected { request, reason: Rejection::Refused(error) });
        }
        let Request { tag, buffers, .. } = request;
        self.completions.push_back(Completion { tag, buffers, result: Ok(()) });
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
