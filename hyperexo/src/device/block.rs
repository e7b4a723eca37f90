//! The block device behind the disk: virtio-blk, or memory where there is no such device (Bochs).

use super::ram::RamDisk;
use crate::interrupt;
use alloc::boxed::Box;
use hyperexo_hw::virtio::block::{Operation, Outcome, QueueFull, VirtioBlock};
use virtio_drivers::transport::pci::PciTransport;

/// A device with a queue of requests. Who submits one hears of its completion by the disk interrupt.
pub enum BlockDevice {
    /// virtio-blk.
    Virtio(Box<VirtioBlock<PciTransport>>),
    /// A module in memory.
    Ram(RamDisk),
}

impl BlockDevice {
    /// Whole blocks.
    pub fn blocks(&self) -> u64 {
        match self {
            BlockDevice::Virtio(device) => device.blocks(),
            BlockDevice::Ram(device) => device.blocks(),
        }
    }

    /// Whether the device refuses writes.
    pub fn read_only(&self) -> bool {
        match self {
            BlockDevice::Virtio(device) => device.read_only(),
            BlockDevice::Ram(_) => false,
        }
    }

    /// Whether a flush means something to the device.
    pub fn can_flush(&self) -> bool {
        match self {
            BlockDevice::Virtio(device) => device.can_flush(),
            // So that an environment sees the same requests counted whatever the disk.
            BlockDevice::Ram(_) => true,
        }
    }

    /// Requests whose completion has not been picked up.
    pub fn in_flight(&self) -> usize {
        match self {
            BlockDevice::Virtio(device) => device.in_flight(),
            BlockDevice::Ram(device) => device.in_flight(),
        }
    }

    /// Tells the device of what was submitted.
    pub fn notify(&mut self) {
        match self {
            BlockDevice::Virtio(device) => device.notify(),
            BlockDevice::Ram(device) if device.has_completions() => interrupt::note_disk(),
            BlockDevice::Ram(_) => {}
        }
    }

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
    pub unsafe fn submit(
        &mut self,
        operation: Operation,
        block: u64,
        frames: &[u64],
    ) -> Result<usize, QueueFull> {
        match self {
            // SAFETY: passed on to the caller.
            BlockDevice::Virtio(device) => unsafe { device.submit(operation, block, frames) },
            BlockDevice::Ram(device) => device.submit(operation, block, frames),
        }
    }

    /// The next request that is done, and how.
    pub fn complete(&mut self) -> Option<(usize, Outcome)> {
        match self {
            BlockDevice::Virtio(device) => device.complete(),
            BlockDevice::Ram(device) => device.complete(),
        }
    }
}
