//! What time it is, in ticks of the time stamp counter.
#![forbid(unsafe_code)]

use hyperexo_hw::time::ticks;

/// Time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Ticks of the TSC in a second.
    pub tsc_hz: u64,
    /// TSC value when the kernel was entered.
    pub boot_tsc: u64,
    /// Steps of the local APIC timers in a second.
    pub apic_hz: u64,
}

impl Clock {
    /// The time, in ticks.
    pub fn now(&self) -> u64 {
        ticks()
    }

    /// Ticks in a number of microseconds.
    pub fn ticks_of_us(&self, us: u64) -> u64 {
        scale(us, self.tsc_hz, 1_000_000)
    }

    /// Steps of a local APIC timer in a number of ticks, as many as the timer can count, at least one.
    pub fn timer_steps(&self, ticks: u64) -> u32 {
        u32::try_from(scale(ticks, self.apic_hz, self.tsc_hz)).unwrap_or(u32::MAX).max(1)
    }
}

/// `value * numerator / denominator` without overflow on the way.
fn scale(value: u64, numerator: u64, denominator: u64) -> u64 {
    let scaled = u128::from(value) * u128::from(numerator) / u128::from(denominator.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_count_at_least_one_step_and_never_overflow() {
        let clock = Clock { tsc_hz: 3_000_000_000, boot_tsc: 0, apic_hz: 1_000_000_000 };
        assert_eq!(clock.ticks_of_us(10), 30_000);
        assert_eq!(clock.timer_steps(30), 10);
        assert_eq!(clock.timer_steps(0), 1);
        assert_eq!(clock.timer_steps(u64::MAX), u32::MAX);
        assert_eq!(clock.ticks_of_us(u64::MAX), u64::MAX);
    }
}
