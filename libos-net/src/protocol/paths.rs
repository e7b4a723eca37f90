//! Ways to other machines: hardware addresses of neighbours that connections have asked for.
//!
//! smoltcp has a table of its own and does not show it. Here are only neighbours that a connection of
//! another protocol asked for, so nobody can fill it.

use crate::flow::Flow;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};
use siphasher::sip::SipHasher13;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr,
    Icmpv6Packet, Icmpv6Repr, IpAddress, IpProtocol, Ipv6Packet, Ipv6Repr, NdiscRepr, RawHardwareAddress,
};

/// Neighbours that are remembered at most.
const MOST: usize = 256;
/// How long an answer holds (RFC 4861: REACHABLE_TIME is 30 s; RFC 1122, section 2.3.2.1: a minute).
const HOLDS_US: i64 = 60_000_000;
/// How often one neighbour is asked for at most (RFC 1122, section 2.3.2.1).
const ASK_US: i64 = 1_000_000;

struct Neighbor {
    asked_us: i64,
    known: Option<(EthernetAddress, i64)>,
}

/// What connections need besides the interface.
pub(crate) struct Paths {
    key: (u64, u64),
    neighbors: BTreeMap<IpAddress, Neighbor>,
}

impl Paths {
    /// Nothing known; the key makes secrets.
    pub(crate) fn new(key: (u64, u64)) -> Paths {
        Paths { key, neighbors: BTreeMap::new() }
    }

    /// A number that nobody without the key can guess.
    pub(super) fn secret(&self, flow: &Flow) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        flow.hash(&mut hasher);
        hasher.finish()
    }

    pub(super) fn find(&self, address: IpAddress, now_us: i64) -> Option<EthernetAddress> {
        let (known, since_us) = self.neighbors.get(&address)?.known?;
        (now_us - since_us < HOLDS_US).then_some(known)
    }

    /// Whether a neighbour may be asked for now. If so, it is.
    pub(super) fn may_ask(&mut self, address: IpAddress, now_us: i64) -> bool {
        if self.neighbors.len() >= MOST && !self.neighbors.contains_key(&address) {
            self.neighbors.retain(|_, neighbor| now_us - neighbor.asked_us < HOLDS_US);
            if self.neighbors.len() >= MOST {
                return false;
            }
        }
        let neighbor =
            self.neighbors.entry(address).or_insert(Neighbor { asked_us: now_us - ASK_US, known: None });
        let may = now_us - neighbor.asked_us >= ASK_US;
        if may {
            neighbor.asked_us = now_us;
        }
        may
    }

    /// A frame of ARP, or a neighbour's advertisement: if it says what was asked, it is remembered.
    pub(crate) fn learn(&mut self, frame: &[u8], now_us: i64) {
        if self.neighbors.is_empty() {
            return;
        }
        if let Some((address, known)) = answer(frame)
            && known.is_unicast()
            && let Some(neighbor) = self.neighbors.get_mut(&address)
        {
            neighbor.known = Some((known, now_us));
        }
    }
}

/// Who a frame says has which address.
fn answer(frame: &[u8]) -> Option<(IpAddress, EthernetAddress)> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    match ethernet.ethertype() {
        EthernetProtocol::Arp => {
            let packet = ArpPacket::new_checked(ethernet.payload()).ok()?;
            let ArpRepr::EthernetIpv4 { source_hardware_addr, source_protocol_addr, .. } =
                ArpRepr::parse(&packet).ok()?
            else {
                return None;
            };
            Some((source_protocol_addr.into(), source_hardware_addr))
        }
        EthernetProtocol::Ipv6 => {
            let packet = Ipv6Packet::new_checked(ethernet.payload()).ok()?;
            // Routers do not forward it (RFC 4861, section 7.1.2).
            if packet.hop_limit() != 255 {
                return None;
            }
            let icmp = Icmpv6Packet::new_checked(packet.payload()).ok()?;
            let (source, to) = (packet.src_addr(), packet.dst_addr());
            match Icmpv6Repr::parse(&source, &to, &icmp, &ChecksumCapabilities::default()).ok()? {
                Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
                    target_addr, lladdr: Some(address), ..
                }) => {
                    let bytes = <[u8; 6]>::try_from(address.as_bytes()).ok()?;
                    Some((target_addr.into(), EthernetAddress(bytes)))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// A frame that asks who has an address.
pub(super) fn question(ours: EthernetAddress, source: IpAddress, address: IpAddress) -> Option<Vec<u8>> {
    match (source, address) {
        (IpAddress::Ipv4(source), IpAddress::Ipv4(address)) => {
            let arp = ArpRepr::EthernetIpv4 {
                operation: ArpOperation::Request,
                source_hardware_addr: ours,
                source_protocol_addr: source,
                target_hardware_addr: EthernetAddress([0; 6]),
                target_protocol_addr: address,
            };
            let mut bytes = alloc::vec![0; 14 + arp.buffer_len()];
            let mut frame = EthernetFrame::new_unchecked(&mut bytes);
            let (dst_addr, ethertype) = (EthernetAddress::BROADCAST, EthernetProtocol::Arp);
            EthernetRepr { src_addr: ours, dst_addr, ethertype }.emit(&mut frame);
            arp.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
            Some(bytes)
        }
        (IpAddress::Ipv6(source), IpAddress::Ipv6(address)) => {
            let lladdr = Some(RawHardwareAddress::from_bytes(&ours.0));
            let icmp = Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit { target_addr: address, lladdr });
            let octets = address.octets();
            let mut group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0];
            group[13..].copy_from_slice(&octets[13..]);
            let ip = Ipv6Repr {
                src_addr: source,
                dst_addr: group.into(),
                next_header: IpProtocol::Icmpv6,
                payload_len: icmp.buffer_len(),
                hop_limit: 255,
            };
            let mut bytes = alloc::vec![0; 14 + ip.buffer_len() + icmp.buffer_len()];
            let mut frame = EthernetFrame::new_unchecked(&mut bytes);
            let dst_addr = EthernetAddress([0x33, 0x33, 0xff, octets[13], octets[14], octets[15]]);
            EthernetRepr { src_addr: ours, dst_addr, ethertype: EthernetProtocol::Ipv6 }.emit(&mut frame);
            let mut packet = Ipv6Packet::new_unchecked(frame.payload_mut());
            ip.emit(&mut packet);
            let (source, to) = (ip.src_addr, ip.dst_addr);
            let mut message = Icmpv6Packet::new_unchecked(packet.payload_mut());
            icmp.emit(&source, &to, &mut message, &ChecksumCapabilities::default());
            Some(bytes)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
    const THEIRS: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 2]);

    #[test]
    fn only_what_was_asked_is_learned_and_not_for_ever() {
        let (us, them): (IpAddress, IpAddress) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let mut paths = Paths::new((1, 2));
        // Their own question says who they are.
        let frame = question(THEIRS, them, us).unwrap();
        paths.learn(&frame, 0);
        assert_eq!(paths.find(them, 0), None);
        assert!(paths.may_ask(them, 5) && !paths.may_ask(them, 6) && paths.may_ask(them, 5 + ASK_US));
        paths.learn(&frame, 10);
        assert_eq!(paths.find(them, 20), Some(THEIRS));
        assert_eq!(paths.find(them, 10 + HOLDS_US), None);
        for last in 0..2000_u32 {
            paths.may_ask(IpAddress::Ipv4((0x0a01_0000 + last).to_be_bytes().into()), 10);
        }
        assert!(paths.neighbors.len() <= MOST);
    }

    #[test]
    fn neighbors_of_ipv6_are_asked_by_their_group() {
        let (us, them): (IpAddress, IpAddress) =
            ("fd00::1".parse().unwrap(), "fd00::12:3456".parse().unwrap());
        let bytes = question(OURS, us, them).unwrap();
        assert_eq!(bytes[..6], [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
        let packet = Ipv6Packet::new_checked(&bytes[14..]).unwrap();
        let icmp = Icmpv6Packet::new_checked(packet.payload()).unwrap();
        assert!(icmp.verify_checksum(&packet.src_addr(), &packet.dst_addr()));
    }
}
