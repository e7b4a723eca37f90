//! One workload under one policy: from the command line to the result line.

use crate::cache_size::CacheSize;
use crate::catalogue::Workload;
use crate::files::{Advice, OwnCache};
use crate::lines::BLOCK_BYTES;
use crate::policy::Policy;
use crate::recorded_reads::RecordedReads;
use crate::workload::{Checked, Context, RunError};
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;
use libos_fs::cache::Observer;
use libos_fs::cache::references;
use libos_fs::{BlockDevice, CacheOptions, CachePlan, CacheStatistics, ReadAheadKind, Volume};
use results::{BENCH_COMPARE, CompareLine};

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `workload=`: which; must be given.
    pub workload: Workload,
    /// `policy=`: default `default`.
    pub policy: Policy,
    /// `cache=`: default `80%`.
    pub cache: CacheSize,
    /// `read_ahead=`: one of [`ReadAheadKind::ALL`]; default is the library's.
    pub read_ahead: ReadAheadKind,
    /// `record=1`: whether to print the reference string.
    pub record: bool,
    /// `cores=`: how many cores run the workload, through one cache; see [`crate::cores`]. `None`: one, with
    /// the cache of its own.
    pub cores: Option<u64>,
    /// `plan=`: what the cache is told from outside, before the workload begins; see [`CachePlan`].
    pub plan: Option<CachePlan>,
}

impl Options {
    /// Options for a workload, the rest as by default.
    pub fn new(workload: Workload) -> Options {
        Options {
            workload,
            policy: Policy::Default,
            cache: CacheSize::Percent(80),
            read_ahead: ReadAheadKind::default(),
            record: false,
            cores: None,
            plan: None,
        }
    }

    /// Reads the options with `argument`, which gives the value of a key of the command line.
    ///
    /// # Errors
    ///
    /// [`RunError::Argument`] names the key and what its value can be.
    pub fn parse<'a>(argument: impl Fn(&str) -> Option<&'a str>) -> Result<Options, RunError> {
        let workload = argument("workload")
            .ok_or_else(|| RunError::Argument { key: "workload", reason: "missing".to_string() })
            .and_then(|name| value("workload", name))?;
        let mut options = Options::new(workload);
        if let Some(text) = argument("policy") {
            options.policy = value("policy", text)?;
        }
        if let Some(text) = argument("cache") {
            options.cache = value("cache", text)?;
        }
        if let Some(text) = argument("read_ahead") {
            options.read_ahead = value("read_ahead", text)?;
        }
        options.cores = argument("cores").map(|text| value("cores", text)).transpose()?;
        options.plan = argument("plan").map(|text| value("plan", text)).transpose()?;
        options.record = match argument("record") {
            None | Some("0") => false,
            Some("1") => true,
            Some(_) => {
                return Err(RunError::Argument { key: "record", reason: "must be 0 or 1".to_string() });
            }
        };
        Ok(options)
    }
}

fn value<T: FromStr<Err: fmt::Display>>(key: &'static str, text: &str) -> Result<T, RunError> {
    text.parse().map_err(|error| RunError::Argument { key, reason: format!("{text:?}: {error}") })
}

/// What a run gives.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The result line.
    pub line: CompareLine,
    /// What did not agree with the expected result; empty if all did.
    pub differences: Vec<String>,
    /// All counters of the cache, mount included.
    pub statistics: CacheStatistics,
    /// The reference string, if it was asked for.
    pub references: Vec<u64>,
}

impl Outcome {
    /// What to print, line by line: the reference string if there is one, what did not agree, the result
    /// line.
    pub fn report(&self, print: &mut dyn FnMut(&str)) {
        references::to_lines(&self.line.workload, &self.references).for_each(|line| print(&line));
        self.differences.iter().for_each(|difference| print(&format!("wrong result: {difference}")));
        print(&self.line.to_json_line());
    }
}

/// Blocks of cache for mounting and opening, before the size of the data is known.
pub(crate) const START_BLOCKS: usize = 64;

/// Mounts the volume on `device` and runs a workload. `now_ns` tells the time in nanoseconds from any origin.
///
/// The line says `verified: false` if the result is not the expected one.
///
/// # Errors
///
/// If a file can't be read or makes no sense.
pub fn run(
    device: Box<dyn BlockDevice>,
    options: &Options,
    now_ns: &dyn Fn() -> u64,
) -> Result<Outcome, RunError> {
    run_observed(device, options, now_ns, None)
}

/// As [`run`]; `observer` is told of every event in the cache, once the volume is mounted.
///
/// # Errors
///
/// As [`run`].
pub fn run_observed(
    device: Box<dyn BlockDevice>,
    options: &Options,
    now_ns: &dyn Fn() -> u64,
    observer: Option<Observer>,
) -> Result<Outcome, RunError> {
    let mount_start_ns = now_ns();
    let cache_options = CacheOptions {
        // A size that is known is there from the start: some policies remember how they began.
        blocks: match options.cache {
            CacheSize::Blocks(blocks) => usize::try_from(blocks).unwrap_or(usize::MAX),
            CacheSize::Percent(_) | CacheSize::Paper(_) => START_BLOCKS,
        },
        policy: options.policy.kind().into(),
        read_ahead: options.read_ahead,
        record_references: options.record,
        // Without read-ahead each block comes alone, even where the next is certain to follow: then a policy
        // is asked for a victim exactly when a simulator would ask it.
        staging: (options.read_ahead == ReadAheadKind::None).then_some(0),
        ..CacheOptions::default()
    };
    let (device, reads_digest) = RecordedReads::new(device);
    let volume = Volume::mount(Box::new(device), cache_options)
        .map_err(|error| RunError::file("the volume", error))?;
    volume.cache().observe(observer);
    if let Some(plan) = &options.plan {
        plan.apply(&volume).map_err(|error| RunError::file("the plan", error))?;
    }
    let start_ns = now_ns();
    let advice =
        if options.policy == Policy::Own { Advice::Own(OwnCache::One(volume.cache())) } else { Advice::None };
    let context = Context { storage: &volume, advice, now_ns };
    let mut resize = |blocks: u64| {
        let blocks = usize::try_from(blocks).unwrap_or(usize::MAX);
        volume.cache().resize(blocks).map_err(|error| RunError::file("the cache", error))
    };
    let (data_blocks, checked) = run_program(&context, options, &mut resize)?;
    let end_ns = now_ns();
    let mut line = result_line(&volume.cache().statistics(), options, &checked);
    line.cache_blocks = volume.cache().blocks() as u64;
    line.data_blocks = data_blocks;
    line.elapsed_ms = milliseconds(start_ns, end_ns);
    line.mount_ms = milliseconds(mount_start_ns, start_ns);
    line.reads_digest = options.record.then(|| format!("{:016x}", reads_digest.get()));
    let references = if options.record { volume.cache().take_references() } else { Vec::new() };
    let statistics = volume.cache().statistics();
    Ok(Outcome { line, differences: checked.differences, statistics, references })
}

/// Opens the files of a workload, has the cache given its size in blocks, lets the workload say what it
/// knows, and runs it. Returns the size of the data in blocks and the comparison.
///
/// # Errors
///
/// If a file can't be read or makes no sense, or if `resize` fails.
pub fn run_program(
    context: &Context<'_>,
    options: &Options,
    resize: &mut dyn FnMut(u64) -> Result<(), RunError>,
) -> Result<(u64, Checked), RunError> {
    let program = options.workload.open(context)?;
    let data_blocks = program.data_blocks();
    resize(options.cache.blocks(options.workload, data_blocks))?;
    program.advise(context.advice);
    Ok((data_blocks, program.run(context)?))
}

pub(crate) fn result_line(statistics: &CacheStatistics, options: &Options, checked: &Checked) -> CompareLine {
    CompareLine {
        bench: BENCH_COMPARE.to_owned(),
        workload: options.workload.name().to_owned(),
        policy: options.policy.name().to_owned(),
        role: options.policy.role(),
        read_ahead: options.read_ahead.name().to_owned(),
        cache_blocks: 0,
        block_bytes: BLOCK_BYTES as u64,
        data_blocks: 0,
        reads: statistics.blocks_read + statistics.metadata_reads,
        read_requests: statistics.read_requests + statistics.metadata_read_requests,
        writes: statistics.blocks_written + statistics.metadata_writes,
        hits: statistics.hits,
        misses: statistics.misses,
        opt_misses: None,
        fixed_misses: None,
        elapsed_ms: 0.0,
        platform: None,
        accel: None,
        verified: checked.verified(),
        references: statistics.references,
        passes: checked.passes,
        write_requests: statistics.write_requests + statistics.metadata_write_requests,
        metadata_reads: statistics.metadata_reads,
        metadata_writes: statistics.metadata_writes,
        allocated: statistics.allocated,
        read_ahead_wasted: statistics.staged_wasted,
        flushes: statistics.flushes,
        mount_reads: statistics.mount_reads,
        mount_ms: 0.0,
        expected: checked.expected.clone(),
        actual: checked.actual.clone(),
        reads_digest: None,
        cores: options.cores,
        point_reads: checked.point_reads,
    }
}

pub(crate) fn milliseconds(start_ns: u64, end_ns: u64) -> f64 {
    end_ns.saturating_sub(start_ns) as f64 / 1e6
}
