//! What a connection needs of its stack while it is called.

use super::{Answer, Handshake};
use crate::link::Link;
use smoltcp::iface::Interface;
use smoltcp::wire::EthernetAddress;

/// What a call has sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sent {
    /// Frames.
    pub(crate) frames: u64,
    /// Whether one of them asks for a neighbour's address.
    pub(crate) asked_neighbor: bool,
}

/// The way out for a connection, for one call: the clock, the addresses, and the link.
pub struct Outlet<'s> {
    pub(super) interface: &'s mut Interface,
    pub(super) link: &'s mut dyn Link,
    pub(super) sent: Sent,
    now_us: i64,
    sequence: u32,
}

impl<'s> Outlet<'s> {
    pub(crate) fn new(interface: &'s mut Interface, link: &'s mut dyn Link, now_us: i64) -> Outlet<'s> {
        Outlet { interface, link, sent: Sent::default(), now_us, sequence: 0 }
    }

    /// With a first sequence number for a connection that begins in this call.
    pub(crate) fn with_sequence(self, sequence: u32) -> Outlet<'s> {
        Outlet { sequence, ..self }
    }

    /// The first sequence number for a connection that [`Protocol::connect`](super::Protocol::connect) opens:
    /// nobody outside can guess it (RFC 6528).
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Sends a segment of a handshake.
    pub(super) fn answer(&mut self, answer: Answer, handshake: &Handshake, to: EthernetAddress) {
        answer.send(handshake, to, self.link);
        self.sent.frames += 1;
    }

    /// Microseconds on the clock of the stack. It never goes back.
    pub fn now_us(&self) -> i64 {
        self.now_us
    }

    /// Whether there is room for one more frame.
    pub fn has_room(&mut self) -> bool {
        self.link.has_room()
    }

    /// What has been sent through it.
    pub(crate) fn sent(&self) -> Sent {
        self.sent
    }
}
