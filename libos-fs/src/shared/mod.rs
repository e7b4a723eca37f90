//! Files that several cores read through one cache.
//!
//! ```text
//!   core 0        core 1        core 2
//!     │ hit         │ miss        │ miss on the same block
//!     ▼             ▼             ▼
//!   index ─► frame  desk ─► disk  desk: on its way ─► sleep
//!   no lock         sleep           ▲
//!                   │ wake          │ wake
//!                   └─ index, frame ┘
//! ```
//!
//! * **A hit takes no lock and waits for nobody.** The index, a [`SharedCache`] under any policy, says in
//!   which frame the block is; its bytes are copied between two looks at the frame's version. If another core
//!   fills the frame meanwhile, the copy does not count and the block is looked up again; the index forgets a
//!   block before its frame is filled. A hit writes to memory that other cores use only to set the policy's
//!   mark, and only if the block does not have it yet.
//! * **A miss** takes a spin lock a few times, never across I/O: to find that nobody else is fetching the
//!   block, and to submit a request; to take the outcome; to copy the blocks into frames. In between it
//!   sleeps, and so does everybody who wants a block that is on its way already: it is read once. Misses on
//!   different blocks overlap as far as the device's queue goes.
//! * **Reads only.** The volume is what was committed last, and the device belongs to it for good: there is
//!   no way to write, and nobody else can. Names and places of blocks are found in memory that never changes.
//!   A program that writes uses [`Volume`](crate::Volume).
//! * **Read-ahead**: adjacent missing blocks of one read come in one request; nothing else is fetched.
//!
//! Beside its capacity the cache has one spare frame, and buffers for the requests on their way. With one
//! shard, on one core, it misses exactly as [`simulate`](crate::simulate) says.
//!
//! ```
//! use libos_fs::cache::SharedCache;
//! use libos_fs::shared::{SharedVolume, Threads};
//! use libos_fs::{CacheOptions, RamDisk, Volume, extent_fs};
//!
//! let disk = RamDisk::new(100);
//! extent_fs::make(Box::new(disk.clone()))?;
//! let volume = Volume::mount(Box::new(disk.clone()), CacheOptions::default())?;
//! volume.create("/greeting")?.write_at(0, b"Hello!")?;
//! volume.unmount()?;
//!
//! let volume = SharedVolume::mount(disk, SharedCache::sieve(20, 1), Threads)?;
//! let file = volume.open("/greeting")?;
//! std::thread::scope(|scope| {
//!     for _ in 0..2 {
//!         let file = file.clone();
//!         scope.spawn(move || {
//!             let mut bytes = [0; 6];
//!             assert_eq!(file.read_at(0, &mut bytes), Ok(6));
//!             assert_eq!(&bytes, b"Hello!");
//!         });
//!     }
//! });
//! drop(file);
//! assert_eq!((volume.statistics().hits, volume.statistics().misses), (1, 1));
//! # Ok::<(), libos_fs::FsError>(())
//! ```

mod desk;
mod fetch;
mod frames;
mod mount;
mod sleep;

#[cfg(feature = "unikernel")]
pub use sleep::Cores;
pub use sleep::Sleep;
#[cfg(feature = "std")]
pub use sleep::Threads;

use crate::cache::{ReplacementPolicy, SharedCache, reference};
use crate::device::{BLOCK_BYTES, BlockDevice};
use crate::error::FsError;
use crate::extent_fs::Snapshot;
use crate::file_id::FileId;
use crate::file_system::DirectoryEntry;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use desk::Desk;
use frames::Frames;
use mount::Mounted;
use spin::Mutex;

/// A mounted volume that several cores read; see the [module](self). Clones are the same volume.
pub struct SharedVolume<P>(Arc<Shared<P>>);

/// What all cores share. Locks, if both are wanted, in this order: `desk`, then a shard of `index`.
struct Shared<P> {
    names: Snapshot,
    /// Numbers of frames by block. Changed by the holder of `desk` only.
    index: SharedCache<P>,
    /// One more than `index` has room for. Filled by the holder of `desk` only.
    frames: Frames,
    desk: Mutex<Desk>,
    max_request_blocks: u64,
    sleep: Box<dyn Sleep>,
    mount_reads: u64,
    tallies: Mutex<Tallies>,
    misses: AtomicU64,
    waits: AtomicU64,
    requests: AtomicU64,
    errors: AtomicU64,
}

/// Hits, each counted by the open file that had it.
#[derive(Default)]
struct Tallies {
    of_open: Vec<Arc<Tally>>,
    of_closed: u64,
}

/// Apart from everything else, so that a core that counts disturbs no other.
#[repr(align(128))]
#[derive(Default)]
struct Tally(AtomicU64);

/// Counters of a [`SharedVolume`] since it was mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SharedStatistics {
    /// Blocks found in the cache. Together with `misses` all references; holes are none.
    pub hits: u64,
    /// References that had to read their block from the device.
    pub misses: u64,
    /// Times that a core slept because another core was fetching the block. It then looks the block up again,
    /// which mostly is a hit.
    pub waits: u64,
    /// Blocks of metadata read while mounting. With `misses`, all that the device has read without error.
    pub mount_reads: u64,
    /// Requests to the device since.
    pub read_requests: u64,
    /// Requests that failed, and blocks whose checksum was wrong.
    pub read_errors: u64,
}

impl<P> Clone for SharedVolume<P> {
    fn clone(&self) -> Self {
        SharedVolume(Arc::clone(&self.0))
    }
}

impl<P: ReplacementPolicy> SharedVolume<P> {
    /// Mounts what was committed last to the extent file system on a device, with an empty cache in front of
    /// it: `cache` decides on size, policy and shards. Cores sleep by `sleep`.
    ///
    /// # Errors
    ///
    /// [`FsError::UnknownFormat`] for other formats, ext4 among them; [`FsError::Corrupt`] or
    /// [`FsError::Checksum`] if the volume is damaged, [`FsError::Device`] if the device fails.
    ///
    /// # Panics
    ///
    /// If `cache` holds something.
    pub fn mount(
        device: impl BlockDevice + Send + 'static,
        cache: SharedCache<P>,
        sleep: impl Sleep + 'static,
    ) -> Result<SharedVolume<P>, FsError> {
        assert!(cache.is_empty(), "the words in the cache do not name frames of this volume");
        let Mounted { names, device, reads } = mount::mount(Box::new(device))?;
        Ok(SharedVolume(Arc::new(Shared {
            names,
            frames: Frames::new(cache.capacity() + 1),
            index: cache,
            max_request_blocks: device.max_request_blocks().max(1) as u64,
            desk: Mutex::new(Desk::new(device)),
            sleep: Box::new(sleep),
            mount_reads: reads,
            tallies: Mutex::default(),
            misses: AtomicU64::new(0),
            waits: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        })))
    }

    /// Opens a file.
    ///
    /// # Errors
    ///
    /// [`FsError::NotFound`], [`FsError::NotADirectory`] and other errors of the path.
    pub fn open(&self, path: &str) -> Result<SharedFile<P>, FsError> {
        let id = self.0.names.open(path)?;
        let bytes = self.0.names.bytes(id)?;
        Ok(SharedFile::new(&self.0, id, bytes))
    }

    /// What is in a directory, in the order of names.
    ///
    /// # Errors
    ///
    /// [`FsError::NotFound`], [`FsError::NotADirectory`] and other errors of the path.
    pub fn list(&self, path: &str) -> Result<Vec<DirectoryEntry>, FsError> {
        self.0.names.list(path)
    }

    /// Counters. Those of other cores' reads under way may or may not be in.
    pub fn statistics(&self) -> SharedStatistics {
        let tallies = self.0.tallies.lock();
        let of_open: u64 = tallies.of_open.iter().map(|tally| tally.0.load(Ordering::Relaxed)).sum();
        SharedStatistics {
            hits: tallies.of_closed + of_open,
            misses: self.0.misses.load(Ordering::Relaxed),
            mount_reads: self.0.mount_reads,
            waits: self.0.waits.load(Ordering::Relaxed),
            read_requests: self.0.requests.load(Ordering::Relaxed),
            read_errors: self.0.errors.load(Ordering::Relaxed),
        }
    }
}

/// An open file of a [`SharedVolume`]. Cores can share one, but it counts the hits it has: a clone for each
/// core spares them writing to the same memory.
pub struct SharedFile<P> {
    shared: Arc<Shared<P>>,
    id: FileId,
    bytes: u64,
    tally: Arc<Tally>,
}

impl<P> SharedFile<P> {
    fn new(shared: &Arc<Shared<P>>, id: FileId, bytes: u64) -> SharedFile<P> {
        let tally = Arc::new(Tally::default());
        shared.tallies.lock().of_open.push(Arc::clone(&tally));
        SharedFile { shared: Arc::clone(shared), id, bytes, tally }
    }

    /// Its number, by which the cache knows it; see [`reference()`].
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.bytes
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

impl<P> Clone for SharedFile<P> {
    fn clone(&self) -> Self {
        SharedFile::new(&self.shared, self.id, self.bytes)
    }
}

impl<P> Drop for SharedFile<P> {
    fn drop(&mut self) {
        let tallies = &mut *self.shared.tallies.lock();
        tallies.of_open.retain(|tally| !Arc::ptr_eq(tally, &self.tally));
        tallies.of_closed += self.tally.0.load(Ordering::Relaxed);
    }
}

impl<P: ReplacementPolicy> SharedFile<P> {
    /// Reads from an offset in bytes. Returns how many bytes there were: fewer than asked for only at the end
    /// of the file. Bytes that were never written are zeros. Sleeps if a block is not in memory.
    ///
    /// # Errors
    ///
    /// [`FsError::Device`] or [`FsError::Checksum`]; `into` holds anything then.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<usize, FsError> {
        let left = self.bytes.saturating_sub(offset);
        let bytes = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut into = &mut into[..bytes];
        let end = offset + bytes as u64;
        while !into.is_empty() {
            let done = self.read_some(end - into.len() as u64, into)?;
            into = &mut into[done..];
        }
        Ok(bytes)
    }

    /// Reads the beginning of what is wanted: the rest of a block, or as many blocks as one request brings.
    /// Returns how many bytes; none if the block is to be looked up again.
    fn read_some(&self, at: u64, into: &mut [u8]) -> Result<usize, FsError> {
        let shared = &*self.shared;
        let (number, offset) = (at / BLOCK_BYTES as u64, (at % BLOCK_BYTES as u64) as usize);
        let bytes = into.len().min(BLOCK_BYTES - offset);
        let block = reference(self.id, number);
        if let Some(frame) = shared.index.get(block)
            && shared.frames.copy(frame as usize, block, offset, &mut into[..bytes])
        {
            self.tally.0.fetch_add(1, Ordering::Relaxed);
            return Ok(bytes);
        }
        let wanted = (offset + into.len()).div_ceil(BLOCK_BYTES) as u64;
        match shared.names.run_at(self.id, number, wanted.min(shared.max_request_blocks)) {
            Some(run) => shared.fetch(block, &run, offset, into),
            None => {
                into[..bytes].fill(0);
                Ok(bytes)
            }
        }
    }
}
