//! `exo cache simulate`: a trace under several policies and sizes.

use super::page;
use super::plot::{Curve, plot};
use super::policy::Policy;
use super::replay::{Misses, cores, replay, steps};
use super::sizes::{Sizes, ascending};
use super::trace::{Description, read};
use crate::error::{Error, Result};
use crate::host::output::{expect, write_atomically, write_lines};
use crate::units::thousands;
use indicatif::{ProgressBar, ProgressStyle};
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
  exo cache simulate refs.txt --policies lirs,lirs:stack=unlimited,s3-fifo:small=20%")]
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
    #[command(flatten)]
    description: Description,
    /// Threads (default: as many as this host has cores)
    #[arg(long)]
    threads: Option<NonZero<usize>>,
    /// Writes a JSON line for each policy and size: policy, size, references, misses; - is standard output,
    /// and then nothing else goes there
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes a page with table and curves
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// The verb.
pub fn simulate(args: &SimulateArgs) -> Result<()> {
    expect(&[args.json.as_deref(), args.html.as_deref()])?;
    let policies = args.policies()?;
    let reading = bar("reading", "{bytes} of {total_bytes}");
    let trace = read(&args.file, &args.description, &reading)?;
    reading.finish_and_clear();
    let sizes = ascending(&args.sizes, trace.distinct());
    eprintln!(
        "exo: {}: {} references to {} distinct blocks",
        args.file.display(),
        thousands(trace.length() as u64),
        thousands(trace.distinct() as u64)
    );
    for note in trace.notes() {
        eprintln!("exo: {}: {note}", args.file.display());
    }
    let replaying = bar("replaying", "{percent} %, {eta} to go");
    replaying.set_length(steps(&trace, &policies, &sizes));
    let found = replay(&trace, &policies, &sizes, args.threads.unwrap_or_else(cores), &replaying);
    replaying.finish_and_clear();
    print!("{}", table(&found, &sizes));
    if sizes.len() > 1 {
        print!("\n{}", plot("blocks of cache", "misses, share of references", &curves(&found)));
    }
    if let Some(path) = &args.json {
        write_lines(path, found.iter())?;
    }
    if let Some(path) = &args.html {
        let name = args.file.file_name().unwrap_or(args.file.as_os_str()).to_string_lossy();
        write_atomically(path, page::page(&name, &trace, &found, &sizes).as_bytes())?;
        eprintln!("exo: report in {}", path.display());
    }
    Ok(())
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
        Ok(if self.policies.is_empty() { Policy::all().collect() } else { self.policies.clone() })
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
fn table(found: &[Misses], sizes: &[u64]) -> String {
    let cell = |misses: &Misses| format!("{} ({:.1} %)", thousands(misses.misses), misses.ratio() * 100.0);
    let mut text = String::new();
    for part in sizes.chunks(SIZES_PER_TABLE) {
        let mut lines = vec![
            std::iter::once("blocks of cache".to_owned())
                .chain(part.iter().map(|size| thousands(*size)))
                .collect(),
        ];
        for of_policy in found.chunk_by(|one, next| one.policy == next.policy) {
            let cells = of_policy.iter().filter(|misses| part.contains(&misses.size)).map(cell);
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
