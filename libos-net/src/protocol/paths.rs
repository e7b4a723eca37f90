//! Ways to other machines: the neighbours that connections have asked for, and what they answered.
//!
//! smoltcp has a table of its own and does not show it. It also asks for one neighbour a second, on the whole
//! link: one that does not answer keeps all others waiting. So each is asked for by itself here, for
//! connections of smoltcp's protocol, too: they wait for the answer in smoltcp's table.

use crate::flow::Flow;
use alloc::collections::BTreeMap;
use core::hash::{Hash, Hasher};
use siphasher::sip::SipHasher13;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv6Packet, Icmpv6Repr,
    IpAddress, Ipv6Packet, NdiscRepr,
};

/// Neighbours that are remembered at most: beyond, one that has not answered is forgotten, else the one that
/// was asked for longest ago. It may be asked for again a little early.
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
            let worth = |neighbor: &Neighbor| (neighbor.known.is_some(), neighbor.asked_us);
            let least = self.neighbors.iter().min_by_key(|(_, neighbor)| worth(neighbor));
            let least = least.map(|(address, _)| *address);
            least.and_then(|address| self.neighbors.remove(&address));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Message;
    use alloc::vec;
    use smoltcp::wire::Ipv4Address;

    const THEIRS: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 2]);

    #[test]
    fn only_what_was_asked_is_learned_and_not_for_ever() {
        let (target, source) = (Ipv4Address::new(10, 0, 0, 1), Ipv4Address::new(10, 0, 0, 2));
        let them = IpAddress::Ipv4(source);
        let mut paths = Paths::new((1, 2));
        // Their own question says who they are.
        let question = Message::WhoHas { source, target };
        let mut frame = vec![0; question.bytes(THEIRS)];
        question.emit(THEIRS, &mut frame);
        paths.learn(&frame, 0);
        assert_eq!(paths.find(them, 0), None);
        assert!(paths.may_ask(them, 5) && !paths.may_ask(them, 6) && paths.may_ask(them, 5 + ASK_US));
        paths.learn(&frame, 10);
        assert_eq!(paths.find(them, 20), Some(THEIRS));
        assert_eq!(paths.find(them, 10 + HOLDS_US), None);
        for last in 0..2000_u32 {
            let another = IpAddress::Ipv4((0x0a01_0000 + last).to_be_bytes().into());
            assert!(paths.may_ask(another, 10) && !paths.may_ask(another, 11), "{last}");
        }
        assert_eq!(paths.neighbors.len(), MOST);
        assert_eq!(paths.find(them, 20), Some(THEIRS), "who has answered stays");
    }
}
