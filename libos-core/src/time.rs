//! The clock: the processor's time stamp counter, and sleeping.

use crate::cpu::{timer, upcall};
use crate::platform;
use core::time::Duration;

const NANOSECONDS: u128 = 1_000_000_000;

/// The time stamp counter.
#[inline]
pub fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and nothing disables it at privilege level 0.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Ticks in a second.
pub fn tsc_hz() -> u64 {
    platform::facts().tsc_hz
}

/// Nanoseconds on a clock that never goes back. It starts at 0 where the TSC does.
pub fn now_ns() -> u64 {
    to_ns(ticks(), tsc_hz())
}

/// Nanoseconds since the kernel of the machine was entered.
pub fn since_boot_ns() -> u64 {
    to_ns(ticks().saturating_sub(platform::facts().boot_tsc), tsc_hz())
}

/// Ticks in a duration.
pub fn ticks_in(duration: Duration) -> u64 {
    to_ticks(duration, tsc_hz())
}

/// Sleeps. Meanwhile the core is free for others.
///
/// # Panics
///
/// With interrupts disabled, see [`upcall::wait_until`].
pub fn sleep(duration: Duration) {
    sleep_until(deadline_after(duration));
}

/// Sleeps until [`ticks`] has reached `deadline`.
///
/// # Panics
///
/// As [`sleep`].
pub fn sleep_until(deadline: u64) {
    upcall::wait_until(|| !wake_at(deadline));
}

/// Sleeps until `condition` holds or the time is over; without a timeout until it holds. Returns whether it
/// holds. It is looked at first of all and after every upcall: another core that makes it hold calls this one
/// ([`crate::cores::wake`]).
///
/// # Panics
///
/// As [`sleep`].
pub fn wait(timeout: Option<Duration>, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = timeout.map(deadline_after);
    let mut holds = false;
    upcall::wait_until(|| {
        holds = condition();
        holds || deadline.is_some_and(|deadline| !wake_at(deadline))
    });
    holds
}

/// The value of [`ticks`] after a duration.
pub(crate) fn deadline_after(duration: Duration) -> u64 {
    ticks().saturating_add(ticks_in(duration))
}

/// Has the calling virtual CPU woken when [`ticks`] reaches `deadline`. Returns `false` if it has already.
/// Called again after every upcall, as a handler may have set the timer meanwhile.
pub(crate) fn wake_at(deadline: u64) -> bool {
    let ahead = ticks() < deadline;
    if ahead {
        timer::wake_by(deadline);
    }
    ahead
}

fn to_ns(ticks: u64, hz: u64) -> u64 {
    (u128::from(ticks) * NANOSECONDS / u128::from(hz)) as u64
}

fn to_ticks(duration: Duration, hz: u64) -> u64 {
    u64::try_from(duration.as_nanos().saturating_mul(u128::from(hz)) / NANOSECONDS).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions() {
        assert_eq!(to_ns(3_000_000_000, 2_000_000_000), 1_500_000_000);
        assert_eq!(to_ns(u64::MAX, 1_000_000_000), u64::MAX);
        assert_eq!(to_ticks(Duration::from_millis(5), 2_500_000_000), 12_500_000);
        assert_eq!(to_ticks(Duration::MAX, 2_500_000_000), u64::MAX);
    }
}
