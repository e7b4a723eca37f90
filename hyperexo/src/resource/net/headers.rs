//! The header fields of a packet: Ethernet (IEEE 802.3), IPv4 (RFC 791), ARP (RFC 826), and the ports of UDP
//! (RFC 768) and TCP (RFC 9293).
//!
//! What is cut off or makes no sense has no fields beyond those before it; so it matches only filters that do
//! not ask for them. Checksums are the receiver's business.
#![forbid(unsafe_code)]

use core::net::Ipv4Addr;
use hyperexo_abi::net::{
    ETHER_ARP, ETHER_IPV4, ETHERNET_HEADER_BYTES, Fields, MacAddress, PROTOCOL_TCP, PROTOCOL_UDP,
};

/// Bytes of an IPv4 header without options.
const IPV4_HEADER_BYTES: usize = 20;
/// Bytes of an ARP packet for Ethernet and IPv4.
const ARP_BYTES: usize = 28;
/// Hardware type Ethernet, protocol type IPv4, and the lengths of their addresses: how an ARP packet begins.
const ARP_ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// What the classifier sees of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Whom it is addressed to.
    pub destination: MacAddress,
    /// Who claims to have sent it.
    pub source: MacAddress,
    /// Who claims so in the body, too: the sender's hardware address in ARP.
    pub claimed_source: Option<MacAddress>,
    /// The fields, from the receiver's view.
    pub fields: Fields,
}

impl Headers {
    /// Reads the headers; `None` if there is not even that of Ethernet.
    pub fn parse(packet: &[u8]) -> Option<Headers> {
        let (header, body) = packet.split_at_checked(ETHERNET_HEADER_BYTES)?;
        let ether_type = short(header, 12)?;
        let mut headers = Headers {
            destination: hardware(header, 0)?,
            source: hardware(header, 6)?,
            claimed_source: None,
            fields: Fields { ether_type: Some(ether_type), ..Fields::default() },
        };
        match ether_type {
            ETHER_IPV4 => ipv4(body, &mut headers.fields),
            ETHER_ARP if body.len() >= ARP_BYTES && body.starts_with(&ARP_ETHERNET_IPV4) => {
                headers.claimed_source = hardware(body, 8);
                headers.fields.remote = address(body, 14);
                headers.fields.local = address(body, 24);
            }
            _ => {}
        }
        Some(headers)
    }
}

fn ipv4(body: &[u8], fields: &mut Fields) {
    let Some(header) = body.get(..IPV4_HEADER_BYTES) else { return };
    let header_bytes = usize::from(header[0] & 0xf) * 4;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] >> 4 != 4 || header_bytes < IPV4_HEADER_BYTES || total < header_bytes || total > body.len() {
        return;
    }
    let protocol = header[9];
    fields.protocol = Some(protocol);
    fields.remote = address(header, 12);
    fields.local = address(header, 16);
    let fragment_offset = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
    if fragment_offset == 0 && matches!(protocol, PROTOCOL_TCP | PROTOCOL_UDP) {
        let payload = &body[header_bytes..total];
        if let Some((remote, local)) = short(payload, 0).zip(short(payload, 2)) {
            fields.remote_port = Some(remote);
            fields.local_port = Some(local);
        }
    }
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

fn address(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    bytes.get(at..)?.first_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes))
}

fn hardware(bytes: &[u8], at: usize) -> Option<MacAddress> {
    bytes.get(at..)?.first_chunk().map(|bytes| MacAddress(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// A UDP packet from port 1000 of 10.0.0.1 to port 2000 of 10.0.0.2, with options in its IPv4 header.
    fn udp() -> Vec<u8> {
        let mut packet = Vec::from([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
        packet.extend([0x46, 0, 0, 32, 0, 0, 0, 0, 64, PROTOCOL_UDP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend([1, 1, 1, 0]);
        packet.extend([1000u16, 2000, 8, 0].map(u16::to_be_bytes).concat());
        packet
    }

    fn fields(packet: &[u8]) -> Fields {
        Headers::parse(packet).unwrap().fields
    }

    #[test]
    fn udp_has_all_fields() {
        let expected = Fields {
            ether_type: Some(ETHER_IPV4),
            protocol: Some(PROTOCOL_UDP),
            local: Some(Ipv4Addr::new(10, 0, 0, 2)),
            remote: Some(Ipv4Addr::new(10, 0, 0, 1)),
            local_port: Some(2000),
            remote_port: Some(1000),
        };
        assert_eq!(fields(&udp()), expected);
    }

    #[test]
    fn arp_has_addresses_and_a_claimed_source() {
        let mut packet = Vec::from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6]);
        packet.extend(ARP_ETHERNET_IPV4);
        packet.extend([0, 1, 2, 0, 0, 0, 0, 9, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
        let headers = Headers::parse(&packet).unwrap();
        assert_eq!(headers.destination, MacAddress::BROADCAST);
        assert_eq!(headers.claimed_source, Some(MacAddress([2, 0, 0, 0, 0, 9])));
        assert_eq!(headers.fields.remote, Some(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(headers.fields.local, Some(Ipv4Addr::new(10, 0, 0, 2)));
        packet.pop();
        assert_eq!(fields(&packet).remote, None);
    }

    #[test]
    fn later_fragments_have_no_ports() {
        let mut packet = udp();
        packet[ETHERNET_HEADER_BYTES + 7] = 1;
        assert_eq!((fields(&packet).protocol, fields(&packet).local_port), (Some(PROTOCOL_UDP), None));
        // The first of several has them.
        packet[ETHERNET_HEADER_BYTES + 6] = 0x20;
        packet[ETHERNET_HEADER_BYTES + 7] = 0;
        assert_eq!(fields(&packet).local_port, Some(2000));
    }

    #[test]
    fn lengths_that_lie_give_no_fields() {
        let ether_type_alone = Fields { ether_type: Some(ETHER_IPV4), ..Fields::default() };
        for (at, value) in [(0, 0x36), (0, 0x44), (2, 1), (3, 23)] {
            let mut packet = udp();
            packet[ETHERNET_HEADER_BYTES + at] = value;
            assert_eq!(fields(&packet), ether_type_alone, "byte {at} = {value}");
        }
        // Ports beyond the end that the header tells, although bytes follow.
        let mut packet = udp();
        packet[ETHERNET_HEADER_BYTES + 3] = 24;
        assert_eq!(fields(&packet).local_port, None);
        assert_eq!(Headers::parse(&udp()[..13]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_fields_are_consistent(mut packet in prop::collection::vec(any::<u8>(), 0..80), kind in 0u8..3) {
            if packet.len() > 14 && kind < 2 {
                packet[12] = 8;
                packet[13] = kind * 6;
            }
            if let Some(headers) = Headers::parse(&packet) {
                prop_assert!(headers.fields.is_consistent());
            }
        }
    }
}
