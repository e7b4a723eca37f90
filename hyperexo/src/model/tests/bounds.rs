//! Nobody holds the lock in proportion to what a guest names: how much is touched in one piece, at most.
//!
//! A unit is a word of a table, an entry of the table of frames, or a cache line that is cleared or copied.

use crate::machine::id::VcpuId;
use crate::model::guest::{completions, offer, offer_part, submission};
use crate::model::{Machine, Parts, Share};
use crate::resource::frame::table::Owner;
use hyperexo_abi::capability::{Capability, Claim, Resource, Rights};
use hyperexo_abi::hypercall::{CONSOLE_MAX_BYTES, Call, MAX_ALLOCATION_FRAMES};
use hyperexo_abi::net::{
    Destination, ETHERNET_HEADER_BYTES, Filter, MacAddress, NetRings, PacketSubmission, RING_PACKETS,
};
use hyperexo_abi::offload::{MAX_LARGE_PACKET_BYTES, MIN_SEGMENT_BYTES, Offload, Offloads};
use hyperexo_abi::ring::{MAX_REQUEST_BLOCKS, Operation, SUBMISSIONS};
use hyperexo_abi::{ANY, FRAME_BYTES};

/// Most that a piece may touch.
const BOUND: u64 = 3500;
/// 64 MiB.
const FRAMES: u64 = 16384;
/// Frames that are shared: all but what tables take.
const SHARED: u64 = 22 * 512;
/// Environments.
const ENVIRONMENTS: u16 = 6;

/// How the shared frames are bound.
#[derive(Clone, Copy, Debug)]
enum Entries {
    /// By entries for 512 frames.
    Large,
    /// One frame in 512 is missing: by entries for one frame each.
    Small,
}

struct Scene {
    machine: Machine,
    all: Vec<VcpuId>,
    capability: Capability,
    first: u64,
    /// Number of a view with all of it, in the list of its maker, who is the owner; others have it, too.
    view: u64,
}

impl Scene {
    /// Everybody has bound all of the frames of one, who has a view with all of them besides.
    fn new(entries: Entries) -> Scene {
        let parts = Parts { frames: FRAMES, environments: ENVIRONMENTS.into(), ..Parts::default() };
        let mut machine = Machine::new(parts);
        machine.audited = false;
        let share = Share { quota: FRAMES, ..Share::default() };
        let all: Vec<VcpuId> = (0..ENVIRONMENTS).map(|_| machine.add(share)).collect();
        // As an image is given to its environment at the start, in one piece.
        let frames = &mut machine.kernel.pages.frames;
        let first = frames.find(SHARED, 512).unwrap();
        let generation = frames.fresh_generation();
        frames.take(Owner::Environment(all[0].environment), first..first + SHARED, generation).unwrap();
        frames.note_uniform(first..first + SHARED, generation);
        let rights = Rights::ALL;
        let claim = Claim { resource: Resource::Page, rights, generation, first, count: SHARED };
        let capability = machine.kernel.authority.seal(&claim);
        let [view, ..] = machine.call(all[0], Call::ViewCreate, &[40]).unwrap();
        machine.call(all[0], Call::ViewOffer, &[view, 2]).unwrap();
        machine.call(all[1], Call::ViewAccept, &[1, view]).unwrap();
        let mut scene = Scene { machine, all, capability, first, view };
        scene.bind_all(entries);
        scene.machine.longest = 0;
        scene
    }

    fn bind_all(&mut self, entries: Entries) {
        let places = self.all.clone().into_iter().map(|who| (who, 0)).chain([(self.all[0], self.view)]);
        for (who, view) in places.collect::<Vec<_>>() {
            let rights = [3 | view << 8];
            self.machine.call_with(who, Call::PageBind, self.capability, &rights).unwrap();
            if matches!(entries, Entries::Small) {
                for frame in (self.first..self.first + SHARED).step_by(512) {
                    self.machine.call(who, Call::PageUnbind, &[frame + 77, 1, view]).unwrap();
                }
            }
        }
    }

    /// The most that a piece of a call has touched.
    fn longest(&mut self, what: &str, entries: Entries, call: impl FnOnce(&mut Scene)) -> u64 {
        self.machine.longest = 0;
        call(self);
        println!("{what}, {entries:?} entries: {}", self.machine.longest);
        self.machine.longest
    }
}

#[test]
fn calls_that_name_all_of_memory_touch_no_more_than_that_at_once() {
    type Attempt = (&'static str, fn(&mut Scene));
    let attempts: [Attempt; 9] = [
        ("PageBind", |scene| {
            scene.machine.call_with(scene.all[3], Call::PageBind, scene.capability, &[1]).unwrap();
        }),
        ("PageBind in a view", |scene| {
            let rights = [1 | scene.view << 8];
            scene.machine.call_with(scene.all[0], Call::PageBind, scene.capability, &rights).unwrap();
        }),
        ("PageUnbind", |scene| {
            let (first, who) = (scene.first, scene.all[3]);
            scene.machine.bind(who, scene.capability, Rights::READ).unwrap();
            for frame in (first..first + SHARED).step_by(512).skip(3) {
                // Bound one by one again, so that none is missing.
                scene.machine.call(who, Call::PageUnbind, &[frame + 77, 1, 0]).unwrap();
                let one =
                    scene.machine.call_with(who, Call::Derive, scene.capability, &[frame + 77, 1 | 1 << 56]);
                scene.machine.bind(who, one.map(Capability).unwrap(), Rights::READ).unwrap();
            }
            scene.machine.longest = 0;
            scene.machine.call(who, Call::PageUnbind, &[first + 100, SHARED - 200, 0]).unwrap();
        }),
        ("Derive", |scene| {
            let part = [scene.first + 1, (SHARED - 2) | 1 << 56];
            scene.machine.call_with(scene.all[3], Call::Derive, scene.capability, &part).unwrap();
        }),
        ("Revoke", |scene| {
            scene.machine.call_with(scene.all[0], Call::Revoke, scene.capability, &[]).unwrap();
        }),
        ("PageFree", |scene| {
            scene.machine.call_with(scene.all[0], Call::PageFree, scene.capability, &[]).unwrap();
        }),
        ("PageFree of a part", |scene| {
            let part = [scene.first + 100, (SHARED - 200) | 15 << 56];
            let part = scene.machine.call_with(scene.all[0], Call::Derive, scene.capability, &part);
            scene
                .machine
                .call_with(scene.all[0], Call::PageFree, part.map(Capability).unwrap(), &[])
                .unwrap();
        }),
        ("ViewEnd of the maker", |scene| {
            scene.machine.call(scene.all[0], Call::ViewEnd, &[scene.view]).unwrap();
        }),
        ("Exit", |scene| scene.all.clone().into_iter().for_each(|who| scene.machine.end(who))),
    ];
    let mut worst = 0;
    for entries in [Entries::Large, Entries::Small] {
        for (what, attempt) in attempts {
            worst = worst.max(Scene::new(entries).longest(what, entries, attempt));
        }
    }
    assert!(worst <= BOUND, "{worst} units in one piece");
}

/// Whoever leaves a view of somebody else's may have all of its frames there.
#[test]
fn leaving_a_view_is_done_in_pieces() {
    let mut scene = Scene::new(Entries::Small);
    let [maker, taker] = [scene.all[2], scene.all[0]];
    let [view, ..] = scene.machine.call(maker, Call::ViewCreate, &[40]).unwrap();
    scene.machine.call(maker, Call::ViewOffer, &[view, 1]).unwrap();
    let [taken, ..] = scene.machine.call(taker, Call::ViewAccept, &[3, view]).unwrap();
    scene.machine.call_with(taker, Call::PageBind, scene.capability, &[1 | taken << 8]).unwrap();
    let longest = scene.longest("ViewEnd of a guest", Entries::Large, |scene| {
        scene.machine.call(taker, Call::ViewEnd, &[taken]).unwrap();
    });
    assert!(longest <= BOUND, "{longest} units in one piece");
}

/// Memory in which every other frame is somebody's, but for some room at the end.
#[test]
fn looking_for_frames_is_done_in_pieces() {
    let parts = Parts { frames: FRAMES, environments: 1, ..Parts::default() };
    let mut machine = Machine::new(parts);
    machine.audited = false;
    let one = machine.add(Share { quota: FRAMES, ..Share::default() });
    let room = FRAMES - MAX_ALLOCATION_FRAMES;
    for frame in (64..room).step_by(2) {
        machine.kernel.pages.frames.reserve(frame..frame + 1);
    }
    machine.longest = 0;
    for (first, count) in [(ANY, MAX_ALLOCATION_FRAMES), (room, MAX_ALLOCATION_FRAMES), (ANY, 2), (ANY, 1)] {
        let capability = machine.allocate(one, first, count).unwrap();
        machine.call_with(one, Call::PageFree, capability, &[]).unwrap();
    }
    assert!(machine.allocate(one, ANY, MAX_ALLOCATION_FRAMES - 1).is_ok());
    assert!(machine.allocate(one, ANY, 512).is_err() && machine.allocate(one, room - 9, 4096).is_err());
    println!("PageAlloc: {}", machine.longest);
    assert!(machine.longest <= BOUND, "{} units in one piece", machine.longest);
}

/// Nearly all of memory is somebody's: the few free frames are far from where the last search ended.
#[test]
fn the_last_free_frames_are_found_at_once() {
    let parts = Parts { frames: 4 * FRAMES, environments: 1, ..Parts::default() };
    let mut machine = Machine::new(parts);
    machine.audited = false;
    let one = machine.add(Share { quota: 4 * FRAMES, ..Share::default() });
    let capability = machine.allocate(one, 3 * FRAMES, 1).unwrap();
    let frames = &mut machine.kernel.pages.frames;
    for frame in 0..frames.len() {
        // Four are left, at the bottom; the search goes on above.
        if frames.owner(frame) == Owner::Free && !(100..104).contains(&frame) {
            frames.reserve(frame..frame + 1);
        }
    }
    frames.set_hint(FRAMES);
    machine.longest = 0;
    machine.bind(one, capability, Rights::READ).unwrap();
    // A few tables are cleared: however much memory there is, nothing else takes long.
    assert!(machine.longest <= 500, "{} units in one piece", machine.longest);
}

/// A packet of an environment to everybody.
fn broadcast(machine: &Machine, who: VcpuId) -> [u8; 1514] {
    let mut packet = [0; 1514];
    packet[..6].copy_from_slice(&MacAddress::BROADCAST.0);
    packet[6..12].copy_from_slice(&machine.kernel.net.address_of(who.environment).0);
    packet[12..ETHERNET_HEADER_BYTES].copy_from_slice(&[0x88, 0xb5]);
    packet
}

#[test]
fn rings_and_consoles_are_served_in_pieces() {
    let mut scene = Scene::new(Entries::Small);
    let (one, all) = (scene.all[0], scene.all.clone());
    let rings: Vec<_> = all.iter().map(|who| scene.machine.net_rings(*who)).collect();
    for (who, rings) in all.iter().zip(&rings) {
        for destination in [Destination::Group, Destination::Own] {
            let words = Filter::all(destination).to_words();
            let filter = scene.machine.call(*who, Call::FilterAlloc, &words).map(Capability).unwrap();
            let rights = if destination == Destination::Own { 3 } else { 1 };
            scene.machine.call_with(*who, Call::FilterBind, filter, &[rights]).unwrap();
        }
        let (frame, _) = scene.machine.frames(*who, 1);
        (0..RING_PACKETS).for_each(|_| offer(&rings.receive, frame, 0));
    }
    let (frame, _) = scene.machine.frames(one, 1);
    let packet = broadcast(&scene.machine, one);
    scene.machine.kernel.pages.memory.write(frame, 0, &packet);
    (0..RING_PACKETS).for_each(|_| offer(&rings[0].transmit, frame, packet.len() as u32));
    let net = scene.longest("NetKick", Entries::Small, |scene| {
        scene.machine.call(one, Call::NetKick, &[]).unwrap();
    });
    assert_eq!(scene.machine.net.state().outbox.len(), RING_PACKETS, "all have left");
    let large = large_packets(&mut scene, [rings[0], rings[1]], frame);
    let ring = scene.machine.ring(one);
    let (first, _) = scene.machine.frames(one, MAX_REQUEST_BLOCKS as u64);
    scene.machine.extent(one, 32);
    let frames: Vec<u64> = (first..first + MAX_REQUEST_BLOCKS as u64).collect();
    let disk = scene.longest("RingKick", Entries::Small, |scene| {
        for operation in [Operation::Read, Operation::Write] {
            (0..SUBMISSIONS).for_each(|_| ring.submit(&submission(operation as u8, 0, &frames)));
            scene.machine.call(one, Call::RingKick, &[]).unwrap();
            scene.machine.finish(SUBMISSIONS);
            let _ = ring.outcomes();
        }
    });
    let text = [b'\n'; CONSOLE_MAX_BYTES as usize];
    scene.machine.kernel.pages.memory.write(first, 0, &text);
    let console = scene.longest("ConsoleWrite", Entries::Small, |scene| {
        let _ = scene.machine.call(one, Call::ConsoleWrite, &[first << 12, CONSOLE_MAX_BYTES]);
    });
    assert!(net.max(disk).max(console) <= BOUND, "{net}, {disk}, {console} units in one piece");
    assert!(large <= BOUND, "{large} units in one piece for large packets");
}

/// The longest piece for the largest packets, from one environment to another and from outside.
fn large_packets(scene: &mut Scene, [from, to]: [&NetRings; 2], frame: u64) -> u64 {
    let (one, other) = (scene.all[0], scene.all[1]);
    let offload = Offload {
        kind: Offload::TCP4,
        header_bytes: 54,
        segment_bytes: MIN_SEGMENT_BYTES,
        ..Offload::checksum(34, 16)
    };
    scene.machine.net.state().offloads = Offloads::SEGMENTS4;
    let mut packet = broadcast(&scene.machine, one).to_vec();
    packet[..6].copy_from_slice(&scene.machine.kernel.net.address_of(other.environment).0);
    scene.machine.kernel.pages.memory.write(frame, 0, &packet);
    let frames = MAX_LARGE_PACKET_BYTES / FRAME_BYTES;
    let entry =
        PacketSubmission { frame, bytes: FRAME_BYTES as u32, more: true, offload, ..Default::default() };
    for _ in 0..2 {
        (0..frames)
            .for_each(|at| offer_part(&from.transmit, &PacketSubmission { more: at + 1 < frames, ..entry }));
    }
    for rings in [from, to] {
        completions(&rings.receive);
        completions(&rings.transmit);
    }
    (0..4 * frames).for_each(|_| offer(&to.receive, frame, 0));
    packet[6..12].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
    packet.resize(MAX_LARGE_PACKET_BYTES - 100, 0);
    scene.machine.net.state().inbox.extend([(packet.clone(), offload), (packet, offload)]);
    let longest = scene.longest("large packets", Entries::Small, |scene| {
        scene.machine.call(one, Call::NetKick, &[]).unwrap();
        scene.machine.kernel.signals.note_net();
        scene.machine.attend(0);
    });
    assert_eq!(completions(&to.receive).len(), 4 * frames, "all have come");
    longest
}
