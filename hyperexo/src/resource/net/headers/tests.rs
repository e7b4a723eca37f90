//! What is read of packets, against what they were made of.

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
        local: Some([10, 0, 0, 2].into()),
        remote: Some([10, 0, 0, 1].into()),
        local_port: Some(2000),
        remote_port: Some(1000),
        vlan: None,
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
    assert_eq!(headers.fields.remote, Some([10, 0, 0, 1].into()));
    assert_eq!(headers.fields.local, Some([10, 0, 0, 2].into()));
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

/// Our hardware address.
const SOURCE: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

fn v6(last: u16) -> IpAddr {
    IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last])
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// An IPv6 packet of `remote` to `local`, in a VLAN or in none.
fn ipv6(vlan: Option<u16>, remote: IpAddr, local: IpAddr, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = [&[2, 0, 0, 0, 0, 2][..], &SOURCE.0].concat();
    if let Some(vlan) = vlan {
        packet.extend(ETHER_VLAN.to_be_bytes());
        packet.extend((0xa000 | vlan).to_be_bytes());
    }
    packet.extend(ETHER_IPV6.to_be_bytes());
    packet.extend([0x60, 0, 0, 0]);
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 255]);
    packet.extend(octets(remote));
    packet.extend(octets(local));
    packet.extend(payload);
    packet
}

/// A message of neighbour discovery about an address, with these options.
fn discovery(kind: u8, target: IpAddr, options: &[(u8, MacAddress)]) -> Vec<u8> {
    let mut message = std::vec![kind, 0, 0, 0, 0, 0, 0, 0];
    message.extend(octets(target));
    for (option, address) in options {
        message.extend([*option, 1]);
        message.extend(address.0);
    }
    message
}

#[test]
fn neighbour_discovery_has_the_addresses_that_it_is_about() {
    let (own, other, everybody) = (v6(1), v6(2), IpAddr::from([0xff02, 0, 0, 0, 0, 0, 0, 1]));
    let nobody = IpAddr::from([0_u16; 8]);
    let mac = MacAddress([2, 0, 0, 0, 0, 9]);
    for (message, from, expected, claimed) in [
        (discovery(135, other, &[(1, SOURCE)]), own, (Some(other), Some(own)), Some(SOURCE)),
        (discovery(135, own, &[]), nobody, (Some(own), Some(own)), None),
        (discovery(136, other, &[(2, SOURCE)]), own, (Some(everybody), Some(other)), Some(SOURCE)),
        (discovery(136, own, &[(2, SOURCE), (2, mac)]), own, (Some(everybody), Some(own)), Some(mac)),
        (discovery(136, own, &[(2, mac), (2, SOURCE)]), own, (Some(everybody), Some(own)), Some(mac)),
        (discovery(136, own, &[(9, mac)]), own, (Some(everybody), Some(own)), None),
        // Of a router: its header is 16 bytes, the first of its options is where the target would end.
        (discovery(134, own, &[])[..16].to_vec(), own, (Some(everybody), Some(own)), None),
        (discovery(128, other, &[(2, mac)]), own, (Some(everybody), Some(own)), None),
        // Cut off, an option without length, one beyond the end, too many options.
        (discovery(136, own, &[])[..20].to_vec(), own, (None, None), None),
        ([discovery(136, own, &[]), std::vec![2, 0]].concat(), own, (None, None), None),
        ([discovery(136, own, &[]), std::vec![2, 2, 0, 0]].concat(), own, (None, None), None),
        (discovery(136, own, &[(9, mac); 17]), own, (None, None), None),
    ] {
        for behind in [false, true] {
            let packet = if behind {
                let options = [&[PROTOCOL_ICMPV6, 0, 1, 4, 0, 0, 0, 0][..], &message].concat();
                ipv6(Some(3), from, everybody, OPTIONS, &options)
            } else {
                ipv6(None, from, everybody, PROTOCOL_ICMPV6, &message)
            };
            let headers = Headers::parse(&packet).unwrap();
            let found = (headers.fields.local, headers.fields.remote);
            assert_eq!((found, headers.claimed_source), (expected, claimed), "{message:x?}");
        }
    }
}

#[test]
fn a_chain_of_extensions_without_end_has_no_fields() {
    let chain = |length: usize| {
        let mut payload = [OPTIONS, 0, 1, 4, 0, 0, 0, 0].repeat(length - 1);
        payload.extend([PROTOCOL_UDP, 0, 1, 4, 0, 0, 0, 0]);
        payload.extend([0, 7, 0, 8, 0, 8, 0, 0]);
        fields(&ipv6(None, v6(1), v6(2), OPTIONS, &payload))
    };
    assert_eq!(chain(MOST_EXTENSIONS - 1).local_port, Some(8));
    let none = Fields { ether_type: Some(ETHER_IPV6), ..Fields::default() };
    assert_eq!(chain(MOST_EXTENSIONS), none);
    assert_eq!(fields(&ipv6(None, v6(1), v6(2), HOP_BY_HOP, &[PROTOCOL_UDP, 1, 0, 0, 0, 0, 0, 0])), none);
    let mut four = ipv6(None, v6(1), v6(2), PROTOCOL_UDP, &[0; 8]);
    four[ETHERNET_HEADER_BYTES] = 0x40;
    assert_eq!(fields(&four), none);
    let whole = ipv6(None, v6(1), v6(2), PROTOCOL_UDP, &[0; 8]);
    assert_eq!(fields(&whole[..whole.len() - 1]), none);
}

/// A header before the segment.
#[derive(Clone, Copy, Debug)]
enum Extension {
    Options(u8, u8),
    Fragment(u16),
}

fn extensions() -> impl Strategy<Value = Vec<Extension>> {
    let one = prop_oneof![
        (prop::sample::select(&[HOP_BY_HOP, ROUTING, OPTIONS][..]), 0u8..3)
            .prop_map(|(kind, units)| Extension::Options(kind, units)),
        prop::sample::select(&[0u16, 1, 0x1fff][..]).prop_map(Extension::Fragment),
    ];
    prop::collection::vec(one, 0..4)
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_fields_are_consistent(mut packet in prop::collection::vec(any::<u8>(), 0..120), kind in 0usize..5) {
        if packet.len() > 14 && kind < 4 {
            packet[12..14].copy_from_slice(&[ETHER_IPV4, ETHER_ARP, ETHER_IPV6, ETHER_VLAN][kind].to_be_bytes());
            if kind >= 2 {
                packet[14] = 0x60;
            }
        }
        if let Some(headers) = Headers::parse(&packet) {
            prop_assert!(headers.fields.is_consistent());
        }
    }

    #[test]
    fn what_a_packet_of_ipv6_was_made_of_is_found_again(
        vlan in prop::option::of(0u16..4096),
        extensions in extensions(),
        protocol in prop::sample::select(&[PROTOCOL_TCP, PROTOCOL_UDP, PROTOCOL_ICMPV6, 89][..]),
        ports in (any::<u16>(), any::<u16>()),
        more in 0usize..40,
    ) {
        // The segment first, then one header after the other before it.
        let mut payload = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
        // A type that is not of neighbour discovery.
        payload[0] &= 0x7f;
        payload.resize(8 + more, 0);
        let remote_port = u16::from_be_bytes([payload[0], payload[1]]);
        let (mut next, mut is_later) = (protocol, false);
        for extension in extensions.iter().rev() {
            let (kind, mut header) = match *extension {
                Extension::Options(kind, units) => {
                    let mut header = std::vec![0; 8 + 8 * usize::from(units)];
                    header[1] = units;
                    (kind, header)
                }
                Extension::Fragment(offset) => {
                    let mut header = std::vec![0; 8];
                    header[2..4].copy_from_slice(&(offset << 3 | 1).to_be_bytes());
                    (FRAGMENT, header)
                }
            };
            header[0] = next;
            next = kind;
            header.extend(payload);
            payload = header;
        }
        // Behind the first later fragment nothing is known but the protocol that it tells.
        let mut behind = protocol;
        if let Some(at) = extensions.iter().position(|one| matches!(one, Extension::Fragment(1..))) {
            is_later = true;
            behind = match extensions.get(at + 1) {
                Some(Extension::Options(kind, _)) => *kind,
                Some(Extension::Fragment(_)) => FRAGMENT,
                None => protocol,
            };
        }
        let ported = !is_later && matches!(protocol, PROTOCOL_TCP | PROTOCOL_UDP);
        let expected = Fields {
            vlan,
            ether_type: Some(ETHER_IPV6),
            protocol: Some(behind),
            local: Some(v6(2)),
            remote: Some(v6(1)),
            local_port: ported.then_some(ports.1),
            remote_port: ported.then_some(remote_port),
        };
        let packet = ipv6(vlan, v6(1), v6(2), next, &payload);
        prop_assert_eq!(fields(&packet), expected);
    }
}
