//! The time stamp counter and what it counts.

use x86::io::{inb, outb};

/// Frequency of the programmable interval timer, in Hz.
const PIT_HZ: u64 = 1_193_182;
const PIT_CHANNEL_2: u16 = 0x42;
const PIT_COMMAND: u16 = 0x43;
const SPEAKER: u16 = 0x61;
/// How long one measurement of a calibration takes.
const MEASUREMENT_MS: u64 = 2;
/// Measurements of a calibration.
const MEASUREMENTS: usize = 5;
/// A frequency that stands in when the timer never ends its count: no such timer, or one that is not emulated.
const ASSUMED_HZ: u64 = 1_000_000_000;

/// Reads the time stamp counter.
pub fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has RDTSC; it reads a counter and nothing else.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// What [`calibrate`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calibration {
    /// Ticks of the time stamp counter in a second.
    pub tsc_hz: u64,
    /// Steps of the other counter in a second.
    pub other_hz: u64,
}

/// Measures the time stamp counter, and another counter that `read` reads and that counts *down*, against channel 2
/// of the programmable interval timer: five times for 2 ms.
///
/// Whoever is kept from running between two looks (a virtual machine whose host has other work) sees the end of the count
/// too late, never too early: the measurement with the fewest ticks is the right one.
///
/// # Safety
///
/// The caller has I/O privilege, and nobody else uses the timer's channel 2.
pub unsafe fn calibrate(read: impl Fn() -> u32) -> Calibration {
    let mut fewest: Option<Calibration> = None;
    for _ in 0..MEASUREMENTS {
        // SAFETY: the caller's promise.
        let Some(one) = (unsafe { measure(&read) }) else { break };
        if fewest.is_none_or(|other| one.tsc_hz < other.tsc_hz) {
            fewest = Some(one);
        }
    }
    fewest.unwrap_or(Calibration { tsc_hz: ASSUMED_HZ, other_hz: ASSUMED_HZ })
}

/// One measurement; `None` if the timer does not end its count.
///
/// # Safety
///
/// As [`calibrate`].
unsafe fn measure(read: &impl Fn() -> u32) -> Option<Calibration> {
    let count = PIT_HZ * MEASUREMENT_MS / 1000;
    // SAFETY: the caller owns channel 2; mode 0, gate on, speaker off.
    unsafe {
        outb(SPEAKER, inb(SPEAKER) & !2 | 1);
        outb(PIT_COMMAND, 0b1011_0000);
        outb(PIT_CHANNEL_2, count as u8);
        outb(PIT_CHANNEL_2, (count >> 8) as u8);
    }
    let (start, other_start) = (ticks(), read());
    // Bounded in ticks: no processor of interest counts 2³³ of them in 2 ms.
    // SAFETY: as above; bit 5 is the output of channel 2.
    while unsafe { inb(SPEAKER) } & 0x20 == 0 {
        if ticks().wrapping_sub(start) > 1 << 33 {
            return None;
        }
    }
    let (end, other_end) = (ticks(), read());
    let per_second = |steps: u64| (steps * 1000 / MEASUREMENT_MS).max(1);
    Some(Calibration {
        tsc_hz: per_second(end.wrapping_sub(start)),
        other_hz: per_second(u64::from(other_start.wrapping_sub(other_end))),
    })
}
