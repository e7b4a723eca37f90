//! The whole cache on recorded references: what read-ahead changes.

use crate::cache::buffer::{BufferCache, CacheOptions, CacheStatistics, Locate, Manager, Run};
use crate::cache::policies::ReadAheadKind;
use crate::device::{BlankDisk, DeviceQueue, DiskTime, SimulatedClock, TimedDisk};
use crate::error::FsError;
use crate::file_id::FileId;
use alloc::boxed::Box;
use alloc::rc::Rc;
use core::ops::Range;
use hashbrown::HashMap;

/// Requests that the disk takes at a time.
const QUEUE_DEPTH: usize = 32;

/// The [`BufferCache`] itself, over a disk without contents whose time is calculated. It counts blocks and
/// requests as a run does that makes the same calls, and says how long the disk
/// would have let it wait. Every file lies in one piece.
///
/// Needs a page of memory for each block of cache. Where there is no read-ahead,
/// [`ManagedSimulation`](crate::cache::ManagedSimulation) says as much for less.
///
/// ```
/// use libos_fs::cache::Replay;
/// use libos_fs::device::DiskTime;
/// use libos_fs::{CacheOptions, FileId, ReadAheadKind};
///
/// let options = CacheOptions { blocks: 1024, read_ahead: ReadAheadKind::Cluster, ..CacheOptions::default() };
/// let time = DiskTime { request_ns: 100, block_ns: 10 };
/// let replay = Replay::new(options, [(FileId(1), 1000)], time);
/// (0..1000).try_for_each(|block| replay.call(FileId(1), block..block + 1))?;
/// let counted = replay.statistics();
/// assert_eq!(counted.blocks_read, 1000);
/// assert!(counted.read_requests < 100);
/// assert_eq!(replay.elapsed_ns(), 100 * counted.read_requests + 10 * 1000);
/// # Ok::<(), libos_fs::FsError>(())
/// ```
pub struct Replay {
    cache: BufferCache,
    clock: SimulatedClock,
    /// First block on the disk, and length in blocks.
    files: HashMap<FileId, (u64, u64)>,
}

impl Replay {
    /// An empty cache, and a disk with files of so many blocks.
    pub fn new(
        options: CacheOptions,
        files: impl IntoIterator<Item = (FileId, u64)>,
        time: DiskTime,
    ) -> Replay {
        let mut end = 0_u64;
        let files = files.into_iter().map(|(file, blocks)| {
            let first = end;
            end = end.saturating_add(blocks);
            (file, (first, blocks))
        });
        let files = files.collect();
        let clock = SimulatedClock::default();
        let disk = TimedDisk::new(BlankDisk::new(end), time, clock.clone(), QUEUE_DEPTH);
        let cache = BufferCache::new(Rc::new(DeviceQueue::new(Box::new(disk))), options);
        Replay { cache, clock, files }
    }

    /// The manager of all files.
    pub fn manager(&self) -> Manager<'_> {
        self.cache.manager_by_id(Default::default())
    }

    /// Chooses another read-ahead policy; see [`BufferCache::set_read_ahead`].
    pub fn set_read_ahead(&self, kind: ReadAheadKind) {
        self.cache.set_read_ahead(kind);
    }

    /// Refers to blocks by one call. Those beyond the end of their file are holes, and no references.
    ///
    /// # Errors
    ///
    /// If the cache has no buffer for a block.
    pub fn call(&self, file: FileId, blocks: Range<u64>) -> Result<(), FsError> {
        let locate: Locate<'_> = &|file, block, most| Ok(self.run(file, block, most));
        for block in blocks.clone() {
            self.cache.read((file, block), blocks.end - 1 - block, locate, |_| {})?;
        }
        Ok(())
    }

    fn run(&self, file: FileId, block: u64, most: u64) -> Option<Run> {
        let (first, blocks) = self.files.get(&file)?;
        let count = blocks.saturating_sub(block).min(most);
        (count > 0).then_some(Run { disk: first + block, count, checksums: None })
    }

    /// What was counted. Waits for what is on its way.
    pub fn statistics(&self) -> CacheStatistics {
        self.cache.statistics()
    }

    /// Nanoseconds that a program waited which does nothing but refer to blocks.
    pub fn elapsed_ns(&self) -> u64 {
        self.clock.now_ns()
    }
}
