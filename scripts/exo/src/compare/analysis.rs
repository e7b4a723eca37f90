//! What the references of a workload come to under each policy at other sizes, and how the runs went: the
//! curves of the page.
//!
//! The library's policies and the optimum are simulated over the recorded references. A simulation does not
//! know that a program deletes files, and an application's own policy talks to the cache while the program
//! runs; so at the sizes that were measured, and for the own policy at all sizes, the program itself is run
//! again, on the host, over the same files and the same cache code.

use super::history::History;
use super::optimum::Optimum;
use super::summary::Row;
use crate::cache::policy::Policy;
use crate::cache::replay::{Misses, buffers, in_parallel, replay};
use crate::cache::sizes::Size;
use crate::cache::trace::Trace;
use crate::error::{Error, Result};
use filecache::{CacheSize, Options, Workload};
use indicatif::ProgressBar;
use libos_fs::cache::Opt;
use libos_fs::{PolicyKind, RamDisk, ReadAheadKind};
use results::Role;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::num::NonZero;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

/// What the page shows of a workload besides the rows of the table.
pub struct Analysis {
    /// Misses by policy and size; policies in the order of the rows, the optimum last.
    pub curves: Vec<Misses>,
    /// How the runs with the smallest of the measured caches went, by policy.
    pub histories: Vec<(String, History)>,
    /// The size of these caches, in blocks.
    pub blocks: u64,
    /// Measured misses that were found again here, of those that were looked for.
    pub agreeing: (usize, usize),
}

/// A program that can be run on the host.
pub struct HostProgram<'a> {
    /// Which.
    pub workload: Workload,
    /// Image with its files.
    pub image: &'a Path,
    /// How it reads ahead.
    pub read_ahead: ReadAheadKind,
}

/// Distance of the sizes of the simulated curves, in hundredths of the distinct blocks.
const SIMULATED_STEP: usize = 10;
/// Distance of the sizes at which the application's own policy is run.
const OWN_STEP: usize = 20;

/// Analyses a workload. `rows` are all of it; without `program` there is no curve of the application's own
/// policy.
///
/// # Errors
///
/// If the program can't be run on the host.
pub fn analyse(
    optimum: &Optimum,
    rows: &[&Row],
    program: Option<&HostProgram<'_>>,
) -> Result<Option<Analysis>> {
    let references = optimum.recorded();
    let Some(trace) = Trace::of(references).filter(|trace| trace.length() > 0) else { return Ok(None) };
    let rows: Vec<&Row> = rows.iter().copied().filter(|row| row.line.role != Role::Peer).collect();
    let measured: BTreeSet<u64> = rows.iter().map(|row| row.line.cache_blocks).collect();
    let Some(blocks) = measured.first().copied() else { return Ok(None) };
    let mut names: Vec<&str> = Vec::new();
    for row in &rows {
        if !names.contains(&row.line.policy.as_str()) {
            names.push(&row.line.policy);
        }
    }
    let mut analysis = Analysis { curves: Vec::new(), histories: Vec::new(), blocks, agreeing: (0, 0) };
    for name in names {
        analysis.add_policy(name, &measured, &trace, program)?;
    }
    let all = &sizes(SIMULATED_STEP, &trace) | &measured;
    analysis.curves.extend(curve(Policy::Opt, "opt", &trace, &all));
    let opt = History::of(&mut Opt::new(references), buffers(blocks), references);
    analysis.histories.push(("opt".to_owned(), opt));
    analysis.agreeing = agreement(&rows, &analysis.curves);
    Ok(Some(analysis))
}

impl Analysis {
    /// Adds the curve and the history of a policy: where it was measured and can be run again, it is run; at
    /// other sizes, or without the program, it is simulated if it can be.
    fn add_policy(
        &mut self,
        name: &str,
        measured: &BTreeSet<u64>,
        trace: &Trace,
        program: Option<&HostProgram<'_>>,
    ) -> Result<()> {
        let (kind, policy) = (simulated(name), name.parse::<filecache::Policy>());
        let mut points = Vec::new();
        let mut run = BTreeSet::new();
        if let (Some(program), Ok(policy)) = (program, policy) {
            run.clone_from(measured);
            if kind.is_none() {
                run.extend(sizes(OWN_STEP, trace));
            }
            let references = trace.length() as u64;
            for (size, history) in run.iter().zip(program.run_all(policy, &run)?) {
                let policy = name.to_owned().into();
                points.push(Misses { policy, size: *size, references, misses: history.misses() });
                if *size == self.blocks {
                    self.histories.push((name.to_owned(), history));
                }
            }
        }
        if let Some(kind) = kind {
            let others = &(&sizes(SIMULATED_STEP, trace) | measured) - &run;
            points.extend(curve(Policy::Kind(kind), name, trace, &others));
            if run.is_empty() {
                let references: Vec<u64> = trace.references().collect();
                self.histories
                    .push((name.to_owned(), History::of_kind(kind, buffers(self.blocks), &references)));
            }
        }
        points.sort_by_key(|point| point.size);
        self.curves.extend(points);
        Ok(())
    }
}

/// The policy of the library that runs under a name of `exo compare`.
fn simulated(name: &str) -> Option<PolicyKind> {
    if name == "default" { Some(PolicyKind::default()) } else { name.parse().ok() }
}

/// Shares of the distinct blocks in equal steps up to all of them.
fn sizes(step: usize, trace: &Trace) -> BTreeSet<u64> {
    (step..=100).step_by(step).map(|percent| Size::Percent(percent as f64).blocks(trace.distinct())).collect()
}

/// The misses of a policy at these sizes, under the name it has in the table.
fn curve(policy: Policy, name: &str, trace: &Trace, sizes: &BTreeSet<u64>) -> Vec<Misses> {
    let sizes: Vec<u64> = sizes.iter().copied().collect();
    let mut found = replay(trace, &[policy], &sizes, cores(), &ProgressBar::hidden());
    found.iter_mut().for_each(|misses| misses.policy = name.to_owned().into());
    found
}

fn cores() -> NonZero<usize> {
    std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN)
}

/// Rows whose misses the curves have, of the rows that have a point in them.
fn agreement(rows: &[&Row], curves: &[Misses]) -> (usize, usize) {
    let found = rows.iter().filter_map(|row| {
        let point =
            |misses: &&Misses| (&*misses.policy, misses.size) == (&*row.line.policy, row.line.cache_blocks);
        Some(curves.iter().find(point)?.misses == row.line.misses)
    });
    let found: Vec<bool> = found.collect();
    (found.iter().filter(|same| **same).count(), found.len())
}

impl HostProgram<'_> {
    /// Runs under a policy with caches of these sizes, in their order.
    fn run_all(&self, policy: filecache::Policy, sizes: &BTreeSet<u64>) -> Result<Vec<History>> {
        let bytes = std::fs::read(self.image).map_err(Error::io("read", self.image))?;
        let run = |blocks| self.run(&bytes, policy, blocks);
        in_parallel(sizes.iter().copied().collect(), cores(), run).into_iter().collect()
    }

    fn run(&self, image: &[u8], policy: filecache::Policy, blocks: u64) -> Result<History> {
        let options = Options {
            policy,
            cache: CacheSize::Blocks(blocks),
            read_ahead: self.read_ahead,
            ..Options::new(self.workload)
        };
        let history = Rc::new(RefCell::new(History::default()));
        let noted = history.clone();
        let observer = Box::new(move |event| noted.borrow_mut().note(event));
        let start = Instant::now();
        let now_ns = || u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let disk = Box::new(RamDisk::from_bytes(image.to_vec()));
        let what = self.workload.name();
        let outcome = filecache::run_observed(disk, &options, &now_ns, Some(observer))
            .map_err(|error| Error::Measurement(format!("{what} on the host: {error}")))?;
        if !outcome.line.verified {
            let (expected, actual) = (&outcome.line.expected, &outcome.line.actual);
            return Err(Error::Measurement(format!(
                "{what} on the host: wrong result: expected {expected}, found {actual}"
            )));
        }
        Ok(history.take())
    }
}

#[cfg(test)]
mod tests {
    use super::super::summary::{rows, tests::samples};
    use super::*;

    #[test]
    fn policies_of_the_table_and_the_optimum_have_curves_and_histories() {
        // The samples: 500 references, five times 100 blocks, caches of 80.
        let optimum = Optimum::of((0..100).collect::<Vec<_>>().repeat(5));
        let rows = rows(&samples());
        let rows: Vec<&Row> = rows.iter().collect();
        let analysis = analyse(&optimum, &rows, None).unwrap().unwrap();
        let names: Vec<&str> = analysis.histories.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["default", "opt"], "the own policy needs its program");
        let at = |policy: &str, size| {
            let point = |misses: &&Misses| misses.policy == policy && misses.size == size;
            analysis.curves.iter().find(point).map(|misses| misses.misses)
        };
        assert_eq!((at("default", 80), at("opt", 80), at("opt", 100)), (Some(500), Some(180), Some(100)));
        assert_eq!(analysis.agreeing, (1, 1));
        assert_eq!(analysis.blocks, 80);
        assert!(analyse(&Optimum::of(vec![]), &rows, None).unwrap().is_none());
    }
}
