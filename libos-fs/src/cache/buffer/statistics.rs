//! What the cache counts.

/// Counters of a cache and of its device.
///
/// Every block that the device moved without error is counted exactly once:
///
/// * device blocks read = `mount_reads` + `metadata_reads` + `blocks_read`
/// * device blocks written = `metadata_writes` + `blocks_written`
///
/// `references` = `hits` + `misses`: one for each touch of a block of a file by a read or a write, as the
/// replacement policy sees them. A miss needs no device read if the block is written whole or did not exist
/// before (`allocated`). Every block that is read is missed later, or dropped unused. So, but for damaged
/// blocks: `blocks_read` + `allocated` = `misses` + `staged_wasted` + blocks that are in
/// staging now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatistics {
    /// Touches of a block of a file.
    pub references: u64,
    /// References to blocks in the cache.
    pub hits: u64,
    /// References to blocks not in the cache, or only in staging.
    pub misses: u64,
    /// Misses that had been read ahead.
    pub staged_used: u64,
    /// Misses that needed no read, because the block was written whole or was new.
    pub allocated: u64,
    /// Blocks read ahead and dropped without having been used.
    pub staged_wasted: u64,
    /// Blocks of files read from the device.
    pub blocks_read: u64,
    /// Requests for them, those that failed included.
    pub read_requests: u64,
    /// Blocks of files written to the device.
    pub blocks_written: u64,
    /// Requests for them, those that failed included.
    pub write_requests: u64,
    /// Blocks read while mounting: superblocks and metadata.
    pub mount_reads: u64,
    /// Requests for them.
    pub mount_read_requests: u64,
    /// Blocks of metadata read since.
    pub metadata_reads: u64,
    /// Requests for them.
    pub metadata_read_requests: u64,
    /// Blocks of metadata written, superblocks included.
    pub metadata_writes: u64,
    /// Requests for them.
    pub metadata_write_requests: u64,
    /// Flush requests.
    pub flushes: u64,
    /// Blocks that left to make room.
    pub evictions: u64,
    /// Dirty blocks whose file was removed before they were written.
    pub dropped_dirty: u64,
    /// Times a policy named no victim, or one that could not be taken.
    pub rejected_victims: u64,
    /// Reads that the device failed, or whose checksum was wrong.
    pub read_errors: u64,
    /// Writes that the device failed.
    pub write_errors: u64,
    /// Blocks of files in the cache now, those in staging included.
    pub resident: usize,
    /// Of these, blocks that must be written before they can go.
    pub dirty: usize,
}
