//! `exo cache simulate`: a trace under several policies and sizes.

use super::estimate::{self, Estimate};
use super::page;
use super::plot::{Curve, plot};
use super::policy::Policy;
use super::replay::{Misses, cores, replay, steps};
use super::sample::SampleSize;
use super::sizes::{Sizes, ascending};
use super::trace::{Description, read, read_sample};
use crate::error::{Error, Result};
use crate::host::output::{expect, write_atomically, write_lines, write_table};
use crate::units::thousands;
use indicatif::{ProgressBar, ProgressStyle};
use libos_fs::cache::Sampler;
use serde::Serialize;
use std::num::NonZero;
use std::path::PathBuf;

/// Arguments of `exo cache simulate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exo cache simulate refs.txt --sizes 10%..100%:10
  exo cache simulate w106.oracleGeneral.zst --policies lru,arc,s3-fifo,opt --sizes 1%,10% --json -
  exo cache simulate src1_0.csv.gz --format msr --sizes 64M..1G:16 --html curves.html
  exo cache simulate log.csv --columns offset=Offset,size=Bytes,file=Disk
  exo cache simulate blocks.txt --separator space --columns offset=8,count=10 --unit 512
  exo cache simulate refs.txt --policies lirs,lirs:stack=unlimited,s3-fifo:small=20%
  exo cache simulate year.oracleGeneral.zst --sample auto --sizes 1G..100G:20 --csv curves.csv")]
pub struct SimulateArgs {
    /// Trace; zstd, gzip and xz are unpacked on the way
    file: PathBuf,
    /// Policies, separated by commas: fifo, lru, mru, clock, ..., and opt, Belady's optimum (default: all).
    /// Parameters follow: lru-2:history=SHARE, 2q:in=SHARE:out=SHARE, lirs:hir=SHARE:stack=SHARE,
    /// s3-fifo:small=SHARE:ghosts=SHARE, w-tinylfu:window=SHARE:protected=SHARE; a SHARE of the cache is 20%
    /// or unlimited
    #[arg(long, value_delimiter = ',')]
    policies: Vec<Policy>,
    /// Cache sizes, separated by commas: blocks (1000), shares of the distinct blocks (80%), bytes (64M), or
    /// ranges FIRST..LAST:COUNT of these
    #[arg(long, value_delimiter = ',', default_value = "10%..100%:10")]
    sizes: Vec<Sizes>,
    /// Simulates a sample of the blocks, for traces that are too long for all: a share of them (1% or 0.01);
    /// as many as take 150 MiB of memory at most (auto), whatever the length of the trace; or as many as are
    /// named (blocks=8192). Misses are then estimates, with the error that they have, of 99 cases in 100, at
    /// most
    #[arg(long, value_name = "SHARE|auto|blocks=N")]
    sample: Option<SampleSize>,
    /// Chooses other blocks for the sample
    #[arg(long, value_name = "NUMBER", default_value_t = 0, requires = "sample")]
    sample_seed: u64,
    #[command(flatten)]
    description: Description,
    /// Threads (default: as many as this host has cores)
    #[arg(long)]
    threads: Option<NonZero<usize>>,
    /// Writes a JSON line for each policy and size: policy, size, references, misses, and of a sample error
    /// and rate; - is standard output, and then nothing else goes there
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes the same as a table, with commas between its columns
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Writes a page with table and curves
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// The verb.
pub fn simulate(args: &SimulateArgs) -> Result<()> {
    expect(&[args.json.as_deref(), args.csv.as_deref(), args.html.as_deref()])?;
    let policies = args.policies()?;
    match args.sample {
        None => args.simulate_all(&policies),
        Some(SampleSize(limit)) => args.simulate_sample(&policies, Sampler::new(limit, args.sample_seed)),
    }
}

impl SimulateArgs {
    /// The policies asked for, each once.
    fn policies(&self) -> Result<Vec<Policy>> {
        let twice =
            self.policies.iter().enumerate().find(|(at, policy)| self.policies[..*at].contains(policy));
        if let Some((_, policy)) = twice {
            let fix = "name each once".to_owned();
            return Err(Error::Argument { what: format!("policy {policy} is named twice"), fix });
        }
        let cannot = self.policies.iter().find(|policy| !estimate::can_be_sampled(policy));
        if let Some(policy) = cannot.filter(|_| self.sample.is_some()) {
            let what = format!("{policy} looks for runs of adjacent blocks, which a sample does not have");
            return Err(Error::Argument { what, fix: "leave --sample out, or name other policies".into() });
        }
        let possible = |policy: &Policy| self.sample.is_none() || estimate::can_be_sampled(policy);
        Ok(if self.policies.is_empty() {
            Policy::all().filter(possible).collect()
        } else {
            self.policies.clone()
        })
    }

    fn threads(&self) -> NonZero<usize> {
        self.threads.unwrap_or_else(cores)
    }

    /// Simulates the whole trace.
    fn simulate_all(&self, policies: &[Policy]) -> Result<()> {
        let reading = bar("reading", "{bytes} of {total_bytes}");
        let trace = read(&self.file, &self.description, &reading)?;
        reading.finish_and_clear();
        let sizes = ascending(&self.sizes, trace.distinct());
        let (references, distinct) = (trace.length() as u64, trace.distinct() as u64);
        self.say(&format!("{} references to {} distinct blocks", thousands(references), thousands(distinct)));
        trace.notes().iter().for_each(|note| self.say(note));
        let replaying = bar("replaying", "{percent} %, {eta} to go");
        replaying.set_length(steps(&trace, policies, &sizes));
        let found = replay(&trace, policies, &sizes, self.threads(), &replaying);
        replaying.finish_and_clear();
        self.show(&found, &sizes, |misses| {
            format!("{} ({:.1} %)", thousands(misses.misses), misses.ratio() * 100.0)
        });
        let name = self.name();
        let page =
            || page::page(&name, &page::Counts { references, distinct, rate: 1.0 }, &found, &sizes, &[]);
        self.write(&found, page)
    }

    /// Simulates a sample.
    fn simulate_sample(&self, policies: &[Policy], sampler: Sampler) -> Result<()> {
        let reading = bar("reading", "{bytes} of {total_bytes}");
        let (sample, notes) = read_sample(&self.file, &self.description, &reading, sampler)?;
        reading.finish_and_clear();
        let (distinct, error) = estimate::distinct(&sample);
        self.say(&format!(
            "{} references to {} ± {} distinct blocks; {} to {} of these are simulated, a share of {:.3} %",
            thousands(sample.references),
            thousands(distinct),
            thousands(error),
            thousands(sample.string.numbers().len() as u64),
            thousands(sample.string.blocks().len() as u64),
            sample.rate() * 100.0
        ));
        notes.iter().for_each(|note| self.say(note));
        let sizes = ascending(&self.sizes, usize::try_from(distinct).unwrap_or(usize::MAX));
        let smallest = estimate::smallest(&sample);
        if let Some(size) = sizes.iter().find(|size| **size < smallest) {
            let what = format!(
                "a share of {:.3} % of the blocks says nothing of a cache of {} blocks, but of {} and more",
                sample.rate() * 100.0,
                thousands(*size),
                thousands(smallest)
            );
            let fix = "name larger --sizes, or a larger --sample".into();
            return Err(Error::Argument { what, fix });
        }
        let (references, rate) = (sample.references, sample.rate());
        let replaying = bar("replaying", "{percent} %, {eta} to go");
        let found = estimate::estimate(sample, policies, &sizes, self.threads(), &replaying);
        replaying.finish_and_clear();
        let misses: Vec<Misses> = found.iter().map(Estimate::misses).collect();
        let error_of = |misses: &Misses| {
            let is_it = |line: &&Estimate| line.policy == misses.policy && line.size == misses.size;
            found.iter().find(is_it).map_or(0, |line| line.error)
        };
        self.show(&misses, &sizes, |misses| {
            let error = error_of(misses);
            let share = error as f64 / misses.references.max(1) as f64;
            let (count, error) = (thousands(misses.misses), thousands(error));
            format!("{count} ± {error} ({:.1} ± {:.1} %)", misses.ratio() * 100.0, share * 100.0)
        });
        let errors: Vec<u64> = found.iter().map(|line| line.error).collect();
        let name = self.name();
        let page =
            || page::page(&name, &page::Counts { references, distinct, rate }, &misses, &sizes, &errors);
        self.write(&found, page)
    }

    /// Tells the user something about the trace.
    fn say(&self, what: &str) {
        eprintln!("exo: {}: {what}", self.file.display());
    }

    /// The name of the trace in the page.
    fn name(&self) -> String {
        self.file.file_name().unwrap_or(self.file.as_os_str()).to_string_lossy().into_owned()
    }

    /// Prints the table, with what is said of each result, and the curves.
    fn show(&self, found: &[Misses], sizes: &[u64], cell: impl Fn(&Misses) -> String) {
        print!("{}", table(found, sizes, cell));
        if sizes.len() > 1 {
            print!("\n{}", plot("blocks of cache", "misses, share of references", &curves(found)));
        }
    }

    /// Writes the files that were asked for.
    fn write(&self, lines: &[impl Serialize], page: impl FnOnce() -> String) -> Result<()> {
        if let Some(path) = &self.json {
            write_lines(path, lines.iter())?;
        }
        if let Some(path) = &self.csv {
            write_table(path, lines)?;
        }
        if let Some(path) = &self.html {
            write_atomically(path, page().as_bytes())?;
            eprintln!("exo: report in {}", path.display());
        }
        Ok(())
    }
}

/// A progress bar on standard error; none is drawn if that is no terminal.
pub fn bar(doing: &'static str, counts: &str) -> ProgressBar {
    let template = format!("exo: {{msg}} {{wide_bar}} {counts}");
    // The template is fixed; a bar in the usual style is good enough if it were wrong.
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::no_length().with_style(style).with_message(doing)
}

/// Sizes beside each other in a table.
const SIZES_PER_TABLE: usize = 5;

/// A line for each policy, a column for each size; several tables if there are many sizes.
fn table(found: &[Misses], sizes: &[u64], cell: impl Fn(&Misses) -> String) -> String {
    let mut text = String::new();
    for part in sizes.chunks(SIZES_PER_TABLE) {
        let mut lines = vec![
            std::iter::once("blocks of cache".to_owned())
                .chain(part.iter().map(|size| thousands(*size)))
                .collect(),
        ];
        for of_policy in found.chunk_by(|one, next| one.policy == next.policy) {
            let cells = of_policy.iter().filter(|misses| part.contains(&misses.size)).map(&cell);
            lines
                .push(std::iter::once(of_policy[0].policy.to_string()).chain(cells).collect::<Vec<String>>());
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&aligned(&lines));
    }
    text
}

/// Lines with their cells below each other: names to the left, numbers to the right.
pub fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            match column {
                0 => text.push_str(&format!("{cell:<width$}")),
                _ => text.push_str(&format!("  {cell:>width$}")),
            }
        }
        text.push('\n');
    }
    text
}

/// Miss ratios by size, a curve for each policy.
fn curves(found: &[Misses]) -> Vec<Curve<'_>> {
    let curve = |of_policy: &[Misses]| {
        of_policy.iter().map(|misses| (misses.size as f64, misses.ratio())).collect::<Vec<_>>()
    };
    found
        .chunk_by(|one, next| one.policy == next.policy)
        .map(|of_policy| Curve { name: &of_policy[0].policy, points: curve(of_policy) })
        .collect()
}
