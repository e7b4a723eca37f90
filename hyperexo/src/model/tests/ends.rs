//! Ends of environments: everything comes back, whatever they had and with whom they shared it.

use crate::call::After;
use crate::model::{Machine, Parts, Share};
use hyperexo_abi::ANY;
use hyperexo_abi::capability::Rights;
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
        machine.kernel.end(one.environment, crate::environment::ending::Ending::Exited(0));
        machine.bury();
        assert_eq!(machine.kernel.pages.charged(one.environment).0, 1, "only its console");
        assert_eq!(machine.kernel.pages.all_tables().len(), 1);
    } else {
        panic!("a view of so many frames ends in one piece");
    }
}
