//! Attacks on the time of others, and a victim that measures what is left to it.
//!
//! Each attack goes on for `ms=N` milliseconds (default 300). The victim is no attempt of its own: it
//! computes for as long, makes a small call now and then, and prints which part of the time it was its own.

use crate::judge::{Attempt, Judge};
use crate::machine;
use core::sync::atomic::Ordering;
use core::time::Duration;
use hyperexo_abi::ANY;
use hyperexo_abi::capability::Rights;
use hyperexo_abi::hypercall::{CONSOLE_MAX_BYTES, MAX_ALLOCATION_FRAMES};
use libos_core::exo::{hypercall, start_info};
use libos_core::{accounting, argument, cores, memory, println, time};

/// Milliseconds that an attack goes on.
const DEFAULT_MS: u64 = 300;
/// Milliseconds between two calls of the victim.
const CALL_EVERY_MS: u64 = 1;
/// Frames of an attacker's large calls, if its quota allows.
const LARGE: u64 = MAX_ALLOCATION_FRAMES;

pub const ATTEMPTS: &[Attempt] = &[
    Attempt::survives("lock-hog", "calls that name as much as they can, without pause", lock_hog),
    Attempt::survives(
        "console-flood",
        "lines of one byte, as many as a call takes, without pause",
        console_flood,
    ),
    Attempt::survives(
        "wake-neighbour",
        "wakes a virtual CPU that shares another's core, without pause",
        wake_neighbour,
    )
    .with_cores(),
];

/// Parts of tests with several environments.
pub const PARTS: &[Attempt] =
    &[Attempt::survives("victim", "computes, and tells which part of the time was its own", victim)];

fn duration() -> Duration {
    let milliseconds = argument("ms").and_then(|number| number.parse().ok()).unwrap_or(DEFAULT_MS);
    Duration::from_millis(milliseconds)
}

/// Does something again and again until the time is over; returns how often.
pub fn until_over(mut act: impl FnMut()) -> u64 {
    let end = time::now_ns() + duration().as_nanos() as u64;
    let mut times = 0;
    while time::now_ns() < end {
        act();
        times += 1;
    }
    times
}

/// Each call with the largest argument that it takes: what it costs must not be the others' time.
fn lock_hog(judge: &mut Judge) {
    let frames = LARGE.min(start_info().quota_frames / 4);
    let rounds = until_over(|| {
        let Ok(run) = hypercall::page_alloc(ANY, frames, 1) else { return };
        let Some(claim) = run.claim() else { return };
        let _ = machine::page_bind(&run, Rights::READ);
        let _ = hypercall::derive(&run, claim.first, 1, Rights::READ);
        let _ = machine::page_unbind(claim.first, claim.count);
        match hypercall::revoke(&run) {
            Ok(fresh) => judge.allowed("giving back", machine::page_free(&fresh)),
            Err(_) => judge.allowed("giving back", machine::page_free(&run)),
        };
    });
    judge.expect("rounds", rounds > 0, true);
    report();
}

/// Whether the queue takes all, some or nothing is the same to a flood.
fn console_flood(judge: &mut Judge) {
    let page = machine::page_of(b'\n');
    let Some(frame) = memory::frame_of(&page) else { return };
    let address = frame << hyperexo_abi::FRAME_SHIFT;
    let writes = until_over(|| {
        let _ = hypercall::console_write(address, CONSOLE_MAX_BYTES);
    });
    judge.expect("writes", writes > 0, true);
    let full = accounting().console_full.load(Ordering::Relaxed);
    judge.expect("it was told that there is no room", full > 0, true);
    report();
}

/// The other virtual CPU sleeps on the victim's core, or computes with interrupts disabled there: either way
/// a call that says nothing new must not interrupt the victim.
fn wake_neighbour(judge: &mut Judge) {
    let Some(other) = (0..cores::count()).find(|core| *core != cores::current()) else { return };
    let sleeper = |_| time::sleep(duration());
    let Some(handle) = judge.found("a second core", cores::start(other, sleeper, 0).ok()) else { return };
    let wakes = until_over(|| {
        let _ = cores::wake(other);
    });
    judge.expect("wakes", wakes > 0, true);
    report();
    handle.join();
}

/// Its part is what the processor was inside it, of all the time from the first look to the last.
fn victim(judge: &mut Judge) {
    let inside = || accounting().guest_cycles.load(Ordering::Relaxed);
    // The count moves at exits: one at each end.
    judge.allowed("a first call", hypercall::yield_to(start_info().environment));
    let (start, before) = (time::ticks(), inside());
    let (mut longest, mut due) = (0, time::now_ns());
    until_over(|| {
        if time::now_ns() < due {
            return;
        }
        due += CALL_EVERY_MS * 1_000_000;
        let called = time::ticks();
        judge.allowed("a timer", hypercall::timer_set(0));
        longest = longest.max(time::ticks() - called);
    });
    judge.allowed("a last call", hypercall::timer_set(0));
    let (elapsed, own) = (time::ticks() - start, inside() - before);
    let percent = own * 100 / elapsed.max(1);
    let held = longest_hold();
    println!(
        "{{\"victim\":{{\"own_percent\":{percent},\"longest_call_ticks\":{longest},\"longest_hold\":{held}}}}}"
    );
}

/// Longest time that the kernel's lock was held on our behalf.
fn longest_hold() -> u64 {
    accounting().longest_hold.load(Ordering::Relaxed)
}

/// Prints how long the kernel's lock was held on our behalf.
fn report() {
    println!("{{\"attack\":{{\"longest_hold\":{}}}}}", longest_hold());
}
