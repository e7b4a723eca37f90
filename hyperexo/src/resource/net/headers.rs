//! The header fields of a packet: Ethernet (IEEE 802.3) with or without a VLAN tag (IEEE 802.1Q), IPv4
//! (RFC 791), ARP (RFC 826), IPv6 (RFC 8200) and neighbour discovery (RFC 4861), and the ports of UDP
//! (RFC 768) and TCP (RFC 9293).
//!
//! What is cut off or makes no sense has no fields beyond those before it; so it matches only filters that do
//! not ask for them. Checksums are the receiver's business.
#![forbid(unsafe_code)]

use core::net::IpAddr;
use hyperexo_abi::net::{
    ETHER_ARP, ETHER_IPV4, ETHER_IPV6, ETHER_VLAN, ETHERNET_HEADER_BYTES, Fields, MacAddress,
    PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP,
};

/// Bytes of an IPv4 header without options.
const IPV4_HEADER_BYTES: usize = 20;
/// Bytes of an IPv6 header.
const IPV6_HEADER_BYTES: usize = 40;
/// Extension headers that are looked behind.
const MOST_EXTENSIONS: usize = 8;
/// Extension headers.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const OPTIONS: u8 = 60;
/// ICMPv6 types of neighbour discovery.
const ROUTER_SOLICITATION: u8 = 133;
const NEIGHBOR_SOLICITATION: u8 = 135;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;
/// Options of neighbour discovery that are looked at.
const MOST_OPTIONS: usize = 16;
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
    /// Who claims so in the body, too: the sender's hardware address in ARP or neighbour discovery. If
    /// several are claimed, one that is not [`Headers::source`].
    pub claimed_source: Option<MacAddress>,
    /// The fields, from the receiver's view.
    pub fields: Fields,
}

impl Headers {
    /// Reads the headers; `None` if there is not even that of Ethernet.
    pub fn parse(packet: &[u8]) -> Option<Headers> {
        let (header, mut body) = packet.split_at_checked(ETHERNET_HEADER_BYTES)?;
        let (mut ether_type, mut vlan) = (short(header, 12)?, None);
        if ether_type == ETHER_VLAN
            && let Some((tag, inner)) = short(body, 0).zip(short(body, 2))
        {
            (vlan, ether_type, body) = (Some(tag & 0xfff), inner, &body[4..]);
        }
        let mut headers = Headers {
            destination: hardware(header, 0)?,
            source: hardware(header, 6)?,
            claimed_source: None,
            fields: Fields { vlan, ether_type: Some(ether_type), ..Fields::default() },
        };
        match ether_type {
            ETHER_IPV4 => ipv4(body, &mut headers.fields),
            ETHER_IPV6 => drop(headers.ipv6(body)),
            ETHER_ARP if body.len() >= ARP_BYTES && body.starts_with(&ARP_ETHERNET_IPV4) => {
                headers.claimed_source = hardware(body, 8);
                headers.fields.remote = address::<4>(body, 14);
                headers.fields.local = address::<4>(body, 24);
            }
            _ => {}
        }
        Some(headers)
    }

    /// The fields of an IPv6 packet; none of them if it makes no sense.
    fn ipv6(&mut self, body: &[u8]) -> Option<()> {
        let (header, rest) = body.split_at_checked(IPV6_HEADER_BYTES)?;
        let payload = rest.get(..usize::from(short(header, 4)?)).filter(|_| header[0] >> 4 == 6)?;
        let (protocol, payload) = behind_extensions(header[6], payload)?;
        let (remote, local) = (address::<16>(header, 8), address::<16>(header, 24));
        let (mut fields, mut claimed) =
            (Fields { protocol: Some(protocol), remote, local, ..self.fields }, None);
        match protocol {
            PROTOCOL_TCP | PROTOCOL_UDP => ports(payload, &mut fields),
            PROTOCOL_ICMPV6 => claimed = discovery(payload, self.source, &mut fields)?,
            _ => {}
        }
        (self.fields, self.claimed_source) = (fields, claimed);
        Some(())
    }
}

/// What follows the extension headers, and its protocol. A later fragment has nothing of it.
fn behind_extensions(mut next: u8, mut bytes: &[u8]) -> Option<(u8, &[u8])> {
    for _ in 0..MOST_EXTENSIONS {
        let length = match next {
            HOP_BY_HOP | ROUTING | OPTIONS => 8 + 8 * usize::from(*bytes.get(1)?),
            FRAGMENT if short(bytes, 2)? >> 3 != 0 => return Some((bytes[0], &[])),
            FRAGMENT => 8,
            _ => return Some((next, bytes)),
        };
        next = *bytes.first()?;
        bytes = bytes.get(length..)?;
    }
    None
}

/// What a message of neighbour discovery says of addresses. Its options may claim hardware addresses; if one
/// of these is not the source's, that is the result. `None` if it is cut off, or has too many options.
fn discovery(message: &[u8], source: MacAddress, fields: &mut Fields) -> Option<Option<MacAddress>> {
    let mut options = match message.first() {
        Some(&kind @ ROUTER_SOLICITATION..=NEIGHBOR_ADVERTISEMENT) => {
            if kind >= NEIGHBOR_SOLICITATION {
                let target = Some(address::<16>(message, 8)?);
                if kind == NEIGHBOR_SOLICITATION {
                    fields.local = target;
                }
                // Who asks without an address asks for the one that it is about to have.
                if kind == NEIGHBOR_ADVERTISEMENT
                    || fields.remote.is_none_or(|remote| remote.is_unspecified())
                {
                    fields.remote = target;
                }
            }
            let header = if kind >= NEIGHBOR_SOLICITATION { 24 } else { 8 * usize::from(kind - 132) };
            message.get(header..)?
        }
        _ => return Some(None),
    };
    let mut claimed = None;
    for _ in 0..MOST_OPTIONS {
        let [kind, units, ..] = *options else { return Some(claimed) };
        // Source and target link-layer address.
        if matches!(kind, 1 | 2) && claimed.is_none_or(|claimed| claimed == source) {
            claimed = Some(hardware(options, 2)?);
        }
        options = options.get(8 * usize::from(units)..).filter(|_| units != 0)?;
    }
    options.is_empty().then_some(claimed)
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
    fields.remote = address::<4>(header, 12);
    fields.local = address::<4>(header, 16);
    let fragment_offset = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
    if fragment_offset == 0 && matches!(protocol, PROTOCOL_TCP | PROTOCOL_UDP) {
        ports(&body[header_bytes..total], fields);
    }
}

fn ports(segment: &[u8], fields: &mut Fields) {
    if let Some((remote, local)) = short(segment, 0).zip(short(segment, 2)) {
        fields.remote_port = Some(remote);
        fields.local_port = Some(local);
    }
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

fn address<const BYTES: usize>(bytes: &[u8], at: usize) -> Option<IpAddr>
where
    IpAddr: From<[u8; BYTES]>,
{
    bytes.get(at..)?.first_chunk::<BYTES>().map(|bytes| IpAddr::from(*bytes))
}

fn hardware(bytes: &[u8], at: usize) -> Option<MacAddress> {
    bytes.get(at..)?.first_chunk().map(|bytes| MacAddress(*bytes))
}

#[cfg(test)]
mod tests;
