//! What crosses into the exokernel, or nearly does.

use super::measure::{measure, report};
use crate::machine::crossings as machine;
use core::arch::x86_64::__cpuid;
use core::fmt::Debug;
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};
use hyperexo_abi::upcall::Cause;
use libos_core::exo::hypercall;
use libos_core::exo::view::{View, Way};
use libos_core::{cores, println, time, upcall};
use machine::SpareFrame;

/// How far ahead the timer is set, in microseconds.
const TIMER_US: u64 = 100;

/// Calls of the exokernel, for images that run on it.
pub fn run(rounds: u64) -> Result<(), &'static str> {
    null_call(rounds);
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
    timer(rounds.min(50));
    if cores::count() > 1 {
        wake(rounds)?;
    }
    Ok(())
}

/// The call that does nothing, alone.
pub fn null_call(rounds: u64) {
    measure("hypercall", rounds, || refused_never(hypercall::null()));
}

/// A call that can't fail unless the kernel is wrong.
fn refused_never<E: Debug>(result: Result<(), E>) {
    if let Err(error) = result {
        println!("error: refused: {error:?}");
        libos_core::exit(1);
    }
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
