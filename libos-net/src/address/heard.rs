//! What others say about addresses of IPv6 (RFC 4861).

use super::message::HOP_LIMIT;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv6Message, Icmpv6Packet, IpProtocol, Ipv6Address,
    Ipv6Packet, NdiscOption, NdiscOptionRepr, NdiscOptionType, NdiscPrefixInfoFlags, NdiscPrefixInformation,
};

/// A message of discovery that is as it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heard<'f> {
    /// Who sent the frame.
    pub(crate) hardware: EthernetAddress,
    pub(crate) source: Ipv6Address,
    pub(crate) word: Word<'f>,
}

/// What it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word<'f> {
    /// A router is there, for so many seconds; what more it says.
    Router { seconds: u16, options: Options<'f> },
    /// Somebody asks who has this address.
    Wanted(Ipv6Address),
    /// Somebody has it.
    Taken(Ipv6Address),
}

/// What a router says of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Options<'f>(&'f [u8]);

/// Reads a frame. `None` if it is none of these messages, or not as it must be (RFC 4861, sections 6.1.2,
/// 7.1.1 and 7.1.2).
pub(crate) fn hear(frame: &[u8]) -> Option<Heard<'_>> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    if ethernet.ethertype() != EthernetProtocol::Ipv6 {
        return None;
    }
    let hardware = ethernet.src_addr();
    let packet = Ipv6Packet::new_checked(ethernet.payload()).ok()?;
    if packet.next_header() != IpProtocol::Icmpv6 || packet.hop_limit() != HOP_LIMIT {
        return None;
    }
    let (source, destination) = (packet.src_addr(), packet.dst_addr());
    let message = Icmpv6Packet::new_checked(packet.payload()).ok()?;
    if message.msg_code() != 0 || !message.verify_checksum(&source, &destination) {
        return None;
    }
    let word = match message.msg_type() {
        Icmpv6Message::RouterAdvert if source.is_unicast_link_local() => Word::Router {
            seconds: u16::try_from(message.router_lifetime().secs()).ok()?,
            options: Options::new(message.payload())?,
        },
        Icmpv6Message::NeighborSolicit if !message.target_addr().is_multicast() => {
            Word::Wanted(message.target_addr())
        }
        Icmpv6Message::NeighborAdvert if !message.target_addr().is_multicast() => {
            Word::Taken(message.target_addr())
        }
        _ => return None,
    };
    Some(Heard { hardware, source, word })
}

/// Type of the option that names resolvers (RFC 8106, section 5.1).
const RESOLVERS: u8 = 25;

impl<'f> Options<'f> {
    /// `None` if one has no length, or goes beyond the end.
    fn new(bytes: &'f [u8]) -> Option<Options<'f>> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = 8 * usize::from(*rest.get(1)?);
            if length == 0 {
                return None;
            }
            rest = rest.get(length..)?;
        }
        Some(Options(bytes))
    }

    fn each(self) -> impl Iterator<Item = &'f [u8]> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let length = 8 * usize::from(*rest.get(1)?);
            let (option, behind) = rest.split_at_checked(length)?;
            rest = behind;
            Some(option)
        })
    }

    /// Prefixes of which hosts make addresses (RFC 4862, section 5.5.3, a to c).
    pub(crate) fn prefixes(self) -> impl Iterator<Item = NdiscPrefixInformation> {
        self.each().filter_map(|bytes| {
            let option = NdiscOption::new_checked(bytes).ok()?;
            if option.option_type() != NdiscOptionType::PrefixInformation {
                return None;
            }
            let NdiscOptionRepr::PrefixInformation(prefix) = NdiscOptionRepr::parse(&option).ok()? else {
                return None;
            };
            let fits = prefix.flags.contains(NdiscPrefixInfoFlags::ADDRCONF)
                && prefix.prefix_len == 64
                && !prefix.prefix.is_unicast_link_local()
                && !prefix.prefix.is_multicast()
                && prefix.preferred_lifetime <= prefix.valid_lifetime;
            fits.then_some(prefix)
        })
    }

    /// Resolvers, and for how many seconds they are.
    pub(crate) fn resolvers(self) -> impl Iterator<Item = (Ipv6Address, u32)> {
        self.each().filter(|option| option.first() == Some(&RESOLVERS)).flat_map(|option| {
            let seconds =
                option.get(4..8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes);
            let addresses = option.get(8..).unwrap_or_default().chunks_exact(16);
            addresses
                .filter_map(|bytes| <[u8; 16]>::try_from(bytes).ok())
                .map(move |bytes| (Ipv6Address::from(bytes), seconds))
        })
    }
}
