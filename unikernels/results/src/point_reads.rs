//! Requests for one record each, timed one by one.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What a store's point reads (*GETs*) took, apart from all its other requests. One client waits for each
/// answer before it asks again, so the rate is that of the time spent on them alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PointReads {
    /// How many there were.
    pub count: u64,
    /// Their number divided by the time that they took together.
    pub per_second: f64,
    /// Time that half of them took at most, in microseconds.
    pub p50_us: f64,
    /// Time that 99 of 100 took at most, in microseconds.
    pub p99_us: f64,
}

impl PointReads {
    /// From the time of each, in nanoseconds, in any order. `None` if there were none.
    pub fn of(mut times_ns: Vec<u64>) -> Option<PointReads> {
        times_ns.sort_unstable();
        let count = times_ns.len();
        let sum_ns: u64 = times_ns.iter().sum();
        // The smallest that so many hundredths do not exceed (nearest rank).
        let percentile = |hundredths: usize| {
            let rank = (count * hundredths).div_ceil(100);
            times_ns.get(rank.checked_sub(1)?).map(|time_ns| *time_ns as f64 / 1e3)
        };
        Some(PointReads {
            count: count as u64,
            per_second: count as f64 * 1e9 / sum_ns.max(1) as f64,
            p50_us: percentile(50)?,
            p99_us: percentile(99)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let of = |times: &[u64]| PointReads::of(times.to_vec());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[3_000]).map(|one| (one.p50_us, one.p99_us)), Some((3.0, 3.0)));
        let hundred: Vec<u64> = (1..=100).rev().map(|micro| micro * 1000).collect();
        let all = of(&hundred).expect("there are some");
        assert_eq!((all.count, all.p50_us, all.p99_us), (100, 50.0, 99.0));
        assert!((all.per_second - 100.0 / 5050e-6).abs() < 1e-6, "{}", all.per_second);
    }
}
