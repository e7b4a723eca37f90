//! Requests and answers of the unikernel `network`, directly in Ethernet packets.
//!
//! ```text
//! 0–13   Ethernet header, EtherType 0x88b5 (IEEE 802, local experiment 1)
//! 14–17  "HXNT"
//! 18     1 request, 2 answer
//! 19     zero
//! 20–27  sequence number, little endian
//! 28–    filling: byte n is (sequence number + n) modulo 251
//! ```

use hyperexo_abi::net::{ETHERNET_HEADER_BYTES, MAX_PACKET_BYTES, MacAddress};

/// EtherType of the messages.
pub const ETHER_TYPE: u16 = 0x88b5;
/// Bytes of the shortest message.
pub const MIN_BYTES: usize = FILLING;
/// Bytes of the longest message.
pub const MAX_BYTES: usize = MAX_PACKET_BYTES;

const MAGIC: [u8; 4] = *b"HXNT";
const KIND: usize = ETHERNET_HEADER_BYTES + MAGIC.len();
const SEQUENCE: usize = KIND + 2;
const FILLING: usize = SEQUENCE + 8;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Wants an answer.
    Request = 1,
    /// The same message, sent back.
    Answer = 2,
}

/// A message, as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Sender.
    pub source: MacAddress,
    /// What it is.
    pub kind: Kind,
    /// Its number.
    pub sequence: u64,
}

/// The filling's byte at an offset of the packet.
fn filling(sequence: u64, offset: usize) -> u8 {
    (sequence.wrapping_add(offset as u64) % 251) as u8
}

impl Message {
    /// Writes the message to all of a packet.
    ///
    /// # Panics
    ///
    /// On a packet of fewer than [`MIN_BYTES`] bytes.
    pub fn write(&self, destination: MacAddress, packet: &mut [u8]) {
        packet[..6].copy_from_slice(&destination.0);
        packet[6..12].copy_from_slice(&self.source.0);
        packet[12..14].copy_from_slice(&ETHER_TYPE.to_be_bytes());
        packet[ETHERNET_HEADER_BYTES..KIND].copy_from_slice(&MAGIC);
        packet[KIND..SEQUENCE].copy_from_slice(&[self.kind as u8, 0]);
        packet[SEQUENCE..FILLING].copy_from_slice(&self.sequence.to_le_bytes());
        for (offset, byte) in packet.iter_mut().enumerate().skip(FILLING) {
            *byte = filling(self.sequence, offset);
        }
    }

    /// Reads a message; `None` if the packet is none, or one of its bytes is wrong.
    pub fn read(packet: &[u8]) -> Option<Message> {
        let source = MacAddress(*packet.get(6..)?.first_chunk()?);
        let head = packet.get(12..FILLING)?;
        let kind = match packet[KIND] {
            1 => Kind::Request,
            2 => Kind::Answer,
            _ => return None,
        };
        let sequence = u64::from_le_bytes(*packet[SEQUENCE..].first_chunk()?);
        let known = head[..2] == ETHER_TYPE.to_be_bytes() && head[2..6] == MAGIC;
        let whole = (FILLING..packet.len()).all(|offset| packet[offset] == filling(sequence, offset));
        (known && whole).then_some(Message { source, kind, sequence })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: MacAddress = MacAddress([2, 1, 0, 0, 0, 1]);

    #[test]
    fn messages_are_read_as_written() {
        for bytes in [MIN_BYTES, MIN_BYTES + 1, MAX_BYTES] {
            let message = Message { source: SOURCE, kind: Kind::Answer, sequence: u64::MAX - 3 };
            let mut packet = [0; MAX_BYTES];
            message.write(MacAddress::BROADCAST, &mut packet[..bytes]);
            assert_eq!(packet[..6], [0xff; 6]);
            assert_eq!(Message::read(&packet[..bytes]), Some(message));
        }
    }

    #[test]
    fn damage_is_noticed() {
        let mut packet = [0; 100];
        Message { source: SOURCE, kind: Kind::Request, sequence: 7 }.write(SOURCE, &mut packet);
        for at in 12..packet.len() {
            let mut damaged = packet;
            damaged[at] ^= 0x80;
            // Byte 19 carries nothing.
            assert_eq!(Message::read(&damaged).is_none(), at != KIND + 1, "byte {at}");
        }
        assert_eq!(Message::read(&packet[..MIN_BYTES - 1]), None);
    }
}
