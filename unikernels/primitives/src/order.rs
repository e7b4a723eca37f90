//! An order of pages that nobody can guess from the last one, the same everywhere.

use alloc::vec::Vec;

/// The numbers below `count`, shuffled (Fisher and Yates; xorshift of Marsaglia).
pub fn shuffled(count: u64) -> Vec<u64> {
    let mut numbers: Vec<u64> = (0..count).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for last in (1..numbers.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        numbers.swap(last, (state % (last as u64 + 1)) as usize);
    }
    numbers
}
