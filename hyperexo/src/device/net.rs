//! The device behind the network: virtio-net, or none.
//!
//! Without a device the network is a loopback: environments reach each other, because packets between them
//! never leave the classifier ([`crate::resource::net`]), and nobody else.
#![forbid(unsafe_code)]

pub use super::wire::LargePacket;
use super::wire::Wire;
use hyperexo_abi::net::MacAddress;
use hyperexo_abi::offload::{Offload, Offloads};

/// What is beyond this machine.
pub trait NetDevice: Send {
    /// The machine's hardware address.
    fn address(&self) -> MacAddress;
    /// Whether [`NetDevice::send`] would find room.
    fn has_room(&mut self) -> bool;
    /// What it does for packets that are sent.
    fn offloads(&self) -> Offloads;
    /// Sends a packet, of which a copy is made; nothing if there is no room. The device hears of it at the
    /// next [`NetDevice::notify`].
    fn send(&mut self, packet: &[u8], offload: Offload);
    /// Copies the next packet that has arrived; returns its bytes, and what the device says of it.
    fn receive(&mut self, packet: &mut LargePacket) -> Option<(usize, Offload)>;
    /// Whether packets that arrive raise an interrupt. Whoever turns that on looks for packets once more.
    fn interrupt_on_receive(&mut self, wanted: bool);
    /// Whether there being room again raises an interrupt. Whoever turns that on looks for room once more.
    fn interrupt_on_room(&mut self, wanted: bool);
    /// Tells the device what there is to do.
    fn notify(&mut self);
}

/// Nothing is beyond this machine.
pub struct Loopback;

impl NetDevice for Loopback {
    fn address(&self) -> MacAddress {
        MacAddress::LOOPBACK
    }

    fn has_room(&mut self) -> bool {
        true
    }

    fn offloads(&self) -> Offloads {
        Offloads::CHECKSUM.union(Offloads::SEGMENTS4).union(Offloads::SEGMENTS6)
    }

    fn send(&mut self, _packet: &[u8], _offload: Offload) {}

    fn receive(&mut self, _packet: &mut LargePacket) -> Option<(usize, Offload)> {
        None
    }

    fn interrupt_on_receive(&mut self, _wanted: bool) {}

    fn interrupt_on_room(&mut self, _wanted: bool) {}

    fn notify(&mut self) {}
}

impl NetDevice for Wire {
    fn address(&self) -> MacAddress {
        Wire::address(self)
    }

    fn has_room(&mut self) -> bool {
        Wire::has_room(self)
    }

    fn offloads(&self) -> Offloads {
        Wire::offloads(self)
    }

    fn send(&mut self, packet: &[u8], offload: Offload) {
        Wire::send(self, packet, offload);
    }

    fn receive(&mut self, packet: &mut LargePacket) -> Option<(usize, Offload)> {
        Wire::receive(self, packet)
    }

    fn interrupt_on_receive(&mut self, wanted: bool) {
        Wire::interrupt_on_receive(self, wanted);
    }

    fn interrupt_on_room(&mut self, wanted: bool) {
        Wire::interrupt_on_room(self, wanted);
    }

    fn notify(&mut self) {
        Wire::notify(self);
    }
}
