//! The volume: mounting, names, commits.

use super::ahead::Ahead;
use super::desk::Desk;
use super::file::SharedFile;
use super::frames::Frames;
use super::mount::{self, Mounted};
use super::names::Names;
use super::sleep::Sleep;
use super::statistics::{Counters, SharedStatistics};
use super::write::numbers;
use super::{FileState, Shared};
use crate::cache::{ReadAheadKind, ReplacementPolicy, SharedCache};
use crate::device::{BlockDevice, EndRequest};
use crate::error::FsError;
use crate::extent_fs::{ObjectKind, blocks_of};
use crate::file_id::FileId;
use crate::file_system::{DirectoryEntry, Format, Space};
use crate::lock::Mutex;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicU64};

/// A mounted volume that several cores use; see the [module](super). Clones are the same volume.
///
/// Changes become permanent, all at once, with [`SharedVolume::commit`]; a volume that is dropped without it
/// is as it was after the last one. If the device has a power button and it was pressed, the next operation
/// of any core commits, and ends the program.
pub struct SharedVolume<P>(pub(super) Arc<Shared<P>>);

impl<P> Clone for SharedVolume<P> {
    fn clone(&self) -> Self {
        SharedVolume(Arc::clone(&self.0))
    }
}

impl<P: ReplacementPolicy> SharedVolume<P> {
    /// Mounts what is on a device, the extent file system or ext4, with an empty cache in front of it:
    /// `cache` decides on size, policy and shards. Cores sleep by `sleep`. Read-ahead is that of
    /// [`ReadAheadKind::default`].
    ///
    /// # Errors
    ///
    /// [`FsError::UnknownFormat`] for other formats; [`FsError::Corrupt`] or [`FsError::Checksum`] if the
    /// volume is damaged, [`FsError::Device`] if the device fails.
    ///
    /// # Panics
    ///
    /// If `cache` holds something.
    pub fn mount(
        device: impl BlockDevice + Send + 'static,
        cache: SharedCache<P>,
        sleep: impl Sleep + 'static,
    ) -> Result<SharedVolume<P>, FsError> {
        let end = device.end_request();
        let Mounted { names, device, reads } = mount::mount(Box::new(device))?;
        let counters = Counters { mount_reads: AtomicU64::new(reads), ..Counters::default() };
        Ok(SharedVolume::with_parts(names, device, end, cache, Box::new(sleep), counters))
    }

    fn with_parts(
        names: Names,
        device: Box<dyn BlockDevice + Send>,
        end: Option<Arc<dyn EndRequest>>,
        cache: SharedCache<P>,
        sleep: Box<dyn Sleep>,
        counters: Counters,
    ) -> SharedVolume<P> {
        assert!(cache.is_empty(), "the words in the cache do not name frames of this volume");
        SharedVolume(Arc::new(Shared {
            names,
            read_only: device.read_only(),
            frames: Frames::new(cache.capacity()),
            max_request_blocks: device.max_request_blocks().max(1) as u64,
            desk: Mutex::new(Desk::new(device, cache.capacity())),
            index: cache,
            sleep,
            end,
            changes: Default::default(),
            naming: Default::default(),
            files: Mutex::default(),
            read_ahead: AtomicU64::new(Ahead::Sequential.number()),
            tallies: Mutex::default(),
            counters,
            recording: AtomicBool::new(false),
            recorded: Mutex::default(),
        }))
    }

    /// The same volume with another cache, which holds nothing: once it is known how large it should be.
    /// Commits. Counters go on; read-ahead is the default again.
    ///
    /// # Errors
    ///
    /// Those of [`SharedVolume::commit`]; [`FsError::Unsupported`] if a file is open or somebody has a clone.
    ///
    /// # Panics
    ///
    /// If `cache` holds something.
    pub fn with_cache<Q: ReplacementPolicy>(self, cache: SharedCache<Q>) -> Result<SharedVolume<Q>, FsError> {
        self.commit()?;
        loop {
            let desk = self.0.desk.lock();
            let Some(tag) = desk.any_unowned() else { break };
            self.0.wait_for(desk, tag, &self.0.sleep.waker());
        }
        let hits = self.statistics().hits;
        let Some(shared) = Arc::into_inner(self.0) else {
            return Err(FsError::Unsupported("another cache while somebody uses the volume"));
        };
        let Shared { names, sleep, end, counters, desk, .. } = shared;
        counters.write_hits.store(hits, Relaxed);
        let desk = desk.into_inner();
        let (misses, blocks_read, staged_wasted) =
            (desk.misses, desk.blocks_read, desk.staged_wasted + desk.staging.len() as u64);
        let volume = SharedVolume::with_parts(names, desk.into_device(), end, cache, sleep, counters);
        {
            let desk = &mut *volume.0.desk.lock();
            (desk.misses, desk.blocks_read, desk.staged_wasted) = (misses, blocks_read, staged_wasted);
        }
        Ok(volume)
    }

    /// Which format it is.
    pub fn format(&self) -> Format {
        self.0.names.format()
    }

    /// How full it is. An ext4 volume has nothing free: it is read-only.
    pub fn space(&self) -> Space {
        self.0.names.space()
    }

    /// Chooses how far to read ahead from here on. What follows one file is kept by each [`SharedFile`].
    ///
    /// # Errors
    ///
    /// [`FsError::Unsupported`] for the kinds that follow disclosures.
    pub fn set_read_ahead(&self, kind: ReadAheadKind) -> Result<(), FsError> {
        self.0.read_ahead.store(Ahead::of(kind)?.number(), Relaxed);
        Ok(())
    }

    /// Blocks that may be in staging, beside the capacity of the cache.
    pub fn staging(&self) -> usize {
        self.0.desk.lock().staging.most()
    }

    /// Opens a file.
    ///
    /// # Errors
    ///
    /// [`FsError::NotFound`], [`FsError::NotADirectory`] and other errors of the path.
    pub fn open(&self, path: &str) -> Result<SharedFile<P>, FsError> {
        self.0.look_for_the_end();
        self.opened(self.0.names.open(path)?)
    }

    fn opened(&self, id: FileId) -> Result<SharedFile<P>, FsError> {
        Ok(SharedFile::new(&self.0, self.0.file_state(id)?))
    }

    /// Has something done that changes names, with nobody else doing so.
    fn naming<R>(&self, change: impl FnOnce(&Shared<P>) -> Result<R, FsError>) -> Result<R, FsError> {
        let shared = &*self.0;
        shared.look_for_the_end();
        let _inside = shared.changes.enter(&*shared.sleep);
        let _alone = shared.naming.close(&*shared.sleep);
        shared.writable()?;
        change(shared)
    }

    /// Makes an empty file. Its directory must exist, its name must not.
    ///
    /// # Errors
    ///
    /// [`FsError::AlreadyExists`] and other errors of the path; [`FsError::ReadOnly`] on ext4 and on a device
    /// that can't be written; [`FsError::NoSpace`].
    pub fn create(&self, path: &str) -> Result<SharedFile<P>, FsError> {
        let create = |shared: &Shared<P>| shared.names.changeable()?.write().create(path, ObjectKind::File);
        self.opened(self.naming(create)?)
    }

    /// Makes an empty directory. The directory it is in must exist, its name must not.
    ///
    /// # Errors
    ///
    /// As [`SharedVolume::create`].
    pub fn create_dir(&self, path: &str) -> Result<(), FsError> {
        self.naming(|shared| shared.names.changeable()?.write().create(path, ObjectKind::Directory).map(drop))
    }

    /// Removes a file or an empty directory. Blocks of the file that were not yet written never will be.
    /// Using an open file after that is [`FsError::Removed`].
    ///
    /// # Errors
    ///
    /// [`FsError::NotFound`], [`FsError::NotEmpty`] and other errors of the path.
    pub fn remove(&self, path: &str) -> Result<(), FsError> {
        self.naming(|shared| {
            let metadata = shared.names.changeable()?;
            let id = match shared.names.open(path) {
                Ok(id) => id,
                Err(FsError::IsADirectory(_)) => return metadata.write().remove(path).map(drop),
                Err(error) => return Err(error),
            };
            let state = shared.file_state(id)?;
            let removed = {
                let _alone = state.writing.close(&*shared.sleep);
                // First, so that nobody fetches again what is dropped.
                state.removed.store(true, Release);
                shared
                    .cut(&state, 0..blocks_of(state.bytes.load(Acquire)))
                    .and_then(|()| metadata.write().remove(path).map(drop))
            };
            shared.release(&state);
            removed
        })
    }

    /// Gives a file or a directory another path. A file that had it is replaced.
    ///
    /// # Errors
    ///
    /// As [`Volume::rename`](crate::Volume::rename).
    pub fn rename(&self, from: &str, to: &str) -> Result<(), FsError> {
        self.naming(|shared| {
            let metadata = shared.names.changeable()?;
            let Ok(id) = shared.names.open(to) else {
                return metadata.write().rename(from, to).map(drop);
            };
            let state = shared.file_state(id)?;
            let renamed = {
                let _alone = state.writing.close(&*shared.sleep);
                rename_over(shared, from, to, &state)
            };
            shared.release(&state);
            renamed
        })
    }

    /// What is in a directory, in the order of names.
    ///
    /// # Errors
    ///
    /// [`FsError::NotFound`], [`FsError::NotADirectory`] and other errors of the path.
    pub fn list(&self, path: &str) -> Result<Vec<DirectoryEntry>, FsError> {
        self.0.look_for_the_end();
        self.0.names.list(path)
    }

    /// Makes all changes since the last commit permanent, all or none: each write, each change of a name is
    /// in it as a whole or not at all. Cores that change something wait meanwhile.
    ///
    /// # Errors
    ///
    /// As [`Volume::commit`](crate::Volume::commit): after an error nothing is lost and the commit can be
    /// tried again, except after [`FsError::CommitUnknown`] and [`FsError::LostWrite`].
    pub fn commit(&self) -> Result<(), FsError> {
        self.0.commit()
    }

    /// Counters. Those of other cores' reads under way may or may not be in.
    pub fn statistics(&self) -> SharedStatistics {
        self.0.statistics()
    }

    /// Starts to record references of all cores, in the order in which they are counted; see
    /// [`reference()`](crate::cache::reference()) for their numbers.
    pub fn start_recording(&self) {
        self.0.recorded.lock().clear();
        self.0.recording.store(true, Relaxed);
    }

    /// Ends recording and returns the references since its start.
    pub fn take_references(&self) -> Vec<u64> {
        self.0.recording.store(false, Relaxed);
        core::mem::take(&mut *self.0.recorded.lock())
    }
}

/// Renames to a path that a file has, when nothing of the file is on its way.
fn rename_over<P: ReplacementPolicy>(
    shared: &Shared<P>,
    from: &str,
    to: &str,
    state: &FileState,
) -> Result<(), FsError> {
    let metadata = shared.names.changeable()?;
    loop {
        let blocks = 0..blocks_of(state.bytes.load(Acquire));
        shared.collect();
        let mut desk = shared.desk.lock();
        if let Some(tag) = desk.on_its_way(numbers(state, blocks.clone())) {
            shared.wait_for(desk, tag, &shared.sleep.waker());
            continue;
        }
        let replaced = metadata.write().rename(from, to);
        if let Ok(Some(_)) = replaced {
            state.removed.store(true, Release);
            shared.forget(&mut desk, numbers(state, blocks));
        }
        return replaced.map(drop);
    }
}
