//! Batches, of which the fastest counts.

use crate::line::line;
use core::sync::atomic::Ordering;
use hyperexo_abi::accounting::{EXIT_KINDS, EXIT_NAMES};
use libos_core::{accounting, println, time};

/// Batches that count.
const BATCHES: u64 = 5;

/// Measures `operation`, which takes all of its ticks itself.
pub fn measure(name: &str, rounds: u64, mut operation: impl FnMut()) {
    report(name, rounds, || {
        let start = time::ticks();
        (0..rounds).for_each(|_| operation());
        time::ticks() - start
    });
}

/// Runs batches of so many operations, whose ticks `batch` returns, and prints the fastest.
pub fn report(name: &str, operations: u64, mut batch: impl FnMut() -> u64) {
    // The first one finds nothing where it should be.
    batch();
    let mut best = (u64::MAX, [0; EXIT_KINDS]);
    for _ in 0..BATCHES {
        let before = exits();
        let ticks = batch();
        let after = exits();
        if ticks < best.0 {
            best = (ticks, core::array::from_fn(|kind| after[kind] - before[kind]));
        }
    }
    let (ticks, exits) = best;
    println!("{}", line(name, operations, ticks, EXIT_NAMES.into_iter().zip(exits)));
}

fn exits() -> [u64; EXIT_KINDS] {
    core::array::from_fn(|kind| accounting().exits[kind].load(Ordering::Relaxed))
}
