//! A disk in memory: a module that the boot loader put there.
//!
//! It behaves like a device with a queue, so that everything above it is the same: a request is carried out
//! when it is submitted, but its completion is picked up later, after the kernel was told to look (as by an
//! interrupt). What is written lasts as long as the machine runs.
#![forbid(unsafe_code)]

use crate::machine::memory::PhysicalMemory;
use alloc::collections::VecDeque;
use hyperexo_abi::FRAME_BYTES;
use hyperexo_hw::virtio::block::{Operation, Outcome, QueueFull, SLOTS};

/// The disk.
pub struct RamDisk {
    pub(super) bytes: &'static mut [u8],
    memory: PhysicalMemory,
    /// Requests carried out and not yet picked up.
    pub(super) done: VecDeque<(usize, Outcome)>,
    /// Numbers not in use.
    pub(super) free: VecDeque<usize>,
}

impl RamDisk {
    /// A disk with this contents; a last partial block can't be reached. Requests name frames of `memory`.
    pub fn new(bytes: &'static mut [u8], memory: PhysicalMemory) -> RamDisk {
        RamDisk { bytes, memory, done: VecDeque::with_capacity(SLOTS), free: (0..SLOTS).collect() }
    }

    /// Carries out a request for `frames.len()` blocks from `block`, one frame a block. The result names the
    /// request until its completion.
    ///
    /// # Errors
    ///
    /// [`QueueFull`] when as many requests wait to be picked up as a queue holds.
    pub fn submit(&mut self, operation: Operation, block: u64, frames: &[u64]) -> Result<usize, QueueFull> {
        let slot = self.free.pop_front().ok_or(QueueFull)?;
        let outcome = self.carry_out(operation, block, frames).map_or(Outcome::Failed, |()| Outcome::Done);
        self.done.push_back((slot, outcome));
        Ok(slot)
    }

    /// `None` if the blocks are not all on the disk; nothing is changed then.
    fn carry_out(&mut self, operation: Operation, block: u64, frames: &[u64]) -> Option<()> {
        let start = usize::try_from(block).ok()?.checked_mul(FRAME_BYTES)?;
        let end = start.checked_add(frames.len() * FRAME_BYTES)?;
        let blocks = self.bytes.get_mut(start..end)?.chunks_exact_mut(FRAME_BYTES);
        for (block, frame) in blocks.zip(frames) {
            match operation {
                Operation::Read => self.memory.write(*frame, 0, block),
                Operation::Write => self.memory.read(*frame, 0, block),
                Operation::Flush => {}
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::block::BlockDevice;
    use std::vec::Vec;

    fn frames(count: usize) -> (PhysicalMemory, Vec<u64>) {
        (crate::machine::memory::model(count as u64), (0..count as u64).collect())
    }

    fn disk(blocks: usize, memory: PhysicalMemory) -> RamDisk {
        let bytes: Vec<u8> = (0..blocks * FRAME_BYTES + 100).map(|at| (at / FRAME_BYTES) as u8).collect();
        RamDisk::new(bytes.leak(), memory)
    }

    fn first_byte(memory: &PhysicalMemory, frame: u64) -> u8 {
        let mut byte = [0];
        memory.read(frame, 4095, &mut byte);
        byte[0]
    }

    #[test]
    fn data_moves_both_ways_and_completions_wait() {
        let (memory, frames) = frames(3);
        let mut disk = disk(8, memory);
        assert_eq!(disk.blocks(), 8);
        let slot = disk.submit(Operation::Read, 5, &frames).unwrap();
        assert_eq!([5, 6, 7], [0, 1, 2].map(|at| first_byte(&memory, frames[at])));
        assert_eq!((disk.in_flight(), disk.notify()), (1, true));
        assert_eq!(disk.complete(), Some((slot, Outcome::Done)));
        assert_eq!((disk.in_flight(), disk.complete()), (0, None));
        disk.submit(Operation::Write, 0, &frames[2..]).unwrap();
        disk.submit(Operation::Read, 0, &frames[..1]).unwrap();
        assert_eq!(first_byte(&memory, frames[0]), 7);
    }

    #[test]
    fn blocks_beyond_the_end_fail_and_change_nothing() {
        let (memory, frames) = frames(2);
        let mut disk = disk(8, memory);
        for block in [7, 8, u64::MAX, u64::MAX / 4096] {
            disk.submit(Operation::Read, block, &frames).unwrap();
            assert_eq!(disk.complete().unwrap().1, Outcome::Failed, "block {block}");
        }
        assert_eq!(first_byte(&memory, frames[0]), 0xa5, "as the model starts");
    }

    #[test]
    fn the_queue_is_as_deep_as_that_of_a_device() {
        let (memory, _) = frames(1);
        let mut disk = disk(8, memory);
        let slots: Vec<_> = (0..SLOTS).map(|_| disk.submit(Operation::Flush, 0, &[]).unwrap()).collect();
        assert_eq!(disk.submit(Operation::Flush, 0, &[]), Err(QueueFull));
        assert_eq!(disk.complete(), Some((slots[0], Outcome::Done)));
        assert_eq!(disk.submit(Operation::Flush, 0, &[]), Ok(slots[0]));
    }
}
