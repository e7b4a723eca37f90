//! The link as smoltcp sees it: at most one frame to be received, and room to send.

use crate::flow::{Kind, classify};
use crate::link::{Frame, Link};
use smoltcp::iface::{Interface, PollResult, SocketSet};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

/// A device for one call of the interface.
pub(super) struct Port<'l> {
    link: &'l mut dyn Link,
    frame: Option<&'l Frame>,
    sent: Sent,
}

/// What a call has sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    /// Frames.
    pub(super) frames: u64,
    /// Whether one of them asks for a neighbour's address.
    pub(super) asked_neighbor: bool,
}

impl<'l> Port<'l> {
    /// For a call that only sends.
    pub(super) fn to_send(link: &'l mut dyn Link) -> Port<'l> {
        Port { link, frame: None, sent: Sent::default() }
    }
}

/// Microseconds on the clock of all sockets.
pub(super) fn instant(now_us: i64) -> Instant {
    Instant::from_micros(now_us)
}

/// Has sockets take a frame.
pub(super) fn take(
    interface: &mut Interface,
    link: &mut dyn Link,
    frame: &Frame,
    sockets: &mut SocketSet<'_>,
    now_us: i64,
) -> Sent {
    let mut port = Port { link, frame: Some(frame), sent: Sent::default() };
    interface.poll_ingress_single(instant(now_us), &mut port, sockets);
    port.sent
}

/// Has sockets send all that they have to send, as far as there is room.
pub(super) fn send(
    interface: &mut Interface,
    link: &mut dyn Link,
    sockets: &mut SocketSet<'_>,
    now_us: i64,
) -> Sent {
    let mut port = Port::to_send(link);
    while interface.poll_egress(instant(now_us), &mut port, sockets) != PollResult::None {}
    port.sent
}

/// A frame that has come.
pub(super) struct Received<'t>(&'t Frame);

/// Room for a frame.
pub(super) struct Room<'t> {
    link: &'t mut dyn Link,
    sent: &'t mut Sent,
}

impl phy::RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(self.0)
    }
}

impl phy::TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, bytes: usize, fill: F) -> R {
        let mut frame = self.link.frame(bytes);
        let result = fill(&mut frame);
        self.sent.frames += 1;
        self.sent.asked_neighbor |= asks_neighbor(&frame);
        self.link.send(frame);
        result
    }
}

/// Type of an ICMPv6 neighbour solicitation (RFC 4861, section 4.3), behind the headers of Ethernet and IPv6.
const NEIGHBOR_SOLICITATION: (usize, u8) = (14 + 40, 135);

fn asks_neighbor(frame: &[u8]) -> bool {
    match classify(frame) {
        Kind::Neighbor => true,
        Kind::Other => frame.get(NEIGHBOR_SOLICITATION.0) == Some(&NEIGHBOR_SOLICITATION.1),
        _ => false,
    }
}

impl phy::Device for Port<'_> {
    type RxToken<'t>
        = Received<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Room<'t>
    where
        Self: 't;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Room<'_>)> {
        let frame = self.frame.take()?;
        Some((Received(frame), Room { link: self.link, sent: &mut self.sent }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Room<'_>> {
        self.link.has_room().then_some(Room { link: self.link, sent: &mut self.sent })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.link.max_frame_bytes();
        capabilities
    }
}
