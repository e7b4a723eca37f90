//! Views: refused calls cost nothing, and each end leaves everything as it should be.

use crate::model::{Machine, Share};
use hyperexo_abi::ANY;
use hyperexo_abi::capability::Rights;
use hyperexo_abi::hypercall::{Call, Status, VIEWS};

#[test]
fn a_refused_view_costs_nothing() {
    let mut machine = Machine::new(Default::default());
    let one = machine.add(Share { quota: 60, ..Share::default() });
    let two = machine.add(Share::default());
    let room = machine.kernel.pages.room(one.environment);
    let before = machine.kernel.pages.charged(one.environment);
    for (budget, expected) in [
        (0, Status::BadArgument),
        (room, Status::QuotaExceeded),
        (room + 1, Status::QuotaExceeded),
        (u64::MAX, Status::QuotaExceeded),
    ] {
        assert_eq!(machine.call(one, Call::ViewCreate, &[budget]), Err(expected), "budget {budget}");
        assert_eq!(machine.kernel.pages.charged(one.environment), before, "budget {budget}");
    }
    for (owner, entry) in [(2, 1), (0, 1), (9, 1), (u64::MAX, 1), (2, ANY), (1, 1)] {
        assert_eq!(machine.call(one, Call::ViewAccept, &[owner, entry]), Err(Status::NoSuch));
        assert_eq!(machine.kernel.pages.charged(one.environment), before, "accept {owner} {entry}");
    }
    let [view, ..] = machine.call(two, Call::ViewCreate, &[4]).unwrap();
    assert_eq!(machine.call(one, Call::ViewAccept, &[2, view]), Err(Status::NoRight));
    assert_eq!(machine.kernel.pages.charged(one.environment), before, "not offered");
    // With the list there is room for exactly one less.
    machine.call(one, Call::ViewCreate, &[room - 1]).unwrap();
}

#[test]
fn a_list_has_so_many_entries() {
    let mut machine = Machine::with(2);
    let one = machine.vcpu(1);
    for entry in 1..VIEWS as u64 {
        assert_eq!(machine.call(one, Call::ViewCreate, &[2]).unwrap()[0], entry);
    }
    let before = machine.kernel.pages.charged(one.environment);
    assert_eq!(machine.call(one, Call::ViewCreate, &[2]), Err(Status::Exhausted));
    assert_eq!(machine.kernel.pages.charged(one.environment), before);
    for (entry, to, expected) in
        [(1, 1, Status::NoSuch), (1, 0, Status::NoSuch), (1, 64, Status::NoSuch), (9, 2, Status::NoSuch)]
    {
        assert_eq!(machine.call(one, Call::ViewOffer, &[entry, to]), Err(expected), "{entry} to {to}");
    }
    for entry in [0, VIEWS as u64, ANY] {
        assert_eq!(machine.call(one, Call::ViewEnd, &[entry]), Err(Status::NoSuch));
    }
    machine.call(one, Call::ViewEnd, &[3]).unwrap();
    assert_eq!(machine.call(one, Call::ViewCreate, &[2]).unwrap()[0], 3);
    machine.end(one);
}

/// The frames of a view are paid for in advance: it can take that many, the one that is kept empty included.
#[test]
fn a_view_takes_no_more_tables_than_are_paid_for() {
    let mut machine = Machine::with(1);
    let one = machine.vcpu(1);
    let [view, ..] = machine.call(one, Call::ViewCreate, &[4]).unwrap();
    let low = machine.allocate(one, 600, 1).unwrap();
    let high = machine.allocate(one, 1600, 1).unwrap();
    let place = [1 | view << 8];
    machine.call_with(one, Call::PageBind, low, &place).unwrap();
    assert_eq!(machine.call_with(one, Call::PageBind, high, &place), Err(Status::QuotaExceeded));
    machine.call(one, Call::PageUnbind, &[600, 1, view]).unwrap();
    machine.call_with(one, Call::PageBind, high, &place).unwrap();
}

/// Either can go first; the other's frames are where they belong.
#[test]
fn owner_and_guest_end_in_any_order() {
    for owner_first in [true, false] {
        let mut machine = Machine::with(3);
        let [maker, taker, other] = [1, 2, 3].map(|number| machine.vcpu(number));
        let [view, ..] = machine.call(maker, Call::ViewCreate, &[8]).unwrap();
        machine.call(maker, Call::ViewOffer, &[view, 2]).unwrap();
        let [taken, ..] = machine.call(taker, Call::ViewAccept, &[1, view]).unwrap();
        for (who, entry) in [(maker, view), (taker, taken)] {
            let (_, capability) = machine.frames(who, 300);
            machine.call_with(who, Call::PageBind, capability, &[3 | entry << 8]).unwrap();
            machine.bind(other, capability, Rights::READ).unwrap();
        }
        let [first, second] = if owner_first { [maker, taker] } else { [taker, maker] };
        machine.end(first);
        let left = machine.kernel.pages.all_tables().len();
        assert_eq!(left, if owner_first { 2 } else { 3 });
        machine.end(second);
        machine.end(other);
        assert!(machine.kernel.finished() && machine.kernel.pages.all_tables().is_empty());
    }
}
