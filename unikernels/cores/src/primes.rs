//! Primes by trial division: the cores take ranges from a common counter.

use core::sync::atomic::{AtomicU64, Ordering};
use libos_core::cores::StartError;
use libos_core::time;

/// Numbers of one range.
const RANGE: u64 = 1000;

static NEXT: AtomicU64 = AtomicU64::new(0);
static LIMIT: AtomicU64 = AtomicU64::new(0);
static FOUND: AtomicU64 = AtomicU64::new(0);

/// The number of primes below `limit`, counted on so many cores, and how many microseconds it took.
pub fn count(limit: u64, cores: u64) -> Result<(u64, u64), StartError> {
    NEXT.store(0, Ordering::Relaxed);
    FOUND.store(0, Ordering::Relaxed);
    LIMIT.store(limit, Ordering::Relaxed);
    let begin = time::now_ns();
    super::on_all(cores, work)?;
    Ok((FOUND.load(Ordering::Relaxed), (time::now_ns() - begin) / 1000))
}

fn work(_place: u64) {
    let limit = LIMIT.load(Ordering::Relaxed);
    loop {
        let first = NEXT.fetch_add(RANGE, Ordering::Relaxed);
        if first >= limit {
            return;
        }
        let primes = (first..limit.min(first + RANGE)).filter(|number| is_prime(*number)).count();
        FOUND.fetch_add(primes as u64, Ordering::Relaxed);
    }
}

fn is_prime(number: u64) -> bool {
    number >= 2
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}
