//! `exo cache advise`: which policy suits a program, what it would gain, and what to write in the program.
//!
//! | module | what |
//! |---|---|
//! | [`character`] | what the references to each file look like |
//! | [`plan`] | priorities and policies, and what they would miss |
//! | [`search`] | from the best general policy to a plan, step by step |
//! | [`read_ahead`] | what each read-ahead policy makes of the plan |
//! | [`units`] | files, or directories of them, that a plan can name |
//! | [`report`] | tables, the lines to paste, JSON |
//! | [`page`] | the same as a page |

mod character;
mod page;
mod plan;
mod read_ahead;
mod report;
mod search;
mod units;

use super::policy::Policy;
use super::replay::{self, buffers};
use super::simulate::bar;
use super::sizes::{Sizes, ascending};
use super::trace::{Description, read};
use crate::error::{Error, Result};
use crate::host::output::{expect, write_atomically, write_lines};
use crate::recorded;
use character::Reference;
use libos_fs::PolicyKind;
use libos_fs::cache::block_of;
use libos_fs::device::DiskTime;
use read_ahead::Calls;
use report::{Advice, Report};
use search::Search;
use std::ffi::OsString;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicU64;

/// Arguments of `exo cache advise`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exo cache record -- rg -l foo src && exo cache advise refs
  exo cache advise filecache --disk gli.img -- workload=gli
  exo cache advise refs --sizes 1000,80% --html advice.html
  exo cache advise w106.oracleGeneral.zst --sizes 10%")]
pub struct AdviseArgs {
    /// A record of `exo cache record` or of `exo run --record-references`, or a trace that `exo cache
    /// simulate` reads; or an application, which is run and recorded first
    #[arg(value_name = "FILE | APP")]
    file: PathBuf,
    /// If an application is named: what `exo run` is told besides
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "RUN OPTIONS")]
    run: Vec<OsString>,
    /// Cache sizes, separated by commas: blocks (1000), shares of the distinct blocks (80%), bytes (64M), or
    /// ranges FIRST..LAST:COUNT of these
    #[arg(long, value_delimiter = ',', default_value = "10%,20%,40%,80%")]
    sizes: Vec<Sizes>,
    #[command(flatten)]
    description: Description,
    /// Threads (default: as many as this host has cores)
    #[arg(long)]
    threads: Option<NonZero<usize>>,
    /// Millions of references that the search may simulate for each size of the cache; more may find a better
    /// plan for a long trace
    #[arg(long, default_value_t = 400)]
    effort: u64,
    /// What the disk takes for a request, in microseconds: decides which read-ahead is advised
    #[arg(long, default_value_t = 100)]
    request_us: u32,
    /// What it takes for each block of a request, in microseconds
    #[arg(long, default_value_t = 20)]
    block_us: u32,
    /// Writes a JSON line for each size; - is standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes a page with tables and pictures
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// The verb.
pub fn advise(args: &AdviseArgs) -> Result<()> {
    expect(&[args.json.as_deref(), args.html.as_deref()])?;
    // Kept until the end: the record may be in it.
    let scratch = tempfile::tempdir().map_err(Error::io("make a directory in", &std::env::temp_dir()))?;
    let file = args.record(&scratch.path().join("refs"))?;
    let reading = bar("reading", "{bytes} of {total_bytes}");
    let trace = read(&file, &args.description, &reading)?;
    reading.finish_and_clear();
    let names = recorded::names(&file);
    let references: Vec<Reference> = trace.references().map(block_of).collect();
    let files = character::characters(&references);
    let sizes = ascending(&args.sizes, trace.distinct());
    let threads = args.threads.unwrap_or_else(replay::cores);

    let policies: Vec<Policy> = Policy::all().collect();
    let replaying = bar("every policy", "{percent} %, {eta} to go");
    replaying.set_length(replay::steps(&trace, &policies, &sizes));
    let found = replay::replay(&trace, &policies, &sizes, threads, &replaying);
    replaying.finish_and_clear();

    let units = units::units(&files, &names);
    let calls = Calls::new(&file, &references, &names);
    let time =
        DiskTime { request_ns: u64::from(args.request_us) * 1000, block_ns: u64::from(args.block_us) * 1000 };
    let searching = bar("searching", "{human_pos} references simulated");
    let mut report = Report {
        name: args.file.display().to_string(),
        references: trace.length() as u64,
        distinct: trace.distinct() as u64,
        files,
        names,
        units,
        time,
        advice: Vec::new(),
    };
    let advice = sizes
        .iter()
        .map(|size| {
            let of_size = |name: &str| {
                found.iter().find(|line| line.size == *size && line.policy == name).map(|line| line.misses)
            };
            let general: Vec<(PolicyKind, u64)> =
                PolicyKind::ALL.into_iter().filter_map(|kind| Some((kind, of_size(kind.name())?))).collect();
            let effort = AtomicU64::new(args.effort.saturating_mul(1_000_000));
            let search = Search {
                references: &references,
                units: &report.units,
                several_files: report.files.len() > 1,
                threads,
                effort: &effort,
                progress: &searching,
            };
            let steps = if *size < trace.distinct() as u64 {
                search.best(buffers(*size), &general)
            } else {
                Vec::new()
            };
            let mut advice = Advice {
                size: *size,
                steps,
                general,
                fixed: of_size(&Policy::Fixed.name()).unwrap_or_default(),
                opt: of_size(&Policy::Opt.name()).unwrap_or_default(),
                cut_short: effort.into_inner() == 0,
                read_ahead: None,
            };
            if calls.work() <= args.effort.saturating_mul(1_000_000) {
                let plan = report.best_plan(&advice);
                advice.read_ahead = calls.foretell(&plan, &report.units, *size, time, threads);
                searching.inc(calls.work());
            }
            advice
        })
        .collect::<Vec<_>>();
    searching.finish_and_clear();
    report.advice = advice;
    print!("{}", report.text());
    if let Some(path) = &args.json {
        write_lines(path, report.lines().iter())?;
    }
    if let Some(path) = &args.html {
        write_atomically(path, page::page(&report, &found, &sizes).as_bytes())?;
        eprintln!("exo: report in {}", path.display());
    }
    Ok(())
}

impl AdviseArgs {
    /// The file with the references: the one that is named, or `record`, to which the application that is
    /// named has been recorded.
    fn record(&self, record: &Path) -> Result<PathBuf> {
        if self.file.exists() && !self.file.is_dir() {
            return match self.run.first() {
                None => Ok(self.file.clone()),
                Some(extra) => Err(Error::Argument {
                    what: format!("{extra:?} after a file of references"),
                    fix: "options come before the file; what follows it is for an application".into(),
                }),
            };
        }
        let exo = std::env::current_exe().map_err(Error::io("find", Path::new("exo")))?;
        let mut run = Command::new(exo);
        run.args(["run", "--record-references"]).arg(record).arg(&self.file).args(&self.run);
        // What the application prints is not what is asked for here.
        let status = run.stdout(Stdio::null()).status().map_err(Error::io("run", &self.file))?;
        if status.success() {
            return Ok(record.to_path_buf());
        }
        Err(Error::Argument {
            what: format!("{} is no file, and running it as an application failed", self.file.display()),
            fix: "name a file of references, or an application with the options that `exo run` wants".into(),
        })
    }
}
