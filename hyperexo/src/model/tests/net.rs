//! The network: filters, packets between environments and beyond, ends.

use crate::machine::id::VcpuId;
use crate::model::guest::{completions, offer, offer_part, packets};
use crate::model::{Machine, Parts, Share};
use core::net::Ipv6Addr;
use hyperexo_abi::FRAME_BYTES;
use hyperexo_abi::capability::Capability;
use hyperexo_abi::hypercall::{Call, Status};
use hyperexo_abi::net::{
    Destination, ETHER_IPV6, Fields, Filter, MacAddress, NetRings, PROTOCOL_ICMPV6, PacketOutcome,
    PacketSubmission,
};
use hyperexo_abi::offload::{Offload, Offloads, ones_sum};

/// A packet of 64 bytes, of a kind that no protocol has.
fn packet(to: MacAddress, from: MacAddress) -> [u8; 64] {
    let mut packet = [0; 64];
    packet[..6].copy_from_slice(&to.0);
    packet[6..12].copy_from_slice(&from.0);
    packet[12..14].copy_from_slice(&[0x88, 0xb5]);
    packet
}

/// An environment with rings, a frame for packets, and a filter of all that is sent to it.
struct Station {
    who: VcpuId,
    rings: &'static NetRings,
    frame: u64,
    filter: Capability,
}

fn station(machine: &mut Machine, number: u16) -> Station {
    let who = machine.vcpu(number);
    let rings = machine.net_rings(who);
    let (frame, _) = machine.frames(who, 1);
    let words = Filter::all(Destination::Own).to_words();
    let filter = machine.call(who, Call::FilterAlloc, &words).map(Capability).unwrap();
    Station { who, rings, frame, filter }
}

impl Station {
    fn bind(&self, machine: &mut Machine) {
        machine.call_with(self.who, Call::FilterBind, self.filter, &[3]).unwrap();
    }

    /// Sends a packet; how that ended.
    fn send(&self, machine: &mut Machine, packet: &[u8]) -> PacketOutcome {
        machine.kernel.pages.memory.write(self.frame, 0, packet);
        offer(&self.rings.transmit, self.frame, packet.len() as u32);
        machine.call(self.who, Call::NetKick, &[]).unwrap();
        let completions = packets(&self.rings.transmit);
        assert_eq!(completions.len(), 1);
        completions[0].0.expect("an outcome")
    }

    /// Sends a packet that lies in parts of frames; how that ended.
    fn send_parts(&self, machine: &mut Machine, parts: &[PacketSubmission]) -> PacketOutcome {
        parts.iter().for_each(|part| offer_part(&self.rings.transmit, part));
        machine.call(self.who, Call::NetKick, &[]).unwrap();
        let done = completions(&self.rings.transmit);
        assert_eq!((done.len(), done[0].tag), (1, parts[0].tag), "one for a packet");
        done[0].outcome.expect("an outcome")
    }
}

/// Two environments that have bound filters for all packets to them.
fn two_stations(machine: &mut Machine) -> ([Station; 2], [MacAddress; 2]) {
    let stations = [1, 2].map(|number| station(machine, number));
    stations.iter().for_each(|station| station.bind(machine));
    let addresses = [0, 1].map(|at| machine.kernel.net.address_of(stations[at].who.environment));
    (stations, addresses)
}

/// A packet of so many bytes in frames from `first` on, its first frame holding 100 bytes at its end, and
/// what it leaves to others.
fn scattered(
    machine: &Machine,
    first: u64,
    header: &[u8; 64],
    bytes: usize,
    offload: Offload,
) -> Vec<PacketSubmission> {
    const HEAD: usize = 100;
    let memory = machine.kernel.pages.memory;
    let whole: Vec<u8> = (0..bytes).map(|at| *header.get(at).unwrap_or(&((at % 251) as u8))).collect();
    let (head, rest) = whole.split_at(HEAD);
    let places = [((FRAME_BYTES - HEAD) as u16, head)].into_iter();
    let places: Vec<_> = places.chain(rest.chunks(FRAME_BYTES).map(|part| (0, part))).collect();
    let last = places.len() - 1;
    (first..)
        .zip(places)
        .enumerate()
        .map(|(at, (frame, (offset, part)))| {
            memory.write(frame, offset.into(), part);
            let (tag, bytes, more) = (77 + at as u32, part.len() as u32, at != last);
            PacketSubmission { frame, tag, bytes, offset, more, offload }
        })
        .collect()
}

/// Segments of 1,448 bytes behind headers of 66.
const CUT: Offload =
    Offload { kind: Offload::TCP4, header_bytes: 66, segment_bytes: 1448, ..Offload::checksum(34, 16) };

#[test]
fn a_packet_in_many_frames_comes_whole_with_what_it_leaves_to_others() {
    let mut machine = Machine::with(2);
    machine.net.state().offloads = Offloads::SEGMENTS4;
    let ([one, two], [from, to]) = two_stations(&mut machine);
    let (first, _) = machine.frames(one.who, 17);
    let (room, _) = machine.frames(two.who, 17);
    let parts = scattered(&machine, first, &packet(to, from), 64_000, CUT);
    assert_eq!(one.send_parts(&mut machine, &parts), PacketOutcome::Ok, "and dropped: there is no room");
    (0..15).for_each(|at| offer(&two.rings.receive, room + at, 0));
    assert_eq!(one.send_parts(&mut machine, &parts), PacketOutcome::Ok);
    assert!(completions(&two.rings.receive).is_empty(), "room for all of it, or it does not come");
    offer(&two.rings.receive, room + 15, 0);
    assert_eq!(one.send_parts(&mut machine, &parts), PacketOutcome::Ok);
    let come = completions(&two.rings.receive);
    let more: Vec<_> = come.iter().map(|part| part.more).collect();
    assert_eq!(more, (0..16).rev().collect::<Vec<_>>());
    assert_eq!(come.iter().map(|part| part.bytes).sum::<u32>(), 64_000);
    assert!(come.iter().all(|part| part.outcome == Some(PacketOutcome::Ok)));
    assert_eq!(come[0].offload, CUT);
    let mut byte = [0];
    for at in [64, 4095, 4096, 40_000, 63_999] {
        machine.kernel.pages.memory.read(room + at / 4096, at as usize % 4096, &mut byte);
        assert_eq!(byte[0], (at % 251) as u8, "byte {at}");
    }
    // One of the frames is not the receiver's: the packet is lost, not the kernel.
    (0..15).for_each(|at| offer(&two.rings.receive, room + at, 0));
    offer(&two.rings.receive, first, 0);
    assert_eq!(one.send_parts(&mut machine, &parts), PacketOutcome::Ok);
    let last = *completions(&two.rings.receive).last().unwrap();
    assert_eq!((last.outcome, last.bytes), (Some(PacketOutcome::FrameNotBound), 0));
}

#[test]
fn what_the_device_does_not_do_is_done_or_refused() {
    let mut machine = Machine::with(2);
    let ([one, two], [from, to]) = two_stations(&mut machine);
    let outside = MacAddress([2, 9, 9, 9, 9, 9]);
    let (first, _) = machine.frames(one.who, 17);
    let parts = scattered(&machine, first, &packet(to, from), 3000, CUT);
    assert_eq!(one.send_parts(&mut machine, &parts), PacketOutcome::Unsupported, "nobody cuts it");
    // A checksum is the receiver's to ignore, or the device's to complete, or the kernel's.
    let partial = Offload::checksum(20, 16);
    let sum = |bytes: &[u8]| ones_sum(&bytes[20..]);
    let (room, _) = machine.frames(two.who, 1);
    offer(&two.rings.receive, room, 0);
    let parts = scattered(&machine, first, &packet(to, from), 1000, partial);
    assert_eq!(one.send_parts(&mut machine, &parts), PacketOutcome::Ok);
    assert_eq!(completions(&two.rings.receive)[0].offload, partial);
    for (offloads, left) in [(Offloads::CHECKSUM, partial), (Offloads::NONE, Offload::NONE)] {
        machine.net.state().offloads = offloads;
        let claimed = Offload { flags: partial.flags | Offload::CHECKSUM_VALID, ..partial };
        let parts = scattered(&machine, first, &packet(outside, from), 1000, claimed);
        assert_eq!(one.send_parts(&mut machine, &parts), PacketOutcome::Ok);
        let state = machine.net.state();
        assert_eq!(state.left.last().map(|left| left.flags), Some(left.flags), "{offloads:?}");
        let complete = sum(state.outbox.last().unwrap()) == 0xffff;
        assert_eq!(complete, offloads == Offloads::NONE, "{offloads:?}");
    }
}

#[test]
fn packets_in_parts_are_judged_as_a_whole() {
    let mut machine = Machine::with(2);
    machine.net.state().offloads = Offloads::SEGMENTS4;
    let ([one, _], [from, to]) = two_stations(&mut machine);
    let [first, second, third, fourth, fifth] = [(); 5].map(|()| machine.frames(one.who, 18).0);
    let (theirs, _) = machine.frames(machine.vcpu(2), 1);
    let good = scattered(&machine, first, &packet(to, from), 10_000, CUT);
    let with = |change: &dyn Fn(&mut Vec<PacketSubmission>)| {
        let mut parts = good.clone();
        change(&mut parts);
        parts
    };
    let cut = |offload: Offload| with(&|parts| parts[0].offload = offload);
    let long = scattered(&machine, second, &packet(to, from), 65_550, CUT);
    let group = scattered(&machine, third, &packet(MacAddress::BROADCAST, from), 3000, CUT);
    let spoofed = scattered(&machine, fourth, &packet(to, to), 10_000, CUT);
    // The header lies in three frames: one byte, eight, the rest.
    let mut split = scattered(&machine, fifth, &packet(to, to), 200, Offload::NONE);
    let tail = PacketSubmission { offset: 4096 - 91, bytes: 91, ..split[0] };
    let middle = PacketSubmission { offset: 4096 - 99, bytes: 8, ..split[0] };
    split[0].bytes = 1;
    split.splice(1..1, [middle, tail]);
    for (parts, expected) in [
        (good.clone(), PacketOutcome::Ok),
        (split, PacketOutcome::NotAllowed),
        (spoofed, PacketOutcome::NotAllowed),
        (long, PacketOutcome::BadLength),
        (group, PacketOutcome::BadLength),
        (with(&|parts| parts.last_mut().unwrap().more = true), PacketOutcome::BadLength),
        (with(&|parts| parts[1].offset = 1), PacketOutcome::BadLength),
        (with(&|parts| parts[1].bytes = u32::MAX), PacketOutcome::BadLength),
        (with(&|parts| parts[2].frame = theirs), PacketOutcome::FrameNotBound),
        (with(&|parts| parts[2].frame = u64::MAX), PacketOutcome::FrameNotBound),
        (cut(Offload::checksum(34, 16)), PacketOutcome::BadLength),
        (cut(Offload { segment_bytes: 0, ..CUT }), PacketOutcome::Unsupported),
        (cut(Offload { segment_bytes: 1, ..CUT }), PacketOutcome::Unsupported),
        (cut(Offload { header_bytes: 10_001, ..CUT }), PacketOutcome::Unsupported),
        (cut(Offload { header_bytes: 0, ..CUT }), PacketOutcome::Unsupported),
        (cut(Offload { checksum_start: 9_999, ..CUT }), PacketOutcome::Unsupported),
        (
            cut(Offload { checksum_start: u16::MAX, checksum_offset: u16::MAX, ..CUT }),
            PacketOutcome::Unsupported,
        ),
        (cut(Offload { flags: 0, ..CUT }), PacketOutcome::Unsupported),
        (cut(Offload { flags: 0xff, ..CUT }), PacketOutcome::Unsupported),
        (cut(Offload { kind: 0x7f, ..CUT }), PacketOutcome::Unsupported),
        (cut(Offload { kind: Offload::TCP6, ..CUT }), PacketOutcome::Unsupported),
    ] {
        assert_eq!(one.send_parts(&mut machine, &parts), expected, "{parts:?}");
    }
    // A chain longer than any packet ends where the longest would.
    let endless = PacketSubmission { frame: first, tag: 5, bytes: 1, more: true, ..Default::default() };
    (0..20).for_each(|_| offer_part(&one.rings.transmit, &endless));
    machine.call(one.who, Call::NetKick, &[]).unwrap();
    let done = completions(&one.rings.transmit);
    assert_eq!(done.iter().map(|done| done.outcome).collect::<Vec<_>>(), [Some(PacketOutcome::BadLength); 2]);
}

#[test]
fn large_packets_that_come_are_put_into_frames_or_dropped() {
    let mut machine = Machine::with(2);
    let ([_, two], [_, to]) = two_stations(&mut machine);
    let (room, _) = machine.frames(two.who, 16);
    let mut large = packet(to, MacAddress([2, 9, 9, 9, 9, 9])).to_vec();
    large.resize(9000, 7);
    for (said, expected) in [(CUT, CUT), (Offload { header_bytes: 9001, ..CUT }, Offload::NONE)] {
        (0..3).for_each(|at| offer(&two.rings.receive, room + at, 0));
        machine.net.state().inbox.push_back((large.clone(), said));
        machine.kernel.signals.note_net();
        machine.attend(0);
        let come = completions(&two.rings.receive);
        assert_eq!(come.iter().map(|part| part.bytes).collect::<Vec<_>>(), [4096, 4096, 808]);
        assert_eq!(come[0].offload, expected);
    }
    (0..2).for_each(|at| offer(&two.rings.receive, room + at, 0));
    machine.net.state().inbox.push_back((large, CUT));
    machine.kernel.signals.note_net();
    machine.attend(0);
    assert!(completions(&two.rings.receive).is_empty());
}

#[test]
fn packets_go_to_whom_they_are_for_from_whom_they_say() {
    let mut machine = Machine::with(2);
    let [one, two] = [1, 2].map(|number| station(&mut machine, number));
    let [from, to] = [&one, &two].map(|station| machine.kernel.net.address_of(station.who.environment));
    assert_eq!(one.send(&mut machine, &packet(to, from)), PacketOutcome::NotAllowed, "it has bound nothing");
    one.bind(&mut machine);
    two.bind(&mut machine);
    assert_eq!(one.send(&mut machine, &packet(to, to)), PacketOutcome::NotAllowed, "somebody else's name");
    assert_eq!(one.send(&mut machine, &packet(to, from)), PacketOutcome::Ok, "and dropped: there is no room");
    let (room, _) = machine.frames(two.who, 1);
    offer(&two.rings.receive, room, 0);
    assert_eq!(one.send(&mut machine, &packet(to, from)), PacketOutcome::Ok);
    assert_eq!(packets(&two.rings.receive), [(Some(PacketOutcome::Ok), 64)]);
    let mut copy = [0; 64];
    machine.kernel.pages.memory.read(room, 0, &mut copy);
    assert_eq!(copy, packet(to, from));
    assert!(machine.net.state().outbox.is_empty(), "nothing of it is for others");
    assert_eq!(one.send(&mut machine, &packet(MacAddress::BROADCAST, from)), PacketOutcome::Ok);
    assert_eq!(machine.net.state().outbox, [packet(MacAddress::BROADCAST, from)]);
    // From outside, with a name of this machine, and with another.
    for (source, arrives) in [(from, 0), (MacAddress([2, 9, 9, 9, 9, 9]), 1)] {
        offer(&two.rings.receive, room, 0);
        machine.net.state().inbox.push_back((packet(to, source).to_vec(), Offload::NONE));
        machine.kernel.signals.note_net();
        machine.attend(0);
        assert_eq!(packets(&two.rings.receive).len(), arrives, "from {source:?}");
    }
}

#[test]
fn each_fault_of_a_packet_has_its_outcome() {
    let mut machine = Machine::with(2);
    let one = station(&mut machine, 1);
    one.bind(&mut machine);
    let (theirs, _) = machine.frames(machine.vcpu(2), 1);
    for (frame, bytes, expected) in [
        (one.frame, 13, PacketOutcome::BadLength),
        (one.frame, 4096, PacketOutcome::BadLength),
        (one.frame, u32::MAX, PacketOutcome::BadLength),
        (theirs, 64, PacketOutcome::FrameNotBound),
        (u64::MAX, 64, PacketOutcome::FrameNotBound),
        (one.frame, 64, PacketOutcome::NotAllowed),
    ] {
        offer(&one.rings.transmit, frame, bytes);
        machine.call(one.who, Call::NetKick, &[]).unwrap();
        assert_eq!(packets(&one.rings.transmit)[0].0, Some(expected), "{bytes} bytes in {frame:x}");
    }
    // Room in a frame that is not its own: the packet does not go there.
    let two = station(&mut machine, 2);
    two.bind(&mut machine);
    let [from, to] = [one.who, two.who].map(|who| machine.kernel.net.address_of(who.environment));
    offer(&two.rings.receive, one.frame, 0);
    one.send(&mut machine, &packet(to, from));
    assert_eq!(packets(&two.rings.receive), [(Some(PacketOutcome::FrameNotBound), 0)]);
}

/// A neighbour's advertisement of this address, tagged with a VLAN if there is one.
fn advertisement(from: MacAddress, vlan: Option<u16>, target: Ipv6Addr, claims: MacAddress) -> Vec<u8> {
    let mut packet = [MacAddress::BROADCAST.0, from.0].concat();
    if let Some(vlan) = vlan {
        packet.extend([0x81, 0, (vlan >> 8) as u8, vlan as u8]);
    }
    packet.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255]);
    packet.extend(OWN.octets());
    packet.extend([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend([136, 0, 0, 0, 0x20, 0, 0, 0]);
    packet.extend(target.octets());
    packet.extend([2, 1]);
    packet.extend(claims.0);
    packet
}

const OWN: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);

#[test]
fn nobody_claims_an_address_of_ipv6_or_a_network_that_it_has_not_bound() {
    let mut machine = Machine::with(1);
    let one = station(&mut machine, 1);
    let from = machine.kernel.net.address_of(one.who.environment);
    let fields = Fields {
        vlan: Some(5),
        ether_type: Some(ETHER_IPV6),
        protocol: Some(PROTOCOL_ICMPV6),
        local: Some(OWN.into()),
        ..Fields::default()
    };
    let words = Filter { destination: Destination::Own, fields }.to_words();
    let filter = machine.call(one.who, Call::FilterAlloc, &words).map(Capability).unwrap();
    machine.call_with(one.who, Call::FilterBind, filter, &[3]).unwrap();
    let other = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
    let (refused, ok) = (PacketOutcome::NotAllowed, PacketOutcome::Ok);
    for (packet, expected) in [
        (advertisement(from, Some(5), OWN, from), ok),
        (advertisement(from, Some(5), other, from), refused),
        (advertisement(from, Some(5), OWN, MacAddress([2, 9, 9, 9, 9, 9])), refused),
        (advertisement(from, Some(6), OWN, from), refused),
        (advertisement(from, None, OWN, from), refused),
    ] {
        assert_eq!(one.send(&mut machine, &packet), expected, "{packet:x?}");
    }
}

#[test]
fn a_full_device_is_waited_for_and_then_not() {
    let mut machine = Machine::with(1);
    let one = station(&mut machine, 1);
    one.bind(&mut machine);
    let from = machine.kernel.net.address_of(one.who.environment);
    machine.kernel.pages.memory.write(one.frame, 0, &packet(MacAddress::BROADCAST, from));
    machine.net.state().full = true;
    offer(&one.rings.transmit, one.frame, 64);
    machine.call(one.who, Call::NetKick, &[]).unwrap();
    assert!(packets(&one.rings.transmit).is_empty(), "it stays in the ring");
    let memory = machine.kernel.pages.memory;
    memory.write(one.frame, 0, &packet(from, from));
    machine.call(one.who, Call::NetKick, &[]).unwrap();
    assert!(packets(&one.rings.transmit).is_empty(), "and is not judged again before there is room");
    memory.write(one.frame, 0, &packet(MacAddress::BROADCAST, from));
    machine.net.state().full = false;
    machine.kernel.signals.note_net();
    machine.attend(0);
    assert_eq!(packets(&one.rings.transmit), [(Some(PacketOutcome::Ok), 64)]);
    machine.net.state().full = true;
    offer(&one.rings.transmit, one.frame, 64);
    machine.call(one.who, Call::NetKick, &[]).unwrap();
    machine.attend(u64::MAX);
    assert_eq!(packets(&one.rings.transmit), [(Some(PacketOutcome::Timeout), 0)]);
}

#[test]
fn bad_arguments_are_refused() {
    let mut machine = Machine::with(2);
    let [one, two] = [1, 2].map(|number| machine.vcpu(number));
    let words = Filter::all(Destination::Own).to_words();
    let own = machine.call(one, Call::FilterAlloc, &words).map(Capability).unwrap();
    assert_eq!(machine.call(one, Call::FilterAlloc, &words), Err(Status::InUse));
    for words in [[u64::MAX; 6], [1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 3 << 8], [0, 0, 0, 0, 0, 1 << 16]] {
        assert_eq!(machine.call(one, Call::FilterAlloc, &words), Err(Status::BadArgument), "{words:x?}");
    }
    let page = machine.allocate(one, hyperexo_abi::ANY, 1).unwrap();
    let weak =
        machine.call_with(one, Call::Derive, own, &[own.claim().unwrap().first, 1 | 1 << 56]).map(Capability);
    let weak = weak.unwrap();
    for (call, capability, rights, expected) in [
        (Call::FilterBind, own, 0, Status::BadArgument),
        (Call::FilterBind, own, 16, Status::BadArgument),
        (Call::FilterBind, weak, 2, Status::NoRight),
        (Call::FilterBind, page, 1, Status::NoRight),
        (Call::FilterFree, weak, 0, Status::NoRight),
        (Call::FilterFree, page, 0, Status::NoRight),
        (Call::Revoke, weak, 0, Status::NoRight),
        (Call::FilterFree, Capability([3, 0, 1, 0]), 0, Status::ForgedCapability),
    ] {
        assert_eq!(machine.call_with(one, call, capability, &[rights]), Err(expected), "{call:?}");
    }
    for number in [own.claim().unwrap().first, 5000, u64::MAX] {
        assert_eq!(machine.call(two, Call::FilterUnbind, &[number]), Err(Status::NotBound));
    }
    machine.call_with(two, Call::FilterBind, weak, &[1]).unwrap();
    assert_eq!(machine.call_with(one, Call::FilterBind, own, &[1]), Err(Status::InUse));
    let fresh = machine.call_with(one, Call::Revoke, own, &[]).map(Capability).unwrap();
    assert_eq!(machine.call_with(two, Call::FilterBind, weak, &[1]), Err(Status::StaleCapability));
    machine.call_with(one, Call::FilterBind, fresh, &[1]).unwrap();
    assert_eq!(machine.call(one, Call::NetKick, &[]), Err(Status::NotBound));
    for frame in [0, u64::MAX, u64::MAX - 1, page.claim().unwrap().first] {
        let refused = machine.call(one, Call::NetRingBind, &[frame]).unwrap_err();
        assert!(matches!(refused, Status::NotBound | Status::BadArgument), "{frame:x}");
    }
    machine.net_rings(one);
    assert_eq!(machine.call(one, Call::NetRingBind, &[0]), Err(Status::InUse));
    machine.end(one);
    assert_eq!(machine.kernel.net.filter_count(), 0);
}

#[test]
fn whoever_is_not_on_the_network_is_told_so() {
    let mut machine = Machine::new(Parts { network: false, ..Parts::default() });
    let one = machine.add(Share::default());
    let words = Filter::all(Destination::Own).to_words();
    assert_eq!(machine.call(one, Call::FilterAlloc, &words), Err(Status::NoDevice));
    assert_eq!(machine.call(one, Call::NetRingBind, &[0]), Err(Status::NoDevice));
    assert_eq!(machine.call(one, Call::NetKick, &[]), Err(Status::NotBound));
    assert_eq!(machine.call(one, Call::FilterUnbind, &[0]), Err(Status::NotBound));
}

#[test]
fn who_fills_the_ring_of_a_neighbour_leaves_room_to_others() {
    let mut machine = Machine::with(3);
    let ([one, two], [flooder, to]) = two_stations(&mut machine);
    let three = station(&mut machine, 3);
    three.bind(&mut machine);
    let honest = machine.kernel.net.address_of(three.who.environment);
    let (room, _) = machine.frames(two.who, 8);
    (0..8).for_each(|at| offer(&two.rings.receive, room + at, 0));
    for _ in 0..100 {
        assert_eq!(
            one.send(&mut machine, &packet(to, flooder)),
            PacketOutcome::Ok,
            "or dropped: no difference"
        );
    }
    for _ in 0..2 {
        assert_eq!(three.send(&mut machine, &packet(to, honest)), PacketOutcome::Ok);
    }
    let come = completions(&two.rings.receive);
    let frames: Vec<u64> = come.iter().map(|one| one.tag.into()).collect();
    assert_eq!(frames.len(), 8, "six, and two: {frames:?}");
    let memory = machine.kernel.pages.memory;
    let mut source = [0; 6];
    memory.read(room + 6, 6, &mut source);
    assert_eq!(source, honest.0);
    // What was looked at counts no more.
    (0..8).for_each(|at| offer(&two.rings.receive, room + at, 0));
    assert_eq!(one.send(&mut machine, &packet(to, flooder)), PacketOutcome::Ok);
    assert_eq!(completions(&two.rings.receive).len(), 1);
}
