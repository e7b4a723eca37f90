//! The time stamp counter and what it counts.

use core::arch::x86_64::__cpuid;
use core::sync::atomic::{AtomicU32, Ordering, fence};
use x86::io::{inb, outb};
use x86::msr::wrmsr;

/// Frequency of the programmable interval timer, in Hz.
const PIT_HZ: u64 = 1_193_182;
const PIT_CHANNEL_0: u16 = 0x40;
const PIT_COMMAND: u16 = 0x43;
/// Channel 0, both bytes of the count, mode 0: the output rises at the end of the count.
const PIT_COUNT_ONCE: u8 = 0b0011_0000;
/// Read back the status of channel 0.
const PIT_STATUS: u8 = 0b1110_0010;
/// Status: the output; the count has not been loaded yet.
const PIT_OUTPUT: u8 = 1 << 7;
const PIT_NOT_LOADED: u8 = 1 << 6;
/// How long one measurement of a calibration takes.
const MEASUREMENT_MS: u64 = 2;
/// Measurements of a calibration at most.
const MEASUREMENTS: usize = 5;
/// Two measurements that differ by less than one part in so many are both right.
const AGREEMENT: u64 = 1000;
/// A frequency that stands in when the timer never ends its count: no such timer, or one that is not
/// emulated.
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

/// Measures the time stamp counter, and another counter that `read` reads and that counts *down*, against
/// channel 0 of the programmable interval timer, for 2 ms, until two measurements agree, at most five times.
///
/// Whoever is kept from running between two looks (a virtual machine whose host has other work) sees the end
/// of the count too late, never too early: the measurement with the fewest ticks is the right one, the more
/// so if another had as few.
///
/// # Safety
///
/// The caller has I/O privilege, nobody else uses the timer, and its interrupt is masked or not wanted.
/// Channel 0, because a machine may lack the port that controls channel 2, the speaker's.
pub unsafe fn calibrate(read: impl Fn() -> u32) -> Calibration {
    let mut fewest: Option<Calibration> = None;
    for _ in 0..MEASUREMENTS {
        // SAFETY: the caller's promise.
        let Some(one) = (unsafe { measure(&read) }) else { break };
        let agrees = fewest.is_some_and(|other| one.tsc_hz.abs_diff(other.tsc_hz) < one.tsc_hz / AGREEMENT);
        if fewest.is_none_or(|other| one.tsc_hz < other.tsc_hz) {
            fewest = Some(one);
        }
        if agrees {
            break;
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
    // SAFETY: the caller owns the timer.
    unsafe {
        outb(PIT_COMMAND, PIT_COUNT_ONCE);
        outb(PIT_CHANNEL_0, count as u8);
    }
    // Before the count begins: a pause between the two makes it seem too long, not too short.
    let (start, other_start) = (ticks(), read());
    // SAFETY: as above.
    unsafe { outb(PIT_CHANNEL_0, (count >> 8) as u8) };
    let ended = || {
        // SAFETY: as above.
        let status = unsafe {
            outb(PIT_COMMAND, PIT_STATUS);
            inb(PIT_CHANNEL_0)
        };
        status & PIT_OUTPUT != 0 && status & PIT_NOT_LOADED == 0
    };
    // Bounded in ticks: no processor of interest counts 2³³ of them in 2 ms.
    while !ended() {
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

/// First CPUID leaf of hypervisors; KVM's name there.
const HYPERVISOR_LEAF: u32 = 0x4000_0000;
const KVM_NAME: [u32; 3] =
    [u32::from_le_bytes(*b"KVMK"), u32::from_le_bytes(*b"VMKV"), u32::from_le_bytes(*b"M\0\0\0")];
/// CPUID leaf 1, ECX: there is a hypervisor.
const CPUID_HYPERVISOR: u32 = 1 << 31;
/// KVM's features, EAX of the second leaf: the clock with the register below.
const KVM_CLOCK: u32 = 1 << 3;
/// KVM's register for the address of a [`KvmTime`]; bit 0 turns it on.
const KVM_SYSTEM_TIME: u32 = 0x4b56_4d01;

/// What KVM writes about its clock (Linux `Documentation/virt/kvm/x86/msr.rst`, `pvclock_vcpu_time_info`), in
/// 32-bit words.
#[repr(C, align(64))]
struct KvmTime([AtomicU32; 8]);

/// Ticks of the time stamp counter in a second, as KVM's paravirtual clock tells; `None` without KVM, or if
/// it does not say.
///
/// # Safety
///
/// Ring 0, called by one core; the image lies in memory whose physical addresses are those it is linked at.
pub unsafe fn kvm_clock_hz() -> Option<u64> {
    static TIME: KvmTime = KvmTime([const { AtomicU32::new(0) }; 8]);
    if __cpuid(1).ecx & CPUID_HYPERVISOR == 0 {
        return None;
    }
    let name = __cpuid(HYPERVISOR_LEAF);
    if [name.ebx, name.ecx, name.edx] != KVM_NAME || __cpuid(HYPERVISOR_LEAF + 1).eax & KVM_CLOCK == 0 {
        return None;
    }
    // SAFETY: the register is offered; KVM writes atomics, at their physical address (caller), until it is
    // told to stop.
    unsafe {
        wrmsr(KVM_SYSTEM_TIME, &raw const TIME as u64 | 1);
        fence(Ordering::SeqCst);
    }
    let word = |index: usize| TIME.0[index].load(Ordering::Acquire);
    // Word 6: factor from ticks to nanoseconds, in units of 2⁻³²; the lowest byte of word 7: a shift of the
    // ticks before that.
    let found = hz_of_factor(word(6), word(7) as i8);
    // SAFETY: as above.
    unsafe { wrmsr(KVM_SYSTEM_TIME, 0) };
    found
}

/// The frequency whose ticks, shifted left by `shift` and times `factor` / 2³², are nanoseconds.
fn hz_of_factor(factor: u32, shift: i8) -> Option<u64> {
    let hz = (1_000_000_000u128 << 32).checked_div(factor.into())?;
    let hz = if shift < 0 { hz.checked_shl(u32::from(shift.unsigned_abs()))? } else { hz >> shift };
    u64::try_from(hz).ok().filter(|hz| *hz > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_of_factors() {
        // 2 GHz: half a nanosecond a tick. 500 MHz: two, so the ticks are doubled first.
        assert_eq!(hz_of_factor(1 << 31, 0), Some(2_000_000_000));
        assert_eq!(hz_of_factor(1 << 31, 2), Some(500_000_000));
        assert_eq!(hz_of_factor(1 << 31, -1), Some(4_000_000_000));
        assert_eq!(hz_of_factor(0, 0), None);
        assert_eq!(hz_of_factor(u32::MAX, 127), None);
    }
}
