//! The processor's generator of random numbers.

use core::arch::x86_64::{__cpuid, _rdrand64_step};

/// CPUID leaf 1, ECX: there is RDRAND.
const CPUID_RDRAND: u32 = 1 << 30;
/// Times that the generator may have nothing to give before it counts as broken (SDM vol. 1 §7.3.17.1).
const TRIES: usize = 10;

/// A number that nobody can guess; `None` if the processor has no generator, or a broken one.
pub fn number() -> Option<u64> {
    if __cpuid(1).ecx & CPUID_RDRAND == 0 {
        return None;
    }
    let mut number = 0;
    // SAFETY: the processor has the instruction, as was just seen.
    (0..TRIES).any(|_| unsafe { _rdrand64_step(&mut number) } == 1).then_some(number)
}
