//! What crossings into the exokernel cost, and what costs none: one JSON line for each primitive, with ticks
//! of the TSC and exits for one operation.
//!
//! | word | what it does |
//! |---|---|
//! | `rounds=N` | operations in a batch (default 200) |
//!
//! Of [`BATCHES`] batches the fastest counts: the others were disturbed by something that is not measured.
//! With a second core the way of an inter-processor interrupt is measured, too.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod machine;

use core::arch::x86_64::__cpuid;
use core::fmt::Debug;
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};
use hyperexo_abi::accounting::{EXIT_KINDS, EXIT_NAMES};
use hyperexo_abi::upcall::Cause;
use libos_core::exo::hypercall;
use libos_core::exo::view::{View, Way};
use libos_core::{accounting, cores, print, println, time, upcall};
use machine::SpareFrame;

libos_core::main!(main);

const BATCHES: u64 = 5;
const ROUNDS: u64 = 200;
/// How far ahead the timer is set, in microseconds.
const TIMER_US: u64 = 100;

fn main() -> i32 {
    let rounds = match libos_core::arguments().number("rounds") {
        Ok(rounds) => rounds.unwrap_or(ROUNDS).max(1),
        Err(error) => {
            println!("error: {error}");
            return 2;
        }
    };
    machine::prepare();
    match run(rounds) {
        Ok(()) => 0,
        Err(error) => {
            println!("error: {error:?}");
            1
        }
    }
}

fn run(rounds: u64) -> Result<(), &'static str> {
    measure("nothing", rounds, || black_box(()));
    measure("hypercall", rounds, || refused_never(hypercall::null()));
    measure("cpuid", rounds, || {
        black_box(__cpuid(0));
    });
    let frame = SpareFrame::new().map_err(|_| "no frame to spare")?;
    measure("bind-touch-unbind", rounds, || refused_never(frame.bind_touch_unbind()));
    machine::prepare_nested_fault(&frame).map_err(|_| "nested faults are not delivered")?;
    measure("nested-fault", rounds, machine::nested_fault);
    let view = View::new(1).map_err(|_| "no view")?;
    measure("view-call", rounds, || refused_never(machine::call_inside(&view).map(drop)));
    let pair = if view.way() == Way::Vmfunc { "vmfunc-pair" } else { "view-switch-pair" };
    report(pair, rounds, || machine::change_back_and_forth(&view, rounds));
    measure("breakpoint", rounds, machine::breakpoint);
    measure("page-fault", rounds, machine::page_fault);
    measure("cr3-load", rounds, machine::load_cr3);
    timer(rounds.min(50));
    if cores::count() > 1 {
        wake(rounds)?;
    }
    Ok(())
}

/// A call that can't fail unless the kernel is wrong.
fn refused_never<E: Debug>(result: Result<(), E>) {
    if let Err(error) = result {
        println!("error: refused: {error:?}");
        libos_core::exit(1);
    }
}

/// Measures `operation`, which takes all of its ticks itself.
fn measure(name: &str, rounds: u64, mut operation: impl FnMut()) {
    report(name, rounds, || {
        let start = time::ticks();
        (0..rounds).for_each(|_| operation());
        time::ticks() - start
    });
}

/// Runs batches of `rounds` operations, whose ticks `batch` returns, and prints the fastest.
fn report(name: &str, rounds: u64, mut batch: impl FnMut() -> u64) {
    // The first one finds nothing where it should be.
    batch();
    let mut best = (u64::MAX, [0; EXIT_KINDS]);
    for _ in 0..BATCHES {
        let before = exits();
        let ticks = batch();
        let after = exits();
        if ticks < best.0 {
            best = (ticks, core::array::from_fn(|kind| after[kind] - before[kind]));
        }
    }
    let (ticks, exits) = best;
    let each = |count: u64| count as f64 / rounds as f64;
    print!("{{\"primitive\":\"{name}\",\"operations\":{rounds},\"ticks\":{:.2},\"exits\":{{", each(ticks));
    let seen = EXIT_NAMES.iter().zip(exits).filter(|(_, count)| *count > 0);
    for (number, (kind, count)) in seen.enumerate() {
        print!("{}\"{kind}\":{:.2}", if number > 0 { "," } else { "" }, each(count));
    }
    println!("}}}}");
}

fn exits() -> [u64; EXIT_KINDS] {
    core::array::from_fn(|kind| accounting().exits[kind].load(Ordering::Relaxed))
}

/// When the handler of an upcall was reached; 0 before.
static REACHED: AtomicU64 = AtomicU64::new(0);

fn note_time() {
    REACHED.store(time::ticks(), Ordering::Release);
}

/// The computing program is preempted by a timer and gets on: the gap that it sees, upcall and handler
/// included.
fn timer(rounds: u64) {
    upcall::set_handler(Cause::Timer, note_time);
    let ahead = time::tsc_hz() * TIMER_US / 1_000_000;
    report("timer-preemption", rounds, || {
        (0..rounds)
            .map(|_| {
                REACHED.store(0, Ordering::Relaxed);
                refused_never(hypercall::timer_set(time::ticks() + ahead));
                // The upcall comes between two readings of the clock, or after the last: the widest gap is
                // its.
                let (mut last, mut gap) = (time::ticks(), 0);
                loop {
                    let reached = REACHED.load(Ordering::Acquire) != 0;
                    let now = time::ticks();
                    gap = gap.max(now - last);
                    if reached {
                        return gap;
                    }
                    last = now;
                }
            })
            .sum()
    });
}

/// Tells the program on the other core to end.
static DONE: AtomicU64 = AtomicU64::new(0);

/// From a hypercall on one core to the handler on the other, where a program computes, and the news of it:
/// IPI, exit, upcall.
fn wake(rounds: u64) -> Result<(), &'static str> {
    upcall::set_handler(Cause::Wake, note_time);
    let other = (cores::current() + 1) % cores::count();
    let compute = |_| {
        while DONE.load(Ordering::Relaxed) == 0 {
            core::hint::spin_loop();
        }
    };
    let handle = cores::start(other, compute, 0).map_err(|_| "the other core can't be had")?;
    report("wake-other-core", rounds, || {
        (0..rounds)
            .map(|_| {
                REACHED.store(0, Ordering::Relaxed);
                let start = time::ticks();
                if cores::wake(other).is_err() {
                    println!("error: no virtual CPU on core {other}");
                    libos_core::exit(1);
                }
                // This core's clock alone: that of the other may differ.
                while REACHED.load(Ordering::Acquire) == 0 {
                    core::hint::spin_loop();
                }
                time::ticks() - start
            })
            .sum()
    });
    DONE.store(1, Ordering::Relaxed);
    handle.join();
    Ok(())
}
