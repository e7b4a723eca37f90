//! Our own format.

use crate::cache::BufferCache;
use crate::volume::{DirectoryEntry, FileSystem, Format, Space};
use crate::{BlockDevice, FileId, FsError};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

/// What [`check`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Blocks of the volume.
    pub blocks: u64,
    /// Blocks in use, superblocks and metadata included.
    pub used: u64,
    /// Blocks of metadata, superblocks included.
    pub metadata: u64,
    /// Files.
    pub files: u64,
    /// Directories, the root included.
    pub directories: u64,
    /// Commits so far.
    pub generation: u64,
    /// What is wrong; empty if nothing is.
    pub problems: Vec<String>,
}

/// Makes an empty volume on a device; what was on it is lost.
pub fn make(_device: Box<dyn BlockDevice>) -> Result<(), FsError> {
    todo!()
}

/// Reads everything on a volume and says what is wrong.
pub fn check(_device: Box<dyn BlockDevice>) -> Result<Report, FsError> {
    todo!()
}

pub(crate) fn detect(_cache: &BufferCache) -> Result<bool, FsError> {
    todo!()
}

pub(crate) struct ExtentVolume;

impl ExtentVolume {
    pub(crate) fn mount(_cache: Rc<BufferCache>) -> Result<ExtentVolume, FsError> {
        todo!()
    }
}

#[allow(unused_variables)]
impl FileSystem for ExtentVolume {
    fn format(&self) -> Format {
        todo!()
    }
    fn space(&self) -> Space {
        todo!()
    }
    fn open(&self, path: &str) -> Result<FileId, FsError> {
        todo!()
    }
    fn create(&self, path: &str) -> Result<FileId, FsError> {
        todo!()
    }
    fn create_dir(&self, path: &str) -> Result<(), FsError> {
        todo!()
    }
    fn remove(&self, path: &str) -> Result<(), FsError> {
        todo!()
    }
    fn rename(&self, from: &str, to: &str) -> Result<(), FsError> {
        todo!()
    }
    fn list(&self, path: &str) -> Result<Vec<DirectoryEntry>, FsError> {
        todo!()
    }
    fn bytes(&self, file: FileId) -> Result<u64, FsError> {
        todo!()
    }
    fn read_at(&self, file: FileId, offset: u64, into: &mut [u8]) -> Result<usize, FsError> {
        todo!()
    }
    fn write_at(&self, file: FileId, offset: u64, from: &[u8]) -> Result<(), FsError> {
        todo!()
    }
    fn truncate(&self, file: FileId, bytes: u64) -> Result<(), FsError> {
        todo!()
    }
    fn commit(&self) -> Result<(), FsError> {
        todo!()
    }
}
