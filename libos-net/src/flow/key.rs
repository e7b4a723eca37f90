//! Frames are told apart by the parsers of smoltcp, so that nobody can make the table see another frame than
//! the stack does.

use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetFrame, EthernetProtocol, IpAddress, IpEndpoint, IpProtocol,
    Ipv4Address, Ipv4Packet, Ipv6ExtHeader, Ipv6Packet, TcpPacket, UdpPacket,
};

/// The two ends of a connection, seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Our end.
    pub local: IpEndpoint,
    /// The other end.
    pub remote: IpEndpoint,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A segment of TCP.
    Tcp {
        /// Its connection.
        flow: Flow,
        /// Whether it asks for a new one: SYN, and neither ACK nor RST.
        opens: bool,
        /// Whether it is a reset.
        resets: bool,
    },
    /// A part of a TCP segment, or one behind headers that are not looked into. The stack would answer it
    /// with a reset, whoever it belongs to: so it is dropped.
    HiddenTcp,
    /// ARP: somebody may have waited for it.
    Neighbor,
    /// What routers and neighbours say by ICMPv6: somebody may have waited for that as well.
    Discovery,
    /// Everything else: UDP, ICMP, what makes no sense.
    Other,
}

/// What a frame is. Checksums are not looked at: the stack does that.
pub fn classify(frame: &[u8]) -> Kind {
    let Ok(ethernet) = EthernetFrame::new_checked(frame) else { return Kind::Other };
    match ethernet.ethertype() {
        EthernetProtocol::Arp => Kind::Neighbor,
        EthernetProtocol::Ipv4 => ipv4(ethernet.payload()),
        EthernetProtocol::Ipv6 => ipv6(ethernet.payload()),
        EthernetProtocol::Unknown(_) => Kind::Other,
    }
}

/// Whose hardware address a frame of ARP asks for. `None` also if who asks tells his own by it.
pub fn arp_question(frame: &[u8]) -> Option<Ipv4Address> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    let arp = ArpRepr::parse(&ArpPacket::new_checked(frame.payload()).ok()?).ok()?;
    match arp {
        ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_protocol_addr,
            target_protocol_addr,
            ..
        } => (source_protocol_addr != target_protocol_addr).then_some(target_protocol_addr),
        _ => None,
    }
}

/// The port of UDP that a frame is for, if it is a whole datagram behind no extension header.
pub fn udp_port(frame: &[u8]) -> Option<u16> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    let datagram = match frame.ethertype() {
        EthernetProtocol::Ipv4 => {
            let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
            let whole =
                packet.next_header() == IpProtocol::Udp && !packet.more_frags() && packet.frag_offset() == 0;
            whole.then(|| packet.payload())?
        }
        EthernetProtocol::Ipv6 => {
            let packet = Ipv6Packet::new_checked(frame.payload()).ok()?;
            (packet.next_header() == IpProtocol::Udp).then(|| packet.payload())?
        }
        _ => return None,
    };
    Some(UdpPacket::new_checked(datagram).ok()?.dst_port())
}

fn ipv4(bytes: &[u8]) -> Kind {
    let Ok(packet) = Ipv4Packet::new_checked(bytes) else { return Kind::Other };
    if packet.next_header() != IpProtocol::Tcp {
        return Kind::Other;
    }
    if packet.more_frags() || packet.frag_offset() != 0 {
        return Kind::HiddenTcp;
    }
    tcp(packet.src_addr().into(), packet.dst_addr().into(), packet.payload())
}

/// Types of ICMPv6 from router advertisements to neighbour advertisements (RFC 4861, sections 4.2 to 4.4).
const DISCOVERY: core::ops::RangeInclusive<u8> = 134..=136;

fn ipv6(bytes: &[u8]) -> Kind {
    let Ok(packet) = Ipv6Packet::new_checked(bytes) else { return Kind::Other };
    match packet.next_header() {
        IpProtocol::Tcp => tcp(packet.src_addr().into(), packet.dst_addr().into(), packet.payload()),
        IpProtocol::Icmpv6 if packet.payload().first().is_some_and(|kind| DISCOVERY.contains(kind)) => {
            Kind::Discovery
        }
        next if hides_tcp(next, packet.payload()) => Kind::HiddenTcp,
        _ => Kind::Other,
    }
}

/// Whether there is TCP behind extension headers (RFC 8200, section 4).
fn hides_tcp(mut next: IpProtocol, mut bytes: &[u8]) -> bool {
    /// More than any honest packet has.
    const MOST_HEADERS: usize = 8;
    for _ in 0..MOST_HEADERS {
        match next {
            IpProtocol::Tcp => return true,
            IpProtocol::HopByHop | IpProtocol::Ipv6Route | IpProtocol::Ipv6Opts => {
                let Ok(header) = Ipv6ExtHeader::new_checked(bytes) else { return false };
                next = header.next_header();
                let Some(rest) = bytes.get(8 * (usize::from(header.header_len()) + 1)..) else {
                    return false;
                };
                bytes = rest;
            }
            // A fragment header is always 8 bytes long; what it is a part of stands in its first.
            IpProtocol::Ipv6Frag => {
                let (Some(first), Some(rest)) = (bytes.first(), bytes.get(8..)) else { return false };
                (next, bytes) = (IpProtocol::from(*first), rest);
            }
            _ => return false,
        }
    }
    // Nobody knows what is behind so many.
    true
}

fn tcp(source: IpAddress, destination: IpAddress, bytes: &[u8]) -> Kind {
    let Ok(segment) = TcpPacket::new_checked(bytes) else { return Kind::Other };
    let flow = Flow {
        local: IpEndpoint::new(destination, segment.dst_port()),
        remote: IpEndpoint::new(source, segment.src_port()),
    };
    Kind::Tcp { flow, opens: segment.syn() && !segment.ack() && !segment.rst(), resets: segment.rst() }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{
        EthernetAddress, EthernetRepr, IpRepr, Ipv4Address, Ipv6Address, TcpControl, TcpRepr, TcpSeqNumber,
    };

    /// A SYN from port 1000 to port 80.
    pub fn syn(source: IpAddress, destination: IpAddress) -> Vec<u8> {
        let tcp = TcpRepr {
            src_port: 1000,
            dst_port: 80,
            control: TcpControl::Syn,
            seq_number: TcpSeqNumber(7),
            ack_number: None,
            window_len: 1000,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None, None, None],
            timestamp: None,
            payload: &[],
        };
        let ip = IpRepr::new(source, destination, IpProtocol::Tcp, tcp.buffer_len(), 64);
        let ethernet = EthernetRepr {
            src_addr: EthernetAddress([2, 0, 0, 0, 0, 1]),
            dst_addr: EthernetAddress([2, 0, 0, 0, 0, 2]),
            ethertype: match ip {
                IpRepr::Ipv4(_) => EthernetProtocol::Ipv4,
                IpRepr::Ipv6(_) => EthernetProtocol::Ipv6,
            },
        };
        let mut bytes = alloc::vec![0; 14 + ip.buffer_len()];
        let mut frame = EthernetFrame::new_unchecked(&mut bytes);
        ethernet.emit(&mut frame);
        ip.emit(frame.payload_mut(), &ChecksumCapabilities::default());
        let payload = &mut frame.payload_mut()[ip.header_len()..];
        let mut segment = TcpPacket::new_unchecked(payload);
        tcp.emit(&mut segment, &source, &destination, &ChecksumCapabilities::default());
        bytes
    }

    pub fn v4(last: u8) -> IpAddress {
        IpAddress::Ipv4(Ipv4Address::new(10, 0, 0, last))
    }

    pub fn v6(last: u16) -> IpAddress {
        IpAddress::Ipv6(Ipv6Address::new(0xfd00, 0, 0, 0, 0, 0, 0, last))
    }

    #[test]
    fn a_segment_belongs_to_its_connection() {
        for (source, destination) in [(v4(1), v4(2)), (v6(1), v6(2))] {
            let flow =
                Flow { local: IpEndpoint::new(destination, 80), remote: IpEndpoint::new(source, 1000) };
            let expected = Kind::Tcp { flow, opens: true, resets: false };
            assert_eq!(classify(&syn(source, destination)), expected);
        }
    }

    #[test]
    fn parts_of_segments_are_hidden() {
        let mut first = syn(v4(1), v4(2));
        first[14 + 6] |= 0x20;
        assert_eq!(classify(&first), Kind::HiddenTcp, "more fragments");
        let mut later = syn(v4(1), v4(2));
        later[14 + 7] = 1;
        assert_eq!(classify(&later), Kind::HiddenTcp, "an offset");
        // Behind hop-by-hop options, and as a fragment.
        for header in [0_u8, 44] {
            let plain = syn(v6(1), v6(2));
            let mut bytes = plain[..14 + 40].to_vec();
            bytes[14 + 6] = header;
            let length = plain.len() - 14 - 40 + 8;
            bytes[14 + 4..14 + 6].copy_from_slice(&(length as u16).to_be_bytes());
            bytes.extend([6, 0, 1, 4, 0, 0, 0, 0]);
            bytes.extend(&plain[14 + 40..]);
            assert_eq!(classify(&bytes), Kind::HiddenTcp, "header {header}");
        }
    }

    #[test]
    fn options_of_ipv4_do_not_hide_ports() {
        let plain = syn(v4(1), v4(2));
        let mut bytes = plain[..14 + 20].to_vec();
        bytes[14] = 0x46;
        bytes[14 + 2..14 + 4].copy_from_slice(&((plain.len() - 14 + 4) as u16).to_be_bytes());
        bytes.extend([1, 1, 1, 0]);
        bytes.extend(&plain[14 + 20..]);
        let Kind::Tcp { flow, .. } = classify(&bytes) else { panic!("{:?}", classify(&bytes)) };
        assert_eq!(flow.local.port, 80);
    }

    proptest! {
        #[test]
        fn nothing_that_comes_makes_it_fail(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            classify(&bytes);
        }

        #[test]
        fn nor_does_damage(at in 0_usize..54, value in any::<u8>(), cut in 0_usize..54, six in any::<bool>()) {
            let mut bytes = if six { syn(v6(1), v6(2)) } else { syn(v4(1), v4(2)) };
            let length = bytes.len();
            bytes[at % length] = value;
            bytes.truncate(length - cut % length);
            classify(&bytes);
        }
    }
}
