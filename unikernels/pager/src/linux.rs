//! The same programs on Linux: anonymous memory in a control group with a limit, swap where it was turned on.
//!
//! Sources: Linux, Documentation/admin-guide/cgroup-v2.rst ("Memory"), madvise(2), proc(5).
//!
//! Under `linux` the kernel is told nothing; under `linux-madvise` what the programs say, as far as it can be
//! said safely: `WILLNEED`, `SEQUENTIAL`, new mappings for what is discarded; and the program is told what
//! it can ask for: its limit, and which pages are in memory. Under `linux-single` it reads no page from swap
//! but the one that is missing, so that its replacement can be seen by itself.

mod anonymous;

use crate::PAGE_BYTES;
use crate::options::{frames, scale};
use crate::programs::{Program, UnknownProgram};
use anonymous::Anonymous;
use results::{BENCH_PAGING, PagingLine, Role};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::string::{String, ToString};
use std::time::Instant;

/// Names of the policies there are.
pub const POLICIES: [&str; 3] = ["linux", "linux-madvise", "linux-single"];

/// How many pages the kernel reads from swap at once, as a power of two.
const CLUSTER: &str = "/proc/sys/vm/page-cluster";

/// Where control groups of version 2 are mounted.
const GROUPS: &str = "/sys/fs/cgroup";
/// The group of the program.
const NAME: &str = "pager";

/// Runs the program that the arguments name: `program=`, `policy=`, `frames=`.
pub fn main() -> ExitCode {
    match run() {
        Ok(line) => {
            println!("{}", line.to_json_line());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("pager: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<PagingLine, String> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let value = |key: &str| words.iter().rev().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    let program = value("program").ok_or_else(|| format!("no program=NAME; {UnknownProgram}"))?;
    let program: Program = program.parse().map_err(|error: UnknownProgram| error.to_string())?;
    let policy = value("policy").unwrap_or(POLICIES[0]);
    if !POLICIES.contains(&policy) {
        return Err(format!("policy={policy}: there are {}", POLICIES.join(", ")));
    }
    let scale = scale(value("scale").unwrap_or("1"))?;
    let frames = frames(value("frames").unwrap_or(program.usual_frames()), program.pages(scale))?;
    if policy == POLICIES[2] {
        write(CLUSTER, "0")?;
    }
    let group = limit_memory(frames)?;
    let besides = anonymous_pages(&group)?;
    let told = (policy == POLICIES[1]).then_some(frames);
    let memory = Anonymous::new(told).map_err(|error| format!("what is in memory: {error}"))?;
    let before = Counts::now()?;
    let start = Instant::now();
    let digest = program.run(scale, &memory);
    let elapsed_ms = start.elapsed().as_secs_f64() * 1e3;
    let after = Counts::now()?;
    // As many as there ever were, as the data does not fit; unless the program has just discarded some.
    let most = anonymous_pages(&group)?.saturating_sub(besides).max(frames as u64);
    let frames = most.min(program.data_pages(scale));
    let (reads, major) = (after.swapped_in - before.swapped_in, after.major - before.major);
    Ok(PagingLine {
        bench: BENCH_PAGING.into(),
        program: program.name().into(),
        policy: policy.into(),
        role: Role::Peer,
        frames,
        pages: program.pages(scale),
        scale: scale as u64,
        faults: after.faults - before.faults,
        // Each page is made once.
        misses: major + program.data_pages(scale),
        reads,
        writes: after.swapped_out - before.swapped_out,
        elapsed_ms,
        digest: format!("{digest:016x}"),
        ..PagingLine::default()
    })
}

/// What the kernel has counted.
struct Counts {
    swapped_in: u64,
    swapped_out: u64,
    faults: u64,
    major: u64,
}

impl Counts {
    fn now() -> Result<Counts, String> {
        // Has each core add up what it has counted so far.
        write("/proc/sys/vm/stat_refresh", "1")?;
        let text = read("/proc/vmstat")?;
        let statistic = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|number| number.trim().parse().ok()).ok_or(format!("/proc/vmstat has no {name}"))
        };
        Ok(Counts {
            swapped_in: statistic("pswpin")?,
            swapped_out: statistic("pswpout")?,
            faults: statistic("pgfault")?,
            major: statistic("pgmajfault")?,
        })
    }
}

/// Enters a control group that may have so many frames more than it has now, and room for what is no data.
///
/// The kernel charges a group for page tables, kernel stacks, and pages that it hands out 64 at a time; it
/// ends a program whose group is so small that it can't give up a page when it must. So the data gets more
/// frames than asked for, and the result says how many.
fn limit_memory(frames: usize) -> Result<PathBuf, String> {
    write(Path::new(GROUPS).join("cgroup.subtree_control"), "+memory")?;
    let folder = Path::new(GROUPS).join(NAME);
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    write(folder.join("cgroup.procs"), &std::process::id().to_string())?;
    let current: u64 =
        read(folder.join("memory.current"))?.trim().parse().map_err(|error| format!("{error}"))?;
    let limit = current + (CHARGED_AT_ONCE + frames as u64) * PAGE_BYTES as u64;
    write(folder.join("memory.max"), &limit.to_string())?;
    Ok(folder)
}

/// Pages that the kernel charges to a group at once, at most.
const CHARGED_AT_ONCE: u64 = 64;

/// Anonymous pages of a group that are in memory.
fn anonymous_pages(folder: &Path) -> Result<u64, String> {
    let text = read(folder.join("memory.stat"))?;
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|number| number.trim().parse::<u64>().ok()).ok_or(format!("memory.stat has no {name}"))
    };
    Ok((bytes("active_anon")? + bytes("inactive_anon")?) / PAGE_BYTES as u64)
}

fn write(path: impl AsRef<Path>, text: &str) -> Result<(), String> {
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.as_ref().display()))
}

fn read(path: impl AsRef<Path>) -> Result<String, String> {
    std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.as_ref().display()))
}
