//! The block device behind the disk: virtio-blk, or memory where there is no such device (Bochs).

use super::ram::RamDisk;
use alloc::string::String;
use hyperexo_abi::FRAME_BYTES;
use hyperexo_hw::virtio::block::{Operation, Outcome, QueueFull, SLOTS, VirtioBlock};
use spin::Once;
use virtio_drivers::transport::pci::PciTransport;

/// Why there is no virtio disk, in words, once it has been looked for.
pub static WITHOUT_DISK: Once<String> = Once::new();

/// A device with a queue of requests. Who submits one hears of its completion by the disk interrupt.
pub trait BlockDevice: Send {
    /// Whole blocks.
    fn blocks(&self) -> u64;
    /// Whether the device refuses writes.
    fn read_only(&self) -> bool;
    /// Whether a flush means something to the device.
    fn can_flush(&self) -> bool;
    /// Requests whose completion has not been picked up.
    fn in_flight(&self) -> usize;
    /// Tells the device of what was submitted. Returns whether something is done already, for which no
    /// interrupt will come.
    fn notify(&mut self) -> bool;
    /// Submits a request for `frames.len()` blocks from `block`, one frame a block (none for a flush). The
    /// result names the request until its completion.
    ///
    /// # Errors
    ///
    /// [`QueueFull`].
    ///
    /// # Safety
    ///
    /// As for [`VirtioBlock::submit`].
    unsafe fn submit(&mut self, operation: Operation, block: u64, frames: &[u64])
    -> Result<usize, QueueFull>;
    /// The next request that is done, and how.
    fn complete(&mut self) -> Option<(usize, Outcome)>;
}

impl BlockDevice for VirtioBlock<PciTransport> {
    fn blocks(&self) -> u64 {
        VirtioBlock::blocks(self)
    }

    fn read_only(&self) -> bool {
        VirtioBlock::read_only(self)
    }

    fn can_flush(&self) -> bool {
        VirtioBlock::can_flush(self)
    }

    fn in_flight(&self) -> usize {
        VirtioBlock::in_flight(self)
    }

    fn notify(&mut self) -> bool {
        VirtioBlock::notify(self);
        false
    }

    unsafe fn submit(
        &mut self,
        operation: Operation,
        block: u64,
        frames: &[u64],
    ) -> Result<usize, QueueFull> {
        // SAFETY: passed on to the caller.
        unsafe { VirtioBlock::submit(self, operation, block, frames) }
    }

    fn complete(&mut self) -> Option<(usize, Outcome)> {
        VirtioBlock::complete(self)
    }
}

impl BlockDevice for RamDisk {
    fn blocks(&self) -> u64 {
        (self.bytes.len() / FRAME_BYTES) as u64
    }

    fn read_only(&self) -> bool {
        false
    }

    // So that an environment sees the same requests counted whatever the disk.
    fn can_flush(&self) -> bool {
        true
    }

    fn in_flight(&self) -> usize {
        SLOTS - self.free.len()
    }

    fn notify(&mut self) -> bool {
        !self.done.is_empty()
    }

    unsafe fn submit(
        &mut self,
        operation: Operation,
        block: u64,
        frames: &[u64],
    ) -> Result<usize, QueueFull> {
        RamDisk::submit(self, operation, block, frames)
    }

    fn complete(&mut self) -> Option<(usize, Outcome)> {
        let (slot, outcome) = self.done.pop_front()?;
        self.free.push_back(slot);
        Some((slot, outcome))
    }
}
