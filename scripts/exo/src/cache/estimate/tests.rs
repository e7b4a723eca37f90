//! Estimates against what the whole trace misses.

use super::*;
use libos_fs::cache::{ReferenceString, SampleLimit, Sampler};

/// Blocks whose popularity falls as by Zipf's law, of which a part is chosen anew now and then; with a loop
/// through others between them.
fn references(count: usize, blocks: u64) -> Vec<u64> {
    let mut state = 7_u64;
    let mut random = || {
        // Xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut one = |position: u64| {
        if position.is_multiple_of(4) {
            return (1 << 40) + position / 4 % (blocks / 2);
        }
        // The inverse of the continuous distribution with exponent 1.
        let uniform = random() as f64 / u64::MAX as f64;
        let rank = (blocks as f64).powf(uniform) as u64;
        rank + if rank > 100 { position / 50_000 * 1000 } else { 0 }
    };
    (0..count as u64).map(&mut one).collect()
}

fn sampled(references: &[u64], limit: SampleLimit, seed: u64) -> Sample {
    let mut sampler = Sampler::new(limit, seed);
    references.iter().for_each(|block| sampler.push(*block).expect("few references"));
    sampler.finish()
}

/// Policies that can be sampled.
fn policies() -> Vec<Policy> {
    Policy::all().filter(can_be_sampled).collect()
}

const THREADS: NonZero<usize> = NonZero::new(2).expect("two");

#[test]
fn a_curve_is_within_the_error_that_is_stated() {
    let references = references(300_000, 40_000);
    let (policies, progress) = (policies(), ProgressBar::hidden());
    let trace = Trace::from(ReferenceString::of(references.iter().copied()).expect("few references"));
    let sizes = [600, 1500, 4000, 8000, 16_000, 30_000];
    let exact = replay(&trace, &policies, &sizes, THREADS, &progress);
    let (mut outside, mut all, mut stated) = (0, 0, 0.0);
    let memory = SampleLimit::Memory { blocks: 8000, references: 1 << 20 };
    for (seed, limit) in (0..).zip([SampleLimit::Rate(0.05), memory, SampleLimit::Rate(0.2)]) {
        let found = estimate(sampled(&references, limit, seed), &policies, &sizes, THREADS, &progress);
        assert_eq!(found.len(), exact.len());
        for (exact, found) in exact.iter().zip(&found) {
            assert_eq!((&exact.policy, exact.size), (&found.policy, found.size));
            assert_eq!(exact.references, found.references);
            let off = exact.misses.abs_diff(found.misses);
            assert!(off <= 3 * found.error, "far outside: {exact:?}, {found:?}");
            outside += u32::from(off > found.error);
            all += 1;
            stated += found.error as f64 / found.references as f64;
        }
    }
    // One of a hundred is outside in the long run.
    assert!(outside * 50 <= all, "{outside} of {all} are outside");
    let mean = stated / f64::from(all);
    assert!(mean < 0.08, "an error of {mean} says nothing");
}

#[test]
fn a_sample_of_all_is_exact() {
    let references = references(20_000, 3000);
    let (policies, progress) = (policies(), ProgressBar::hidden());
    let trace = Trace::from(ReferenceString::of(references.iter().copied()).expect("few references"));
    let sizes = [1, 300, 100_000];
    let exact = replay(&trace, &policies, &sizes, THREADS, &progress);
    let sample = sampled(&references, SampleLimit::Rate(1.0), 0);
    assert_eq!(distinct(&sample), (trace.distinct() as u64, 0));
    assert_eq!(smallest(&sample), 1);
    let found = estimate(sample, &policies, &sizes, THREADS, &progress);
    assert!(found.iter().all(|line| line.error == 0 && line.rate == 1.0));
    assert_eq!(found.iter().map(Estimate::misses).collect::<Vec<_>>(), exact);
}

#[test]
fn progress_counts_what_is_simulated() {
    let (progress, sample) =
        (ProgressBar::hidden(), sampled(&references(50_000, 5000), SampleLimit::Rate(0.3), 0));
    estimate(sample, &policies(), &[200, 1000], THREADS, &progress);
    assert_eq!(progress.length(), Some(progress.position()));
}

#[test]
fn the_number_of_blocks_is_within_its_error() {
    let references = references(100_000, 40_000);
    let right =
        ReferenceString::of(references.iter().copied()).expect("few references").blocks().len() as u64;
    let seeds = 0..500;
    let outside = seeds.filter(|seed| {
        let (found, error) = distinct(&sampled(&references, SampleLimit::Rate(0.05), *seed));
        found.abs_diff(right) > error
    });
    assert!(outside.count() <= 10);
}

#[test]
fn sizes_between_two_are_between() {
    let half = Scaled::of(25, 0.1);
    assert_eq!((half.low, half.high), (2, 3));
    assert!((half.share - 0.5).abs() < 1e-9);
    assert_eq!(Scaled::of(2004, 0.1), Scaled { low: 200, high: 200, share: 0.0 });
    assert_eq!(simulated(&[half, Scaled::of(30, 0.1), Scaled::of(2004, 0.1)]), [2, 3, 200]);
}
