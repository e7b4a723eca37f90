//! The network: filters, packets between environments and beyond, ends.

use crate::machine::id::VcpuId;
use crate::model::guest::{offer, packets};
use crate::model::{Machine, Parts, Share};
use hyperexo_abi::capability::Capability;
use hyperexo_abi::hypercall::{Call, Status};
use hyperexo_abi::net::{Destination, Filter, MacAddress, NetRings, PacketOutcome};

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
        machine.net.state().inbox.push_back(packet(to, source).to_vec());
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
    for words in [[0, u64::MAX], [1, 0], [0, 3 << 62]] {
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
