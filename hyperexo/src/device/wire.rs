//! A virtio-net device with buffers of the kernel's own.
//!
//! The buffers are the kernel's because whose a packet is shows only when it is there, and because what an
//! environment sends must not change once it has been judged.
//!
//! Invariant: a buffer is the device's from the moment its slot is given until the slot comes back, and only
//! then is it read or written here.

use crate::machine::memory::PhysicalMemory;
use alloc::vec::Vec;
use hyperexo_abi::net::MacAddress;
use hyperexo_abi::offload::{MAX_LARGE_PACKET_BYTES, Offload, Offloads};
use hyperexo_abi::{FRAME_BYTES, FRAME_SHIFT};
use hyperexo_hw::virtio::net::{MAX_PARTS, Part, SLOTS, VirtioNet};
use virtio_drivers::transport::pci::PciTransport;

/// Room for the longest packet.
pub type LargePacket = [u8; MAX_LARGE_PACKET_BYTES];

/// Frames for each direction. Large packets are not sent while small ones have all of them.
const FRAMES: usize = 64;
/// Frames for both, adjacent.
pub const WIRE_FRAMES: u64 = 2 * FRAMES as u64;
/// Frames of the largest packet.
const MOST: usize = MAX_LARGE_PACKET_BYTES.div_ceil(FRAME_BYTES);

const _: () = assert!(MOST <= MAX_PARTS && MOST <= FRAMES && FRAMES <= SLOTS);

/// The device.
pub struct Wire {
    device: VirtioNet<PciTransport>,
    memory: PhysicalMemory,
    /// Frame in each slot of the device's receive queue.
    receiving: [u64; SLOTS],
    /// Frames in each slot of its transmit queue.
    sending: Vec<Vec<u64>>,
    /// Frames for sending that the device does not have.
    free: Vec<u64>,
}

impl Wire {
    /// A device, with [`WIRE_FRAMES`] frames of the kernel's from `first_frame` on for its buffers.
    pub fn new(device: VirtioNet<PciTransport>, memory: PhysicalMemory, first_frame: u64) -> Wire {
        let middle = first_frame + FRAMES as u64;
        let mut wire = Wire {
            device,
            memory,
            receiving: [0; SLOTS],
            // None of them ever grows.
            sending: (0..SLOTS).map(|_| Vec::with_capacity(MOST)).collect(),
            free: (middle..first_frame + WIRE_FRAMES).collect(),
        };
        (first_frame..middle).for_each(|frame| wire.supply(frame));
        wire.device.notify();
        wire
    }

    /// What the device does for packets that are sent.
    pub fn offloads(&self) -> Offloads {
        Offloads::from_features(self.device.features().bits())
    }

    /// The device's hardware address.
    pub fn address(&self) -> MacAddress {
        MacAddress(self.device.address())
    }

    /// Gives the device a frame to receive into.
    fn supply(&mut self, frame: u64) {
        // SAFETY: the frame is the kernel's for ever, larger than a packet, and left alone until it comes
        // back (invariant).
        let given = unsafe { self.device.supply(frame << FRAME_SHIFT, FRAME_BYTES) };
        // There are fewer frames than slots; a device whose queue is full all the same is broken, and
        // receives no more.
        if let Ok(slot) = given {
            self.receiving[slot] = frame;
        }
    }

    /// Whether there are frames to send with, whatever the packet.
    pub fn has_room(&mut self) -> bool {
        while let Some(slot) = self.device.reclaim() {
            self.free.append(&mut self.sending[slot]);
        }
        self.free.len() >= MOST
    }

    /// Sends a copy of a packet, if there is room.
    pub fn send(&mut self, packet: &[u8], offload: Offload) {
        let count = packet.len().div_ceil(FRAME_BYTES);
        let Some(first) = self.free.len().checked_sub(count) else { return };
        let mut parts = [Part { address: 0, bytes: 0 }; MAX_PARTS];
        let taken = self.free[first..].iter().zip(&mut parts);
        for ((frame, part), bytes) in taken.zip(packet.chunks(FRAME_BYTES)) {
            self.memory.write(*frame, 0, bytes);
            *part = Part { address: *frame << FRAME_SHIFT, bytes: bytes.len() };
        }
        // SAFETY: the frames are the kernel's for ever, and left alone until they come back (invariant).
        if let Ok(slot) = unsafe { self.device.transmit(offload.to_bytes(), &parts[..count]) } {
            self.sending[slot].extend(self.free.drain(first..));
        }
    }

    /// Copies the next packet that has arrived, and gives its frames back to the device.
    pub fn receive(&mut self, packet: &mut LargePacket) -> Option<(usize, Offload)> {
        let arrival = self.device.receive()?;
        let mut bytes = self.copy(arrival.slot, arrival.start, arrival.bytes, packet);
        for _ in 0..arrival.more.min(MOST) {
            // Of a packet that the device has not finished there is nothing.
            let Some((slot, more)) = self.device.receive_more() else { return Some((0, Offload::NONE)) };
            bytes += self.copy(slot, 0, more, &mut packet[bytes..]);
        }
        Some((bytes, Offload::from_bytes(arrival.words)))
    }

    /// Copies what is in a frame, as far as there is room for it, and gives the frame back to the device.
    fn copy(&mut self, slot: usize, start: usize, bytes: usize, into: &mut [u8]) -> usize {
        let (frame, bytes) = (self.receiving[slot], bytes.min(into.len()));
        self.memory.read(frame, start, &mut into[..bytes]);
        self.supply(frame);
        bytes
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
