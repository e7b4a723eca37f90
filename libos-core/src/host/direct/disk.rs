//! The disk of a machine: virtio-blk, with many requests in flight and a deadline for each.
//!
//! The device interrupts only while somebody sleeps until a request is done. A request whose deadline has
//! passed is given up. Its slot and its pages stay the device's until it answers, if ever.

use super::devices::{self, Found, Interrupt};
use super::machine::{Machine, accounting, count};
use super::vector;
use crate::cpu::lock::Masked;
use crate::cpu::timer;
use crate::platform::{BlockQueue, DeviceFault, DiskError, OpenDisk, QueueFull};
use alloc::{boxed::Box, vec::Vec};
use hyperexo_abi::ring::{Operation, Outcome};
use hyperexo_hw::ioapic::Pin;
use hyperexo_hw::time::ticks;
use hyperexo_hw::virtio::block::{self, Indirect, SLOTS, StartError, VirtioBlock};
use virtio_drivers::transport::SomeTransport;

/// The pin of the open disk, if it has one. The handler masks it.
static PIN: Masked<Option<Pin>> = Masked::new(None);

/// The handler of the disk's interrupt.
pub(super) fn interrupted() {
    if let Some(pin) = &*PIN.lock() {
        pin.set_masked(true);
    }
}

/// Finds and starts the disk.
pub(super) fn open(machine: &'static Machine) -> Result<OpenDisk, DiskError> {
    let Found { transport, place } = devices::find_disk(machine)?;
    let device = VirtioBlock::new(transport, Indirect::Optional).map_err(|error| match error {
        StartError::ShortQueue { entries } => {
            DiskError::Unusable(DeviceFault::ShortQueue { entries, needed: SLOTS as u32 })
        }
        StartError::Driver(_) | StartError::NoIndirect => DiskError::Unusable(DeviceFault::Refused),
    })?;
    if device.blocks() == 0 {
        return Err(DiskError::Unusable(DeviceFault::Empty));
    }
    let interrupt = Interrupt::connect(machine, place, 1, vector::DISK).map_err(DiskError::Unusable)?;
    *PIN.lock() = interrupt.pin();
    let (blocks, read_only) = (device.blocks(), device.read_only());
    let patience = machine.clock.ticks_of_us(machine.options.disk_timeout_ms.saturating_mul(1000));
    let queue = VirtioQueue { device, interrupt, slots: Slots::new(patience) };
    Ok(OpenDisk { queue: Box::new(queue), first_block: 0, blocks, read_only })
}

/// A request in the device's hands.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    /// The requester's number for it. `None` once it has been given up.
    number: Option<usize>,
    operation: Operation,
    blocks: u64,
    /// Value of the time stamp counter at which the request is given up.
    deadline: u64,
}

/// Requests in the device's slots, and requests that are done without it.
struct Slots {
    slots: [Option<Waiting>; SLOTS],
    /// Ticks that a request may take.
    patience: u64,
    /// Requests that are done without the device.
    ready: Vec<(usize, Outcome)>,
}

impl Slots {
    fn new(patience: u64) -> Slots {
        Slots { slots: [const { None }; SLOTS], patience, ready: Vec::new() }
    }

    /// Whether no slot is left, because all hold requests that have been given up.
    fn is_lost(&self) -> bool {
        self.slots.iter().all(|slot| slot.is_some_and(|waiting| waiting.number.is_none()))
    }

    /// The earliest deadline of the requests that are not given up.
    fn next_deadline(&self) -> Option<u64> {
        self.slots
            .iter()
            .flatten()
            .filter(|waiting| waiting.number.is_some())
            .map(|waiting| waiting.deadline)
            .min()
    }

    /// Frees a slot whose request is done. Returns the request, unless it had been given up.
    fn done(&mut self, slot: usize) -> Option<Waiting> {
        self.slots.get_mut(slot)?.take().filter(|waiting| waiting.number.is_some())
    }

    /// Gives up a request whose deadline has passed, if there is one. Returns its number.
    fn give_up(&mut self, now: u64) -> Option<usize> {
        let late = |waiting: &&mut Waiting| waiting.number.is_some() && waiting.deadline <= now;
        self.slots.iter_mut().flatten().find(late)?.number.take()
    }
}

/// The queue of the open disk.
struct VirtioQueue {
    device: VirtioBlock<SomeTransport<'static>>,
    interrupt: Interrupt,
    slots: Slots,
}

impl VirtioQueue {
    /// Counts a request that the device has done.
    fn account(&self, waiting: &Waiting, outcome: Outcome) {
        let counters = accounting();
        match (outcome, waiting.operation) {
            (Outcome::Ok, Operation::Read) => count(&counters.disk_blocks_read, waiting.blocks),
            (Outcome::Ok, Operation::Write) => count(&counters.disk_blocks_written, waiting.blocks),
            (Outcome::Ok, Operation::Flush) => {}
            _ => count(&counters.disk_errors, 1),
        }
    }
}

impl BlockQueue for VirtioQueue {
    unsafe fn put(
        &mut self,
        number: usize,
        operation: Operation,
        block: u64,
        frames: &[u64],
    ) -> Result<(), QueueFull> {
        let counters = accounting();
        let (requests, asked) = match operation {
            Operation::Read => (&counters.disk_read_requests, block::Operation::Read),
            Operation::Write => (&counters.disk_write_requests, block::Operation::Write),
            Operation::Flush if !self.device.can_flush() => {
                // Completed writes are durable already.
                self.slots.ready.push((number, Outcome::Ok));
                return Ok(());
            }
            Operation::Flush => (&counters.disk_flush_requests, block::Operation::Flush),
        };
        if self.slots.is_lost() {
            // No slot will ever be free.
            self.slots.ready.push((number, Outcome::DeviceError));
            return Ok(());
        }
        // SAFETY: by the caller's promise the frames are lent to the request until it is done.
        let slot =
            unsafe { self.device.submit(asked, block, frames) }.map_err(|block::QueueFull| QueueFull)?;
        count(requests, 1);
        let deadline = ticks().saturating_add(self.slots.patience);
        let blocks = frames.len() as u64;
        self.slots.slots[slot] = Some(Waiting { number: Some(number), operation, blocks, deadline });
        Ok(())
    }

    fn kick(&mut self) {
        self.device.notify();
    }

    fn has_completion(&self) -> bool {
        self.device.has_completed()
            || !self.slots.ready.is_empty()
            || self.slots.next_deadline().is_some_and(|deadline| deadline <= ticks())
    }

    fn take(&mut self) -> Option<(usize, Outcome)> {
        if let Some(done) = self.slots.ready.pop() {
            return Some(done);
        }
        while let Some((slot, outcome)) = self.device.complete() {
            let Some(waiting) = self.slots.done(slot) else { continue };
            let outcome = match outcome {
                block::Outcome::Done => Outcome::Ok,
                block::Outcome::Failed => Outcome::DeviceError,
                block::Outcome::Unsupported => Outcome::Unsupported,
            };
            self.account(&waiting, outcome);
            return Some((waiting.number?, outcome));
        }
        let number = self.slots.give_up(ticks())?;
        count(&accounting().disk_errors, 1);
        Some((number, Outcome::Timeout))
    }

    fn completion_or_wake(&mut self) -> bool {
        if let Some(pin) = self.interrupt.pin() {
            self.device.acknowledge();
            pin.set_masked(false);
        }
        self.device.set_interrupts(true);
        if self.has_completion() {
            self.device.set_interrupts(false);
            return true;
        }
        if let Some(deadline) = self.slots.next_deadline() {
            timer::wake_by(deadline);
            self.interrupt.look_again();
        }
        false
    }
}

/// Masks the pin. Dropping the transport then resets the device.
impl Drop for VirtioQueue {
    fn drop(&mut self) {
        if let Some(pin) = PIN.lock().take() {
            pin.set_masked(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(number: usize, deadline: u64) -> Option<Waiting> {
        Some(Waiting { number: Some(number), operation: Operation::Read, blocks: 1, deadline })
    }

    #[test]
    fn late_requests_are_given_up_once_and_their_answers_are_nobodys() {
        let mut slots = Slots::new(10);
        slots.slots[3] = waiting(30, 100);
        slots.slots[5] = waiting(50, 90);
        assert_eq!(slots.next_deadline(), Some(90));
        assert_eq!(slots.give_up(89), None);
        assert_eq!((slots.give_up(99), slots.give_up(99)), (Some(50), None));
        assert_eq!(slots.next_deadline(), Some(100));
        assert!(slots.done(5).is_none(), "nobody waits for it any more");
        assert_eq!(slots.done(3).and_then(|waiting| waiting.number), Some(30));
        assert!(slots.done(3).is_none() && slots.done(SLOTS).is_none());
    }

    #[test]
    fn a_device_that_answers_nothing_is_lost() {
        let mut slots = Slots::new(10);
        (0..SLOTS).for_each(|slot| slots.slots[slot] = waiting(slot, 5));
        assert!(!slots.is_lost());
        while slots.give_up(5).is_some() {}
        assert!(slots.is_lost());
        slots.done(7);
        assert!(!slots.is_lost(), "it has answered one");
    }
}
