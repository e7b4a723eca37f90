//! The one timer of each core, shared by all who wait on it.
//!
//! Whoever waits says when it has to look again ([`wake_by`]); the timer is set to the earliest. When it has
//! fired, all look again, and those that go on waiting say so again.

use crate::platform;
use core::sync::atomic::{AtomicU64, Ordering};
use hyperexo_hw::descriptor::{MAX_NUMBERS, core_number};

/// When the timer of each core fires, by the core's number. 0: it is not set.
static DUE: [AtomicU64; MAX_NUMBERS] = [const { AtomicU64::new(0) }; MAX_NUMBERS];

/// Has [`hyperexo_abi::upcall::Cause::Timer`] raised on the calling virtual CPU when the TSC reaches `ticks`,
/// at the latest. Called with interrupts disabled.
pub(crate) fn wake_by(ticks: u64) {
    let due = &DUE[core_number()];
    let before = due.load(Ordering::Relaxed);
    if before == 0 || ticks < before || before <= hyperexo_hw::time::ticks() {
        // One that is due already, but was not heard of: it is not to be lost.
        let earliest = if before == 0 { ticks } else { ticks.min(before) };
        due.store(earliest, Ordering::Relaxed);
        platform::current().set_timer(earliest);
    }
}

/// Notes that the calling virtual CPU's timer has fired.
pub(super) fn fired() {
    DUE[core_number()].store(0, Ordering::Relaxed);
}
