//! Lies on the network: other people's packets, addresses, filters and frames.
//!
//! Two environments talk to each other meanwhile, of which one has a filter for the shared address.

mod claims;
mod storm;

use crate::judge::{Attempt, Judge};
use crate::machine;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use core::time::Duration;
use hyperexo_abi::capability::{Capability, Rights};
use hyperexo_abi::hypercall::{Call, Status};
use hyperexo_abi::net::{
    Destination, ETHER_IPV4, Fields, Filter, MAX_PACKET_BYTES, MacAddress, NET_RING_FRAMES, NetRings,
    PROTOCOL_UDP, PacketCompletion, PacketOutcome, PacketRing, PacketSubmission, RING_PACKETS,
};
use hyperexo_abi::offload::{MAX_PACKET_FRAMES, Offload};
use hyperexo_abi::ring::Slot as _;
use hyperexo_abi::{ANY, FRAME_BYTES, LINEAR_BASE};
use libos_core::exo::{hypercall, start_info};
use libos_core::time::sleep;

/// A frame of the kernel's image.
const KERNEL_FRAME: u64 = 0x100;
/// EtherType of the packets that are honest.
const HONEST: u16 = 0x88b6;
/// EtherType of the neighbours' packets.
const VICTIMS: u16 = 0x88b5;
/// Somebody who is not on this machine.
const STRANGER: MacAddress = MacAddress([2, 0, 0, 0, 0, 0x77]);
/// How long a neighbour may take to get its filter.
const PATIENCE: Duration = Duration::from_millis(5);
const PATIENCE_TURNS: u32 = 1000;
/// Packets of a flood, many times what all rings hold.
const FLOOD_ROUNDS: u32 = 300;

pub const ATTEMPTS: &[Attempt] = &[
    Attempt::survives("net-filters", "filters of others, forged, narrow and absurd ones", filters)
        .with_network(),
    Attempt::survives("net-filter-hoard", "allocating all filters that there are", hoard).with_network(),
    Attempt::survives("net-spoof", "packets in the name of others", spoof).with_network(),
    Attempt::survives("net-frames", "rings and packets in frames that are not ours", frames).with_network(),
    Attempt::survives("net-parts", "packets whose parts, or whose work for others, make no sense", parts)
        .with_network(),
    Attempt::survives("net-indices", "lies in the indices of the rings of packets", indices).with_network(),
    Attempt::survives("net-pinned", "taking frames away that packets may come to", pinned).with_network(),
    Attempt::survives("net-flood", "sends without end, and takes nothing", flood).with_network(),
    Attempt::killed("net-die", "dies with packets on their way", die).with_network(),
];

/// Parts of tests with several environments.
pub const PARTS: &[Attempt] =
    &[Attempt::survives("net-storm", "sends as fast as it can, for a while", storm::storm).with_network()];

/// Rings that the kernel knows, and frames for packets.
struct Line {
    rings: &'static NetRings,
    first_frame: u64,
    /// Bound read-write: a packet to be sent.
    sent: u64,
    /// Bound read-write: room for one.
    room: u64,
}

impl Line {
    fn open(judge: &mut Judge) -> Option<Line> {
        let first = own_frames(judge, NET_RING_FRAMES + 2, Rights::READ_WRITE)?.claim()?.first;
        judge.allowed("binding the rings", machine::net_ring_bind(first))?;
        let rings = machine::net_rings_at(first);
        let sent = first + NET_RING_FRAMES;
        Some(Line { rings, first_frame: first, sent, room: sent + 1 })
    }

    /// Sends a packet; how that ended.
    fn send(&self, packet: &[u8]) -> Option<PacketOutcome> {
        machine::write_frame(self.sent, packet);
        self.submit(&sent(self.sent, 7, packet.len() as u32))
    }

    /// Has the kernel take a submission; how it ended.
    fn submit(&self, submission: &PacketSubmission) -> Option<PacketOutcome> {
        put(&self.rings.transmit, submission);
        machine::net_kick().ok()?;
        take(&self.rings.transmit).and_then(|completion| completion.outcome)
    }

    /// Offers a frame for a packet that comes.
    fn offer(&self, frame: u64) {
        put(&self.rings.receive, &sent(frame, 9, 0));
    }
}

/// A packet in one frame, or room for one.
fn sent(frame: u64, tag: u32, bytes: u32) -> PacketSubmission {
    PacketSubmission { frame, tag, bytes, ..Default::default() }
}

fn put(ring: &PacketRing, submission: &PacketSubmission) {
    let tail = ring.sq_tail.0.load(Ordering::Relaxed);
    ring.submissions[tail as usize % RING_PACKETS].store(submission);
    ring.sq_tail.0.store(tail.wrapping_add(1), Ordering::Release);
}

fn take(ring: &PacketRing) -> Option<PacketCompletion> {
    let head = ring.cq_head.0.load(Ordering::Relaxed);
    if ring.cq_tail.0.load(Ordering::Acquire) == head {
        return None;
    }
    ring.cq_head.0.store(head.wrapping_add(1), Ordering::Release);
    Some(ring.completions[head as usize % RING_PACKETS].load())
}

fn own_frames(judge: &mut Judge, count: u64, rights: Rights) -> Option<Capability> {
    let capability = judge.allowed("allocating frames", hypercall::page_alloc(ANY, count, 1))?;
    judge.allowed("binding frames", machine::page_bind(&capability, rights))?;
    Some(capability)
}

fn own_address() -> MacAddress {
    MacAddress::from_bits(start_info().net_address)
}

fn machine_address() -> MacAddress {
    MacAddress::from_bits(start_info().net_shared_address)
}

/// Addresses of the other environments.
fn neighbours() -> impl Iterator<Item = MacAddress> {
    let own = start_info().environment as u8;
    (1..=3)
        .filter(move |number| *number != own)
        .map(|number| MacAddress::of_environment(machine_address(), number))
}

/// An Ethernet packet without contents.
fn packet(destination: MacAddress, source: MacAddress, ether_type: u16) -> Vec<u8> {
    let mut packet = [destination.0, source.0].concat();
    packet.extend(ether_type.to_be_bytes());
    packet.resize(60, 0);
    packet
}

/// A filter of ours, bound with all its rights.
fn bound(judge: &mut Judge, filter: &Filter) -> Option<Capability> {
    let capability = judge.allowed("allocating a filter", hypercall::filter_alloc(filter))?;
    judge.allowed("binding it", hypercall::filter_bind(&capability, Rights::READ_WRITE))?;
    Some(capability)
}

fn filters(judge: &mut Judge) {
    let shared = Filter::all(Destination::Shared);
    // As soon as the neighbour has its filter, nobody else gets one that overlaps it.
    let refused = (0..PATIENCE_TURNS).any(|_| match hypercall::filter_alloc(&shared) {
        Err(status) => status == Status::InUse,
        Ok(capability) => {
            let _ = hypercall::filter_free(&capability);
            sleep(PATIENCE);
            false
        }
    });
    judge.expect("a filter for all of the shared address, refused", refused, true);
    let Some(own) = bound(judge, &Filter::all(Destination::Own)) else { return };
    let again = hypercall::filter_alloc(&Filter::all(Destination::Own));
    judge.refused("the same filter again", again, Status::InUse);
    let ported = Fields { local_port: Some(1), ..Fields::default() };
    let absurd = Filter { destination: Destination::Own, fields: ported };
    judge.refused("a port without a protocol", hypercall::filter_alloc(&absurd), Status::BadArgument);
    for words in [[1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 3 << 8], [u64::MAX; 6]] {
        let call = machine::call(Call::FilterAlloc as u64, words);
        judge.refused(format_args!("words {words:x?}"), call, Status::BadArgument);
    }
    for word in 0..4 {
        let mut forged = own;
        forged.0[word] ^= 1 << 40;
        let bind = hypercall::filter_bind(&forged, Rights::READ);
        judge.refused(format_args!("bit 40 of word {word}"), bind, Status::ForgedCapability);
    }
    let number = own.claim().map_or(0, |claim| claim.first);
    if let Some(narrow) = judge.allowed("deriving", hypercall::derive(&own, number, 1, Rights::READ)) {
        judge.refused(
            "sending without the right",
            hypercall::filter_bind(&narrow, Rights::WRITE),
            Status::NoRight,
        );
        judge.refused("freeing without the right", hypercall::filter_free(&narrow), Status::NoRight);
        judge.refused("revoking without the right", hypercall::revoke(&narrow), Status::NoRight);
    }
    judge.refused(
        "another's number",
        hypercall::derive(&own, number + 1, 1, Rights::READ),
        Status::BadArgument,
    );
    let page = start_info().image_capability;
    judge.refused("a page as a filter", hypercall::filter_bind(&page, Rights::READ), Status::NoRight);
    judge.refused("a filter as a page", machine::page_bind(&own, Rights::READ), Status::NoRight);
    judge.refused("ending no binding", hypercall::filter_unbind(u64::MAX), Status::NotBound);
    if let Some(fresh) = judge.allowed("revoking", hypercall::revoke(&own)) {
        judge.refused("a stale one", hypercall::filter_bind(&own, Rights::READ), Status::StaleCapability);
        judge.allowed("freeing", hypercall::filter_free(&fresh));
        judge.refused("freeing twice", hypercall::filter_free(&fresh), Status::StaleCapability);
    }
    judge.refused("a kick without rings", machine::net_kick(), Status::NotBound);
}

fn hoard(judge: &mut Judge) {
    let filter = |port| Filter {
        destination: Destination::Own,
        fields: Fields {
            ether_type: Some(ETHER_IPV4),
            protocol: Some(PROTOCOL_UDP),
            local_port: Some(port),
            ..Fields::default()
        },
    };
    let mut taken = Vec::new();
    let end = (0..u16::MAX).find_map(|port| match hypercall::filter_alloc(&filter(port)) {
        Ok(capability) => {
            taken.push(capability);
            None
        }
        Err(status) => Some(status),
    });
    judge.expect("the end of the hoard", end, Some(Status::QuotaExceeded));
    for capability in &taken {
        judge.allowed("giving back", hypercall::filter_free(capability));
    }
    judge.allowed("one again", hypercall::filter_alloc(&filter(1)));
}

fn spoof(judge: &mut Judge) {
    let Some(line) = Line::open(judge) else { return };
    let (own, everybody) = (own_address(), MacAddress::BROADCAST);
    let refused = Some(PacketOutcome::NotAllowed);
    judge.expect("without a filter", line.send(&packet(everybody, own, HONEST)), refused);
    let honest = Filter {
        destination: Destination::Own,
        fields: Fields { ether_type: Some(HONEST), ..Fields::default() },
    };
    let Some(_) = bound(judge, &honest) else { return };
    judge.expect("an honest packet", line.send(&packet(everybody, own, HONEST)), Some(PacketOutcome::Ok));
    let foreign = [machine_address(), everybody, MacAddress([0; 6]), MacAddress([0x52, 0x55, 10, 0, 2, 2])];
    for source in neighbours().chain(foreign) {
        let spoofed = packet(everybody, source, HONEST);
        judge.expect(format_args!("as {source}"), line.send(&spoofed), refused);
    }
    let wrong_type = packet(everybody, own, ETHER_IPV4);
    judge.expect("an EtherType that is not ours", line.send(&wrong_type), refused);
    if let Some(address) = bound(judge, &claims::arp_filter()) {
        claims::arp_spoof(judge, &line);
        judge.allowed("freeing", hypercall::filter_free(&address));
    }
    if let Some(address) = bound(judge, &claims::discovery_filter()) {
        claims::discovery_spoof(judge, &line);
        judge.allowed("freeing", hypercall::filter_free(&address));
    }
    judge.expect("honest again", line.send(&packet(everybody, own, HONEST)), Some(PacketOutcome::Ok));
}

fn frames(judge: &mut Judge) {
    let start = start_info();
    judge.refused("the kernel's frames", machine::net_ring_bind(KERNEL_FRAME), Status::NotBound);
    judge.refused("read-only frames", machine::net_ring_bind(start.owners_frame), Status::NotBound);
    judge.refused("beyond memory", machine::net_ring_bind(start.memory_end_frame), Status::NotBound);
    judge.refused("beyond numbers", machine::net_ring_bind(u64::MAX), Status::BadArgument);
    let Some(line) = Line::open(judge) else { return };
    judge.refused("second rings", machine::net_ring_bind(line.first_frame), Status::InUse);
    let Some(_) = bound(judge, &Filter::all(Destination::Own)) else { return };
    let Some(read_only) = own_frames(judge, 1, Rights::READ).and_then(|capability| capability.claim()) else {
        return;
    };
    let to_self = packet(own_address(), own_address(), HONEST);
    machine::write_frame(line.sent, &to_self);
    let good = sent(line.sent, 7, to_self.len() as u32);
    for bytes in [0, 13, MAX_PACKET_BYTES as u32 + 1, FRAME_BYTES as u32 + 1, u32::MAX] {
        let outcome = line.submit(&PacketSubmission { bytes, ..good });
        judge.expect(format_args!("{bytes} bytes"), outcome, Some(PacketOutcome::BadLength));
    }
    let foreign = [KERNEL_FRAME, start.memory_end_frame, u64::MAX >> 12, u64::MAX];
    for frame in foreign {
        let outcome = line.submit(&PacketSubmission { frame, ..good });
        judge.expect(format_args!("from frame {frame:#x}"), outcome, Some(PacketOutcome::FrameNotBound));
    }
    for frame in foreign.into_iter().chain([start.accounting_frame, read_only.first]) {
        line.offer(frame);
        judge.expect("sending to ourselves", line.submit(&good), Some(PacketOutcome::Ok));
        let outcome = take(&line.rings.receive).and_then(|completion| completion.outcome);
        judge.expect(format_args!("into frame {frame:#x}"), outcome, Some(PacketOutcome::FrameNotBound));
    }
    line.offer(line.room);
    judge.expect("sending to ourselves", line.submit(&good), Some(PacketOutcome::Ok));
    let expected =
        PacketCompletion { tag: 9, bytes: 60, outcome: Some(PacketOutcome::Ok), ..Default::default() };
    judge.expect("into a frame of ours", take(&line.rings.receive), Some(expected));
    judge.expect("what came", machine::read_frame(line.room, 60) == to_self, true);
}

/// Lies in what a packet is made of, and in what it leaves to others to do.
fn parts(judge: &mut Judge) {
    let Some(line) = Line::open(judge) else { return };
    let Some(_) = bound(judge, &Filter::all(Destination::Own)) else { return };
    let to_self = packet(own_address(), own_address(), HONEST);
    machine::write_frame(line.sent, &to_self);
    let whole = sent(line.sent, 7, 60);
    let first = PacketSubmission { bytes: 20, more: true, ..whole };
    let last = PacketSubmission { offset: 20, bytes: 40, ..whole };
    let mut send = |what: &str, parts: &[PacketSubmission], expected| {
        parts.iter().for_each(|part| put(&line.rings.transmit, part));
        judge.allowed("kicking", machine::net_kick());
        let done = take(&line.rings.transmit).and_then(|completion| completion.outcome);
        judge.expect(what, done, Some(expected));
        while take(&line.rings.transmit).is_some() {}
    };
    let (bad, ok) = (PacketOutcome::BadLength, PacketOutcome::Ok);
    send("a packet in two parts", &[first, last], ok);
    send("a packet without end", &[first, PacketSubmission { more: true, ..last }], bad);
    send("a part beyond its frame", &[first, PacketSubmission { offset: 4090, ..last }], bad);
    send("a part at an absurd place", &[first, PacketSubmission { offset: u16::MAX, ..last }], bad);
    send("a part of absurd length", &[first, PacketSubmission { bytes: u32::MAX, ..last }], bad);
    send("more parts than can be", &[first; MAX_PACKET_FRAMES + 9], bad);
    for frame in [KERNEL_FRAME, start_info().memory_end_frame, u64::MAX] {
        send("a foreign part", &[first, PacketSubmission { frame, ..last }], PacketOutcome::FrameNotBound);
    }
    let sum = Offload::checksum(34, 16);
    let cut = Offload { kind: Offload::TCP4, header_bytes: 54, segment_bytes: 1000, ..sum };
    send("a checksum to complete", &[PacketSubmission { offload: sum, ..whole }], ok);
    for absurd in [
        Offload::checksum(58, 2),
        Offload::checksum(u16::MAX, u16::MAX),
        Offload { flags: 0x80, ..sum },
        Offload { kind: 3, ..cut },
        Offload { kind: u8::MAX, ..cut },
        Offload { segment_bytes: 0, ..cut },
        Offload { header_bytes: 61, ..cut },
        Offload { header_bytes: 0, ..cut },
        Offload { flags: 0, ..cut },
    ] {
        send("absurd work", &[PacketSubmission { offload: absurd, ..whole }], PacketOutcome::Unsupported);
    }
    // 72 KiB: longer than any packet.
    let page = PacketSubmission { bytes: FRAME_BYTES as u32, more: true, offload: cut, ..whole };
    let mut long = [page; MAX_PACKET_FRAMES];
    long[MAX_PACKET_FRAMES - 1].more = false;
    send("longer than any packet", &long, bad);
    // In the name of others, the name lying in three parts.
    for source in neighbours() {
        machine::write_frame(line.sent, &packet(own_address(), source, HONEST));
        let parts = [(0, 7), (7, 3), (10, 50)].map(|(offset, bytes)| PacketSubmission {
            offset,
            bytes,
            more: offset != 10,
            ..whole
        });
        send("in the name of another", &parts, PacketOutcome::NotAllowed);
    }
}

fn indices(judge: &mut Judge) {
    let Some(line) = Line::open(judge) else { return };
    let Some(_) = bound(judge, &Filter::all(Destination::Own)) else { return };
    let to_self = packet(own_address(), own_address(), HONEST);
    let ring = &line.rings.transmit;
    let tail = ring.sq_tail.0.load(Ordering::Relaxed);
    for lead in [RING_PACKETS as u32 + 1, 1 << 31, u32::MAX] {
        ring.sq_tail.0.store(tail.wrapping_add(lead), Ordering::Relaxed);
        judge.refused(format_args!("a tail {lead} ahead"), machine::net_kick(), Status::BadArgument);
    }
    ring.sq_tail.0.store(tail, Ordering::Relaxed);
    let receive = &line.rings.receive;
    let tail = receive.sq_tail.0.load(Ordering::Relaxed);
    receive.sq_tail.0.store(tail.wrapping_sub(1), Ordering::Relaxed);
    judge.expect("to a ring whose tail can't be", line.send(&to_self), Some(PacketOutcome::Ok));
    judge.expect("nothing comes", take(receive), None);
    receive.sq_tail.0.store(tail, Ordering::Relaxed);
    ring.sq_head.0.store(77, Ordering::Relaxed);
    ring.need_kick.0.store(0, Ordering::Relaxed);
    // Completions that nobody takes: there is no room for more.
    let head = receive.cq_head.0.load(Ordering::Relaxed);
    receive.cq_head.0.store(head.wrapping_sub(RING_PACKETS as u32), Ordering::Relaxed);
    line.offer(line.room);
    judge.expect("to a ring without room", line.send(&to_self), Some(PacketOutcome::Ok));
    receive.cq_head.0.store(head, Ordering::Relaxed);
    judge.expect("nothing comes", take(receive), None);
    judge.expect("with a spoilt head", line.send(&to_self), Some(PacketOutcome::Ok));
    judge.expect("it comes", take(receive).map(|completion| completion.tag), Some(9));
}

fn pinned(judge: &mut Judge) {
    let Some(line) = Line::open(judge) else { return };
    let Some(_) = bound(judge, &Filter::all(Destination::Own)) else { return };
    for frame in line.first_frame..line.first_frame + NET_RING_FRAMES {
        judge.refused(format_args!("unbinding frame {frame}"), machine::page_unbind(frame, 1), Status::Busy);
    }
    let to_self = packet(own_address(), own_address(), HONEST);
    let Some(capability) = own_frames(judge, 1, Rights::READ_WRITE) else { return };
    let Some(frame) = capability.claim().map(|claim| claim.first) else { return };
    line.offer(frame);
    judge.allowed("freeing room that was offered", machine::page_free(&capability));
    judge.expect("sending to ourselves", line.send(&to_self), Some(PacketOutcome::Ok));
    let outcome = take(&line.rings.receive).and_then(|completion| completion.outcome);
    judge.expect("into a frame given back", outcome, Some(PacketOutcome::FrameNotBound));
}

fn flood(judge: &mut Judge) {
    let Some(line) = Line::open(judge) else { return };
    for destination in [Destination::Own, Destination::Group] {
        let rights = if destination == Destination::Own { Rights::READ_WRITE } else { Rights::READ };
        let filter = judge.allowed("allocating", hypercall::filter_alloc(&Filter::all(destination)));
        let Some(filter) = filter else { return };
        judge.allowed("binding", hypercall::filter_bind(&filter, rights));
    }
    let own = own_address();
    // To everybody last: what waits for the device then waits until it takes it, or is given up.
    let targets: Vec<MacAddress> = [MacAddress::BROADCAST, own].into_iter().chain(neighbours()).collect();
    let mut under_way = 0;
    for round in (0..FLOOD_ROUNDS).rev() {
        let target = targets[round as usize % targets.len()];
        machine::write_frame(line.sent, &packet(target, own, VICTIMS));
        let bytes = MAX_PACKET_BYTES as u32;
        for _ in under_way..RING_PACKETS {
            put(&line.rings.transmit, &sent(line.sent, round, bytes));
        }
        judge.allowed("kicking", machine::net_kick());
        under_way = RING_PACKETS - completed(judge, &line);
    }
    // Even a device that takes nothing is not waited for without end.
    for _ in 0..PATIENCE_TURNS {
        if under_way == 0 {
            break;
        }
        sleep(PATIENCE);
        under_way -= completed(judge, &line);
    }
    judge.expect("packets left over", under_way, 0);
}

/// Takes the completions of a flood; returns how many there were.
fn completed(judge: &mut Judge, line: &Line) -> usize {
    let mut count = 0;
    while let Some(completion) = take(&line.rings.transmit) {
        count += 1;
        // A device may be too slow for us, or not answer at all.
        let fair = matches!(completion.outcome, Some(PacketOutcome::Ok | PacketOutcome::Timeout));
        judge.expect(format_args!("a packet of the flood, {:?}", completion.outcome), fair, true);
    }
    count
}

fn die(judge: &mut Judge) {
    let Some(line) = Line::open(judge) else { return };
    let Some(_) = bound(judge, &Filter::all(Destination::Own)) else { return };
    let Some(_) = judge.allowed("allocating", hypercall::filter_alloc(&Filter::all(Destination::Group)))
    else {
        return;
    };
    (0..RING_PACKETS).for_each(|_| line.offer(line.room));
    let bytes = 60;
    machine::write_frame(line.sent, &packet(MacAddress::BROADCAST, own_address(), HONEST));
    (0..RING_PACKETS).for_each(|_| put(&line.rings.transmit, &sent(line.sent, 0, bytes)));
    machine::read_word(LINEAR_BASE);
}
