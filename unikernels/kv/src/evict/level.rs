//! How often something is used lately, as a logarithm that need not be touched as time passes.
//!
//! A count whose uses lose half of their weight each *life* is at time `t` the sum of `2^(-(t - u) / life)`
//! over all uses `u` (the combined recency and frequency of D. Lee et al., "LRFU: a spectrum of policies
//! that subsumes the LRU and LFU policies", IEEE Trans. Computers 50(12), 2001). Its logarithm plus `t /
//! life`, the *level*, stays the same until the next use. So levels of different keys compare as their
//! counts do at any time, and a sorted set of them is in order without anybody's aging it.
//!
//! Logarithms are to the base 2, in fixed point, and linear between powers: `2^k (1 + m)` has `k + m`. That
//! is off by 0.09 at most, the same way in both directions.

/// A logarithm, with [`FRACTION`] bits behind the point.
pub type Level = i64;

/// Bits behind the point.
const FRACTION: u32 = 32;
/// A logarithm of 1: twice as much.
pub const ONE: Level = 1 << FRACTION;
/// From here on a further use makes no difference.
const MUCH: i64 = 20;
/// And below this, the uses before make none.
const LITTLE: i64 = -16;

/// The logarithm of a number; of 0 as of 1.
pub fn log(number: u64) -> Level {
    let number = number.max(1);
    let power = number.ilog2();
    let behind = number - (1 << power);
    let mantissa = if power > FRACTION { behind >> (power - FRACTION) } else { behind << (FRACTION - power) };
    (i64::from(power) << FRACTION) + mantissa as i64
}

/// The logarithm of one more than `2^level`.
pub fn plus_one(level: Level) -> Level {
    let power = level >> FRACTION;
    if power >= MUCH {
        return level;
    } else if power < LITTLE {
        return 0;
    }
    let mantissa = (level & (ONE - 1)) + ONE;
    let count = if power >= 0 { mantissa << power } else { mantissa >> -power };
    log((count + ONE) as u64) - (i64::from(FRACTION) << FRACTION)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(level: Level, expected: f64) -> bool {
        (level as f64 / ONE as f64 - expected).abs() < 0.1
    }

    #[test]
    fn logarithms_are_right_within_a_tenth() {
        for number in [1_u64, 2, 3, 7, 1000, 1 << 40, u64::MAX] {
            assert!(near(log(number), (number as f64).log2()), "{number}");
        }
        assert_eq!(log(0), 0);
    }

    #[test]
    fn one_more() {
        for exponent in [-20.0, -3.5, -1.0, 0.0, 0.5, 1.0, 4.0, 19.5, 25.0] {
            let level = (exponent * ONE as f64) as Level;
            assert!(near(plus_one(level), (exponent.exp2() + 1.0).log2()), "{exponent}");
        }
        let counted = (0..100).fold(i64::MIN / 2, |level, _| plus_one(level));
        assert!(near(counted, 100_f64.log2()), "a hundred uses");
    }
}
