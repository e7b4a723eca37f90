//! A workload on several cores, through one cache.
//!
//! Every core runs the whole workload, as several users of one program do: they read the same files, and each
//! makes files of its own, in a folder of its own. What a workload changes where it is, the stores of `ycsb`,
//! each core has for itself, as a store that is divided among cores has it; the copies are made before the
//! cores start, and are part of the run.
//!
//! The cache is that of [`SharedVolume`], with one shard, under the same policies as on one core. The
//! workload says what it knows before the cores start, once; what it says while it runs each core says for
//! itself. Of the blocks of the cache a sixteenth, 64 at most, is staging if it reads ahead.
//!
//! How often it misses depends on who is where when: two runs of several cores need not count the same. So
//! each run notes the references of all cores in their order, and computes the limits from them.

use crate::cache_size::CacheSize;
use crate::files::{Advice, FileAccess, FileError, OwnCache, Storage, WorkFile};
use crate::policy::Policy;
use crate::run::{Options, Outcome, START_BLOCKS, milliseconds, result_line};
use crate::workload::{Checked, Context, Program, RunError};
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use libos_fs::cache::{Managed, SharedCache, fixed_set_misses, optimal_misses};
use libos_fs::shared::Sleep;
use libos_fs::{
    BLOCK_BYTES, BlockDevice, CacheStatistics, FileId, FsError, ReadAheadKind, SharedFile, SharedStatistics,
    SharedVolume,
};
use spin::Mutex;

/// What a core does, given its place from 0.
pub type Work = Arc<dyn Fn(u64) + Send + Sync>;

/// Has cores work.
pub trait Cores {
    /// Has the cores of the places from 1 to `cores` - 1 do `work`; returns what waits for their end.
    ///
    /// # Errors
    ///
    /// In words, if there are not that many; those that were started come to their end.
    fn start(&self, cores: u64, work: Work) -> Result<Box<dyn FnOnce()>, String>;
}

/// Bytes that are copied at a time.
const COPY_BYTES: usize = 16 * BLOCK_BYTES;

/// The files as one core sees them.
struct CoreFiles {
    volume: SharedVolume<Managed>,
    /// Where what it makes is; the first core makes it where the workload says.
    folder: Option<String>,
}

impl CoreFiles {
    fn new(volume: &SharedVolume<Managed>, place: u64) -> CoreFiles {
        let folder = (place > 0).then(|| format!("core-{place}"));
        CoreFiles { volume: volume.clone(), folder }
    }

    /// The path of something of its own.
    fn own(&self, path: &str) -> String {
        self.folder.as_ref().map_or_else(|| path.to_owned(), |folder| format!("{folder}/{path}"))
    }

    /// Makes the folders in which something of its own is.
    fn make_folders(&self, path: &str) -> Result<(), FsError> {
        if self.folder.is_none() {
            return Ok(());
        }
        let own = self.own(path);
        for (at, _) in own.match_indices('/') {
            match self.volume.create_dir(&own[..at]) {
                Ok(()) | Err(FsError::AlreadyExists(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn make(&self, path: &str) -> Result<SharedFile<Managed>, FsError> {
        self.make_folders(path)?;
        let own = self.own(path);
        match self.volume.create(&own) {
            Err(FsError::AlreadyExists(_)) => {
                self.volume.remove(&own)?;
                self.volume.create(&own)
            }
            made => made,
        }
    }

    fn copy(&self, path: &str) -> Result<SharedFile<Managed>, FsError> {
        let (from, to) = (self.volume.open(path)?, self.make(path)?);
        let mut bytes = vec![0; COPY_BYTES];
        let mut at = 0;
        while at < from.len() {
            let read = from.read_at(at, &mut bytes)?;
            to.write_at(at, &bytes[..read])?;
            at += read as u64;
        }
        Ok(to)
    }
}

impl Storage for CoreFiles {
    fn open(&self, path: &str) -> Result<WorkFile, FileError> {
        let opened = match (self.volume.open(&self.own(path)), &self.folder) {
            (Err(FsError::NotFound(_)), Some(_)) => self.volume.open(path)?,
            (opened, _) => opened?,
        };
        Ok(WorkFile::new(opened))
    }

    fn create(&self, path: &str) -> Result<WorkFile, FileError> {
        Ok(WorkFile::new(self.make(path)?))
    }

    fn remove(&self, path: &str) -> Result<(), FileError> {
        Ok(self.volume.remove(&self.own(path))?)
    }

    fn commit(&self) -> Result<(), FileError> {
        Ok(self.volume.commit()?)
    }
}

impl FileAccess for SharedFile<Managed> {
    fn id(&self) -> FileId {
        SharedFile::id(self)
    }

    fn bytes(&self) -> Result<u64, FileError> {
        Ok(self.len())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<usize, FileError> {
        Ok(SharedFile::read_at(self, offset, into)?)
    }

    fn write_at(&self, offset: u64, from: &[u8]) -> Result<(), FileError> {
        Ok(SharedFile::write_at(self, offset, from)?)
    }
}

/// What the cores found, by their place.
type Results = Arc<Mutex<Vec<(u64, Result<Checked, RunError>)>>>;

/// Mounts the volume on `device` and has `options.cores` cores run a workload, this one among them. `now_ns`
/// tells the time in nanoseconds from any origin.
///
/// # Errors
///
/// As [`run`](crate::run()); [`RunError::Argument`] for what only one core can have: a plan, read-ahead that
/// follows disclosures, more cores than there are.
pub fn run_on_cores(
    device: impl BlockDevice + Send + 'static,
    options: &Options,
    now_ns: fn() -> u64,
    sleep: impl Sleep + 'static,
    cores: &dyn Cores,
) -> Result<Outcome, RunError> {
    let count = options.cores.unwrap_or(1).max(1);
    if options.plan.is_some() {
        return Err(RunError::Argument { key: "plan", reason: "is for one core".to_string() });
    }
    let mount_start_ns = now_ns();
    let start_blocks = match options.cache {
        CacheSize::Blocks(blocks) => usize::try_from(blocks).unwrap_or(usize::MAX),
        CacheSize::Percent(_) | CacheSize::Paper(_) => START_BLOCKS,
    };
    let mounted = SharedVolume::mount(device, cache(options, start_blocks), sleep);
    let mut volume = mounted.map_err(|error| RunError::file("the volume", error))?;
    set_read_ahead(&volume, options)?;
    let start_ns = now_ns();
    volume.start_recording();
    let changes = options.workload.changes();
    let open = |volume: &SharedVolume<Managed>, place| {
        let files = CoreFiles::new(volume, place);
        let context = Context { storage: &files, advice: advice(volume, options), now_ns: &now_ns };
        options.workload.open(&context)
    };
    let mut program = open(&volume, 0)?;
    let mut opening = Vec::new();
    // A copy for each core that is not the first.
    let copies = if changes.is_empty() { 0 } else { count - 1 };
    let data_blocks = program.data_blocks() * (1 + copies);
    let blocks = options.cache.blocks(options.workload, data_blocks);
    if !matches!(options.cache, CacheSize::Blocks(_)) {
        // It is known only now, and what has been read is read again.
        drop(program);
        opening = volume.take_references();
        let blocks = usize::try_from(blocks).unwrap_or(usize::MAX);
        let changed = volume.with_cache(cache(options, blocks));
        volume = changed.map_err(|error| RunError::file("the cache", error))?;
        set_read_ahead(&volume, options)?;
        volume.start_recording();
        program = open(&volume, 0)?;
    }
    program.advise(advice(&volume, options));
    for place in 1..=copies {
        let files = CoreFiles::new(&volume, place);
        changes
            .iter()
            .try_for_each(|path| files.copy(path).map(drop).map_err(|error| RunError::file(path, error)))?;
    }
    let checked = on_all(&volume, options, count, &*program, now_ns, cores)?;
    let end_ns = now_ns();
    drop(program);
    volume.commit().map_err(|error| RunError::file("the volume", error))?;
    let references = [opening, volume.take_references()].concat();
    let statistics = of_one_cache(&volume.statistics());
    let mut line = result_line(&statistics, options, &checked);
    line.cache_blocks = blocks;
    line.data_blocks = data_blocks;
    line.elapsed_ms = milliseconds(start_ns, end_ns);
    line.mount_ms = milliseconds(mount_start_ns, start_ns);
    line.opt_misses = Some(optimal_misses(blocks as usize, &references));
    line.fixed_misses = Some(fixed_set_misses(&[blocks as usize], references.iter().copied())[0]);
    let references = if options.record { references } else { Vec::new() };
    Ok(Outcome { line, differences: checked.differences, statistics, references })
}

/// An empty cache of so many blocks, staging among them.
fn cache(options: &Options, blocks: usize) -> SharedCache<Managed> {
    let staging = match options.read_ahead {
        ReadAheadKind::None => 0,
        _ => (blocks / 16).clamp(1, 64),
    };
    let kind = options.policy.kind();
    SharedCache::new(blocks.saturating_sub(staging).max(1), 1, || Managed::new(kind))
}

fn set_read_ahead(volume: &SharedVolume<Managed>, options: &Options) -> Result<(), RunError> {
    let wrong = |error: FsError| RunError::Argument { key: "read_ahead", reason: error.to_string() };
    volume.set_read_ahead(options.read_ahead).map_err(wrong)
}

fn advice<'v>(volume: &'v SharedVolume<Managed>, options: &Options) -> Advice<'v> {
    if options.policy == Policy::Own { Advice::Own(OwnCache::Shared(volume)) } else { Advice::None }
}

/// Runs the workload on all cores, this one with the program that it has opened, and puts together what they
/// found.
fn on_all(
    volume: &SharedVolume<Managed>,
    options: &Options,
    count: u64,
    program: &dyn Program,
    now_ns: fn() -> u64,
    cores: &dyn Cores,
) -> Result<Checked, RunError> {
    let results = Results::default();
    let work: Work = {
        let (volume, options, results) = (volume.clone(), options.clone(), Arc::clone(&results));
        Arc::new(move |place| {
            let files = CoreFiles::new(&volume, place);
            let context = Context { storage: &files, advice: advice(&volume, &options), now_ns: &now_ns };
            let found = options.workload.open(&context).and_then(|program| program.run(&context));
            results.lock().push((place, found));
        })
    };
    let too_many = |reason| RunError::Argument { key: "cores", reason };
    let join = cores.start(count, work).map_err(too_many)?;
    let files = CoreFiles::new(volume, 0);
    let own = program.run(&Context { storage: &files, advice: advice(volume, options), now_ns: &now_ns });
    join();
    let mut results = core::mem::take(&mut *results.lock());
    results.push((0, own));
    results.sort_by_key(|(place, _)| *place);
    let ended = results.len() as u64;
    let mut checked = together(results)?;
    checked.compare("cores that came to their end", count, ended);
    Ok(checked)
}

/// What all cores found, as one comparison.
fn together(results: Vec<(u64, Result<Checked, RunError>)>) -> Result<Checked, RunError> {
    let mut all: Option<Checked> = None;
    for (place, found) in results {
        let found = found?;
        let differences = found.differences.iter().map(|difference| format!("core {place}: {difference}"));
        match &mut all {
            None => all = Some(Checked { differences: differences.collect(), ..found }),
            Some(all) => {
                all.passes += found.passes;
                all.comparisons += found.comparisons;
                all.differences.extend(differences);
                if found.actual != all.actual {
                    all.actual = format!("{}; core {place}: {}", all.actual, found.actual);
                }
            }
        }
    }
    all.ok_or_else(|| RunError::Argument { key: "cores", reason: "no core has run".to_string() })
}

/// The same counters by their names in the cache of one core.
fn of_one_cache(shared: &SharedStatistics) -> CacheStatistics {
    CacheStatistics {
        references: shared.hits + shared.misses,
        hits: shared.hits,
        misses: shared.misses,
        staged_used: shared.staged_used,
        allocated: shared.allocated,
        staged_wasted: shared.staged_wasted,
        blocks_read: shared.blocks_read,
        read_requests: shared.read_requests,
        blocks_written: shared.blocks_written,
        write_requests: shared.write_requests,
        mount_reads: shared.mount_reads,
        metadata_writes: shared.metadata_writes,
        metadata_write_requests: shared.metadata_write_requests,
        flushes: shared.flushes,
        dropped_dirty: shared.dropped_dirty,
        read_errors: shared.read_errors,
        write_errors: shared.write_errors,
        dirty: shared.dirty,
        ..CacheStatistics::default()
    }
}

/// Threads of the host, as many as are asked for.
#[cfg(any(test, feature = "data"))]
pub struct HostThreads;

#[cfg(any(test, feature = "data"))]
impl Cores for HostThreads {
    fn start(&self, cores: u64, work: Work) -> Result<Box<dyn FnOnce()>, String> {
        let threads: Vec<_> = (1..cores)
            .map(|place| {
                let work = Arc::clone(&work);
                std::thread::spawn(move || work(place))
            })
            .collect();
        // A thread that panicked has left no result, and its panic on the console.
        Ok(Box::new(move || threads.into_iter().for_each(|thread| drop(thread.join()))))
    }
}
