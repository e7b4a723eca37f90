//! Questions to the link.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr,
    Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv4Address, Ipv6Address, Ipv6Packet, Ipv6Repr, NdiscRepr,
};

/// All routers of the link (RFC 4291, section 2.7.1).
const ALL_ROUTERS: Ipv6Address = Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// The group of those who may have an address (RFC 4291, section 2.7.1).
fn solicited_node(address: Ipv6Address) -> Ipv6Address {
    let [.., high, low] = address.segments();
    Ipv6Address::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | high & 0xff, low)
}

/// A question to everybody, or to those whom an address may concern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// Who has this address of IPv4?
    WhoHas { source: Ipv4Address, target: Ipv4Address },
    /// Who has this address of IPv6? From the unspecified address: I should like to have it (RFC 4862,
    /// section 5.4.2).
    Solicit { source: Ipv6Address, target: Ipv6Address },
    /// Which routers are there?
    SolicitRouters { source: Ipv6Address },
}

impl Message {
    fn ipv6(&self, hardware: EthernetAddress) -> Option<(Ipv6Address, Ipv6Address, Icmpv6Repr<'static>)> {
        // Who has no address yet does not say where it is.
        let place = |source: Ipv6Address| (!source.is_unspecified()).then(|| hardware.into());
        match *self {
            Message::WhoHas { .. } => None,
            Message::Solicit { source, target } => {
                let ask = NdiscRepr::NeighborSolicit { target_addr: target, lladdr: place(source) };
                Some((source, solicited_node(target), Icmpv6Repr::Ndisc(ask)))
            }
            Message::SolicitRouters { source } => {
                let ask = NdiscRepr::RouterSolicit { lladdr: place(source) };
                Some((source, ALL_ROUTERS, Icmpv6Repr::Ndisc(ask)))
            }
        }
    }

    /// Bytes of its frame.
    pub(crate) fn bytes(&self, hardware: EthernetAddress) -> usize {
        match self.ipv6(hardware) {
            Some((_, _, message)) => 14 + 40 + message.buffer_len(),
            None => 14 + 28,
        }
    }

    /// Writes its frame, which has [`Message::bytes`] bytes, as sent from this hardware address.
    pub(crate) fn emit(&self, hardware: EthernetAddress, bytes: &mut [u8]) {
        bytes.fill(0);
        let mut frame = EthernetFrame::new_unchecked(bytes);
        let (dst_addr, ethertype) = match (self.ipv6(hardware), self) {
            (Some((source, destination, message)), _) => {
                emit_ipv6(source, destination, &message, frame.payload_mut());
                let last = destination.octets();
                // RFC 2464, section 7.
                let group = [0x33, 0x33, last[12], last[13], last[14], last[15]];
                (EthernetAddress(group), EthernetProtocol::Ipv6)
            }
            (None, Message::WhoHas { source, target }) => {
                let ask = ArpRepr::EthernetIpv4 {
                    operation: ArpOperation::Request,
                    source_hardware_addr: hardware,
                    source_protocol_addr: *source,
                    target_hardware_addr: EthernetAddress([0; 6]),
                    target_protocol_addr: *target,
                };
                ask.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
                (EthernetAddress::BROADCAST, EthernetProtocol::Arp)
            }
            (None, _) => return,
        };
        EthernetRepr { src_addr: hardware, dst_addr, ethertype }.emit(&mut frame);
    }
}

/// Discovery always has the largest hop limit: so it comes from the link itself (RFC 4861, section 4).
pub(super) const HOP_LIMIT: u8 = 255;

/// An ICMPv6 message of discovery, in a packet.
pub(super) fn emit_ipv6(
    source: Ipv6Address,
    destination: Ipv6Address,
    message: &Icmpv6Repr<'_>,
    bytes: &mut [u8],
) {
    let header = Ipv6Repr {
        src_addr: source,
        dst_addr: destination,
        next_header: IpProtocol::Icmpv6,
        payload_len: message.buffer_len(),
        hop_limit: HOP_LIMIT,
    };
    let mut packet = Ipv6Packet::new_unchecked(bytes);
    header.emit(&mut packet);
    let mut inside = Icmpv6Packet::new_unchecked(packet.payload_mut());
    message.emit(&source, &destination, &mut inside, &ChecksumCapabilities::default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{Word, hear};
    use alloc::vec;

    const HARDWARE: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 9]);

    #[test]
    fn a_question_for_an_address_is_heard_as_one() {
        let target = Ipv6Address::new(0xfe80, 0, 0, 0, 0, 0, 0x1234, 0x5678);
        for source in [Ipv6Address::UNSPECIFIED, Ipv6Address::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)] {
            let ask = Message::Solicit { source, target };
            let mut frame = vec![0xff; ask.bytes(HARDWARE)];
            ask.emit(HARDWARE, &mut frame);
            assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0x34, 0x56, 0x78]);
            let heard = hear(&frame).expect("it is one");
            assert_eq!((heard.source, heard.word), (source, Word::Wanted(target)));
        }
    }

    #[test]
    fn a_question_by_arp_names_both_addresses() {
        let (source, target) = (Ipv4Address::new(10, 0, 0, 9), Ipv4Address::new(10, 0, 0, 1));
        let ask = Message::WhoHas { source, target };
        let mut frame = vec![0xff; ask.bytes(HARDWARE)];
        ask.emit(HARDWARE, &mut frame);
        let ethernet = EthernetFrame::new_checked(&frame[..]).unwrap();
        assert!(ethernet.dst_addr().is_broadcast());
        let arp = ArpPacket::new_checked(ethernet.payload()).unwrap();
        let ArpRepr::EthernetIpv4 { source_protocol_addr, target_protocol_addr, .. } =
            ArpRepr::parse(&arp).unwrap()
        else {
            panic!("no ARP for IPv4")
        };
        assert_eq!((source_protocol_addr, target_protocol_addr), (source, target));
    }
}
