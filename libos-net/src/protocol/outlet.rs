//! What a connection needs of its stack while it is called.

use super::paths::Paths;
use super::{Answer, Handshake, instant};
use crate::address::Message;
use crate::flow::Flow;
use crate::link::{Frame, Link, Offloads};
use smoltcp::iface::Interface;
use smoltcp::wire::{EthernetAddress, IpAddress};

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
    paths: &'s mut Paths,
    now_us: i64,
    sequence: u32,
}

impl<'s> Outlet<'s> {
    pub(crate) fn new(
        interface: &'s mut Interface,
        link: &'s mut dyn Link,
        paths: &'s mut Paths,
        now_us: i64,
    ) -> Outlet<'s> {
        Outlet { interface, link, sent: Sent::default(), paths, now_us, sequence: 0 }
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

    /// Our hardware address.
    pub fn hardware_address(&self) -> [u8; 6] {
        self.link.address()
    }

    /// Whether an address is one of ours.
    pub fn is_ours(&self, address: IpAddress) -> bool {
        self.interface.has_ip_addr(address)
    }

    /// Bytes of the longest frame, header included.
    pub fn max_frame_bytes(&self) -> usize {
        self.link.max_frame_bytes()
    }

    /// What the link does with frames; see [`Link::offloads`]. Where it completes checksums, those of frames
    /// that come were looked at before.
    pub fn offloads(&self) -> Offloads {
        self.link.offloads()
    }

    /// A frame of so many bytes to be filled in; see [`Link::frame`].
    pub fn frame(&mut self, bytes: usize) -> Frame {
        self.link.frame(bytes)
    }

    /// Sends a frame, for which there must be room.
    pub fn send(&mut self, frame: Frame) {
        self.sent.frames += 1;
        self.link.send(frame);
    }

    /// The hardware address of the way to an address, if it is known. If not, somebody is asked for it, and
    /// the connection is called again when an answer comes.
    pub fn neighbor(&mut self, remote: IpAddress) -> Option<EthernetAddress> {
        let hop = self.next_hop(remote)?;
        let known = self.paths.find(hop, self.now_us);
        if known.is_none() {
            self.ask_neighbor(remote, false);
        }
        known
    }

    /// Asks for the neighbour on the way to an address, unless that was done in this second: `asked` says
    /// that the interface just has.
    pub(crate) fn ask_neighbor(&mut self, remote: IpAddress, asked: bool) {
        let Some(hop) = self.next_hop(remote) else { return };
        if !self.paths.may_ask(hop, self.now_us) || asked || !self.link.has_room() {
            return;
        }
        let message = match (self.interface.get_source_address(&hop), hop) {
            (Some(IpAddress::Ipv4(source)), IpAddress::Ipv4(target)) => Message::WhoHas { source, target },
            (Some(IpAddress::Ipv6(source)), IpAddress::Ipv6(target)) => Message::Solicit { source, target },
            _ => return,
        };
        let hardware = EthernetAddress(self.link.address());
        let mut frame = self.link.frame(message.bytes(hardware));
        message.emit(hardware, &mut frame);
        self.sent.asked_neighbor = true;
        self.send(frame);
    }

    /// The neighbour on the way to an address.
    fn next_hop(&self, remote: IpAddress) -> Option<IpAddress> {
        if self.interface.ip_addrs().iter().any(|ours| ours.contains_addr(&remote)) {
            return Some(remote);
        }
        let route = match remote {
            IpAddress::Ipv4(_) => self.interface.routes().get_default_ipv4_route(),
            IpAddress::Ipv6(_) => self.interface.routes().get_default_ipv6_route(),
        };
        let route = route.filter(|route| route.expires_at.is_none_or(|end| end > instant(self.now_us)));
        route.map(|route| route.via_router)
    }

    /// A number that nobody outside can guess, always the same for a flow.
    pub fn secret(&self, flow: &Flow) -> u64 {
        self.paths.secret(flow)
    }

    /// What has been sent through it.
    pub(crate) fn sent(&self) -> Sent {
        self.sent
    }
}
