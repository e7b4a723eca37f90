//! Frames: allocation, bindings, views, revocation.

use crate::call::After;
use crate::machine::id::VcpuId;
use crate::model::{Machine, Share};
use crate::resource::frame::table::Owner;
use hyperexo_abi::ANY;
use hyperexo_abi::capability::{Capability, Rights};
use hyperexo_abi::hypercall::{Call, MAX_ALLOCATION_FRAMES, Status};

/// Rights in a register, for a view.
fn in_view(rights: Rights, view: u64) -> [u64; 1] {
    [u64::from(rights.0) | view << 8]
}

#[test]
fn frames_are_allocated_cleared_bound_shared_and_freed() {
    let mut machine = Machine::with(2);
    let [one, two] = [1, 2].map(|number| machine.vcpu(number));
    let (first, capability) = machine.frames(one, 5);
    let pages = &machine.kernel.pages;
    assert!((first..first + 5).all(|frame| pages.memory.word(frame, 511) == 0), "zeros");
    assert!((first..first + 5).all(|frame| pages.has_bound(one.environment, frame, Rights::READ_WRITE)));
    assert!(!machine.kernel.pages.has_bound(two.environment, first, Rights::READ));
    machine.bind(two, capability, Rights::READ).unwrap();
    assert!(machine.kernel.pages.has_bound(two.environment, first, Rights::READ));
    assert!(!machine.kernel.pages.has_bound(two.environment, first, Rights::WRITE));
    machine.call_with(one, Call::PageFree, capability, &[]).unwrap();
    for who in [one, two] {
        assert!(!machine.kernel.pages.has_bound(who.environment, first, Rights::READ));
    }
    assert_eq!(machine.bind(two, capability, Rights::READ), Err(Status::StaleCapability));
}

/// Everything about a machine that a refused call must leave alone.
fn state(machine: &Machine, who: VcpuId) -> impl PartialEq + std::fmt::Debug + use<> {
    let pages = &machine.kernel.pages;
    let owners: Vec<_> = (0..pages.frames.len())
        .map(|frame| (pages.frames.owner(frame), pages.frames.generation(frame)))
        .collect();
    (owners, pages.all_tables(), pages.charged(who.environment))
}

#[test]
fn bad_arguments_are_refused_without_effect() {
    let mut machine = Machine::with(2);
    let [one, two] = [1, 2].map(|number| machine.vcpu(number));
    let (first, own) = machine.frames(one, 4);
    let theirs = machine.allocate(two, ANY, 4).unwrap();
    let other = theirs.claim().unwrap().first;
    let end = machine.kernel.pages.frames.len();
    let weak = machine.call_with(one, Call::Derive, own, &[first, 2 | 1 << 56]).map(Capability).unwrap();
    let mut forged = own;
    forged.0[1] += 1;
    let before = state(&machine, one);
    for (arguments, expected) in [
        ([ANY, 0, 1], Status::BadArgument),
        ([ANY, 1, 0], Status::BadArgument),
        ([ANY, 1, 3], Status::BadArgument),
        ([1, 1, 2], Status::BadArgument),
        ([first, 1, 1], Status::InUse),
        ([other - 1, 2, 1], Status::InUse),
        ([0, 1, 1], Status::InUse),
        ([end - 1, 2, 1], Status::NoSuch),
        ([u64::MAX - 1, 2, 1], Status::NoSuch),
        ([ANY, 1025, 1], Status::QuotaExceeded),
        ([ANY, u64::MAX, 1], Status::QuotaExceeded),
        ([ANY, MAX_ALLOCATION_FRAMES + 1, 1], Status::QuotaExceeded),
    ] {
        assert_eq!(machine.call(one, Call::PageAlloc, &arguments), Err(expected), "PageAlloc {arguments:x?}");
    }
    for (capability, rights, expected) in [
        (own, 0, Status::BadArgument),
        (own, 2, Status::BadArgument),
        (own, 0x10, Status::BadArgument),
        (own, 1 | 1 << 8, Status::NoSuch),
        (own, 1 | u64::MAX << 8, Status::NoSuch),
        (weak, 3, Status::NoRight),
        (forged, 1, Status::ForgedCapability),
        (Capability::default(), 1, Status::ForgedCapability),
    ] {
        assert_eq!(
            machine.call_with(one, Call::PageBind, capability, &[rights]),
            Err(expected),
            "PageBind {rights:x}"
        );
    }
    for (arguments, expected) in [
        ([first, 0, 0], Status::BadArgument),
        ([u64::MAX, 2, 0], Status::BadArgument),
        ([end - 1, 2, 0], Status::NoSuch),
        ([first, 5, 0], Status::NotBound),
        ([other, 1, 0], Status::NotBound),
        ([first, 1, 1], Status::NoSuch),
        ([first, 1, 9], Status::NoSuch),
    ] {
        assert_eq!(
            machine.call(one, Call::PageUnbind, &arguments),
            Err(expected),
            "PageUnbind {arguments:x?}"
        );
    }
    let part = |first: u64, count: u64, rights: u64| [first, count | rights << 56];
    for (arguments, expected) in [
        (part(first, 0, 1), Status::BadArgument),
        (part(first + 3, 2, 1), Status::BadArgument),
        (part(first - 1, 2, 1), Status::BadArgument),
        (part(u64::MAX, 2, 1), Status::BadArgument),
        (part(first, 2, 0x10), Status::BadArgument),
    ] {
        assert_eq!(
            machine.call_with(one, Call::Derive, own, &arguments),
            Err(expected),
            "Derive {arguments:x?}"
        );
    }
    assert_eq!(machine.call_with(one, Call::Derive, weak, &part(first, 1, 3)), Err(Status::NoRight));
    for call in [Call::PageFree, Call::Revoke] {
        assert_eq!(machine.call_with(one, call, weak, &[]), Err(Status::NoRight), "{call:?}");
        assert_eq!(machine.call_with(one, call, forged, &[]), Err(Status::ForgedCapability), "{call:?}");
    }
    assert!(state(&machine, one) == before, "a refused call has changed something");
}

#[test]
fn revocation_ends_the_bindings_of_others_and_old_capabilities() {
    let mut machine = Machine::with(3);
    let [one, two, three] = [1, 2, 3].map(|number| machine.vcpu(number));
    let (first, old) = machine.frames(one, 700);
    for who in [two, three] {
        machine.bind(who, old, Rights::READ_WRITE).unwrap();
    }
    let fresh = machine.call_with(one, Call::Revoke, old, &[]).map(Capability).unwrap();
    let pages = &machine.kernel.pages;
    for frame in first..first + 700 {
        assert!(pages.has_bound(one.environment, frame, Rights::READ_WRITE), "the caller's own stay");
        assert!([two, three].iter().all(|who| pages.lookup(who.environment, frame).is_none()));
    }
    assert_eq!(machine.bind(two, old, Rights::READ), Err(Status::StaleCapability));
    assert_eq!(machine.call_with(one, Call::Revoke, old, &[]), Err(Status::StaleCapability));
    machine.bind(two, fresh, Rights::READ).unwrap();
}

/// The attack: whoever is let into a view lowers its maker's entry, and the maker dies by it.
#[test]
fn binding_in_anothers_view_does_not_change_what_is_there() {
    let mut machine = Machine::with(2);
    let [maker, taker] = [1, 2].map(|number| machine.vcpu(number));
    let (first, capability) = machine.frames(maker, 4);
    let [view, ..] = machine.call(maker, Call::ViewCreate, &[8]).unwrap();
    machine.call_with(maker, Call::PageBind, capability, &in_view(Rights::READ_WRITE, view)).unwrap();
    machine.call(maker, Call::ViewOffer, &[view, 2]).unwrap();
    let [taken, ..] = machine.call(taker, Call::ViewAccept, &[1, view]).unwrap();
    let lowered = machine.call_with(taker, Call::PageBind, capability, &in_view(Rights::READ, taken));
    assert_eq!(lowered, Err(Status::InUse));
    assert_eq!(machine.call(taker, Call::PageUnbind, &[first, 4, taken]), Err(Status::NoRight));
    let walk = machine.kernel.pages.all_tables().pop().unwrap().1;
    assert!(walk.leaves.iter().all(|leaf| leaf.entry & 2 != 0), "still writable");
    // Its own frames it may bind, change and unbind there; so may the maker all of them.
    let (mine, own) = machine.frames(taker, 2);
    machine.call_with(taker, Call::PageBind, own, &in_view(Rights::READ_WRITE, taken)).unwrap();
    machine.call_with(taker, Call::PageBind, own, &in_view(Rights::READ, taken)).unwrap();
    machine.call_with(maker, Call::PageBind, capability, &in_view(Rights::READ, view)).unwrap();
    machine.call(taker, Call::PageUnbind, &[mine, 1, taken]).unwrap();
    machine.call(maker, Call::PageUnbind, &[mine + 1, 1, view]).unwrap();
}

/// With a large entry for a region, part of it is bound anew, and unbound: the rest stays.
#[test]
fn parts_of_large_entries_come_and_go() {
    let mut machine = Machine::with(2);
    let one = machine.vcpu(1);
    let capability = machine.call(one, Call::PageAlloc, &[ANY, 512, 512]).map(Capability).unwrap();
    let first = capability.claim().unwrap().first;
    machine.bind(one, capability, Rights::READ_WRITE).unwrap();
    let large = |machine: &Machine| {
        machine.kernel.pages.all_tables()[0]
            .1
            .leaves
            .iter()
            .any(|leaf| (leaf.first, leaf.frames) == (first, 512))
    };
    assert!(large(&machine));
    machine.call(one, Call::PageUnbind, &[first + 7, 1, 0]).unwrap();
    assert!(
        !large(&machine) && machine.kernel.pages.has_bound(one.environment, first + 8, Rights::READ_WRITE)
    );
    machine.bind(one, capability, Rights::READ).unwrap();
    assert!(large(&machine));
    machine.call(one, Call::PageUnbind, &[first, 512, 0]).unwrap();
    machine.call_with(one, Call::PageFree, capability, &[]).unwrap();
}

/// The kernel keeps an empty table for the next binding. Room for something else is made of it only if that
/// is enough.
#[test]
fn a_refused_allocation_does_not_take_the_spare_table_unseen() {
    let mut machine = Machine::new(Default::default());
    let one = machine.add(Share { quota: 40, ..Share::default() });
    let (far, _) = {
        let capability = machine.allocate(one, 1500, 1).unwrap();
        machine.bind(one, capability, Rights::READ_WRITE).unwrap();
        (1500, capability)
    };
    machine.call(one, Call::PageUnbind, &[far, 1, 0]).unwrap();
    // The guest goes in, and may remember the way to the table.
    machine.call(one, Call::TimerSet, &[0]).unwrap();
    let room = machine.kernel.pages.room(one.environment);
    assert_eq!(machine.call(one, Call::PageAlloc, &[ANY, room + 2, 1]), Err(Status::QuotaExceeded));
    machine.call(one, Call::PageAlloc, &[ANY, room + 1, 1]).unwrap();
}

/// A call that is refused for want of room has bound nothing, even if the room was there until the spare
/// table had to go.
#[test]
fn a_binding_is_made_whole_or_not_at_all() {
    let mut machine = Machine::new(Default::default());
    let one = machine.add(Share { quota: 200, ..Share::default() });
    let capability = machine.allocate(one, 1020, 8).unwrap();
    let part = |machine: &mut Machine, first: u64, count: u64| {
        machine.call_with(one, Call::Derive, capability, &[first, count | 1 << 56]).map(Capability).unwrap()
    };
    let low = part(&mut machine, 1020, 1);
    machine.bind(one, low, Rights::READ).unwrap();
    machine.call(one, Call::PageUnbind, &[1020, 1, 0]).unwrap();
    let room = machine.kernel.pages.room(one.environment);
    machine.call(one, Call::PageAlloc, &[ANY, room, 1]).unwrap();
    let whole = part(&mut machine, 1020, 8);
    let refused = machine.bind(one, whole, Rights::READ);
    assert_eq!(refused, Err(Status::QuotaExceeded));
    let bound = (1020..1028).any(|frame| machine.kernel.pages.lookup(one.environment, frame).is_some());
    assert!(!bound, "a part was bound");
}

/// A second virtual CPU, on core 1.
fn second(machine: &mut Machine, who: VcpuId) -> VcpuId {
    let [index, ..] = machine.call(who, Call::VcpuStart, &[1, 0, 0, 0, 0]).unwrap();
    VcpuId { environment: who.environment, index: index as usize, core: 1 }
}

/// One virtual CPU binds frames in a view, piece by piece; the other ends the view meanwhile.
#[test]
fn a_bind_that_is_underway_does_not_outlive_its_view() {
    for pieces in 0..6 {
        let mut machine = Machine::with(2);
        let one = machine.vcpu(1);
        let other = second(&mut machine, one);
        let capability = machine.allocate(one, ANY, 600).unwrap();
        let [view, ..] = machine.call(one, Call::ViewCreate, &[8]).unwrap();
        let arguments: Vec<u64> = capability.0.into_iter().chain(in_view(Rights::READ, view)).collect();
        let mut after = machine.begin(one, Call::PageBind, &arguments);
        for _ in 0..pieces {
            after = machine.go_on(one);
        }
        assert_eq!(after, After::Again, "a call of several pieces");
        let mut ending = machine.begin(other, Call::ViewEnd, &[view]);
        while machine.is_underway(one) || ending == After::Again {
            if machine.is_underway(one) {
                machine.go_on(one);
            }
            if ending == After::Again {
                ending = machine.go_on(other);
            }
        }
        assert_eq!(machine.outcome(one), Err(Status::NoSuch));
        machine.call_with(one, Call::PageFree, capability, &[]).unwrap();
    }
}

/// Whoever leaves a view takes its frames with it, also if it frees some at the same time.
#[test]
fn who_leaves_a_view_leaves_no_frames_there() {
    let mut machine = Machine::with(3);
    let [maker, taker, third] = [1, 2, 3].map(|number| machine.vcpu(number));
    let other = second(&mut machine, taker);
    let [view, ..] = machine.call(maker, Call::ViewCreate, &[8]).unwrap();
    machine.call(maker, Call::ViewOffer, &[view, 2]).unwrap();
    let [taken, ..] = machine.call(taker, Call::ViewAccept, &[1, view]).unwrap();
    let (first, capability) = machine.frames(taker, 200);
    machine.call_with(taker, Call::PageBind, capability, &in_view(Rights::READ_WRITE, taken)).unwrap();
    assert_eq!(machine.begin(taker, Call::ViewEnd, &[taken]), After::Again);
    // The frame that was looked at last is freed, and becomes somebody else's.
    let mut freed = 0;
    for frame in first..first + 200 {
        if machine.kernel.pages.all_tables().last().unwrap().1.binds(frame) {
            continue;
        }
        let part = machine.call_with(other, Call::Derive, capability, &[frame, 1 | 15 << 56]);
        if let Ok(part) = part.map(Capability) {
            machine.call_with(other, Call::PageFree, part, &[]).unwrap();
            freed += 1;
        }
        if freed == 1 {
            machine.allocate(third, frame, 1).unwrap();
            break;
        }
    }
    assert_eq!(freed, 1);
    while machine.go_on(taker) == After::Again {}
    let (_, shown) = machine.kernel.pages.all_tables().pop().unwrap();
    assert!((first..first + 200).all(|frame| !shown.binds(frame)), "frames of who left are still shown");
}

/// Two virtual CPUs free at the same time what overlaps: no frame is left that is somebody's and that no
/// capability is for.
#[test]
fn frees_that_overlap_leave_no_frame_behind() {
    for (pieces, later) in [0, 1, 2, 4, 7].into_iter().flat_map(|pieces| [(pieces, false), (pieces, true)]) {
        let mut machine = Machine::with(2);
        let one = machine.vcpu(1);
        let other = second(&mut machine, one);
        let (first, capability) = machine.frames(one, 400);
        let old = capability.claim().unwrap().generation;
        let part = [first + 50, 133 | 15 << 56];
        let part = machine.call_with(one, Call::Derive, capability, &part).map(Capability).unwrap();
        let mut after = machine.begin(one, Call::PageFree, &capability.0);
        for _ in 0..pieces {
            after = if after == After::Again { machine.go_on(one) } else { after };
        }
        let mut freeing = machine.begin(other, Call::PageFree, &part.0);
        while after == After::Again || freeing == After::Again {
            if freeing == After::Again && (later || after != After::Again) {
                freeing = machine.go_on(other);
            }
            if after == After::Again {
                after = machine.go_on(one);
            }
        }
        let frames = &machine.kernel.pages.frames;
        for frame in first..first + 400 {
            let left = frames.owner(frame) != Owner::Free && frames.generation(frame) != old;
            assert!(!left, "frame {frame:#x} is left behind, after {pieces} pieces");
        }
        machine.end(one);
    }
}
