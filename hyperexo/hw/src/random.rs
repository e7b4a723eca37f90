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
    // SAFETY: the processor has the instruction, as was just seen.
    plausible(|number| unsafe { _rdrand64_step(number) } == 1)
}

/// A number that `step` gives, if it gives numbers at all, and not always the same: some processors say so of
/// -1 after they have slept.
fn plausible(mut step: impl FnMut(&mut u64) -> bool) -> Option<u64> {
    let mut draw = || {
        let mut number = 0;
        (0..TRIES).any(|_| step(&mut number)).then_some(number)
    };
    let (first, second) = (draw()?, draw()?);
    (first != second).then_some(second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_generator_gives_nothing() {
        assert_eq!(plausible(|_| false), None, "nothing to give");
        let stuck = |number: &mut u64| {
            *number = u64::MAX;
            true
        };
        assert_eq!(plausible(stuck), None, "always the same");
        let (mut calls, mut last) = (0, 7);
        let slow = |number: &mut u64| {
            (calls, last) = (calls + 1, last * 3);
            *number = last;
            calls % 3 == 0
        };
        assert!(plausible(slow).is_some());
    }
}
