//! Every policy at every size over one trace, on several cores.
//!
//! The policies are those that run in unikernels ([`libos_fs::cache`]). LRU and the optimum are stack
//! algorithms, and a fixed set takes counts only: all their sizes take one pass. Every other policy takes a
//! pass for each size.

use super::policy::{Policy, Tuned};
use super::trace::Trace;
use indicatif::ProgressBar;
use libos_fs::PolicyKind;
use libos_fs::cache::{LruStack, OptStack};
use serde::Serialize;
use std::borrow::Cow;
use std::num::NonZero;
use std::sync::Mutex;

/// One result. As JSON its fields have these names, which scripts depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Misses {
    /// Name of the policy, with the parameters that were set.
    pub policy: Cow<'static, str>,
    /// Size of the cache in blocks.
    pub size: u64,
    /// References of the trace.
    pub references: u64,
    /// References that found no block.
    pub misses: u64,
}

impl Misses {
    /// Misses as a share of the references.
    pub fn ratio(&self) -> f64 {
        self.misses as f64 / self.references.max(1) as f64
    }
}

/// A pass over the trace.
#[derive(Debug)]
enum Pass<'a> {
    /// LRU, all sizes.
    Lru(&'a [u64]),
    /// The optimum, all sizes.
    Opt(&'a [u64]),
    /// The best fixed set, all sizes.
    Fixed(&'a [u64]),
    /// Another policy at one size.
    One(Tuned, u64),
}

/// Passes that policies at sizes take.
fn passes<'a>(policies: &[Policy], sizes: &'a [u64]) -> Vec<Pass<'a>> {
    let each = |policy| sizes.iter().map(move |size| Pass::One(policy, *size)).collect();
    // The longest first, so that no core is left with it at the end.
    let rank = |pass: &Pass<'_>| match pass {
        Pass::Opt(_) => (0, 0),
        Pass::Lru(_) | Pass::Fixed(_) => (1, 0),
        Pass::One(_, size) => (2, *size),
    };
    let mut all: Vec<Pass<'_>> = policies
        .iter()
        .flat_map(|policy| match policy {
            Policy::Fixed => vec![Pass::Fixed(sizes)],
            Policy::Opt => vec![Pass::Opt(sizes)],
            Policy::Kind(PolicyKind::Lru) => vec![Pass::Lru(sizes)],
            Policy::Kind(kind) => each(Tuned::from(*kind)),
            Policy::Tuned(tuned) => each(*tuned),
        })
        .collect();
    all.sort_by_key(rank);
    all
}

/// References that all passes together make: what a progress bar counts to.
pub fn steps(trace: &Trace, policies: &[Policy], sizes: &[u64]) -> u64 {
    passes(policies, sizes).len() as u64 * trace.length() as u64
}

/// The misses of each policy at each size (which ascend), policy by policy, on so many threads. `progress` is
/// told of references made.
pub fn replay(
    trace: &Trace,
    policies: &[Policy],
    sizes: &[u64],
    threads: NonZero<usize>,
    progress: &ProgressBar,
) -> Vec<Misses> {
    let passes = passes(policies, sizes);
    let mut found: Vec<Misses> = in_parallel(passes, threads, |pass| pass.run(trace, progress)).concat();
    let names: Vec<_> = policies.iter().map(|policy| policy.name()).collect();
    let order = |policy: &str| names.iter().position(|known| known == policy);
    found.sort_by_key(|misses| (order(&misses.policy), misses.size));
    found
}

/// Threads that this host has cores for.
pub fn cores() -> NonZero<usize> {
    std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN)
}

/// Does work on so many threads; the results are in the order of the work.
pub fn in_parallel<W: Send, R: Send>(
    work: Vec<W>,
    threads: NonZero<usize>,
    perform: impl Fn(W) -> R + Sync,
) -> Vec<R> {
    let waiting = Mutex::new(work.into_iter().enumerate());
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let perform_all = || {
            // The lock lasts for this statement alone. No lock is ever poisoned: panics end the process.
            while let Some((number, work)) = waiting.lock().ok().and_then(|mut waiting| waiting.next()) {
                let result = perform(work);
                if let Ok(mut done) = done.lock() {
                    done.push((number, result));
                }
            }
        };
        (1..threads.get()).for_each(|_| drop(scope.spawn(perform_all)));
        perform_all();
    });
    let mut done = done.into_inner().unwrap_or_default();
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

impl Pass<'_> {
    fn run(&self, trace: &Trace, progress: &ProgressBar) -> Vec<Misses> {
        let line = |policy: Policy, size: u64, misses: u64| Misses {
            policy: policy.name(),
            size,
            references: trace.length() as u64,
            misses,
        };
        match self {
            Pass::Lru(sizes) => {
                let mut stack = LruStack::default();
                each(trace, progress, |number| stack.reference(number));
                let lru = Policy::Kind(PolicyKind::Lru);
                sizes.iter().map(|size| line(lru, *size, stack.misses(buffers(*size)))).collect()
            }
            Pass::Fixed(sizes) => {
                let misses = trace.string().fixed_set_misses(&all_buffers(sizes));
                progress.inc(trace.length() as u64);
                sizes.iter().zip(misses).map(|(size, misses)| line(Policy::Fixed, *size, misses)).collect()
            }
            Pass::Opt(sizes) => {
                let mut stack = OptStack::new(&all_buffers(sizes), trace.string());
                each(trace, progress, |_| stack.reference());
                let misses = stack.misses();
                sizes.iter().zip(misses).map(|(size, misses)| line(Policy::Opt, *size, misses)).collect()
            }
            Pass::One(tuned, size) => {
                let misses = tuned.misses(trace.string(), buffers(*size), &mut |made| progress.inc(made));
                vec![line(Policy::Tuned(*tuned), *size, misses)]
            }
        }
    }
}

/// A size as the simulator counts it. On a host with 64 bits nothing is lost.
pub fn buffers(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}

/// Sizes as the simulator counts them.
fn all_buffers(sizes: &[u64]) -> Vec<usize> {
    sizes.iter().map(|size| buffers(*size)).collect()
}

/// References between two reports of progress.
const REPORT_EVERY: usize = 1 << 16;

/// Makes every reference of the trace, to a block by its number.
fn each(trace: &Trace, progress: &ProgressBar, mut reference: impl FnMut(u32)) {
    for part in trace.string().numbers().chunks(REPORT_EVERY) {
        part.iter().for_each(|number| reference(*number));
        progress.inc(part.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libos_fs::cache::{fixed_set_misses, optimal_misses, simulate};

    fn references() -> Vec<u64> {
        // A loop with a scan through it now and then.
        (0..40).flat_map(|round| (0..50).chain(1000 * round..1000 * round + round % 7 * 10)).collect()
    }

    #[test]
    fn every_policy_at_every_size_is_as_one_by_one() {
        let (references, progress) = (references(), ProgressBar::hidden());
        let trace = Trace::of(&references).unwrap();
        let tuned =
            ["lirs:stack=unlimited", "2q:in=90%", "lru-2:history=0%"].map(|text| text.parse().unwrap());
        let policies: Vec<Policy> = Policy::all().chain(tuned).collect();
        let sizes = [1, 7, 30, 49, 50, 100, trace.distinct() as u64, u64::MAX];
        let found = replay(&trace, &policies, &sizes, NonZero::new(3).unwrap(), &progress);
        assert_eq!(found.len(), policies.len() * sizes.len());
        assert_eq!(progress.position(), steps(&trace, &policies, &sizes));
        for (line, (policy, size)) in
            found.iter().zip(policies.iter().flat_map(|policy| sizes.map(|size| (policy, size))))
        {
            assert_eq!((&line.policy, line.size), (&policy.name(), size));
            let fits = size.min(trace.distinct() as u64) as usize;
            let single = match policy {
                Policy::Opt => optimal_misses(fits, &references),
                Policy::Fixed => fixed_set_misses(&[fits], references.iter().copied())[0],
                Policy::Kind(kind) => simulate(&mut *kind.build(fits), fits, &references),
                Policy::Tuned(tuned) => tuned.misses(trace.string(), fits, &mut |_| ()),
            };
            assert_eq!(line.misses, single, "{policy} with {size}");
            assert_eq!(line.references, references.len() as u64);
        }
    }

    #[test]
    fn stack_algorithms_take_one_pass() {
        let sizes = [1, 2, 3];
        let count = |name: &str| passes(&[name.parse().unwrap()], &sizes).len();
        assert_eq!(["lru", "opt", "fixed", "fifo"].map(count), [1, 1, 1, 3]);
    }

    #[test]
    fn lines_have_the_names_that_scripts_read() {
        let line = Misses { policy: "lru".into(), size: 1, references: 4, misses: 3 };
        let json = serde_json::to_string(&line).unwrap();
        assert_eq!(json, r#"{"policy":"lru","size":1,"references":4,"misses":3}"#);
        assert!((line.ratio() - 0.75).abs() < 1e-12);
    }
}
