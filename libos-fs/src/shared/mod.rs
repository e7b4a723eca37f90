//! Files that several cores read and write through one cache.
//!
//! ```text
//!   core 0        core 1        core 2
//!     │ hit         │ miss        │ miss on the same block
//!     ▼             ▼             ▼
//!   index ─► frame  desk ─► disk  desk: on its way ─► sleep
//!   nobody waits    sleep           ▲
//!                   │ wake          │ wake
//!                   └─ index, frame ┘
//! ```
//!
//! * **A hit waits for nobody.** The index, a [`SharedCache`] under any policy, says in which frame the block
//!   is, without a lock. Its bytes are copied while a count says that somebody reads the frame. A core that
//!   wants to change a frame which is being read takes another one, so a reader that is taken off its
//!   processor keeps nobody waiting either; a reader whose frame is being written looks the block up again,
//!   at the desk.
//! * **A miss** takes a spin lock, the *desk*, a few times, never across I/O: to find that nobody else is
//!   fetching the block, and to submit a request; to take the outcome; to copy the blocks into frames. In
//!   between it sleeps, and so does everybody who wants a block that is on its way already: it is read once.
//!   Misses on different blocks overlap as far as the device's queue goes.
//! * **A write** changes the block in the cache, at the desk. Files are written by one core at a time;
//!   several are at the same time. A core that reads sees of each block what one write has made of it; of
//!   several blocks it may see some as they were. As with [`Volume`](crate::Volume), nothing on the device
//!   that the last commit needs is overwritten, and [`SharedVolume::commit`] makes all permanent or nothing:
//!   who writes waits meanwhile, who reads does not.
//! * **A dirty block that has to make room** is written by the core that needed the room, with its dirty
//!   neighbours on the device. If that fails it is kept, and nobody takes room before it could be written.
//! * **Read-ahead** follows each open file: [`SharedVolume::set_read_ahead`]. What comes ahead waits in
//!   staging, out of the policy's sight, up to a sixteenth of the cache beside its capacity.
//! * **ext4** is read-only. All names and places are read while mounting.
//!
//! With one shard, on one core, it misses exactly as [`simulate`](crate::simulate) says.
//!
//! ```
//! use libos_fs::cache::SharedCache;
//! use libos_fs::shared::{SharedVolume, Threads};
//! use libos_fs::{RamDisk, extent_fs};
//!
//! let disk = RamDisk::new(100);
//! extent_fs::make(Box::new(disk.clone()))?;
//! let volume = SharedVolume::mount(disk.clone(), SharedCache::sieve(20, 1), Threads)?;
//! std::thread::scope(|scope| {
//!     for name in ["/one", "/two"] {
//!         let volume = volume.clone();
//!         scope.spawn(move || {
//!             let file = volume.create(name).unwrap();
//!             file.write_at(0, name.as_bytes()).unwrap();
//!             file.sync().unwrap();
//!         });
//!     }
//! });
//! drop(volume);
//!
//! let volume = SharedVolume::mount(disk, SharedCache::sieve(20, 1), Threads)?;
//! let mut bytes = [0; 4];
//! assert_eq!(volume.open("/two")?.read_at(0, &mut bytes), Ok(4));
//! assert_eq!(&bytes, b"/two");
//! assert_eq!((volume.statistics().hits, volume.statistics().misses), (0, 1));
//! # Ok::<(), libos_fs::FsError>(())
//! ```

mod ahead;
mod commit;
mod desk;
mod dirty;
mod fetch;
mod file;
mod frames;
mod gate;
mod manage;
mod mount;
mod names;
mod requests;
mod sleep;
mod staging;
mod statistics;
mod turns;
mod volume;
mod write;
mod write_back;

pub use file::SharedFile;
#[cfg(feature = "unikernel")]
pub use sleep::Cores;
pub use sleep::Sleep;
#[cfg(feature = "std")]
pub use sleep::Threads;
pub use statistics::SharedStatistics;
pub use turns::Turns;
pub use volume::SharedVolume;

use crate::cache::{ReplacementPolicy, SharedCache};
use crate::device::EndRequest;
use crate::error::FsError;
use crate::file_id::FileId;
use crate::lock::Mutex;
use ahead::{Ahead, Tally};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use desk::Desk;
use frames::Frames;
use gate::Gate;
use names::Names;
use statistics::Counters;

/// What all cores share. Locks, if several are wanted, in this order: `naming`, a file's `writing`, both of
/// which sleep; `desk`, the metadata in `names`, a shard of `index`. `files`, `tallies` and `recorded` are
/// held for a look only.
struct Shared<P> {
    names: Names,
    read_only: bool,
    /// Numbers of frames by block. Changed by the holder of `desk` only.
    index: SharedCache<P>,
    /// Filled and changed by the holder of `desk` only.
    frames: Frames,
    desk: Mutex<Desk>,
    max_request_blocks: u64,
    sleep: Box<dyn Sleep>,
    /// Where it shows that the program is to end.
    end: Option<Arc<dyn EndRequest>>,
    /// Who changes something is inside, who commits closes it.
    changes: Gate,
    /// Closed by who changes names.
    naming: Gate,
    /// The files that somebody has open.
    files: Mutex<BTreeMap<FileId, Arc<FileState>>>,
    /// An [`Ahead`].
    read_ahead: AtomicU64,
    tallies: Mutex<Tallies>,
    counters: Counters,
    recording: AtomicBool,
    recorded: Mutex<Vec<u64>>,
}

/// What is known of a file that somebody has open.
struct FileState {
    id: FileId,
    bytes: AtomicU64,
    removed: AtomicBool,
    /// Closed by who changes the contents.
    writing: Gate,
}

/// Hits, each counted by the open file that had it.
#[derive(Default)]
struct Tallies {
    of_open: Vec<Arc<Tally>>,
    of_closed: u64,
}

impl<P> Shared<P> {
    fn read_ahead(&self) -> Ahead {
        Ahead::numbered(self.read_ahead.load(Relaxed))
    }

    /// A block was referred to.
    #[inline]
    fn note_reference(&self, block: u64) {
        if self.recording.load(Relaxed) {
            self.recorded.lock().push(block);
        }
    }

    /// What is known of a file, for one that opens it.
    fn file_state(&self, id: FileId) -> Result<Arc<FileState>, FsError> {
        let mut files = self.files.lock();
        if let Some(known) = files.get(&id) {
            return Ok(Arc::clone(known));
        }
        let bytes = AtomicU64::new(self.names.bytes(id)?);
        let (removed, writing) = Default::default();
        let state = Arc::new(FileState { id, bytes, removed, writing });
        files.insert(id, Arc::clone(&state));
        Ok(state)
    }

    /// The caller does not have a file open any more.
    fn release(&self, state: &Arc<FileState>) {
        let mut files = self.files.lock();
        // The caller's and the one in the table.
        if Arc::strong_count(state) == 2 {
            files.remove(&state.id);
        }
    }
}

impl<P: ReplacementPolicy> Shared<P> {
    /// An error if the volume can't be changed now. Called by who is inside `changes` and is about to change
    /// something.
    fn writable(&self) -> Result<(), FsError> {
        if let Some(end) = &self.end {
            end.has_something(true);
        }
        let metadata = self.names.changeable()?;
        if self.read_only {
            return Err(FsError::ReadOnly);
        }
        if metadata.read().commit_unknown { Err(FsError::CommitUnknown) } else { Ok(()) }
    }
}
