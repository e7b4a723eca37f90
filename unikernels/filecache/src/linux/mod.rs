//! The same workloads on Linux, for comparison: over files of a mounted file system, under the kernel's page
//! cache.
//!
//! | module | what |
//! |---|---|
//! | `files` | the kernel's files as [`Storage`](crate::files::Storage) |
//! | `hints` | what can be said to the kernel by `posix_fadvise` |
//! | `memory` | the budget of the page cache: a memory control group |
//! | `disk` | what the kernel counts of the disk |
//!
//! **The budget.** A control group limits programs and page cache together, so its limit follows what the
//! program and the kernel need besides (`memory`). Counting starts when the files are open: what the file
//! system reads to open them is not held against it.

mod disk;
mod files;
mod hints;
mod memory;

pub use disk::DiskCounters;
pub use memory::{MemoryUse, ReplacementKind};

use crate::files::Advice;
use crate::policy::Policy;
use crate::run::{Options, Outcome, run_program};
use crate::workload::{Context, RunError};
use files::HostStorage;
use hints::PageCache;
use libos_fs::{CacheStatistics, PolicyKind};
use results::{BENCH_COMPARE, CompareLine, Role};
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

/// What decides about the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerPolicy {
    /// The kernel's own replacement.
    pub replacement: ReplacementKind,
    /// Whether the workload gives hints.
    pub hints: bool,
}

impl PeerPolicy {
    /// All there are.
    pub const ALL: [PeerPolicy; 4] = [
        PeerPolicy { replacement: ReplacementKind::Lists, hints: false },
        PeerPolicy { replacement: ReplacementKind::Generations, hints: false },
        PeerPolicy { replacement: ReplacementKind::Lists, hints: true },
        PeerPolicy { replacement: ReplacementKind::Generations, hints: true },
    ];

    /// Its name in result lines and on the command line.
    pub fn name(self) -> &'static str {
        match (self.replacement, self.hints) {
            (ReplacementKind::Lists, false) => "linux",
            (ReplacementKind::Generations, false) => "linux-mglru",
            (ReplacementKind::Lists, true) => "linux-fadvise",
            (ReplacementKind::Generations, true) => "linux-mglru-fadvise",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<PeerPolicy> {
        PeerPolicy::ALL.into_iter().find(|policy| policy.name() == name)
    }
}

/// Runs a workload over the files in `root`, which are on the disk `disk` (a name like `vda`).
///
/// # Errors
///
/// If a file can't be used, if there is no control group for memory, or if this kernel does not have the
/// replacement that is asked for. Needs a root user.
pub fn run(
    root: &Path,
    disk: &str,
    options: &Options,
    peer: PeerPolicy,
) -> Result<(Outcome, MemoryUse), RunError> {
    memory::choose_replacement(peer.replacement)?;
    memory::allow_open_files()?;
    memory::drop_caches()?;
    let page_cache = Rc::new(PageCache::new(memory::Budget::new(memory::Group::make()?)?, options.record));
    let storage = HostStorage::new(root, Rc::clone(&page_cache));
    let advice = if peer.hints { Advice::Hints(&*page_cache) } else { Advice::None };
    let origin = Instant::now();
    let now_ns = || u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let context = Context { storage: &storage, advice, now_ns: &now_ns };
    let mut start = None;
    let mut cache_blocks = 0;
    let (data_blocks, checked) = run_program(&context, options, &mut |blocks| {
        cache_blocks = blocks;
        memory::drop_caches()?;
        page_cache.start(blocks)?;
        start = Some((Instant::now(), DiskCounters::read(disk)?));
        Ok(())
    })?;
    nix::unistd::sync();
    let (started, before) = start.unwrap_or((Instant::now(), DiskCounters::default()));
    let elapsed_ms = started.elapsed().as_secs_f64() * 1e3;
    let moved = DiskCounters::read(disk)?.since(before);
    let references = page_cache.references();
    let line = CompareLine {
        bench: BENCH_COMPARE.to_owned(),
        workload: options.workload.name().to_owned(),
        policy: peer.name().to_owned(),
        role: Role::Peer,
        cache_blocks,
        block_bytes: crate::lines::BLOCK_BYTES as u64,
        data_blocks,
        reads: moved.blocks_read,
        read_requests: moved.reads,
        writes: moved.blocks_written,
        hits: references.saturating_sub(moved.blocks_read),
        misses: references.min(moved.blocks_read),
        elapsed_ms,
        verified: checked.verified(),
        references,
        passes: checked.passes,
        write_requests: moved.writes,
        mount_reads: before.blocks_read,
        expected: checked.expected,
        actual: checked.actual,
        point_reads: checked.point_reads,
        ..CompareLine::default()
    };
    let outcome = Outcome {
        line,
        differences: checked.differences,
        statistics: CacheStatistics::default(),
        references: page_cache.take_recorded(),
    };
    Ok((outcome, page_cache.memory()?))
}

/// Options for [`run`] from the words of a command line, whose `policy=` names a [`PeerPolicy`].
///
/// # Errors
///
/// As [`Options::parse`], and if there is no such policy.
pub fn parse<'a>(argument: impl Fn(&str) -> Option<&'a str>) -> Result<(Options, PeerPolicy), RunError> {
    let peer = argument("policy").and_then(PeerPolicy::named).ok_or_else(|| RunError::Argument {
        key: "policy",
        reason: format!("on Linux there are: {}", PeerPolicy::ALL.map(PeerPolicy::name).join(", ")),
    })?;
    let mut options = Options::parse(|key| argument(key).filter(|_| key != "policy"))?;
    options.policy = Policy::Forced(PolicyKind::Lru);
    Ok((options, peer))
}
