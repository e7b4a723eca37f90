//! A file that all cores read at the same time, through one cache.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use libos_core::cores::StartError;
use libos_core::{argument, println};
use libos_fs::cache::{Lru, ReplacementPolicy, SharedCache, reference};
use libos_fs::device::fault::Dice;
use libos_fs::shared::Cores;
use libos_fs::{
    BLOCK_BYTES, FsError, PolicyKind, ReadAheadKind, RingDevice, SharedFile, SharedStatistics, SharedVolume,
    simulate,
};
use spin::Once;

/// Blocks that are read at a time while the whole file is read.
const BATCH: usize = 8;

/// What a core does, given its place.
type Work = Box<dyn Fn(u64) + Send + Sync>;

/// First the whole file, then single blocks.
static WORK: [Once<Work>; 2] = [const { Once::new() }; 2];

fn read_all(place: u64) {
    WORK[0].get().into_iter().for_each(|work| work(place));
}

fn get_blocks(place: u64) {
    WORK[1].get().into_iter().for_each(|work| work(place));
}

/// Has the cores read the file, in front of it a cache of so many blocks, and then so many single blocks
/// each; whether everybody read the same, and missed as often as can be known before.
pub fn on_all(path: &'static str, cache_blocks: usize, gets: u64, cores: u64) -> Result<bool, StartError> {
    match argument("policy").unwrap_or("sieve") {
        "clock" => with_cache(path, SharedCache::clock(cache_blocks, 1), PolicyKind::Clock, gets, cores),
        "sieve" => with_cache(path, SharedCache::sieve(cache_blocks, 1), PolicyKind::Sieve, gets, cores),
        "s3-fifo" => with_cache(path, SharedCache::s3_fifo(cache_blocks, 1), PolicyKind::S3Fifo, gets, cores),
        "lru" => {
            with_cache(path, SharedCache::new(cache_blocks, 1, Lru::default), PolicyKind::Lru, gets, cores)
        }
        other => {
            println!("error: policy={other}: it must be clock, sieve, s3-fifo or lru");
            Ok(false)
        }
    }
}

fn with_cache<P: ReplacementPolicy + Send + 'static>(
    path: &'static str,
    cache: SharedCache<P>,
    kind: PolicyKind,
    gets: u64,
    cores: u64,
) -> Result<bool, StartError> {
    let capacity = cache.capacity();
    let (volume, file) = match open(path, cache) {
        Ok(opened) => opened,
        Err(error) => {
            println!("error: {error}");
            return Ok(false);
        }
    };
    let blocks = file.len().div_ceil(BLOCK_BYTES as u64);
    let seen = Arc::new(Seen::new(blocks as usize));
    let (whole, seen_whole) = (file.clone(), Arc::clone(&seen));
    WORK[0].call_once(|| Box::new(move |place| seen_whole.judge(read_whole(&whole, &seen_whole, place))));
    super::on_all(cores, read_all)?;
    let (single, seen_single) = (file.clone(), Arc::clone(&seen));
    WORK[1].call_once(|| Box::new(move |place| seen_single.judge(get(&single, &seen_single, place, gets))));
    super::on_all(cores, get_blocks)?;
    let statistics = volume.statistics();
    report(path, blocks, cores, gets, &statistics, &seen);
    let as_expected = match cores {
        1 => statistics.misses == simulate(&mut *kind.build(capacity), capacity, &alone(&file, blocks, gets)),
        _ if capacity as u64 >= blocks => statistics.misses == blocks,
        _ => statistics.misses >= blocks,
    };
    let all_counted = statistics.hits + statistics.misses == cores * (blocks + gets);
    Ok(as_expected && all_counted && seen.wrong.load(Ordering::Relaxed) == 0)
}

fn open<P: ReplacementPolicy>(
    path: &str,
    cache: SharedCache<P>,
) -> Result<(SharedVolume<P>, SharedFile<P>), String> {
    let device = RingDevice::open().map_err(|error| format!("{error}"))?;
    let volume = SharedVolume::mount(device, cache, Cores).map_err(|error| format!("the volume: {error}"))?;
    // So that what is missed is what is read.
    let none = volume.set_read_ahead(ReadAheadKind::None);
    none.map_err(|error| format!("read-ahead: {error}"))?;
    let file = volume.open(path).map_err(|error| format!("{path}: {error}"))?;
    Ok((volume, file))
}

/// One JSON line.
fn report(path: &str, blocks: u64, cores: u64, gets: u64, statistics: &SharedStatistics, seen: &Seen) {
    let SharedStatistics { hits, misses, mount_reads, waits, read_requests, read_errors, .. } = statistics;
    println!(
        "{{\"file\":\"{path}\",\"blocks\":{blocks},\"sum\":{},\"readers\":{cores},\"gets\":{gets},\
        \"hits\":{hits},\"misses\":{misses},\"mount_reads\":{mount_reads},\"waits\":{waits},\
        \"read_requests\":{read_requests},\"read_errors\":{read_errors},\"wrong\":{}}}",
        seen.total.load(Ordering::Relaxed),
        seen.wrong.load(Ordering::Relaxed)
    );
}

/// What has been read so far.
struct Seen {
    /// A digest of each block, by who read it first; 0 if nobody has.
    digests: Vec<AtomicU64>,
    /// The sum of all bytes of the file, as the first core read them.
    total: AtomicU64,
    /// Blocks that were read otherwise than before, and reads that failed.
    wrong: AtomicU64,
}

impl Seen {
    fn new(blocks: usize) -> Seen {
        let digests = (0..blocks).map(|_| AtomicU64::new(0)).collect();
        Seen { digests, total: AtomicU64::new(0), wrong: AtomicU64::new(0) }
    }

    /// Compares a block with what others have read.
    fn compare(&self, block: u64, contents: &[u8]) {
        let digest = digest(contents);
        let seen = &self.digests[block as usize];
        let first = seen.compare_exchange(0, digest, Ordering::Relaxed, Ordering::Relaxed);
        if first.is_err_and(|before| before != digest) {
            println!("block {block} is not what it was");
            self.wrong.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn judge(&self, result: Result<(), FsError>) {
        if let Err(error) = result {
            println!("error: {error}");
            self.wrong.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Of the bytes and their order (FNV-1a on words); never 0.
fn digest(contents: &[u8]) -> u64 {
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| (word << 8) | u64::from(*byte));
    contents.chunks(8).fold(0xcbf2_9ce4_8422_2325, |digest: u64, bytes| {
        (digest ^ word(bytes)).wrapping_mul(0x100_0000_01b3)
    }) | 1
}

/// Reads the file in batches: the first core in order, each other one from another place on.
fn read_whole<P: ReplacementPolicy>(file: &SharedFile<P>, seen: &Seen, place: u64) -> Result<(), FsError> {
    let file = file.clone();
    let bytes = (BATCH * BLOCK_BYTES) as u64;
    let batches = file.len().div_ceil(bytes);
    let mut into = vec![0; bytes as usize];
    for step in 0..batches {
        let batch = (step + place * batches / 2) % batches;
        let read = file.read_at(batch * bytes, &mut into)?;
        for (block, contents) in (batch * BATCH as u64..).zip(into[..read].chunks(BLOCK_BYTES)) {
            seen.compare(block, contents);
            if place == 0 {
                let sum: u64 = contents.iter().map(|byte| u64::from(*byte)).sum();
                seen.total.fetch_add(sum, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

/// The blocks that a core gets: some more often than others.
fn wanted(place: u64, blocks: u64, gets: u64) -> impl Iterator<Item = u64> {
    let mut dice = Dice::new(place);
    (0..gets).map(move |_| {
        let most = 1 + dice.below(blocks);
        dice.below(most)
    })
}

/// Reads single blocks.
fn get<P: ReplacementPolicy>(
    file: &SharedFile<P>,
    seen: &Seen,
    place: u64,
    gets: u64,
) -> Result<(), FsError> {
    let file = file.clone();
    let mut into = vec![0; BLOCK_BYTES];
    for block in wanted(place, seen.digests.len() as u64, gets) {
        let read = file.read_at(block * BLOCK_BYTES as u64, &mut into)?;
        seen.compare(block, &into[..read]);
    }
    Ok(())
}

/// The references of a core that is alone.
fn alone<P>(file: &SharedFile<P>, blocks: u64, gets: u64) -> Vec<u64> {
    let numbers = (0..blocks).chain(wanted(0, blocks, gets));
    numbers.map(|block| reference(file.id(), block)).collect()
}
