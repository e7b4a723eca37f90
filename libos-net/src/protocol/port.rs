//! The link as smoltcp sees it: at most one frame to be received, and room to send.

use super::outlet::{Outlet, Sent};
use crate::flow::{Kind, checksum, classify};
use crate::link::{Frame, Link, Offloads};
use core::num::{NonZeroU16, NonZeroUsize};
use hyperexo_abi::offload::MAX_LARGE_PACKET_BYTES;
use smoltcp::iface::{PollResult, SocketSet};
use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium, PacketMeta};
use smoltcp::time::Instant;

/// A device for one call of the interface.
pub(crate) struct Port<'l> {
    link: &'l mut dyn Link,
    frame: Option<&'l Frame>,
    sent: Sent,
}

impl<'l> Port<'l> {
    /// For a call that only sends.
    pub(crate) fn to_send(link: &'l mut dyn Link) -> Port<'l> {
        Port { link, frame: None, sent: Sent::default() }
    }
}

/// Microseconds on the clock of all sockets.
pub(crate) fn instant(now_us: i64) -> Instant {
    Instant::from_micros(now_us)
}

/// Has sockets take a frame.
pub(crate) fn take(outlet: &mut Outlet<'_>, frame: &Frame, sockets: &mut SocketSet<'_>) {
    let now = instant(outlet.now_us());
    let mut port = Port { link: outlet.link, frame: Some(frame), sent: outlet.sent };
    outlet.interface.poll_ingress_single(now, &mut port, sockets);
    outlet.sent = port.sent;
}

/// Has sockets send all that they have to send, as far as there is room.
pub(crate) fn send(outlet: &mut Outlet<'_>, sockets: &mut SocketSet<'_>) {
    let now = instant(outlet.now_us());
    let mut port = Port { link: outlet.link, frame: None, sent: outlet.sent };
    while outlet.interface.poll_egress(now, &mut port, sockets) != PollResult::None {}
    outlet.sent = port.sent;
}

/// A frame that has come.
pub(crate) struct Received<'t>(&'t Frame);

/// Room for a frame.
pub(crate) struct Room<'t> {
    link: &'t mut dyn Link,
    sent: &'t mut Sent,
    /// Bytes of the segments that the link is to cut it into.
    segment_bytes: Option<NonZeroU16>,
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
        if self.link.offloads().contains(Offloads::CHECKSUM) {
            let offload = checksum::leave(&mut frame, self.segment_bytes);
            frame.set_offload(offload);
        }
        self.sent.frames += 1;
        self.sent.asked_neighbor |= asks_neighbor(&frame);
        self.link.send(frame);
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.segment_bytes = meta.segmentation_offload_size;
    }
}

/// Type of an ICMPv6 neighbour solicitation (RFC 4861, section 4.3), behind the headers of Ethernet and IPv6.
const NEIGHBOR_SOLICITATION: (usize, u8) = (14 + 40, 135);

fn asks_neighbor(frame: &[u8]) -> bool {
    match classify(frame) {
        Kind::Neighbor => true,
        Kind::Discovery => frame.get(NEIGHBOR_SOLICITATION.0) == Some(&NEIGHBOR_SOLICITATION.1),
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
        Some((Received(frame), Room { link: self.link, sent: &mut self.sent, segment_bytes: None }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Room<'_>> {
        self.link.has_room().then_some(Room { link: self.link, sent: &mut self.sent, segment_bytes: None })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.link.max_frame_bytes();
        let offloads = self.link.offloads();
        if offloads.contains(Offloads::CHECKSUM) {
            // Those of frames that come are looked at before: not all need be.
            capabilities.checksum.tcp = Checksum::None;
            capabilities.checksum.udp = Checksum::None;
        }
        if offloads.contains(Offloads::CHECKSUM.union(Offloads::SEGMENTS4)) {
            // Not over IPv6: smoltcp 0.14.0 tells the device nothing there, and drops what is too long.
            capabilities.segmentation.tcpv4 = NonZeroUsize::new(MAX_LARGE_PACKET_BYTES);
        }
        capabilities
    }
}
