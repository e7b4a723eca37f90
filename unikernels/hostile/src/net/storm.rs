//! A flood that lasts: packets as fast as they go, and nothing is taken. Neighbours are measured meanwhile.
//!
//! | word | what |
//! |---|---|
//! | `ms=N` | how long (300) |
//! | `to=outside` | to somebody beyond the device |
//! | `to=all` | to everybody at once: what no protocol has, and questions of ARP for another's address |
//! | `to=neighbours` | to each neighbour, datagrams for a port that nobody has |
//! | `to=servers` | to each neighbour, wishes for a connection to port 80 of 10.0.0.1, in many names |
//! | `to=spoofed` | in the names of the neighbours: each is refused |
//! | `bytes=N` | of a packet, 60 to 1514 (60) |

use super::{Line, STRANGER, VICTIMS, bound, neighbours, own_address, packet, put, sent, take};
use crate::judge::Judge;
use crate::{machine, shares};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use hyperexo_abi::net::{
    Destination, ETHER_ARP, ETHER_IPV4, Filter, MAX_PACKET_BYTES, MacAddress, PROTOCOL_TCP, PROTOCOL_UDP,
    PacketOutcome, PacketSubmission, RING_PACKETS,
};
use hyperexo_abi::offload::Offload;
use libos_core::net::{checksum, ones_sum};
use libos_core::{accounting, argument, arguments, println};

/// Bytes of a packet, unless the command line says otherwise: the smallest make the most packets.
const BYTES: u64 = 60;
/// Packets that are made, to be sent again and again.
const PACKETS: usize = 16;

/// Where to, and in whose name.
enum Way {
    Outside,
    All,
    Neighbours,
    Servers,
    Spoofed,
}

impl Way {
    fn of(word: Option<&str>) -> Option<Way> {
        Some(match word? {
            "outside" => Way::Outside,
            "all" => Way::All,
            "neighbours" => Way::Neighbours,
            "servers" => Way::Servers,
            "spoofed" => Way::Spoofed,
            _ => return None,
        })
    }

    /// The packets, each of at least 60 bytes.
    fn packets(&self) -> Vec<Vec<u8>> {
        let own = own_address();
        let one = |number: usize| {
            let near = neighbours().nth(number % neighbours().count()).unwrap_or(own);
            match self {
                Way::Outside => packet(STRANGER, own, VICTIMS),
                Way::All if number.is_multiple_of(2) => packet(MacAddress::BROADCAST, own, VICTIMS),
                Way::All => question(own),
                Way::Neighbours => datagram(near, own, number as u8),
                Way::Servers => connect(near, own, number as u8),
                Way::Spoofed => packet(STRANGER, near, VICTIMS),
            }
        };
        (0..PACKETS).map(one).collect()
    }
}

/// An IPv4 packet of so many bytes for 10.0.0.1, from an address that does not answer.
fn internet(to: MacAddress, from: MacAddress, number: u8, protocol: u8, bytes: u8) -> Vec<u8> {
    let mut packet = packet(to, from, ETHER_IPV4);
    let mut head = [0x45, 0, 0, bytes, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 100 + number, 10, 0, 0, 1];
    let sum = checksum([ones_sum(&head)]);
    head[10..12].copy_from_slice(&sum.to_be_bytes());
    packet[14..34].copy_from_slice(&head);
    packet
}

/// A wish for a connection to port 80.
fn connect(to: MacAddress, from: MacAddress, number: u8) -> Vec<u8> {
    let mut packet = internet(to, from, number, PROTOCOL_TCP, 40);
    packet[34..38].copy_from_slice(&[4 + number, 1, 0, 80]);
    packet[46..50].copy_from_slice(&[0x50, 0x02, 0xff, 0xff]);
    packet
}

/// A datagram without a checksum for port 9.
fn datagram(to: MacAddress, from: MacAddress, number: u8) -> Vec<u8> {
    let mut packet = internet(to, from, number, PROTOCOL_UDP, 46);
    packet[34..40].copy_from_slice(&[4, 1, 0, 9, 0, 26]);
    packet
}

/// Who has 10.0.0.200? 10.0.0.100 wants to know.
fn question(from: MacAddress) -> Vec<u8> {
    let mut packet = packet(MacAddress::BROADCAST, from, ETHER_ARP);
    packet[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
    packet[22..28].copy_from_slice(&from.0);
    packet[28..32].copy_from_slice(&[10, 0, 0, 100]);
    packet[38..42].copy_from_slice(&[10, 0, 0, 200]);
    packet
}

pub(super) fn storm(judge: &mut Judge) {
    let Some(way) = Way::of(argument("to")) else {
        return judge.expect("to=outside, all, neighbours, servers or spoofed", false, true);
    };
    let bytes = arguments().number("bytes").ok().map(|bytes| bytes.unwrap_or(BYTES));
    let Some(bytes) = bytes.filter(|bytes| (BYTES..=MAX_PACKET_BYTES as u64).contains(bytes)) else {
        return judge.expect("bytes=N: 60 to 1514", false, true);
    };
    let Some(line) = Line::open(judge) else { return };
    let Some(_) = bound(judge, &Filter::all(Destination::Own)) else { return };
    let frames: Vec<u64> = way.packets().iter().filter_map(|packet| frame(judge, packet)).collect();
    // Left to the host, a checksum is right.
    let offload = match way {
        Way::Servers => Offload::checksum(34, 16),
        _ => Offload::NONE,
    };
    let (mut next, mut under_way, mut refused) = (0, 0, 0_u64);
    shares::until_over(|| {
        for _ in under_way..RING_PACKETS {
            let submission = sent(frames[next % frames.len()], 1, bytes as u32);
            put(&line.rings.transmit, &PacketSubmission { offload, ..submission });
            next += 1;
        }
        judge.allowed("kicking", machine::net_kick());
        under_way = RING_PACKETS;
        while let Some(completion) = take(&line.rings.transmit) {
            refused += u64::from(completion.outcome != Some(PacketOutcome::Ok));
            under_way -= 1;
        }
    });
    let passed = accounting().net_packets_sent.load(Ordering::Relaxed);
    judge.expect("all are refused", passed == 0, matches!(way, Way::Spoofed));
    let ended = libos_core::time::since_boot_ns() / 1000;
    println!("{{\"storm\":{{\"packets\":{passed},\"refused\":{refused},\"ended_us\":{ended}}}}}");
}

/// A frame with a packet, for good.
fn frame(judge: &mut Judge, packet: &[u8]) -> Option<u64> {
    let capability = super::own_frames(judge, 1, hyperexo_abi::capability::Rights::READ_WRITE)?;
    let frame = capability.claim()?.first;
    machine::write_frame(frame, packet);
    Some(frame)
}
