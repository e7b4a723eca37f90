//! `exo compare`: the same workloads on the same disk image under several cache policies, one boot each.
//!
//! | module | what |
//! |---|---|
//! | [`boot`] | one boot, and whether all counts of its block reads agree |
//! | [`optimum`] | Belady's optimum for the recorded references |
//! | [`summary`] | from samples to the rows of the table |
//! | [`report`], [`chart`] | the page with charts |

mod boot;
mod chart;
mod optimum;
mod report;
mod summary;

use crate::bench::write_lines;
use crate::build::{Built, Freshness, Source, images};
use crate::checkout::{Checkout, write_atomically};
use crate::conditions::Conditions;
use crate::error::{Error, Result};
use crate::machine_args::MachineArgs;
use crate::units::parse_size;
use boot::{Sample, Setting};
use hyperexo_abi::BLOCK_BYTES;
use optimum::Optimum;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Arguments of `exo compare`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  exo compare filecache\n  exo compare filecache --workloads din --cache 60% --policies \
                        default,own,clock\n  exo compare filecache --disk-mbps 20 --runs 5 --json out.json --html out.html"
)]
pub struct CompareArgs {
    /// Application to measure: filecache, or one that prints the same result lines
    app: String,
    /// Workloads, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "cs,din,sort")]
    workloads: Vec<String>,
    /// Size of the cache: a share of the workload's data (80%), or a size (4M)
    #[arg(long, default_value = "80%")]
    cache: String,
    /// Policies, separated by commas: default, own, lru, mru, fifo, clock; changes are given against the first
    #[arg(long, value_delimiter = ',', default_value = "default,own")]
    policies: Vec<String>,
    /// Read-ahead: none, sequential or cluster (default: the library's)
    #[arg(long)]
    read_ahead: Option<String>,
    /// Boots of each policy, interleaved (A B B A ...)
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Writes one JSON line for each boot
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes a page with table and charts
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Uses the images of the last build
    #[arg(long)]
    no_build: bool,
    /// Shows the QEMU command of every boot, and all lines
    #[arg(long, short)]
    verbose: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

/// What all boots of a comparison share.
struct Comparison<'a> {
    args: &'a CompareArgs,
    checkout: Checkout,
    source: Source,
    built: Built,
    /// The machine's arguments, the disk filled in.
    machine: MachineArgs,
    cache: String,
}

/// The verb.
pub fn compare(args: &CompareArgs) -> Result<()> {
    let comparison = Comparison::prepare(args)?;
    let conditions = Conditions::look(&comparison.checkout, &comparison.machine);
    let (accel, why) = comparison.machine.accelerator()?;
    eprintln!("exo: accelerator {}: {why}; {}", accel.name(), conditions.disk());
    let mut optima = BTreeMap::new();
    let mut samples = Vec::new();
    let total = args.workloads.len() * (1 + args.policies.len() * args.runs as usize);
    let mut done = 0;
    for workload in &args.workloads {
        done += 1;
        eprintln!("exo: [{done}/{total}] {workload}: recording references");
        optima.insert(workload.clone(), comparison.optimum(workload)?);
        for (run, policy) in order(&args.policies, args.runs) {
            done += 1;
            eprintln!("exo: [{done}/{total}] {workload}: {policy}");
            let setting = Setting { workload, policy, record: false };
            let mut sample = boot::boot(&comparison, &setting, run)?;
            sample.line.opt_misses = Some(optima[workload].misses(sample.line.cache_blocks));
            samples.push(sample);
        }
    }
    let rows = summary::rows(&samples);
    print!("{}", summary::table(&rows));
    print!("{}", summary::remarks(&rows, &samples, &optima));
    if let Some(path) = &args.json {
        write_lines(path, json_lines(&samples, &conditions))?;
    }
    if let Some(path) = &args.html {
        let text = report::page(&rows, &samples, &conditions);
        write_atomically(path, text.as_bytes())?;
        eprintln!("exo: report in {}", path.display());
    }
    judge(&samples, &optima)
}

impl<'a> Comparison<'a> {
    fn prepare(args: &'a CompareArgs) -> Result<Comparison<'a>> {
        let checkout = Checkout::find()?;
        let source = Source::of(&args.app, &checkout)?;
        let cache = cache_words(&args.cache)?;
        for (what, list) in [("workload", &args.workloads), ("policy", &args.policies)] {
            let twice = list.iter().enumerate().find(|(at, name)| list[..*at].contains(name));
            if let Some((_, name)) = twice {
                let fix = "name each once; --runs N repeats".to_owned();
                return Err(Error::Argument { what: format!("{what} {name} is named twice"), fix });
            }
        }
        if source == Source::Member("filecache".into()) {
            check_names(args)?;
        }
        let freshness = if args.no_build { Freshness::AsIs } else { Freshness::Build };
        let built = images(&checkout, std::slice::from_ref(&source), freshness)?;
        let mut machine = args.machine.clone();
        if machine.disk.is_none() {
            if source != Source::Member("filecache".into()) {
                let fix = "name its disk image with --disk IMG".to_owned();
                return Err(Error::Argument { what: format!("{} has no data of its own", args.app), fix });
            }
            machine.disk = Some(crate::data::prepare(&checkout, false)?);
        }
        Ok(Comparison { args, checkout, source, built, machine, cache })
    }

    /// Boots once with recording, on a disk that is not slowed down.
    fn optimum(&self, workload: &str) -> Result<Optimum> {
        let setting = Setting { workload, policy: "default", record: true };
        let sample = boot::boot(self, &setting, 0)?;
        Ok(Optimum::of(sample.references))
    }
}

/// Refuses names that filecache does not know before anything is booted.
fn check_names(args: &CompareArgs) -> Result<()> {
    let problem =
        |what: &str, name: &str, why: String| Error::Argument { what: format!("{what} {name:?}"), fix: why };
    for name in &args.workloads {
        name.parse::<filecache::Workload>().map_err(|why| problem("workload", name, why.to_string()))?;
    }
    for name in &args.policies {
        name.parse::<filecache::Policy>().map_err(|why| problem("policy", name, why.to_string()))?;
    }
    Ok(())
}

/// The value of `cache=` for the guest: a share as it is, a size in blocks.
fn cache_words(text: &str) -> Result<String> {
    let wrong = |what: String| Error::Argument { what, fix: "--cache 80% or --cache 4M".into() };
    if let Some(number) = text.strip_suffix('%') {
        return match number.parse::<u32>() {
            Ok(percent) if percent > 0 => Ok(text.to_owned()),
            _ => Err(wrong(format!("{text:?} is no share"))),
        };
    }
    let blocks = parse_size(text).map_err(wrong)? / BLOCK_BYTES as u64;
    if blocks == 0 {
        return Err(wrong(format!("{text} is less than a block of {BLOCK_BYTES} bytes")));
    }
    Ok(blocks.to_string())
}

/// Policies in the order of their boots: forwards, backwards, forwards, ...
fn order(policies: &[String], runs: u32) -> Vec<(u32, &str)> {
    (0..runs)
        .flat_map(|run| {
            let mut names: Vec<(u32, &str)> = policies.iter().map(|name| (run, name.as_str())).collect();
            if run % 2 == 1 {
                names.reverse();
            }
            names
        })
        .collect()
}

/// A result line with what the guest could not know.
#[derive(Serialize)]
struct JsonLine<'a> {
    #[serde(flatten)]
    line: &'a results::CompareLine,
    /// Number of the boot among those of its policy, from 0.
    run: u32,
    /// Block reads that HyperExo's accounting and (not on Bochs) QEMU counted, mounting included.
    accounted_reads: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    emulator_reads: Option<u64>,
    #[serde(flatten)]
    conditions: &'a Conditions,
}

fn json_lines<'a>(samples: &'a [Sample], conditions: &'a Conditions) -> impl Iterator<Item = JsonLine<'a>> {
    samples.iter().map(move |sample| JsonLine {
        line: &sample.line,
        run: sample.run,
        accounted_reads: sample.counts.hyperexo,
        emulator_reads: sample.counts.qemu.map(|[reads, _]| reads),
        conditions,
    })
}

/// Results that make the comparison worthless are errors.
fn judge(samples: &[Sample], optima: &BTreeMap<String, Optimum>) -> Result<()> {
    for Sample { line, counts, .. } in samples {
        let what = format!("{} under {}", line.workload, line.policy);
        if !line.verified {
            let (expected, actual) = (&line.expected, &line.actual);
            return Err(Error::Measurement(format!(
                "{what}: wrong result: expected {expected}, found {actual}"
            )));
        }
        counts.check(&what)?;
        if line.opt_misses.is_some_and(|least| line.misses < least) {
            return Err(Error::Measurement(format!(
                "{what}: {} misses are fewer than Belady's optimum: the references were not the same",
                line.misses
            )));
        }
        let recorded = optima.get(&line.workload).map_or(0, Optimum::references);
        if line.references != 0 && recorded != line.references {
            eprintln!(
                "exo: warning: {what}: {} references, but {recorded} were recorded: Belady's optimum is for those",
                line.references
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boots_are_interleaved() {
        let policies = ["a".to_owned(), "b".to_owned()];
        let names: Vec<&str> = order(&policies, 3).into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["a", "b", "b", "a", "a", "b"]);
    }

    #[test]
    fn cache_sizes() {
        assert_eq!(cache_words("80%").unwrap(), "80%");
        assert_eq!(cache_words("4M").unwrap(), "1024");
        for wrong in ["0%", "x%", "100", "M"] {
            assert!(cache_words(wrong).is_err(), "{wrong}");
        }
    }
}
