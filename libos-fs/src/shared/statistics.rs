//! What a shared volume counts.

use super::Shared;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of a [`SharedVolume`](super::SharedVolume) since it was mounted.
///
/// Every block that the device moved without error is counted exactly once: it has read `mount_reads` +
/// `blocks_read` blocks and written `metadata_writes` + `blocks_written`. But for damaged blocks,
/// `blocks_read` + `allocated` + `rescued` = `misses` + `staged_wasted` + blocks that are in staging now;
/// more only if a block was dropped while it was on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SharedStatistics {
    /// References to blocks in the cache. Together with `misses` all references; holes are none.
    pub hits: u64,
    /// References to blocks not in the cache, or only in staging.
    pub misses: u64,
    /// Misses that had been read ahead.
    pub staged_used: u64,
    /// Misses that needed no read, because the block was written whole or was new.
    pub allocated: u64,
    /// Misses whose block had left to make room and had not been written yet.
    pub rescued: u64,
    /// Blocks read ahead and dropped without having been used.
    pub staged_wasted: u64,
    /// Times that a core slept because a request for the block was on its way. It then looks the block up
    /// again, which mostly is a hit.
    pub waits: u64,
    /// Blocks of metadata read while mounting.
    pub mount_reads: u64,
    /// Blocks of files read since.
    pub blocks_read: u64,
    /// Requests for them, those that failed included.
    pub read_requests: u64,
    /// Reads that failed, and blocks whose checksum was wrong.
    pub read_errors: u64,
    /// Blocks of files written to the device.
    pub blocks_written: u64,
    /// Requests for them, those that failed included.
    pub write_requests: u64,
    /// Blocks of metadata written, superblocks included.
    pub metadata_writes: u64,
    /// Requests for them.
    pub metadata_write_requests: u64,
    /// Writes that the device failed.
    pub write_errors: u64,
    /// Flush requests.
    pub flushes: u64,
    /// Dirty blocks whose file was cut or removed before they were written.
    pub dropped_dirty: u64,
    /// Blocks that must be written now.
    pub dirty: usize,
}

/// Counters that are no hits of a reader.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) mount_reads: AtomicU64,
    /// Hits of those that wrote.
    pub(super) write_hits: AtomicU64,
    pub(super) staged_used: AtomicU64,
    pub(super) allocated: AtomicU64,
    pub(super) rescued: AtomicU64,
    pub(super) waits: AtomicU64,
    pub(super) read_requests: AtomicU64,
    pub(super) read_errors: AtomicU64,
    pub(super) blocks_written: AtomicU64,
    pub(super) write_requests: AtomicU64,
    pub(super) metadata_writes: AtomicU64,
    pub(super) metadata_write_requests: AtomicU64,
    pub(super) write_errors: AtomicU64,
    pub(super) flushes: AtomicU64,
    pub(super) dropped_dirty: AtomicU64,
}

impl<P> Shared<P> {
    /// The counters now.
    pub(super) fn statistics(&self) -> SharedStatistics {
        let read_hits = {
            let tallies = self.tallies.lock();
            tallies.of_closed + tallies.of_open.iter().map(|tally| tally.hits()).sum::<u64>()
        };
        let counters = &self.counters;
        let desk = self.desk.lock();
        SharedStatistics {
            hits: read_hits + counters.write_hits.load(Relaxed),
            misses: desk.misses,
            staged_used: counters.staged_used.load(Relaxed),
            allocated: counters.allocated.load(Relaxed),
            rescued: counters.rescued.load(Relaxed),
            staged_wasted: desk.staged_wasted,
            waits: counters.waits.load(Relaxed),
            mount_reads: counters.mount_reads.load(Relaxed),
            blocks_read: desk.blocks_read,
            read_requests: counters.read_requests.load(Relaxed),
            read_errors: counters.read_errors.load(Relaxed),
            blocks_written: counters.blocks_written.load(Relaxed),
            write_requests: counters.write_requests.load(Relaxed),
            metadata_writes: counters.metadata_writes.load(Relaxed),
            metadata_write_requests: counters.metadata_write_requests.load(Relaxed),
            write_errors: counters.write_errors.load(Relaxed),
            flushes: counters.flushes.load(Relaxed),
            dropped_dirty: counters.dropped_dirty.load(Relaxed),
            dirty: desk.dirty.len(),
        }
    }
}
