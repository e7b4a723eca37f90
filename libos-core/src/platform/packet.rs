//! What a host offers as a network: a port for Ethernet packets.
#![forbid(unsafe_code)]

use super::buffers::{Packet, Pages};
use super::device::DeviceFault;
use core::fmt;
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::net::{MacAddress, PacketOutcome};
use hyperexo_abi::offload::Offloads;

/// Why the network can't be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetError {
    /// There is no network here, or the manifest keeps this environment off it.
    NoNetwork,
    /// It is open already.
    AlreadyOpen,
    /// There is one, but it can't be used.
    Unusable(DeviceFault),
    /// The host refused a step.
    Refused {
        /// What was asked.
        step: &'static str,
        /// The host's answer.
        status: Status,
    },
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NetError::NoNetwork => f.write_str("this unikernel has no network (exo run --net gives it one)"),
            NetError::AlreadyOpen => f.write_str("the network is open already"),
            NetError::Unusable(fault) => write!(f, "the network can't be used: {fault}"),
            NetError::Refused { step, status } => write!(f, "network: {step}: {status}"),
        }
    }
}

impl core::error::Error for NetError {}

/// A host's side of the network. A buffer that it takes is its own until it gives it back.
pub(crate) trait NetPort: Send {
    /// The hardware address.
    fn address(&self) -> MacAddress;

    /// What work is done for packets that are sent. Those that come may say of themselves what
    /// [`Offloads::CHECKSUM`] means, whatever is done.
    fn offloads(&self) -> Offloads;

    /// Whether a packet to send lies in few enough places.
    fn takes(&self, packet: &Packet) -> bool;

    /// Takes a page for an incoming packet. Gives it back if the port holds as many as it can.
    fn supply(&mut self, buffer: Pages) -> Result<(), Pages>;

    /// A packet that has come; or buffers that were not used, with the reason.
    fn receive(&mut self) -> Option<(Packet, Result<(), PacketOutcome>)>;

    /// Takes a packet to send, that [`NetPort::takes`], whose offload fits it and is among
    /// [`NetPort::offloads`]. Gives it back if the port holds as many as it can.
    fn transmit(&mut self, packet: Packet) -> Result<(), Packet>;

    /// A packet that was sent or refused.
    fn reclaim(&mut self) -> Option<(Packet, Result<(), PacketOutcome>)>;

    /// Tells the host of the buffers that were supplied and of the packets to send.
    fn kick(&mut self);

    /// Whether [`NetPort::receive`] has something or, if `room` is asked for, [`NetPort::reclaim`]. If not,
    /// the next thing they have raises [`hyperexo_abi::upcall::Cause::Net`]. Called with interrupts disabled.
    fn ready_or_wake(&mut self, room: bool) -> bool;

    /// The same without having anything raised: whether there is something.
    fn is_ready(&self, room: bool) -> bool;
}
