//! What a whole trace would miss, from a sample of its blocks, and how far that may be off.
//!
//! A cache of n blocks is simulated as one of n × rate blocks on the references to the chosen blocks alone,
//! and its misses are divided by the rate. References of the whole trace were counted, so a block that is
//! used very often weighs nothing if it is not chosen, and does not weigh too much if it is: it hits. For LRU
//! that is the correction that SHARDS calls *adj*.
//!
//! The error is found in the sample itself: it is divided into [`PARTS`] by other bits of the same hash,
//! which are simulated by themselves.
//!
//! * From one to the next they differ by chance.
//! * Their mean differs from what the whole sample says by what smaller caches are unlike larger ones,
//!   rounding included, which is so much less for the whole sample as that is larger.
//! * The whole trace has more or fewer references than the sample's share foretells, for a few blocks have
//!   very many. Under most policies these hit, and it does not matter; if parts with more references miss
//!   more, it does. (Under MRU, say, where they miss like all others.)

use super::policy::Policy;
use super::replay::{Misses, replay, steps};
use super::trace::Trace;
use indicatif::ProgressBar;
use libos_fs::PolicyKind;
use libos_fs::cache::Sample;
use serde::Serialize;
use std::borrow::Cow;
use std::num::NonZero;

/// Parts of a sample.
const PARTS: usize = 8;

/// Half of the interval that has a mean of eight normal values in 99 of 100 cases, in standard errors:
/// Student's t for seven degrees of freedom.
const STANDARD_ERRORS: f64 = 3.499;

/// Blocks of a simulated cache below which its size is not rounded: the two sizes about it are simulated.
const ROUNDED_FROM: f64 = 128.0;

/// An estimated result. As JSON its fields are those of [`Misses`], and two more.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Name of the policy, with the parameters that were set.
    pub policy: Cow<'static, str>,
    /// Size of the cache in blocks.
    pub size: u64,
    /// References of the whole trace.
    pub references: u64,
    /// References that find no block, as estimated.
    pub misses: u64,
    /// By how many misses that may be off: half of the interval that has the right number in 99 of 100 cases.
    /// 0 if the sample is the whole trace.
    pub error: u64,
    /// Share of the blocks that were simulated.
    pub rate: f64,
}

impl Estimate {
    /// The estimated misses alone.
    pub fn misses(&self) -> Misses {
        let (policy, size) = (self.policy.clone(), self.size);
        Misses { policy, size, references: self.references, misses: self.misses }
    }
}

/// Distinct blocks of the whole trace, and by how many that may be off, with a probability of 99 %.
pub fn distinct(sample: &Sample) -> (u64, u64) {
    // Each block is chosen or not, by chance: a binomial distribution, for 99 % nearly a normal one.
    let chosen = sample.string.blocks().len() as f64;
    let error = 2.576 * (chosen * (1.0 - sample.rate())).sqrt() / sample.rate();
    (sample.distinct().round() as u64, error.ceil() as u64)
}

/// The smallest cache that a sample can say something of: one of whose simulated parts has two blocks.
pub fn smallest(sample: &Sample) -> u64 {
    if sample.rate() < 1.0 { (2.0 * PARTS as f64 / sample.rate()).ceil() as u64 } else { 1 }
}

/// Whether a policy does the same on a sample as on the whole: not if it looks for runs of adjacent blocks.
pub fn can_be_sampled(policy: &Policy) -> bool {
    *policy != Policy::Kind(PolicyKind::Ubm)
}

/// The misses of each policy at each size (which ascend), policy by policy, on so many threads. `progress` is
/// told of references made, and before that how many there will be.
pub fn estimate(
    sample: Sample,
    policies: &[Policy],
    sizes: &[u64],
    threads: NonZero<usize>,
    progress: &ProgressBar,
) -> Vec<Estimate> {
    let (rate, references) = (sample.rate(), sample.references);
    let parts = if rate < 1.0 { sample.parts(PARTS) } else { Vec::new() };
    let part_rate = rate / PARTS as f64;
    let strings: Vec<(Trace, Vec<Scaled>)> = std::iter::once((sample.string, rate))
        .chain(parts.into_iter().map(|part| (part, part_rate)))
        .map(|(string, rate)| {
            (Trace::from(string), sizes.iter().map(|size| Scaled::of(*size, rate)).collect())
        })
        .collect();
    let work = |(trace, scaled): &(Trace, Vec<Scaled>)| steps(trace, policies, &simulated(scaled));
    progress.set_length(strings.iter().map(work).sum());
    let references_by_part: Vec<f64> =
        strings.iter().skip(1).map(|(part, _)| part.length() as f64 / part_rate).collect();
    let unforetold =
        strings.first().map_or(0.0, |(whole, _)| references as f64 - whole.length() as f64 / rate);
    let mut found = strings.iter().map(|(trace, scaled)| misses(trace, policies, scaled, threads, progress));
    let whole = found.next().unwrap_or_default();
    let parts: Vec<Vec<f64>> = found.collect();
    let lines = policies.iter().flat_map(|policy| sizes.iter().map(|size| (policy.name(), *size)));
    lines
        .zip(whole)
        .enumerate()
        .map(|(at, ((policy, size), misses))| {
            let estimated = (misses / rate).min(references as f64);
            let by_part: Vec<f64> = parts.iter().map(|part| part[at] / part_rate).collect();
            Estimate {
                policy,
                size,
                references,
                misses: estimated.round() as u64,
                error: error(estimated, &by_part, rate, &references_by_part, unforetold).ceil() as u64,
                rate,
            }
        })
        .collect()
}

/// How far an estimate may be off, from those of the parts of the sample: `by_part` are their misses and
/// `references` their references, both as estimates for the whole; `unforetold` is what this has more of them
/// than the sample says.
fn error(estimated: f64, by_part: &[f64], rate: f64, references: &[f64], unforetold: f64) -> f64 {
    let count = by_part.len() as f64;
    if count < 2.0 {
        return 0.0;
    }
    let covariance = |one: &[f64], other: &[f64]| {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / count;
        let (mean_one, mean_other) = (mean(one), mean(other));
        let products = one.iter().zip(other).map(|(one, other)| (one - mean_one) * (other - mean_other));
        products.sum::<f64>() / (count - 1.0)
    };
    // The larger a share of all blocks is chosen, the less is left to chance.
    let by_chance = (covariance(by_part, by_part) / count * (1.0 - rate)).sqrt();
    // What a cache of the parts' size is off is in proportion to what it is smaller.
    let by_scale = (by_part.iter().sum::<f64>() / count - estimated).abs() / (count - 1.0);
    // Misses that come with a reference more: the line of least squares.
    let spread = covariance(references, references);
    let slope = if spread > 0.0 { covariance(by_part, references) / spread } else { 0.0 };
    STANDARD_ERRORS * by_chance + by_scale + (slope * unforetold).abs()
}

/// The size of a simulated cache, which may lie between two that can be simulated.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Scaled {
    low: u64,
    high: u64,
    /// How far from the lower to the higher, from 0 to 1.
    share: f64,
}

impl Scaled {
    fn of(size: u64, rate: f64) -> Scaled {
        let exact = size as f64 * rate;
        if rate == 1.0 {
            return Scaled { low: size, high: size, share: 0.0 };
        }
        if exact >= ROUNDED_FROM {
            let size = exact.round() as u64;
            return Scaled { low: size, high: size, share: 0.0 };
        }
        let low = exact.floor();
        Scaled { low: low as u64, high: exact.ceil() as u64, share: exact - low }
    }
}

/// All sizes to simulate, each once, in ascending order.
fn simulated(scaled: &[Scaled]) -> Vec<u64> {
    let mut sizes: Vec<u64> = scaled.iter().flat_map(|scaled| [scaled.low, scaled.high]).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

/// Misses of one string, policy by policy.
fn misses(
    trace: &Trace,
    policies: &[Policy],
    scaled: &[Scaled],
    threads: NonZero<usize>,
    progress: &ProgressBar,
) -> Vec<f64> {
    let sizes = simulated(scaled);
    let found = replay(trace, policies, &sizes, threads, progress);
    let at = |of_policy: &[Misses], size: u64| {
        sizes.binary_search(&size).map_or(0.0, |at| of_policy[at].misses as f64)
    };
    let between = |of_policy: &[Misses], scaled: &Scaled| {
        let (low, high) = (at(of_policy, scaled.low), at(of_policy, scaled.high));
        low + (high - low) * scaled.share
    };
    found
        .chunks(sizes.len().max(1))
        .flat_map(|of_policy| scaled.iter().map(move |scaled| between(of_policy, scaled)))
        .collect()
}

#[cfg(test)]
mod tests;
