//! Views: memory that is shown only inside, and ways to get at it from elsewhere.

use crate::judge::{Attempt, Judge};
use crate::machine::{self, Inside, Touch};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use hyperexo_abi::capability::{Capability, Rights};
use hyperexo_abi::hypercall::{Call, Status, VIEWS};
use hyperexo_abi::{ANY, FRAME_SHIFT};
use libos_core::exo::view::{View, Way};
use libos_core::exo::{hypercall, start_info};
use libos_core::trap::INVALID_OPCODE;
use libos_core::{argument, cores, time};

pub const ATTEMPTS: &[Attempt] = &[
    Attempt::survives("view-calls", "views that can't be made, offered, taken, ended or entered", calls),
    Attempt::survives("view-functions", "VMFUNC with every number that is not in the list", functions),
    Attempt::survives("view-secret", "touches outside what a view shows inside", secret),
    Attempt::killed("view-secret-read", "reads outside what a view shows inside", |judge| {
        if let Some(view) = view(judge) {
            machine::read_foreign(view.first_shown());
        }
    }),
    Attempt::killed("view-outside", "loads, inside a view, page tables that are bound outside", |judge| {
        if let Some(view) = view(judge) {
            let _ = machine::inside(&view, Inside::LoadTables);
        }
    }),
    Attempt::killed("view-unbind-inside", "unbinds, inside a view, the frame that it is using", |judge| {
        if let Some(view) = view(judge) {
            let _ = machine::inside(&view, Inside::Unbind);
        }
    }),
    Attempt::killed("view-end-inside", "ends a view inside it", |judge| {
        if let Some(view) = view(judge) {
            let _ = machine::inside(&view, Inside::End);
        }
    }),
    Attempt::killed("view-end-elsewhere", "ends a view that another core computes in", |judge| {
        let Some(other) = (0..cores::count()).find(|core| *core != cores::current()) else { return };
        let started = cores::start(other, |_| stay_inside(), 0);
        judge.found("a second core", started.ok());
        // It shares its core with the victim, and that perhaps a busy host.
        for _ in 0..100 {
            time::sleep(Duration::from_millis(20));
            if GOES_IN.load(Ordering::Acquire) {
                break;
            }
        }
        time::sleep(Duration::from_millis(50));
        judge.allowed("ending it", hypercall::view_end(1));
        time::sleep(Duration::from_secs(1));
    })
    .with_cores(),
];

/// Parts of two environments that share a view: `taker` joins what `maker` shows. Not attempts of their own.
pub const PARTS: &[Attempt] = &[
    Attempt::survives("view-maker", "shares frame=N with environment 2 in a view, then ends it", maker),
    Attempt::survives("view-taker", "joins the view of environment 1, until that ends it", taker),
];

/// What a maker writes in the shared frame, and a taker after it.
const MADE: u64 = 0x6d61_6b65;
const TAKEN: u64 = 0x7461_6b65;

/// Words of the shared frame in which the maker passes a capability on, half a word in each, from this one
/// on.
const PASSED: u8 = 4;
/// The low half of a word.
const LOW: u64 = 0xffff_ffff;

/// A view that shows a frame of its own, with something in it.
fn view(judge: &mut Judge) -> Option<View> {
    let view = judge.allowed("a view", View::new(1))?;
    judge.expect("writing inside", machine::inside(&view, Inside::Write(0, MADE)), Ok(0));
    Some(view)
}

/// The other core has made its view, and changes to it next.
static GOES_IN: AtomicBool = AtomicBool::new(false);

/// Computes in a view for ever.
fn stay_inside() {
    if let Ok(view) = View::new(1) {
        GOES_IN.store(true, Ordering::Release);
        let _ = machine::inside(&view, Inside::Stay);
    }
}

fn calls(judge: &mut Judge) {
    let quota = start_info().quota_frames;
    judge.refused("no tables", hypercall::view_create(0), Status::BadArgument);
    judge.refused("too many tables", hypercall::view_create(quota), Status::QuotaExceeded);
    judge.refused("absurdly many", hypercall::view_create(u64::MAX), Status::QuotaExceeded);
    let made: Vec<u64> =
        (0..VIEWS).map_while(|_| hypercall::view_create(4).ok()).map(|view| view.number).collect();
    judge.expect("numbers", made, (1..VIEWS as u64).collect());
    judge.refused("one too many", hypercall::view_create(4), Status::Exhausted);
    let own = start_info().environment;
    for to in [0, own, 64, 1 << 16, (1 << 16) + 1, u64::MAX] {
        judge.refused(format_args!("offering to {to}"), hypercall::view_offer(1, to), Status::NoSuch);
    }
    for number in [0, VIEWS as u64, 511, 512, 1 << 32, u64::MAX] {
        let what = format_args!("number {number}");
        judge.refused(what, hypercall::view_offer(number, 1), Status::NoSuch);
        judge.refused(what, hypercall::view_end(number), Status::NoSuch);
        judge.refused(what, hypercall::view_accept(1, number), Status::NoSuch);
        if number != 0 {
            let switch = machine::call(Call::ViewSwitch as u64, [number, 0, 0, 0, 0, 0]);
            judge.refused(what, switch, Status::NoSuch);
        }
    }
    judge.allowed("to where we are", machine::call(Call::ViewSwitch as u64, [0; 6]));
    judge.refused("what nobody offered", hypercall::view_accept(1, 1), Status::NoSuch);
    judge.refused("our own", hypercall::view_accept(own, 1), Status::InUse);
    bindings(judge);
    for number in 1..VIEWS as u64 {
        judge.allowed("ending", hypercall::view_end(number));
        judge.refused("ending again", hypercall::view_end(number), Status::NoSuch);
    }
}

/// Bindings in views that have few tables.
fn bindings(judge: &mut Judge) {
    let Some(frame) = judge.allowed("a frame", hypercall::page_alloc(ANY, 1, 1)) else { return };
    let Some(first) = frame.claim().map(|claim| claim.first) else { return };
    let bind = |view| machine::page_bind_in(view, &frame, Rights::READ);
    let unbind = |view| machine::call(Call::PageUnbind as u64, [first, 1, view, 0, 0, 0]);
    judge.allowed("in a view", bind(1));
    judge.refused("in no view", bind(VIEWS as u64), Status::NoSuch);
    judge.refused("in an absurd view", bind(1 << 50), Status::NoSuch);
    judge.refused("outside", unbind(0), Status::NotBound);
    judge.refused("in another view", unbind(2), Status::NotBound);
    judge.allowed("there", unbind(1));
    judge.allowed("again", bind(1));
    judge.allowed("freeing it", machine::page_free(&frame));
    judge.refused("after that", unbind(1), Status::NotBound);
}

fn functions(judge: &mut Judge) {
    let undefined = |judge: &mut Judge, function, index| {
        let trap = machine::vmfunc(function, index).err();
        judge.traps(format_args!("function {function}, index {index}"), trap, INVALID_OPCODE);
    };
    undefined(judge, 0, 0);
    undefined(judge, 0, 1);
    let Some(view) = view(judge) else { return };
    let by_function = view.way() == Way::Vmfunc;
    for index in [view.number() as u32 + 1, 7, 8, 9, 63, 511, 512, 1 << 16, 1 << 31, u32::MAX] {
        if by_function {
            let status = machine::vmfunc(0, index).ok();
            judge.expect(format_args!("index {index}"), status, Some(Status::NoSuch as u64));
        } else {
            undefined(judge, 0, index);
        }
    }
    for function in [1, 2, 63, 64, u32::MAX] {
        undefined(judge, function, 0);
    }
    drop(view);
    if by_function {
        judge.expect("after its end", machine::vmfunc(0, 1).ok(), Some(Status::NoSuch as u64));
    }
}

fn secret(judge: &mut Judge) {
    judge.allowed("a handler", machine::catch_faults());
    let Some(view) = view(judge) else { return };
    let frame = view.first_shown();
    for touch in [Touch::Read, Touch::Write] {
        let fault = Err((frame << FRAME_SHIFT, touch));
        judge.expect(format_args!("outside, {touch:?}"), machine::touch(frame, touch), fault);
        judge.expect("still there inside", machine::inside(&view, Inside::Read(0)), Ok(MADE));
    }
    drop(view);
    judge.expect("after its end", machine::touch(frame, Touch::Read).is_err(), true);
}

/// Tries until something can be had, for some seconds.
fn patiently<T>(mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    const TRIES: u32 = 100;
    (0..TRIES).find_map(|_| {
        let found = attempt();
        if found.is_none() {
            time::sleep(Duration::from_millis(50));
        }
        found
    })
}

/// The frame that is shared: both know it from their command lines.
fn shared_frame() -> u64 {
    argument("frame").and_then(|number| number.parse().ok()).unwrap_or(ANY)
}

fn maker(judge: &mut Judge) {
    let Some(frame) = judge.allowed("the frame", hypercall::page_alloc(shared_frame(), 1, 1)) else { return };
    let Some(view) = judge.allowed("a view", View::showing(&frame)) else { return };
    judge.expect("writing inside", machine::inside(&view, Inside::Write(0, MADE)), Ok(0));
    // For the taker, which may bind the frame to read it: with that it must not touch the maker's own
    // binding.
    let part = hypercall::derive(&frame, first_of(&frame), 1, Rights::READ);
    if let Some(part) = judge.allowed("a narrower capability", part) {
        for (half, value) in (PASSED..).zip(part.0.into_iter().flat_map(|word| [word & LOW, word >> 32])) {
            let written = machine::inside(&view, Inside::Write(half, value));
            judge.expect("passing it on", written, Ok(0));
        }
    }
    judge.allowed("offering", hypercall::view_offer(view.number(), 2));
    let taken = patiently(|| (machine::inside(&view, Inside::Read(1)) == Ok(TAKEN)).then_some(()));
    judge.found("what the other wrote", taken);
    judge.expect("writing still", machine::inside(&view, Inside::Write(0, MADE)), Ok(0));
}

/// The frame that a capability is for.
fn first_of(capability: &Capability) -> u64 {
    capability.claim().map_or(0, |claim| claim.first)
}

fn taker(judge: &mut Judge) {
    judge.allowed("a handler", machine::catch_faults());
    let frame = shared_frame();
    let joined = patiently(|| View::join(1, 1, frame..frame + 1).ok());
    let Some(view) = judge.found("an offer", joined) else { return };
    judge.refused("the offer again", hypercall::view_accept(1, 1), Status::InUse);
    judge.refused("passing it on", hypercall::view_offer(view.number(), 3), Status::NoRight);
    let unbind = machine::call(Call::PageUnbind as u64, [frame, 1, view.number(), 0, 0, 0]);
    judge.refused("unbinding the maker's frame", unbind, Status::NoRight);
    let half = |half| machine::inside(&view, Inside::Read(PASSED + half)).unwrap_or(0);
    let passed = Capability([0, 2, 4, 6].map(|low| half(low) | half(low + 1) << 32));
    let lower = machine::page_bind_in(view.number(), &passed, Rights::READ);
    judge.refused("making the maker's binding read-only", lower, Status::InUse);
    judge.expect("outside", machine::touch(frame, Touch::Read).is_err(), true);
    judge.expect("what the maker wrote", machine::inside(&view, Inside::Read(0)), Ok(MADE));
    judge.expect("writing", machine::inside(&view, Inside::Write(1, TAKEN)), Ok(0));
    time::sleep(Duration::from_millis(300));
    let gone = patiently(|| machine::inside(&view, Inside::Read(0)).err());
    judge.expect("after the maker's end", gone, Some(Status::NoSuch));
    judge.expect("outside, after that", machine::touch(frame, Touch::Read).is_err(), true);
}
