//! Time: what a tick of the time stamp counter is, and the local APIC's timer.

use super::vector;
use core::sync::atomic::{AtomicU64, Ordering};
use hyperexo_abi::upcall::Cause;
use hyperexo_hw::apic::LocalApic;
use hyperexo_hw::descriptor::{MAX_NUMBERS, core_number};
use hyperexo_hw::time::{self, Calibration};

/// Where the frequency of the time stamp counter comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// KVM's paravirtual clock.
    KvmClock,
    /// Measured against the programmable interval timer.
    IntervalTimer,
}

impl core::fmt::Display for Source {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Source::KvmClock => "kvmclock",
            Source::IntervalTimer => "the interval timer",
        })
    }
}

/// What time is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// Ticks of the time stamp counter in a second.
    pub tsc_hz: u64,
    /// Where that comes from.
    pub source: Source,
    timer: Timer,
}

/// How the timer is set.
#[derive(Clone, Copy, Debug)]
enum Timer {
    /// To a value of the time stamp counter.
    Deadline,
    /// To a number of steps; so many make a second.
    Steps(u64),
}

impl Clock {
    /// Finds out. Measures nothing if the hypervisor tells the frequency and the timer counts ticks.
    ///
    /// # Safety
    ///
    /// Privilege level 0, interrupts disabled; nobody else uses the timers.
    pub unsafe fn start(apic: &LocalApic) -> Clock {
        // SAFETY: privilege level 0, memory mapped linearly.
        let told = unsafe { time::kvm_clock_hz() };
        let deadline = LocalApic::has_tsc_deadline();
        if let Some(tsc_hz) = told.filter(|_| deadline) {
            return Clock { tsc_hz, source: Source::KvmClock, timer: Timer::Deadline };
        }
        apic.run_free();
        // SAFETY: by the caller's promise.
        let Calibration { tsc_hz, other_hz } = unsafe { time::calibrate(|| apic.timer_count()) };
        apic.one_shot(vector::TIMER, 0);
        let (tsc_hz, source) = match told {
            Some(hz) => (hz, Source::KvmClock),
            None => (tsc_hz, Source::IntervalTimer),
        };
        Clock { tsc_hz, source, timer: if deadline { Timer::Deadline } else { Timer::Steps(other_hz) } }
    }

    /// Steps of the timer in a number of ticks: at least one, at most as many as it can count.
    fn steps(&self, ticks: u64, steps_hz: u64) -> u32 {
        let steps = u128::from(ticks) * u128::from(steps_hz) / u128::from(self.tsc_hz.max(1));
        u32::try_from(steps).unwrap_or(u32::MAX).max(1)
    }

    /// Ticks in a number of microseconds.
    pub fn ticks_of_us(&self, us: u64) -> u64 {
        let ticks = u128::from(us) * u128::from(self.tsc_hz) / 1_000_000;
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }
}

/// When the timer of each core is due, by the core's number. 0 means never.
static DUE: [AtomicU64; MAX_NUMBERS] = [const { AtomicU64::new(0) }; MAX_NUMBERS];

/// Sets the calling core's timer. 0 stops it.
pub(super) fn set_timer(apic: &LocalApic, clock: &Clock, ticks: u64) {
    DUE[core_number()].store(ticks, Ordering::Relaxed);
    arm(apic, clock, ticks);
}

/// When the calling core's timer is due, if it is set.
fn due() -> Option<u64> {
    Some(DUE[core_number()].load(Ordering::Relaxed)).filter(|ticks| *ticks != 0)
}

fn arm(apic: &LocalApic, clock: &Clock, ticks: u64) {
    match clock.timer {
        // SAFETY: `Clock::start` found the register.
        Timer::Deadline => unsafe { apic.at_tick(vector::TIMER, ticks) },
        Timer::Steps(_) if ticks == 0 => apic.one_shot(vector::TIMER, 0),
        Timer::Steps(hz) => {
            apic.one_shot(vector::TIMER, clock.steps(ticks.saturating_sub(time::ticks()), hz))
        }
    }
}

/// The causes of an upcall when the calling core's timer interrupts. None if it is too early, because the
/// timer could not count as far as it should: it is armed again.
pub(super) fn timer_fired(apic: &LocalApic, clock: &Clock) -> u64 {
    match due() {
        None => 0,
        Some(ticks) if time::ticks() < ticks => {
            arm(apic, clock, ticks);
            0
        }
        Some(_) => {
            DUE[core_number()].store(0, Ordering::Relaxed);
            Cause::Timer as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timer_counts_as_far_as_it_can() {
        let clock =
            Clock { tsc_hz: 2_000_000_000, source: Source::IntervalTimer, timer: Timer::Steps(62_500_000) };
        assert_eq!(clock.steps(2_000_000_000, 62_500_000), 62_500_000);
        assert_eq!(clock.steps(1, 62_500_000), 1);
        assert_eq!(clock.steps(u64::MAX, 62_500_000), u32::MAX);
        assert_eq!(clock.ticks_of_us(3), 6000);
        assert_eq!(clock.ticks_of_us(u64::MAX), u64::MAX);
    }
}
