//! Ends of environments: everything comes back, whatever they had and with whom they shared it.

use crate::call::After;
use crate::environment::ending::Ending;
use crate::machine::id::VcpuId;
use crate::model::{Machine, Parts, Share};
use hyperexo_abi::ANY;
use hyperexo_abi::capability::{Capability, Rights};
use hyperexo_abi::hypercall::Call;

#[test]
fn all_that_an_environment_had_comes_back() {
    let mut machine = Machine::with(2);
    let [one, two] = [1, 2].map(|number| machine.vcpu(number));
    let before = machine.kernel.pages.frames.free_frames();
    let (_, capability) = machine.frames(one, 600);
    machine.bind(two, capability, Rights::READ).unwrap();
    machine.call(one, Call::ViewCreate, &[4]).unwrap();
    machine.call(one, Call::DiskAlloc, &[ANY, 4]).unwrap();
    machine.end(one);
    let kept = machine.kernel.pages.charged(two.environment).0;
    machine.end(two);
    assert!(machine.kernel.finished() && kept > 0);
    // All but what was there for the consoles and the accounting pages.
    let pages = &machine.kernel.pages;
    assert!(pages.frames.free_frames() > before);
    assert_eq!((pages.charged(one.environment).0, pages.charged(two.environment).0), (1, 1));
}

/// Without a network nothing is kept for it; ends of environments come by all the same.
#[test]
fn many_environments_end_without_a_network() {
    let parts = Parts { network: false, blocks: 0, environments: 5, ..Parts::default() };
    let mut machine = Machine::new(parts);
    let all: Vec<_> = (0..5).map(|_| machine.add(Share { quota: 64, ..Share::default() })).collect();
    for who in all.into_iter().rev() {
        machine.end(who);
    }
    assert!(machine.kernel.finished());
}

/// The end comes in the midst of `ViewEnd`: the view, which is in nobody's list any more, is taken apart all
/// the same.
#[test]
fn a_view_that_is_being_ended_goes_with_its_owner() {
    let mut machine = Machine::with(2);
    let [one, two] = [1, 2].map(|number| machine.vcpu(number));
    let (_, capability) = machine.frames(two, 600);
    let [view, ..] = machine.call(one, Call::ViewCreate, &[8]).unwrap();
    machine.call_with(one, Call::PageBind, capability, &[1 | view << 8]).unwrap();
    let mut pieces = 0;
    let mut after = machine.begin(one, Call::ViewEnd, &[view]);
    while after == After::Again && pieces < 1 {
        after = machine.go_on(one);
        pieces += 1;
    }
    if after == After::Again {
        machine.kernel.end(one.environment, Ending::Exited(0));
        machine.bury();
        assert_eq!(machine.kernel.pages.charged(one.environment).0, 1, "only its console");
        assert_eq!(machine.kernel.pages.all_tables().len(), 1);
    } else {
        panic!("a view of so many frames ends in one piece");
    }
}

/// Whatever call is underway when the end comes, and however far it is, it goes with its caller.
#[test]
fn calls_that_are_underway_end_with_their_caller() {
    type Begin = fn(&mut Machine, VcpuId, Capability) -> After;
    let calls: [(&str, Begin); 7] = [
        ("PageAlloc", |machine, who, _| machine.begin(who, Call::PageAlloc, &[ANY, 300, 1])),
        ("PageBind", |machine, who, capability| {
            let arguments: Vec<u64> = capability.0.into_iter().chain([1]).collect();
            machine.begin(who, Call::PageBind, &arguments)
        }),
        ("PageUnbind", |machine, who, capability| {
            machine.begin(who, Call::PageUnbind, &[capability.claim().unwrap().first, 600, 0])
        }),
        ("PageFree", |machine, who, capability| machine.begin(who, Call::PageFree, &capability.0)),
        ("Revoke", |machine, who, capability| machine.begin(who, Call::Revoke, &capability.0)),
        ("Derive", |machine, who, capability| {
            let arguments: Vec<u64> = capability.0.into_iter().chain([100, 1 | 1 << 56]).collect();
            machine.begin(who, Call::Derive, &arguments)
        }),
        ("ViewEnd", |machine, who, capability| {
            let [view, ..] = machine.call(who, Call::ViewCreate, &[8]).unwrap();
            machine.call_with(who, Call::PageBind, capability, &[1 | view << 8]).unwrap();
            machine.begin(who, Call::ViewEnd, &[view])
        }),
    ];
    for (name, begin) in calls {
        for pieces in [0, 2] {
            let mut machine = Machine::with(2);
            let [one, two] = [1, 2].map(|number| machine.vcpu(number));
            let (_, capability) = machine.frames(one, 600);
            machine.bind(two, capability, Rights::READ).unwrap();
            let mut after = begin(&mut machine, one, capability);
            for _ in 0..pieces {
                after = if after == After::Again { machine.go_on(one) } else { after };
            }
            machine.kernel.end(one.environment, Ending::Exited(0));
            machine.bury();
            let over = machine.kernel.live_vcpu_slot(one).is_none() && !machine.is_underway(one);
            assert!(over, "{name} goes on after the end");
            let pages = &machine.kernel.pages;
            assert_eq!(
                (pages.frames.owned_by(one.environment), pages.charged(one.environment).0),
                (0, 1),
                "{name}"
            );
        }
    }
}

/// A core that still has a virtual CPU's registers lets go of them first.
#[test]
fn what_a_core_holds_is_waited_for() {
    let mut machine = Machine::with(2);
    let one = machine.vcpu(1);
    let before = machine.kernel.pages.charged(one.environment).0;
    machine.begin(one, Call::Exit, &[3]);
    let held = machine.kernel.vcpu_slot(one).unwrap().vcpu.take();
    for _ in 0..100 {
        machine.kernel.take_apart();
    }
    assert!(machine.kernel.has_remains());
    assert_eq!(machine.kernel.pages.charged(one.environment).0, before, "its frames are still in use");
    machine.kernel.vcpu_slot(one).unwrap().vcpu = held;
    machine.bury();
    let ending = machine.kernel.environments.get(one.environment).unwrap().ending;
    assert_eq!(ending, Some(Ending::Exited(3)));
}
