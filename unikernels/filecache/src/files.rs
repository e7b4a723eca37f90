//! Files as the workloads see them, whatever is below: [`libos_fs`] in a unikernel, the kernel's own files on
//! Linux.
//!
//! The programs are the same on both, to the line, so that what differs in a comparison is what lies below
//! this module.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use core::cell::Cell;
use core::fmt;
use core::ops::Range;
use libos_fs::cache::Managed;
use libos_fs::{BufferCache, File, FileId, FsError, ReadAheadKind, ReplacementPolicy, SharedVolume, Volume};

/// Why a file could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileError {
    /// The library's file system says no.
    Library(FsError),
    /// The kernel below says no, in its words.
    Host(String),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileError::Library(error) => error.fmt(f),
            FileError::Host(reason) => f.write_str(reason),
        }
    }
}

impl core::error::Error for FileError {}

impl From<FsError> for FileError {
    fn from(error: FsError) -> FileError {
        FileError::Library(error)
    }
}

/// Where files are: paths are relative to its root.
pub trait Storage {
    /// Opens a file that is there.
    fn open(&self, path: &str) -> Result<WorkFile, FileError>;
    /// Makes an empty file, in place of one that may be there. Its directory must exist.
    fn create(&self, path: &str) -> Result<WorkFile, FileError>;
    /// Removes a file.
    fn remove(&self, path: &str) -> Result<(), FileError>;
    /// Makes everything that was written permanent.
    fn commit(&self) -> Result<(), FileError>;
}

/// What an open file can do. Offsets and lengths are in bytes.
pub trait FileAccess {
    /// Its number, never used for another file of the same storage.
    fn id(&self) -> FileId;
    /// Its length.
    fn bytes(&self) -> Result<u64, FileError>;
    /// Reads; returns how many bytes there were, fewer than asked for only at the end.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<usize, FileError>;
    /// Writes all of `from`; the file grows as needed.
    fn write_at(&self, offset: u64, from: &[u8]) -> Result<(), FileError>;
    /// These blocks will be read next, in this order. Storage that can't make use of it does nothing.
    fn will_need(&self, _: Range<u64>) -> Result<(), FileError> {
        Ok(())
    }
}

/// An open file of any storage. Clones are the same file.
#[derive(Clone)]
pub struct WorkFile(Rc<dyn FileAccess>);

impl WorkFile {
    /// For a file of some storage.
    pub fn new(file: impl FileAccess + 'static) -> WorkFile {
        WorkFile(Rc::new(file))
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> Result<u64, FileError> {
        self.0.bytes()
    }

    /// Reads at an offset in bytes; returns how many bytes there were.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<usize, FileError> {
        self.0.read_at(offset, into)
    }

    /// Writes all of `from` at an offset in bytes.
    pub fn write_at(&self, offset: u64, from: &[u8]) -> Result<(), FileError> {
        self.0.write_at(offset, from)
    }

    /// Says that these blocks will be read next, in this order.
    pub fn will_need(&self, blocks: Range<u64>) -> Result<(), FileError> {
        self.0.will_need(blocks)
    }
}

impl From<&WorkFile> for FileId {
    /// The number by which the cache knows the file.
    fn from(file: &WorkFile) -> FileId {
        file.0.id()
    }
}

impl Storage for Volume {
    fn open(&self, path: &str) -> Result<WorkFile, FileError> {
        Ok(WorkFile::new(Volume::open(self, path)?))
    }

    fn create(&self, path: &str) -> Result<WorkFile, FileError> {
        let made = match Volume::create(self, path) {
            Err(FsError::AlreadyExists(_)) => {
                Volume::remove(self, path).and_then(|()| Volume::create(self, path))
            }
            made => made,
        };
        Ok(WorkFile::new(made?))
    }

    fn remove(&self, path: &str) -> Result<(), FileError> {
        Ok(Volume::remove(self, path)?)
    }

    fn commit(&self) -> Result<(), FileError> {
        Ok(Volume::commit(self)?)
    }
}

impl FileAccess for File {
    fn id(&self) -> FileId {
        File::id(self)
    }

    fn bytes(&self) -> Result<u64, FileError> {
        Ok(self.len()?)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<usize, FileError> {
        Ok(File::read_at(self, offset, into)?)
    }

    fn write_at(&self, offset: u64, from: &[u8]) -> Result<(), FileError> {
        Ok(File::write_at(self, offset, from)?)
    }

    fn will_need(&self, blocks: Range<u64>) -> Result<(), FileError> {
        Ok(File::will_need(self, blocks)?)
    }
}

/// To whom a workload says what it knows about its accesses.
#[derive(Clone, Copy)]
pub enum Advice<'c> {
    /// To nobody.
    None,
    /// To a cache of its own, which does as it is told: `policy.rs` in the workload's folder.
    Own(OwnCache<'c>),
    /// To a kernel that takes hints: as much of the same as its interface can express.
    Hints(&'c dyn Hints),
}

/// A cache that does as a workload says.
#[derive(Clone, Copy)]
pub enum OwnCache<'c> {
    /// Of one core.
    One(&'c BufferCache),
    /// Of a volume that several cores use. It has one shard.
    Shared(&'c SharedVolume<Managed>),
}

impl OwnCache<'_> {
    /// Gives the blocks of a priority another policy.
    pub fn set_policy(self, priority: i32, policy: impl Into<Box<dyn ReplacementPolicy>>) {
        match self {
            OwnCache::One(cache) => cache.set_policy(priority, policy),
            OwnCache::Shared(volume) => {
                let policy = Cell::new(Some(policy.into()));
                let only_shard = "a cache with one shard asks for one policy";
                volume.set_policy(priority, || policy.take().expect(only_shard));
            }
        }
    }

    /// Gives a file a priority; files that were given none have 0.
    pub fn set_priority(self, file: impl Into<FileId>, priority: i32) {
        match self {
            OwnCache::One(cache) => cache.set_priority(file, priority),
            OwnCache::Shared(volume) => volume.set_priority(file.into(), priority),
        }
    }

    /// Says that blocks of a file will not be needed soon.
    pub fn done_with(self, file: impl Into<FileId>, blocks: Range<u64>) {
        match self {
            OwnCache::One(cache) => cache.done_with(file, blocks),
            OwnCache::Shared(volume) => volume.done_with(file.into(), blocks),
        }
    }

    /// Says something about blocks of a file to the policy of its priority.
    pub fn advise(self, file: impl Into<FileId>, blocks: Range<u64>, advice: libos_fs::Advice) {
        match self {
            OwnCache::One(cache) => cache.advise(file, blocks, advice),
            OwnCache::Shared(volume) => volume.advise(file.into(), blocks, advice),
        }
    }

    /// Blocks it may hold.
    pub fn blocks(self) -> usize {
        match self {
            OwnCache::One(cache) => cache.blocks(),
            OwnCache::Shared(volume) => volume.blocks(),
        }
    }

    /// Chooses another read-ahead policy; those that follow disclosures are for one core.
    pub fn set_read_ahead(self, kind: ReadAheadKind) {
        match self {
            OwnCache::One(cache) => cache.set_read_ahead(kind),
            // What is refused leaves things as they were: it is about time, not about results.
            OwnCache::Shared(volume) => drop(volume.set_read_ahead(kind)),
        }
    }

    /// Whether it makes use of what is disclosed.
    pub fn uses_disclosures(self) -> bool {
        match self {
            OwnCache::One(cache) => cache.uses_disclosures(),
            OwnCache::Shared(_) => false,
        }
    }
}

/// What can be said to a kernel that takes hints by `posix_fadvise`.
pub trait Hints {
    /// Blocks of a file will not be needed again.
    fn done_with(&self, file: &WorkFile, blocks: Range<u64>);
    /// These files are read from the first to the last again and again, and `reserved` blocks of other things
    /// are worth more than any of theirs. The best that can be done with hints is to keep as many blocks as
    /// there is room for, and to give up every other one when `late_by` more have been read: at once, unless
    /// some are used several times within a pass.
    fn read_in_loops(&self, files: &[&WorkFile], reserved: u64, late_by: usize);
    /// Blocks of a file will be asked for here and there: reading ahead is in vain.
    fn read_at_random(&self, file: &WorkFile);
}
