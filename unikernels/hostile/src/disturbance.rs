//! Endless loops, storms, suicide.

use crate::judge::{Attempt, Judge};
use crate::machine;
use core::sync::atomic::{AtomicU64, Ordering};
use hyperexo_abi::hypercall::Status;
use libos_core::exo::hypercall;
use libos_core::{accounting, argument, time};

/// Calls in a storm.
const STORM: u64 = 2000;

pub const ATTEMPTS: &[Attempt] = &[
    Attempt::killed("triple-fault", "raises an exception without a descriptor table", |_| {
        machine::triple_fault()
    }),
    Attempt::killed("halt-forever", "halts with interrupts disabled", |_| machine::halt_forever()),
    Attempt::killed("unmap-self", "takes a page of zeros for its page table", |_| {
        let page = machine::zero_page();
        machine::load_cr3(
            libos_core::memory::frame_of(&page).unwrap_or_default() << hyperexo_abi::FRAME_SHIFT,
        );
    }),
    Attempt::survives(
        "hog",
        "computes with interrupts disabled for ms=N (default 1000), gives nothing up",
        hog,
    ),
    Attempt::survives("interrupt-storm", "software interrupts, upcalls without cause", interrupt_storm),
    Attempt::survives("timer-storm", "timers in the past and at the end of time", timer_storm),
    Attempt::survives("yield-storm", "yielding to nobody and to environments that do not exist", yield_storm),
    Attempt::survives("yield-to-self", "yields to itself for a second", yield_to_self),
    Attempt::survives("call-storm", "hypercalls without pause, interrupts enabled and disabled", call_storm),
];

fn hog(judge: &mut Judge) {
    let milliseconds: u64 = argument("ms").and_then(|number| number.parse().ok()).unwrap_or(1000);
    machine::disable_interrupts();
    let end = time::now_ns() + milliseconds * 1_000_000;
    while time::now_ns() < end {}
    machine::enable_interrupts();
    judge.harmless();
}

fn interrupt_storm(judge: &mut Judge) {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let before = COUNT.load(Ordering::Relaxed);
    machine::count_interrupts(&COUNT);
    for _ in 0..STORM {
        machine::software_interrupt();
        machine::fake_upcall();
    }
    judge.expect("every interrupt found its handler", COUNT.load(Ordering::Relaxed) - before, STORM);
}

fn timer_storm(judge: &mut Judge) {
    for number in 0..STORM {
        let tick = match number % 4 {
            0 => 1,
            1 => time::ticks(),
            2 => u64::MAX,
            _ => time::ticks() + 1000,
        };
        judge.allowed(format_args!("timer at {tick}"), hypercall::timer_set(tick));
    }
    judge.allowed("no timer", hypercall::timer_set(0));
    time::sleep(core::time::Duration::from_millis(2));
    let upcalls = accounting().upcalls.load(Ordering::Relaxed);
    judge.expect("timers still wake us", upcalls > 0, true);
}

fn yield_storm(judge: &mut Judge) {
    for number in 0..STORM {
        let target = [0, 1, 63, 64, 65535, 65536, 1 << 32, u64::MAX][number as usize % 8];
        judge.expect("yield", yields(target), true);
    }
}

/// Whether a yield returned as it may: done, or refused because there is no such environment.
fn yields(target: u64) -> bool {
    matches!(hypercall::yield_to(target), Ok(()) | Err(Status::NoSuch | Status::BadArgument))
}

fn yield_to_self(judge: &mut Judge) {
    let own = libos_core::exo::start_info().environment;
    let end = time::now_ns() + 1_000_000_000;
    let mut refused = 0;
    while time::now_ns() < end {
        refused += u64::from(!yields(own));
    }
    judge.expect("yields refused in an odd way", refused, 0);
}

/// How long each of two storms of calls lasts.
const CALL_STORM_NS: u64 = 300_000_000;

/// Calls that do nothing follow each other so fast that the kernel must be reached between them, whatever the
/// flag says.
fn call_storm(judge: &mut Judge) {
    let mut storm = |what| {
        let end = time::now_ns() + CALL_STORM_NS;
        while time::now_ns() < end {
            for _ in 0..100 {
                judge.allowed(what, hypercall::null());
            }
        }
    };
    storm("null");
    machine::disable_interrupts();
    storm("null with interrupts disabled");
    machine::enable_interrupts();
}
