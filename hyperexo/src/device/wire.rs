//! A virtio-net device with buffers of the kernel's own.
//!
//! The buffers are the kernel's because whose a packet is shows only when it is there, and because what an
//! environment sends must not change once it has been judged. A packet is judged where the device has put it
//! or will read it, so that the kernel copies it once.
//!
//! ```text
//!  adjacent frames, the kernel's for ever
//!  │ RECEIVE: filled in this order │ SEND: packets one behind the other │ SPARE: what fits nowhere │
//! ```
//!
//! Invariant: a frame is the device's from the moment its slot is given until the slot comes back, and only
//! then is it read or written here. The current packet lies in frames that the device does not have.

use super::net::NetDevice;
use crate::machine::memory::PhysicalMemory;
use alloc::vec::Vec;
use core::ops::Range;
use hyperexo_abi::net::MacAddress;
use hyperexo_abi::offload::{MAX_LARGE_PACKET_BYTES, Offload, Offloads};
use hyperexo_abi::{FRAME_BYTES, FRAME_SHIFT};
use hyperexo_hw::virtio::net::{Part, SLOTS, VirtioNet};
use virtio_drivers::transport::pci::PciTransport;

/// Frames of the longest packet.
const MOST: usize = MAX_LARGE_PACKET_BYTES.div_ceil(FRAME_BYTES);
/// Frames to receive into: as many as the device takes at once.
const RECEIVE: usize = SLOTS;
/// Frames to send from. Large packets are not sent while small ones have all of them.
const SEND: usize = 7 * MOST;
/// First frame of the place for a packet that can't be sent, or does not lie in one piece.
const SPARE: usize = RECEIVE + SEND;
/// The same in bytes.
const SPARE_AT: usize = SPARE * FRAME_BYTES;
/// Frames for all of that, adjacent.
pub const WIRE_FRAMES: u64 = (SPARE + MOST) as u64;

const _: () = assert!(SEND <= u128::BITS as usize && SEND <= SLOTS);

/// The device.
pub struct Wire {
    device: VirtioNet<PciTransport>,
    memory: PhysicalMemory,
    first_frame: u64,
    /// Frame in each slot of the device's receive queue, counted from the first, as all here.
    receiving: [usize; SLOTS],
    /// Frames of the packet that was taken last: not the device's.
    taken: Vec<usize>,
    /// Frames in each slot of its transmit queue, a bit for each from [`RECEIVE`] on.
    sending: [u128; SLOTS],
    /// Those of all slots.
    busy: u128,
    /// Where in the frames to send from the next packet goes.
    next: usize,
    /// Where the current packet lies, in bytes from the first frame on.
    current: Range<usize>,
}

impl Wire {
    /// A device, with [`WIRE_FRAMES`] frames of the kernel's from `first_frame` on for its buffers.
    pub fn new(device: VirtioNet<PciTransport>, memory: PhysicalMemory, first_frame: u64) -> Wire {
        let mut wire = Wire {
            device,
            memory,
            first_frame,
            receiving: [0; SLOTS],
            taken: Vec::with_capacity(1 + MOST),
            sending: [0; SLOTS],
            busy: 0,
            next: 0,
            current: 0..0,
        };
        (0..RECEIVE).for_each(|frame| wire.supply(frame));
        wire.device.notify();
        wire
    }

    /// Gives the device a frame to receive into.
    fn supply(&mut self, frame: usize) {
        let address = (self.first_frame + frame as u64) << FRAME_SHIFT;
        // SAFETY: the frame is the kernel's for ever, larger than a packet, and left alone until it comes
        // back (invariant).
        let given = unsafe { self.device.supply(address, FRAME_BYTES) };
        // There are no more frames than slots; a device whose queue is full all the same is broken, and
        // receives no more.
        if let Ok(slot) = given {
            self.receiving[slot] = frame;
        }
    }

    /// Adds what is in a slot to the current packet. If it does not lie behind what there is, all goes to the
    /// spare place.
    fn append(&mut self, slot: usize, bytes: usize) {
        let (frame, length) = (self.receiving[slot], self.current.len());
        let (from, bytes) = (frame * FRAME_BYTES, bytes.min(MAX_LARGE_PACKET_BYTES - length));
        self.taken.push(frame);
        if self.current.end == from {
            self.current.end += bytes;
            return;
        }
        let (memory, spare) = (self.memory, self.first_frame + SPARE as u64);
        if self.current.start != SPARE_AT {
            memory.write(spare, 0, self.packet());
        }
        self.current = from..from + bytes;
        memory.write(spare, length, self.packet());
        self.current = SPARE_AT..SPARE_AT + length + bytes;
    }
}

/// Bits of frames to send from.
fn bits(first: usize, count: usize) -> u128 {
    ((1 << count) - 1) << first
}

impl NetDevice for Wire {
    fn address(&self) -> MacAddress {
        MacAddress(self.device.address())
    }

    fn offloads(&self) -> Offloads {
        Offloads::from_features(self.device.features().bits())
    }

    fn has_room(&mut self) -> bool {
        while let Some(slot) = self.device.reclaim() {
            self.busy &= !core::mem::take(&mut self.sending[slot]);
        }
        self.busy & bits(self.next, MOST) == 0
    }

    fn stage(&mut self) -> bool {
        let room = self.has_room();
        let at = if room { RECEIVE + self.next } else { SPARE } * FRAME_BYTES;
        self.current = at..at + MAX_LARGE_PACKET_BYTES;
        room
    }

    fn send(&mut self, bytes: usize, offload: Offload) {
        let first = RECEIVE + self.next;
        if core::mem::replace(&mut self.current, 0..0).start != first * FRAME_BYTES {
            return;
        }
        let part = Part { address: (self.first_frame + first as u64) << FRAME_SHIFT, bytes };
        // SAFETY: the frames are the kernel's for ever. They are no packet's any more, and none is put there
        // while they are busy (invariant).
        if let Ok(slot) = unsafe { self.device.transmit(offload.to_bytes(), &[part]) } {
            let count = bytes.div_ceil(FRAME_BYTES);
            self.sending[slot] = bits(self.next, count);
            self.busy |= self.sending[slot];
            self.next = if self.next + count + MOST <= SEND { self.next + count } else { 0 };
        }
    }

    fn receive(&mut self) -> Option<(usize, Offload)> {
        let arrival = self.device.receive()?;
        let frame = self.receiving[arrival.slot];
        let at = frame * FRAME_BYTES + arrival.start;
        self.taken.push(frame);
        self.current = at..at + arrival.bytes;
        for _ in 0..arrival.more.min(MOST) {
            // Of a packet that the device has not finished there is nothing.
            let Some((slot, bytes)) = self.device.receive_more() else { return Some((0, Offload::NONE)) };
            self.append(slot, bytes);
        }
        Some((self.current.len(), Offload::from_bytes(arrival.words)))
    }

    fn recycle(&mut self) {
        self.current = 0..0;
        // In the order in which they came, so that packets lie in adjacent frames.
        (0..self.taken.len()).for_each(|at| self.supply(self.taken[at]));
        self.taken.clear();
    }

    fn packet(&mut self) -> &mut [u8] {
        // SAFETY: in adjacent frames of the kernel's that the device does not have (invariant), and that no
        // other reference leads to: this one borrows what knows where they are.
        unsafe {
            let first = self.memory.pointer(self.first_frame).add(self.current.start);
            core::slice::from_raw_parts_mut(first, self.current.len())
        }
    }

    fn interrupt_on_receive(&mut self, wanted: bool) {
        self.device.interrupt_on_receive(wanted);
    }

    fn interrupt_on_room(&mut self, wanted: bool) {
        self.device.interrupt_on_reclaim(wanted);
    }

    fn notify(&mut self) {
        self.device.notify();
    }
}
