//! The device behind the network: virtio-net, or none.
//!
//! Without a device the network is a loopback: environments reach each other, because packets between them
//! never leave the classifier ([`crate::resource::net`]), and nobody else.
#![forbid(unsafe_code)]

use alloc::vec::Vec;
use hyperexo_abi::net::MacAddress;
use hyperexo_abi::offload::{MAX_LARGE_PACKET_BYTES, Offload, Offloads};

/// What is beyond this machine.
///
/// A packet lies in memory of the device's until the next one is staged or taken: it is judged there, sent
/// from there, and copied from there to those who get it.
pub trait NetDevice: Send {
    /// The machine's hardware address.
    fn address(&self) -> MacAddress;
    /// What it does for packets that are sent.
    fn offloads(&self) -> Offloads;
    /// Whether the next packet that is staged can be sent.
    fn has_room(&mut self) -> bool;
    /// Makes place for the longest packet; returns whether it can be sent from there.
    fn stage(&mut self) -> bool;
    /// Sends the first bytes of the packet that was staged; nothing if there was no room. The device hears of
    /// it at the next [`NetDevice::notify`]. The packet is gone then.
    fn send(&mut self, bytes: usize, offload: Offload);
    /// Takes the next packet that has arrived; returns its bytes, and what the device says of it.
    fn receive(&mut self) -> Option<(usize, Offload)>;
    /// Gives the place of a packet that was taken back to the device.
    fn recycle(&mut self) {}
    /// Place of the packet that was staged or taken last.
    fn packet(&mut self) -> &mut [u8];
    /// Whether packets that arrive raise an interrupt. Whoever turns that on looks for packets once more.
    fn interrupt_on_receive(&mut self, _wanted: bool) {}
    /// Whether there being room again raises an interrupt. Whoever turns that on looks for room once more.
    fn interrupt_on_room(&mut self, _wanted: bool) {}
    /// Tells the device what there is to do.
    fn notify(&mut self) {}
}

/// Nothing is beyond this machine.
#[derive(Default)]
pub struct Loopback(Vec<u8>);

impl NetDevice for Loopback {
    fn address(&self) -> MacAddress {
        MacAddress::LOOPBACK
    }

    fn offloads(&self) -> Offloads {
        Offloads::CHECKSUM.union(Offloads::SEGMENTS4).union(Offloads::SEGMENTS6)
    }

    fn has_room(&mut self) -> bool {
        true
    }

    fn stage(&mut self) -> bool {
        self.0.resize(MAX_LARGE_PACKET_BYTES, 0);
        true
    }

    fn send(&mut self, _bytes: usize, _offload: Offload) {}

    fn receive(&mut self) -> Option<(usize, Offload)> {
        None
    }

    fn packet(&mut self) -> &mut [u8] {
        &mut self.0
    }
}
