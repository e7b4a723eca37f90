//! A virtio-net device with buffers of the kernel's own.
//!
//! The buffers are the kernel's because whose a packet is shows only when it is there, and because what an
//! environment sends must not change once it has been judged.
//!
//! Invariant: a buffer is the device's from the moment its slot is given until the slot comes back, and only
//! then is it read or written here.

use crate::machine::memory::PhysicalMemory;
use alloc::vec::Vec;
use hyperexo_abi::net::{MAX_PACKET_BYTES, MacAddress};
use hyperexo_abi::{FRAME_BYTES, FRAME_SHIFT};
use hyperexo_hw::virtio::net::{Part, SLOTS, VirtioNet, Words};
use virtio_drivers::transport::pci::PciTransport;

/// Buffers for each direction.
const BUFFERS: usize = 32;
/// Bytes of a buffer.
const BUFFER_BYTES: usize = FRAME_BYTES / 2;
/// Frames for all buffers, adjacent.
pub const WIRE_FRAMES: u64 = (2 * BUFFERS * BUFFER_BYTES / FRAME_BYTES) as u64;

const _: () = assert!(MAX_PACKET_BYTES <= BUFFER_BYTES && BUFFERS <= SLOTS);

/// The device.
pub struct Wire {
    device: VirtioNet<PciTransport>,
    memory: PhysicalMemory,
    first_frame: u64,
    /// Buffer in each slot of the device's receive queue.
    receiving: [usize; SLOTS],
    /// Buffer in each slot of its transmit queue.
    sending: [usize; SLOTS],
    /// Buffers for sending that the device does not have.
    free: Vec<usize>,
}

impl Wire {
    /// A device, with [`WIRE_FRAMES`] frames of the kernel's from `first_frame` on for its buffers.
    pub fn new(device: VirtioNet<PciTransport>, memory: PhysicalMemory, first_frame: u64) -> Wire {
        let mut wire = Wire {
            device,
            memory,
            first_frame,
            receiving: [0; SLOTS],
            sending: [0; SLOTS],
            free: (BUFFERS..2 * BUFFERS).collect(),
        };
        (0..BUFFERS).for_each(|buffer| wire.supply(buffer));
        wire.device.notify();
        wire
    }

    /// The device's hardware address.
    pub fn address(&self) -> MacAddress {
        MacAddress(self.device.address())
    }

    /// Frame of a buffer, and where in it the buffer starts.
    fn place(&self, buffer: usize) -> (u64, usize) {
        let offset = buffer * BUFFER_BYTES;
        (self.first_frame + (offset / FRAME_BYTES) as u64, offset % FRAME_BYTES)
    }

    fn physical(&self, buffer: usize) -> u64 {
        let (frame, offset) = self.place(buffer);
        (frame << FRAME_SHIFT) + offset as u64
    }

    /// Gives the device a buffer to receive into.
    fn supply(&mut self, buffer: usize) {
        // SAFETY: the buffer is the kernel's for ever, larger than a packet, and left alone until it comes
        // back (invariant).
        let given = unsafe { self.device.supply(self.physical(buffer), BUFFER_BYTES) };
        // There are fewer buffers than slots; a device whose queue is full all the same is broken, and
        // receives no more.
        if let Ok(slot) = given {
            self.receiving[slot] = buffer;
        }
    }

    /// Whether there is a buffer to send with.
    pub fn has_room(&mut self) -> bool {
        while let Some(slot) = self.device.reclaim() {
            self.free.push(self.sending[slot]);
        }
        !self.free.is_empty()
    }

    /// Sends a copy of a packet, if there is room.
    pub fn send(&mut self, packet: &[u8]) {
        let Some(buffer) = self.free.pop() else { return };
        let (frame, offset) = self.place(buffer);
        let bytes = packet.len().min(BUFFER_BYTES);
        self.memory.write(frame, offset, &packet[..bytes]);
        // SAFETY: the buffer is the kernel's for ever, and left alone until it comes back (invariant).
        let part = Part { address: self.physical(buffer), bytes };
        // SAFETY: the buffer is the kernel's for ever, and left alone until it comes back (invariant).
        match unsafe { self.device.transmit(Words::default(), &[part]) } {
            Ok(slot) => self.sending[slot] = buffer,
            Err(_) => self.free.push(buffer),
        }
    }

    /// Copies the next packet that has arrived, and gives its buffer back to the device.
    pub fn receive(&mut self, packet: &mut [u8; MAX_PACKET_BYTES]) -> Option<usize> {
        let arrival = self.device.receive()?;
        let buffer = self.receiving[arrival.slot];
        let (frame, offset) = self.place(buffer);
        let bytes = arrival.bytes.min(MAX_PACKET_BYTES);
        self.memory.read(frame, offset + arrival.start, &mut packet[..bytes]);
        self.supply(buffer);
        Some(bytes)
    }

    /// Whether packets that arrive raise an interrupt.
    pub fn interrupt_on_receive(&mut self, wanted: bool) {
        self.device.interrupt_on_receive(wanted);
    }

    /// Whether packets that have left raise an interrupt.
    pub fn interrupt_on_room(&mut self, wanted: bool) {
        self.device.interrupt_on_reclaim(wanted);
    }

    /// Tells the device what there is to do.
    pub fn notify(&mut self) {
        self.device.notify();
    }
}
