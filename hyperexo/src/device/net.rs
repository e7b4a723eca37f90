//! The device behind the network: virtio-net, or none.
//!
//! Without a device the network is a loopback: environments reach each other, because packets between them
//! never leave the classifier ([`crate::net`]), and nobody else.
#![forbid(unsafe_code)]

use super::wire::Wire;
use alloc::boxed::Box;
use hyperexo_abi::net::{MAX_PACKET_BYTES, MacAddress};

/// What is beyond this machine.
pub enum NetDevice {
    /// Nothing.
    Loopback,
    /// What a virtio-net device is connected to.
    Wire(Box<Wire>),
}

impl NetDevice {
    /// The machine's hardware address.
    pub fn address(&self) -> MacAddress {
        match self {
            NetDevice::Loopback => MacAddress::LOOPBACK,
            NetDevice::Wire(wire) => wire.address(),
        }
    }

    /// Whether [`NetDevice::send`] would find room.
    pub fn has_room(&mut self) -> bool {
        match self {
            NetDevice::Loopback => true,
            NetDevice::Wire(wire) => wire.has_room(),
        }
    }

    /// Sends a packet, of which a copy is made; nothing if there is no room. The device hears of it at the
    /// next [`NetDevice::notify`].
    pub fn send(&mut self, packet: &[u8]) {
        match self {
            NetDevice::Loopback => {}
            NetDevice::Wire(wire) => wire.send(packet),
        }
    }

    /// Copies the next packet that has arrived; returns its bytes.
    pub fn receive(&mut self, packet: &mut [u8; MAX_PACKET_BYTES]) -> Option<usize> {
        match self {
            NetDevice::Loopback => None,
            NetDevice::Wire(wire) => wire.receive(packet),
        }
    }

    /// Whether packets that arrive raise an interrupt. Whoever turns that on looks for packets once more.
    pub fn interrupt_on_receive(&mut self, wanted: bool) {
        match self {
            NetDevice::Loopback => {}
            NetDevice::Wire(wire) => wire.interrupt_on_receive(wanted),
        }
    }

    /// Whether there being room again raises an interrupt. Whoever turns that on looks for room once more.
    pub fn interrupt_on_room(&mut self, wanted: bool) {
        match self {
            NetDevice::Loopback => {}
            NetDevice::Wire(wire) => wire.interrupt_on_room(wanted),
        }
    }

    /// Tells the device what there is to do.
    pub fn notify(&mut self) {
        match self {
            NetDevice::Loopback => {}
            NetDevice::Wire(wire) => wire.notify(),
        }
    }
}
