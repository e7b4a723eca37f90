//! Checksums of TCP and UDP as they are shared between the stack and the link.
//!
//! Where the link completes checksums, the stack computes none, and looks only at those of frames of which
//! nobody says that they were checked, or never were on a wire.

use core::num::NonZeroU16;
use hyperexo_abi::offload::Offload;
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket,
    checksum,
};

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

/// Where the segment in a frame lies, whose it is, and what kind it is.
struct Segment {
    source: IpAddress,
    destination: IpAddress,
    protocol: IpProtocol,
    start: usize,
    end: usize,
}

/// The segment of TCP or UDP in a frame that begins with all its headers; nothing if it is a part of one.
fn segment(frame: &[u8]) -> Option<Segment> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    let (source, destination, protocol, header_bytes, bytes): (IpAddress, IpAddress, _, _, _) =
        match ethernet.ethertype() {
            EthernetProtocol::Ipv4 => {
                let packet = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
                if packet.more_frags() || packet.frag_offset() != 0 {
                    return None;
                }
                let (header, total) = (usize::from(packet.header_len()), usize::from(packet.total_len()));
                let (source, destination) = (packet.src_addr().into(), packet.dst_addr().into());
                (source, destination, packet.next_header(), header, total.checked_sub(header)?)
            }
            EthernetProtocol::Ipv6 => {
                let packet = Ipv6Packet::new_checked(ethernet.payload()).ok()?;
                let (source, destination) = (packet.src_addr().into(), packet.dst_addr().into());
                let bytes = usize::from(packet.payload_len());
                (source, destination, packet.next_header(), packet.header_len(), bytes)
            }
            _ => return None,
        };
    let start = ETHERNET + header_bytes;
    matches!(protocol, IpProtocol::Tcp | IpProtocol::Udp).then_some(Segment {
        source,
        destination,
        protocol,
        start,
        end: start + bytes,
    })
}

/// Whether the checksum of a segment of TCP or UDP is right; of all else nothing is said.
pub fn is_right(frame: &[u8]) -> bool {
    let Some(Segment { source, destination, protocol, start, end }) = segment(frame) else { return true };
    let Some(bytes) = frame.get(start..end) else { return false };
    match protocol {
        IpProtocol::Tcp => {
            TcpPacket::new_checked(bytes).is_ok_and(|tcp| tcp.verify_checksum(&source, &destination))
        }
        _ => UdpPacket::new_checked(bytes).is_ok_and(|udp| udp.verify_checksum(&source, &destination)),
    }
}

/// Leaves the checksum of a segment of TCP or UDP to the link: puts the sum of the pseudo-header where it
/// belongs, and says where that is. With `segment_bytes` the link is to cut it, too, into segments with so
/// many bytes each. Nothing for all else.
pub fn leave(frame: &mut [u8], segment_bytes: Option<NonZeroU16>) -> Offload {
    let Some(Segment { source, destination, protocol, start, end }) = segment(frame) else {
        return Offload::NONE;
    };
    let Some(bytes) = frame.get_mut(start..end) else { return Offload::NONE };
    let offset = if protocol == IpProtocol::Tcp { 16 } else { 6 };
    let (length, header_bytes) = (bytes.len(), header_bytes(protocol, bytes));
    let Some(field) = bytes.get_mut(offset..offset + 2) else { return Offload::NONE };
    let sum = checksum::pseudo_header(&source, &destination, protocol, length as u32);
    field.copy_from_slice(&sum.to_be_bytes());
    let offload = Offload::checksum(start as u16, offset as u16);
    let Some(segment_bytes) = segment_bytes.map(NonZeroU16::get) else { return offload };
    let kind = if matches!(source, IpAddress::Ipv4(_)) { Offload::TCP4 } else { Offload::TCP6 };
    Offload { kind, header_bytes: (start + header_bytes) as u16, segment_bytes, ..offload }
}

fn header_bytes(protocol: IpProtocol, bytes: &[u8]) -> usize {
    match protocol {
        IpProtocol::Tcp => TcpPacket::new_checked(bytes).map_or(0, |tcp| usize::from(tcp.header_len())),
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::tests::{syn, v4, v6};
    use super::*;
    use libos_core::net::Packet;

    #[test]
    fn what_is_left_to_the_link_is_completed_to_what_the_stack_would_have_computed() {
        for whole in [syn(v4(1), v4(2)), syn(v6(1), v6(2))] {
            assert!(is_right(&whole));
            let mut frame = Packet::from_bytes(&whole);
            let offload = leave(&mut frame, None);
            assert!(offload.fits(whole.len(), whole.len()) && !is_right(&frame));
            frame.set_offload(offload);
            frame.complete_checksum();
            assert_eq!(frame[..], whole[..]);
        }
    }

    #[test]
    fn a_segment_to_be_cut_tells_its_headers() {
        let mut frame = syn(v4(1), v4(2));
        let bytes = frame.len();
        let offload = leave(&mut frame, NonZeroU16::new(1460));
        assert_eq!((offload.kind, offload.segment_bytes), (Offload::TCP4, 1460));
        assert_eq!(usize::from(offload.header_bytes), bytes, "a SYN is nothing but headers");
    }

    #[test]
    fn damage_is_seen_and_what_has_no_checksum_is_let_through() {
        let whole = syn(v4(1), v4(2));
        for at in 14 + 20..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            assert!(!is_right(&damaged), "byte {at}");
        }
        let mut other = whole;
        other[14 + 9] = 1;
        assert!(is_right(&other) && leave(&mut other, None) == Offload::NONE);
    }

    #[test]
    fn lengths_that_lie_make_nothing_fail() {
        for frame in [syn(v4(1), v4(2)), syn(v6(1), v6(2))] {
            for at in 12..frame.len() {
                for value in [0, 1, 5, 0x7f, 0xff] {
                    let mut frame = frame.clone();
                    frame[at] = value;
                    is_right(&frame);
                    let offload = leave(&mut frame, NonZeroU16::new(1000));
                    assert!(!offload.needs_checksum() || offload.kind != 0 && offload.checksum_start >= 34);
                    frame.truncate(at);
                    is_right(&frame);
                    leave(&mut frame, None);
                }
            }
        }
    }
}
