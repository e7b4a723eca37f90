//! virtio-console (virtio 1.1 §5.3): text to the host, by the first port. Input is not read.
//!
//! Text is collected in buffers, each of which becomes one request; several can be in the device's hands. The
//! driver waits only where all are, no longer than its caller wants, and never allocates after its start. It
//! wants no interrupts. The driver of the crate `virtio-drivers` waits for ever, for each request.

use alloc::boxed::Box;
use bitflags::bitflags;
use core::hint;
use core::sync::atomic::{Ordering, fence};
use hyperexo_hw::linear;
use hyperexo_hw::virtio::LinearHal;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::Transport;
use virtio_drivers::{Error, Result};
use zerocopy::FromZeros;

/// Bytes of a buffer, which are one request at most.
pub const BUFFER_BYTES: usize = 1024;
/// Buffers, and entries of each queue.
pub const SLOTS: usize = 16;
/// Offset of the register for emergencies in the device's configuration (§5.3.4): 32 bits.
pub const EMERGENCY_OFFSET: u64 = 8;

/// The queue for what the host says. A device may want it, though nothing is put in.
const RECEIVE_QUEUE: u16 = 0;
const TRANSMIT_QUEUE: u16 = 1;

bitflags! {
    /// Features that the driver knows. Not several ports: then the first is the console.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Features: u64 {
        const EMERGENCY = 1 << 2;
        const VERSION_1 = 1 << 32;
    }
}

/// Where a buffer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    /// Here, and of no use at the moment.
    Free,
    /// Here, being filled: so many bytes are in it.
    Open(usize),
    /// With the device, which may read so many bytes of it until it gives the token back.
    Sent { token: u16, bytes: usize },
}

type Slots = [Slot; SLOTS];

/// The driver.
///
/// Invariants: a buffer that the device has been given is not changed. The fields are dropped in this order:
/// the transport resets the device, which then uses neither queues nor buffers.
pub struct VirtioConsole<T: Transport> {
    transport: T,
    transmit: VirtQueue<LinearHal, SLOTS>,
    _receive: VirtQueue<LinearHal, SLOTS>,
    buffers: Box<[[u8; BUFFER_BYTES]; SLOTS]>,
    slots: Slots,
    /// The slot whose turn it is to be filled. They take turns, so that what is in them is in order.
    next: usize,
    features: Features,
}

impl<T: Transport> VirtioConsole<T> {
    /// Starts the device.
    ///
    /// # Errors
    ///
    /// The transport or a queue refuses, or there is no memory for the buffers.
    pub fn new(mut transport: T) -> Result<Self> {
        let features: Features = transport.begin_init(Features::all());
        let mut receive = VirtQueue::new(&mut transport, RECEIVE_QUEUE, false, false)?;
        let mut transmit = VirtQueue::new(&mut transport, TRANSMIT_QUEUE, false, false)?;
        receive.set_dev_notify(false);
        transmit.set_dev_notify(false);
        let buffers = <[[u8; BUFFER_BYTES]; SLOTS]>::new_box_zeroed().map_err(|_| Error::DmaError)?;
        transport.finish_init();
        Ok(VirtioConsole {
            transport,
            transmit,
            _receive: receive,
            buffers,
            slots: [Slot::Free; SLOTS],
            next: 0,
            features,
        })
    }

    /// Whether the device has the register for emergencies ([`EMERGENCY_OFFSET`]).
    pub fn has_emergency_register(&self) -> bool {
        self.features.contains(Features::EMERGENCY)
    }

    /// Whether [`VirtioConsole::put`] would take something without waiting.
    pub fn has_room(&mut self) -> bool {
        self.open(&mut || true).is_some()
    }

    /// Adds bytes to the buffer that is open; full buffers go to the device. Returns how many were taken:
    /// fewer than all if `expired` has said that it has been long enough before the device gave a buffer
    /// back.
    pub fn put(&mut self, bytes: &[u8], mut expired: impl FnMut() -> bool) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() {
            // A full one that is still open found no place in the queue.
            let open = self.open(&mut expired).filter(|(_, length)| *length < BUFFER_BYTES);
            let Some((slot, length)) = open else { break };
            let count = rest.len().min(BUFFER_BYTES - length);
            self.buffers[slot][length..length + count].copy_from_slice(&rest[..count]);
            self.slots[slot] = Slot::Open(length + count);
            rest = &rest[count..];
            if length + count == BUFFER_BYTES {
                self.send();
            }
        }
        bytes.len() - rest.len()
    }

    /// Gives the buffer that is open to the device.
    pub fn send(&mut self) {
        let slot = self.next;
        let Slot::Open(bytes) = self.slots[slot] else { return };
        // SAFETY: the buffer is not changed until the device has returned it (invariant); on the heap it
        // stays where it is.
        let added = unsafe { self.transmit.add(&[&self.buffers[slot][..bytes]], &mut []) };
        // The queue has an entry for each buffer.
        let Ok(token) = added else { return };
        self.slots[slot] = Slot::Sent { token, bytes };
        self.next = (slot + 1) % SLOTS;
        // The device must see the request before we see whether it wants to be told (see virtio-blk).
        fence(Ordering::SeqCst);
        if self.transmit.should_notify() {
            self.transport.notify(TRANSMIT_QUEUE);
        }
    }

    /// Waits until the device has returned all buffers. Returns whether it has before `expired` said that it
    /// has been long enough.
    pub fn drain(&mut self, mut expired: impl FnMut() -> bool) -> bool {
        self.send();
        let none_sent = |slots: &Slots| slots.iter().all(|slot| !matches!(slot, Slot::Sent { .. }));
        self.wait(&mut expired, |slots| none_sent(slots).then_some(())).is_some()
    }

    /// Shows what the device has been given and has not returned, in that order.
    pub fn unreturned(&self, mut show: impl FnMut(&[u8])) {
        for slot in (0..SLOTS).map(|distance| (self.next + distance) % SLOTS) {
            if let Slot::Sent { bytes, .. } = self.slots[slot] {
                show(&self.buffers[slot][..bytes]);
            }
        }
    }

    /// The buffer that is open, or a free one, and how many bytes are in it.
    fn open(&mut self, expired: &mut impl FnMut() -> bool) -> Option<(usize, usize)> {
        let next = self.next;
        self.wait(expired, |slots| match slots[next] {
            Slot::Free => Some((next, 0)),
            Slot::Open(bytes) => Some((next, bytes)),
            Slot::Sent { .. } => None,
        })
    }

    /// Looks at the slots until there is what `look` wants. After `expired` said that it is over it looks
    /// once more: the machine may have stood still meanwhile.
    fn wait<R>(
        &mut self,
        expired: &mut impl FnMut() -> bool,
        look: impl Fn(&Slots) -> Option<R>,
    ) -> Option<R> {
        let mut last = false;
        loop {
            while self.take_back() {}
            match look(&self.slots) {
                None if !last => last = expired(),
                result => return result,
            }
            hint::spin_loop();
        }
    }

    /// Takes a buffer back that the device has returned. A token that was never issued would be a device gone
    /// mad: nothing comes back any more.
    fn take_back(&mut self) -> bool {
        let Some(returned) = self.transmit.peek_used() else { return false };
        let found = self.slots.iter().enumerate().find_map(|(slot, state)| match state {
            Slot::Sent { token, bytes } if *token == returned => Some((slot, *bytes)),
            _ => None,
        });
        let Some((slot, bytes)) = found else { return false };
        // SAFETY: the same buffer as at `send`, and the device has returned it.
        let popped = unsafe { self.transmit.pop_used(returned, &[&self.buffers[slot][..bytes]], &mut []) };
        self.slots[slot] = Slot::Free;
        popped.is_ok()
    }
}

/// The register for emergencies (§5.3.4): each byte written to it goes to the console at once, past queues
/// and buffers, so that no state of the driver matters.
#[derive(Clone, Copy, Debug)]
pub struct EmergencyRegister(u64);

impl EmergencyRegister {
    /// The register at a physical address.
    ///
    /// # Safety
    ///
    /// It is one, of a device that has it, and is mapped ([`linear`]) from now on.
    pub unsafe fn new(address: u64) -> EmergencyRegister {
        EmergencyRegister(address)
    }

    /// Writes bytes. Any number of cores may do so at the same time, and the driver be in use.
    pub fn write(self, bytes: &[u8]) {
        for byte in bytes {
            // SAFETY: the register is there and mapped (`new`); the device takes each write by itself.
            unsafe { linear::pointer::<u32>(self.0).write_volatile(u32::from(*byte)) };
        }
    }
}

#[cfg(test)]
mod tests;
