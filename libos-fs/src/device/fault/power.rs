//! Power cuts.

use super::Dice;
use crate::device::{
    BLOCK_BYTES, BlockDevice, Completion, DeviceError, Operation, RamDisk, Rejected, Request,
};
use crate::device::{Rejection, validate};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::task::Waker;
use hyperexo_abi::Page;
use spin::Mutex;

/// What a disk writes as a whole.
const SECTOR_BYTES: usize = 512;

struct Power {
    /// What survives a cut.
    stable: RamDisk,
    /// Written since the last flush, oldest first.
    cached: Vec<(u64, Box<Page>)>,
    /// Blocks written so far.
    written: u64,
    cut_after: Option<u64>,
    cut: bool,
    dice: Dice,
}

impl Power {
    /// The power goes. Of the writes since the last flush a random choice reaches the disk, each whole or
    /// sector by sector, in no order. A write that was just going on breaks off at any byte, or has not
    /// begun.
    fn fail(&mut self, going_on: Option<(u64, &Page)>) {
        self.cut = true;
        let cached = core::mem::take(&mut self.cached);
        let dice = &mut self.dice;
        self.stable.modify(|bytes| {
            for (block, page) in cached {
                let fate = dice.below(4);
                let start = block as usize * BLOCK_BYTES;
                for sector in 0..BLOCK_BYTES / SECTOR_BYTES {
                    let arrives = match fate {
                        0 => false,
                        1 => dice.below(2) == 0,
                        _ => true,
                    };
                    if arrives {
                        let part = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
                        bytes[start + part.start..start + part.end].copy_from_slice(&page.0[part]);
                    }
                }
            }
            if let Some((block, page)) = going_on {
                let within = [0, 64, BLOCK_BYTES as u64][dice.below(3) as usize];
                let written = dice.below(within + 1) as usize;
                let start = block as usize * BLOCK_BYTES;
                bytes[start..start + written].copy_from_slice(&page.0[..written]);
            }
        });
    }

    fn write(&mut self, block: u64, page: &Page) {
        if self.cut {
            return;
        }
        if self.cut_after == Some(self.written) {
            self.fail(Some((block, page)));
            return;
        }
        self.written += 1;
        self.cached.push((block, Box::new(page.clone())));
    }

    fn read(&mut self, block: u64, page: &mut Page) {
        if let Some((_, cached)) = self.cached.iter().rev().find(|(other, _)| *other == block) {
            page.0 = cached.0;
            return;
        }
        let start = block as usize * BLOCK_BYTES;
        self.stable.modify(|bytes| page.0.copy_from_slice(&bytes[start..start + BLOCK_BYTES]));
    }

    fn flush(&mut self) {
        for (block, page) in core::mem::take(&mut self.cached) {
            let start = block as usize * BLOCK_BYTES;
            self.stable.modify(|bytes| bytes[start..start + BLOCK_BYTES].copy_from_slice(&page.0));
        }
    }
}

/// Questions a [`PowerCut`].
#[derive(Clone)]
pub struct PowerControl(Arc<Mutex<Power>>);

impl PowerControl {
    /// Whether the power has gone.
    pub fn is_cut(&self) -> bool {
        self.0.lock().cut
    }

    /// Blocks written so far.
    pub fn written(&self) -> u64 {
        self.0.lock().written
    }

    /// Cuts the power now, if it is still there.
    pub fn cut_now(&self) {
        let power = &mut *self.0.lock();
        if !power.cut {
            power.fail(None);
        }
    }

    /// The disk as it is found when the power is back.
    pub fn survivor(&self) -> RamDisk {
        RamDisk::from_bytes(self.0.lock().stable.to_bytes())
    }
}

/// A disk with a volatile write cache whose power is cut during a certain block write. From then on every
/// request fails with [`DeviceError::NoPower`].
pub struct PowerCut {
    control: PowerControl,
    completions: VecDeque<Completion>,
    blocks: u64,
}

impl PowerCut {
    /// A disk that starts with the contents of another. `cut_after` blocks can be written; the power goes
    /// during the next. `seed` decides what becomes of the writes that were not yet flushed.
    pub fn new(start: &RamDisk, cut_after: Option<u64>, seed: u64) -> (PowerCut, PowerControl) {
        let power = Power {
            stable: RamDisk::from_bytes(start.to_bytes()),
            cached: Vec::new(),
            written: 0,
            cut_after,
            cut: false,
            dice: Dice::new(seed),
        };
        let control = PowerControl(Arc::new(Mutex::new(power)));
        let device =
            PowerCut { control: control.clone(), completions: VecDeque::new(), blocks: start.blocks() };
        (device, control)
    }
}

impl BlockDevice for PowerCut {
    fn blocks(&self) -> u64 {
        self.blocks
    }

    fn max_request_blocks(&self) -> usize {
        hyperexo_abi::ring::MAX_REQUEST_BLOCKS
    }

    fn read_only(&self) -> bool {
        false
    }

    fn submit(&mut self, mut request: Request) -> Result<(), Rejected> {
        if let Err(error) = validate(self, &request) {
            return Err(Rejected { request, reason: Rejection::Refused(error) });
        }
        let power = &mut *self.control.0.lock();
        if !power.cut {
            for (block, page) in (request.block..).zip(&mut request.buffers) {
                match request.operation {
                    Operation::Read => power.read(block, page),
                    _ => power.write(block, page),
                }
            }
            if request.operation == Operation::Flush {
                power.flush();
            }
        }
        let result = if power.cut { Err(DeviceError::NoPower) } else { Ok(()) };
        self.completions.push_back(Completion { tag: request.tag, buffers: request.buffers, result });
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
