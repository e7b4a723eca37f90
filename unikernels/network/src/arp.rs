//! Who has an IPv4 address: ARP (RFC 826) for Ethernet.

use core::net::Ipv4Addr;
use hyperexo_abi::net::{ETHER_ARP, ETHERNET_HEADER_BYTES, MacAddress};

/// Bytes of a request with its Ethernet header.
pub const BYTES: usize = ETHERNET_HEADER_BYTES + 28;

/// Ethernet, IPv4, the lengths of their addresses.
const KINDS: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// Asks everybody who has `wanted`, as `own` at `source`.
pub fn request(source: MacAddress, own: Ipv4Addr, wanted: Ipv4Addr, packet: &mut [u8; BYTES]) {
    let parts: [&[u8]; 9] = [
        &MacAddress::BROADCAST.0,
        &source.0,
        &ETHER_ARP.to_be_bytes(),
        &KINDS,
        &REQUEST.to_be_bytes(),
        &source.0,
        &own.octets(),
        &[0; 6],
        &wanted.octets(),
    ];
    let bytes = parts.into_iter().flatten();
    packet.iter_mut().zip(bytes).for_each(|(byte, value)| *byte = *value);
}

/// Who says in a reply that they have `wanted`.
pub fn reply(packet: &[u8], wanted: Ipv4Addr) -> Option<MacAddress> {
    let body = packet.get(ETHERNET_HEADER_BYTES..BYTES)?;
    let is_reply = packet[12..14] == ETHER_ARP.to_be_bytes()
        && body[..6] == KINDS
        && body[6..8] == REPLY.to_be_bytes()
        && body[14..18] == wanted.octets();
    is_reply.then(|| body[8..].first_chunk().copied().map(MacAddress)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_names_who_has_the_address() {
        let (asking, asked) = (MacAddress([2, 1, 0, 0, 0, 1]), MacAddress([2, 2, 0, 0, 0, 2]));
        let (own, wanted) = (Ipv4Addr::new(10, 0, 2, 15), Ipv4Addr::new(10, 0, 2, 2));
        let mut packet = [0; BYTES];
        request(asking, own, wanted, &mut packet);
        assert_eq!(packet[..6], [0xff; 6]);
        assert_eq!(reply(&packet, wanted), None);
        // The answer is the same packet from the other side.
        request(asked, wanted, own, &mut packet);
        packet[21] = REPLY as u8;
        assert_eq!(reply(&packet, wanted), Some(asked));
        assert_eq!(reply(&packet, own), None);
        assert_eq!(reply(&packet[..BYTES - 1], wanted), None);
    }
}
