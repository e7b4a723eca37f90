//! Claims of addresses in the bodies of packets: ARP, and neighbour discovery of IPv6.

use super::{Line, machine_address, own_address, packet};
use crate::judge::Judge;
use core::net::{Ipv4Addr, Ipv6Addr};
use hyperexo_abi::net::{
    Destination, ETHER_ARP, ETHER_IPV6, Fields, Filter, MacAddress, PROTOCOL_ICMPV6, PacketOutcome,
};

const OWN_IPV4: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 77);

/// ARP for one address of ours.
pub(super) fn arp_filter() -> Filter {
    let fields = Fields { ether_type: Some(ETHER_ARP), local: Some(OWN_IPV4.into()), ..Fields::default() };
    Filter { destination: Destination::Own, fields }
}

/// Claims in the body of ARP packets.
pub(super) fn arp_spoof(judge: &mut Judge, line: &Line) {
    let arp = |hardware: MacAddress, protocol: Ipv4Addr| {
        let mut arp = packet(MacAddress::BROADCAST, own_address(), ETHER_ARP);
        arp.truncate(14);
        arp.extend([0, 1, 8, 0, 6, 4, 0, 2]);
        arp.extend(hardware.0);
        arp.extend(protocol.octets());
        arp.extend([0; 6]);
        arp.extend([10, 0, 2, 2]);
        arp
    };
    let refused = Some(PacketOutcome::NotAllowed);
    let gateway = Ipv4Addr::new(10, 0, 2, 2);
    judge.expect("honest ARP", line.send(&arp(own_address(), OWN_IPV4)), Some(PacketOutcome::Ok));
    judge.expect("another's IPv4 address", line.send(&arp(own_address(), gateway)), refused);
    let other = line.send(&arp(machine_address(), OWN_IPV4));
    judge.expect("another's hardware address in the body", other, refused);
    judge.expect("cut off", line.send(&arp(own_address(), OWN_IPV4)[..40]), refused);
}

const OWN_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 77);
const NEIGHBOR_SOLICITATION: u8 = 135;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;

/// Neighbour discovery for one address of ours.
pub(super) fn discovery_filter() -> Filter {
    let (ether_type, protocol) = (Some(ETHER_IPV6), Some(PROTOCOL_ICMPV6));
    let fields = Fields { ether_type, protocol, local: Some(OWN_IPV6.into()), ..Fields::default() };
    Filter { destination: Destination::Own, fields }
}

/// Claims in messages of neighbour discovery, behind `before`, which is an options header or nothing.
pub(super) fn discovery_spoof(judge: &mut Judge, line: &Line) {
    let message = |kind: u8, before: &[u8], source: Ipv6Addr, target: Ipv6Addr, claims: MacAddress| {
        let mut packet = packet(MacAddress::BROADCAST, own_address(), ETHER_IPV6);
        packet.truncate(14);
        packet.extend([0x60, 0, 0, 0, 0, before.len() as u8 + 32]);
        packet.extend([if before.is_empty() { PROTOCOL_ICMPV6 } else { 60 }, 255]);
        packet.extend(source.octets());
        packet.extend([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        packet.extend(before);
        packet.extend([kind, 0, 0, 0, 0x20, 0, 0, 0]);
        packet.extend(target.octets());
        packet.extend([if kind == NEIGHBOR_SOLICITATION { 1 } else { 2 }, 1]);
        packet.extend(claims.0);
        packet
    };
    let (own, router) = (own_address(), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));
    let nobody = Ipv6Addr::UNSPECIFIED;
    let (ask, tell) = (NEIGHBOR_SOLICITATION, NEIGHBOR_ADVERTISEMENT);
    let (ok, refused) = (Some(PacketOutcome::Ok), Some(PacketOutcome::NotAllowed));
    for before in [&[][..], &[PROTOCOL_ICMPV6, 0, 1, 4, 0, 0, 0, 0]] {
        let mut send = |what: &str, packet: &[u8], expected| judge.expect(what, line.send(packet), expected);
        send("an honest advertisement", &message(tell, before, OWN_IPV6, OWN_IPV6, own), ok);
        send("an honest solicitation", &message(ask, before, OWN_IPV6, router, own), ok);
        send("asking for our own address", &message(ask, before, nobody, OWN_IPV6, own), ok);
        send("another's IPv6 address", &message(tell, before, OWN_IPV6, router, own), refused);
        send("asking as another", &message(ask, before, router, OWN_IPV6, own), refused);
        send("asking for another's, to have it", &message(ask, before, nobody, router, own), refused);
        let other = message(tell, before, OWN_IPV6, OWN_IPV6, machine_address());
        send("another's hardware address", &other, refused);
        let whole = message(tell, before, OWN_IPV6, router, own);
        send("cut off", &whole[..whole.len() - 20], refused);
        // Ours first, then one that is not.
        let mut two = message(tell, before, OWN_IPV6, OWN_IPV6, own);
        two[14 + 5] += 8;
        two.extend([2, 1]);
        two.extend(machine_address().0);
        send("two hardware addresses", &two, refused);
    }
}
