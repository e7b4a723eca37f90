//! What routers say of packets that are too long for the way (RFC 1191, RFC 8201).

use super::Flow;
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, Icmpv4DstUnreachable, Icmpv4Message, Icmpv4Packet, Icmpv6Message,
    Icmpv6Packet, IpAddress, IpEndpoint, IpProtocol, Ipv4Packet, Ipv6Packet,
};

/// The shortest packets that a way is believed to be limited to: what every host takes by IPv4 (RFC 791), and
/// what every link carries by IPv6 (RFC 8200, section 5).
const LEAST: usize = 576;
const LEAST_6: usize = 1280;

/// The connection whose packet was too long, and how long packets may be; nothing if a frame says no such
/// thing, or what it says is not as it must be.
pub fn too_long(frame: &[u8]) -> Option<(Flow, usize)> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    match ethernet.ethertype() {
        EthernetProtocol::Ipv4 => {
            let packet = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
            if packet.next_header() != IpProtocol::Icmp || packet.more_frags() || packet.frag_offset() != 0 {
                return None;
            }
            let message = Icmpv4Packet::new_checked(packet.payload()).ok()?;
            let is_that = message.msg_type() == Icmpv4Message::DstUnreachable
                && Icmpv4DstUnreachable::from(message.msg_code()) == Icmpv4DstUnreachable::FragRequired;
            if !is_that || !message.verify_checksum() {
                return None;
            }
            let bytes = u16::from_be_bytes(packet.payload().get(6..8)?.try_into().ok()?);
            let ours = packet.payload().get(8..)?;
            let header = usize::from(*ours.first()? & 0xf) * 4;
            let ours = ours.get(..header.max(20) + 4)?;
            let inner = Ipv4Packet::new_unchecked(ours);
            let is_tcp = ours[0] >> 4 == 4 && header >= 20 && inner.next_header() == IpProtocol::Tcp;
            let flow = flow(inner.src_addr().into(), inner.dst_addr().into(), ours.get(header..)?)?;
            is_tcp.then_some((flow, usize::from(bytes).max(LEAST)))
        }
        EthernetProtocol::Ipv6 => {
            let packet = Ipv6Packet::new_checked(ethernet.payload()).ok()?;
            if packet.next_header() != IpProtocol::Icmpv6 {
                return None;
            }
            let message = Icmpv6Packet::new_checked(packet.payload()).ok()?;
            let is_that = message.msg_type() == Icmpv6Message::PktTooBig && message.msg_code() == 0;
            if !is_that || !message.verify_checksum(&packet.src_addr(), &packet.dst_addr()) {
                return None;
            }
            let bytes = u32::from_be_bytes(packet.payload().get(4..8)?.try_into().ok()?);
            let ours = packet.payload().get(8..8 + 40 + 4)?;
            let inner = Ipv6Packet::new_unchecked(ours);
            let flow = flow(inner.src_addr().into(), inner.dst_addr().into(), &ours[40..])?;
            let is_tcp = ours[0] >> 4 == 6 && inner.next_header() == IpProtocol::Tcp;
            is_tcp.then_some((flow, usize::try_from(bytes).ok()?.max(LEAST_6)))
        }
        _ => None,
    }
}

/// The flow of a packet of ours, from its addresses and ports.
fn flow(source: IpAddress, destination: IpAddress, ports: &[u8]) -> Option<Flow> {
    let port = |at: usize| Some(u16::from_be_bytes(ports.get(at..at + 2)?.try_into().ok()?));
    Some(Flow { local: IpEndpoint::new(source, port(0)?), remote: IpEndpoint::new(destination, port(2)?) })
}
