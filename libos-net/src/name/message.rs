//! Messages of DNS: a question, and what an answer says to it.

use alloc::vec;
use alloc::vec::Vec;
use smoltcp::wire::{
    DnsFlags, DnsOpcode, DnsPacket, DnsQueryType, DnsQuestion, DnsRcode, DnsRecord, DnsRecordData, DnsRepr,
    IpAddress,
};

/// Bytes of a name as messages have it, and of a part of one (RFC 1035, section 2.3.4).
const NAME_BYTES: usize = 255;
const LABEL_BYTES: usize = 63;
/// Names that may stand for one another, one after the other.
const MOST_ALIASES: usize = 16;

/// A question for the addresses of a name.
pub(super) struct Question {
    bytes: Vec<u8>,
    /// The name, as messages have it.
    name: Vec<u8>,
    kind: DnsQueryType,
    number: u16,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The addresses; perhaps there are none.
    Addresses(Vec<IpAddress>),
    NoSuchName,
    /// The resolver can't say.
    Refused,
    /// There is more than fits.
    Truncated,
}

impl Question {
    /// `None` if that can't be a name.
    pub(super) fn new(name: &str, kind: DnsQueryType, number: u16) -> Option<Question> {
        let mut encoded = Vec::new();
        for label in name.strip_suffix('.').unwrap_or(name).split('.') {
            let fits = (1..=LABEL_BYTES).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
            if !fits {
                return None;
            }
            encoded.push(label.len() as u8);
            encoded.extend_from_slice(label.as_bytes());
        }
        encoded.push(0);
        if encoded.len() > NAME_BYTES {
            return None;
        }
        let message = DnsRepr {
            transaction_id: number,
            opcode: DnsOpcode::Query,
            flags: DnsFlags::RECURSION_DESIRED,
            question: DnsQuestion { name: &encoded, type_: kind },
        };
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut DnsPacket::new_unchecked(&mut bytes[..]));
        Some(Question { bytes, name: encoded, kind, number })
    }

    /// Its message.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What a message says to it. `None` if it answers something else, or is not as it must be.
    pub(super) fn answer(&self, bytes: &[u8]) -> Option<Answer> {
        let packet = DnsPacket::new_checked(bytes).ok()?;
        let flags = packet.flags();
        if packet.transaction_id() != self.number
            || !flags.contains(DnsFlags::RESPONSE)
            || packet.opcode() != DnsOpcode::Query
            || packet.question_count() != 1
        {
            return None;
        }
        let (rest, question) = DnsQuestion::parse(packet.payload()).ok()?;
        if question.type_ != self.kind || !is_same(&packet, question.name, &self.name)? {
            return None;
        }
        match packet.rcode() {
            _ if flags.contains(DnsFlags::TRUNCATED) => Some(Answer::Truncated),
            DnsRcode::NoError => {
                let records = records(rest, packet.answer_record_count())?;
                follow(&packet, &records, &self.name).map(Answer::Addresses)
            }
            DnsRcode::NXDomain => Some(Answer::NoSuchName),
            _ => Some(Answer::Refused),
        }
    }
}

fn records(mut bytes: &[u8], count: u16) -> Option<Vec<DnsRecord<'_>>> {
    let mut records = Vec::new();
    for _ in 0..count {
        let (rest, record) = DnsRecord::parse(bytes).ok()?;
        records.push(record);
        bytes = rest;
    }
    Some(records)
}

/// The addresses of a name, and of the names that it stands for.
fn follow(packet: &DnsPacket<&[u8]>, records: &[DnsRecord<'_>], name: &[u8]) -> Option<Vec<IpAddress>> {
    let mut name = name;
    for _ in 0..MOST_ALIASES {
        let mut addresses = Vec::new();
        let mut alias = None;
        for record in records {
            if !is_same(packet, record.name, name)? {
                continue;
            }
            match record.data {
                DnsRecordData::A(address) => addresses.push(IpAddress::Ipv4(address)),
                DnsRecordData::Aaaa(address) => addresses.push(IpAddress::Ipv6(address)),
                DnsRecordData::Cname(other) => alias = Some(other),
                DnsRecordData::Other(..) => {}
            }
        }
        match alias {
            Some(other) if addresses.is_empty() => name = other,
            _ => return Some(addresses),
        }
    }
    Some(Vec::new())
}

/// Whether two names in a message are the same, whatever the case of their letters. `None` if one is none.
fn is_same(packet: &DnsPacket<&[u8]>, one: &[u8], other: &[u8]) -> Option<bool> {
    let (mut one, mut other) = (packet.parse_name(one), packet.parse_name(other));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return Some(true),
            (Some(Ok(one)), Some(Ok(other))) if one.eq_ignore_ascii_case(other) => {}
            (Some(Err(_)), _) | (_, Some(Err(_))) => return None,
            _ => return Some(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use smoltcp::wire::Ipv4Address;

    /// An answer with these flags and records after its question.
    fn answer(question: &Question, flags: u16, records: &[&[u8]]) -> Vec<u8> {
        let mut bytes = question.bytes().to_vec();
        bytes[2..4].copy_from_slice(&flags.to_be_bytes());
        bytes[7] = records.len() as u8;
        records.iter().for_each(|record| bytes.extend_from_slice(record));
        bytes
    }

    /// One whose name is that at a place of the message.
    fn record(at: u8, kind: u8, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xc0, at, 0, kind, 0, 1, 0, 0, 0, 60, 0, data.len() as u8];
        bytes.extend_from_slice(data);
        bytes
    }

    fn question() -> Question {
        Question::new("www.Example.org.", DnsQueryType::A, 0x1234).unwrap()
    }

    #[test]
    fn addresses_are_found_behind_the_names_that_a_name_stands_for() {
        let question = question();
        // www.example.org stands for host.example.org; its name begins after the question and a header.
        let alias = record(12, 5, b"\x04host\xc0\x10");
        let place = question.bytes().len() as u8 + 12;
        let mine = record(place, 1, &[10, 0, 0, 1]);
        let others = record(16, 1, &[10, 0, 0, 9]);
        for order in [[&alias[..], &mine, &others], [&others, &mine, &alias]] {
            // In the second order the alias lies elsewhere.
            let place = question.bytes().len()
                + order.iter().take_while(|one| **one != alias).map(|one| one.len()).sum::<usize>()
                + 12;
            let mine_there = record(place as u8, 1, &[10, 0, 0, 1]);
            let order: Vec<&[u8]> =
                order.iter().map(|one| if *one == mine { &mine_there[..] } else { one }).collect();
            let found = question.answer(&answer(&question, 0x8180, &order));
            assert_eq!(found, Some(Answer::Addresses(vec![Ipv4Address::new(10, 0, 0, 1).into()])));
        }
    }

    #[test]
    fn answers_to_others_are_none() {
        let question = question();
        let good = answer(&question, 0x8180, &[&record(12, 1, &[10, 0, 0, 1])]);
        assert!(question.answer(&good).is_some());
        for (at, value) in [(0, 0x99), (2, 0x01), (13, b'x'), (question.bytes().len() - 3, 28)] {
            let mut other = good.clone();
            other[at] = value;
            assert_eq!(question.answer(&other), None, "byte {at}");
        }
    }

    #[test]
    fn what_resolvers_say_when_there_is_no_address() {
        let question = question();
        for (flags, expected) in [
            (0x8183, Answer::NoSuchName),
            (0x8182, Answer::Refused),
            (0x8185, Answer::Refused),
            (0x8380, Answer::Truncated),
            (0x8180, Answer::Addresses(Vec::new())),
        ] {
            assert_eq!(question.answer(&answer(&question, flags, &[])), Some(expected), "{flags:x}");
        }
    }

    #[test]
    fn names_that_stand_for_each_other_end() {
        let question = question();
        let circle = record(12, 5, &[0xc0, 12]);
        let found = question.answer(&answer(&question, 0x8180, &[&circle]));
        assert_eq!(found, Some(Answer::Addresses(Vec::new())));
    }

    #[test]
    fn what_can_be_a_name() {
        let is_name = |name: &str| Question::new(name, DnsQueryType::A, 1).is_some();
        assert!(is_name("a") && is_name("a.b-c._d.") && is_name(&"a".repeat(63)));
        let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(62)].join(".");
        assert!(!is_name(&long) && is_name(&long[1..]));
        for name in ["", ".", "a..b", "a b", "ä", &"a".repeat(64)] {
            assert!(!is_name(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn damage_never_makes_it_fail(at in 0_usize..60, value in any::<u8>(), cut in 0_usize..60) {
            let question = question();
            let mut bytes = answer(&question, 0x8180, &[&record(12, 5, &[0xc0, 16]), &record(16, 1, &[1, 2, 3, 4])]);
            let length = bytes.len();
            bytes[at % length] = value;
            bytes.truncate(length - cut % length);
            question.answer(&bytes);
        }
    }
}
