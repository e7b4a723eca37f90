//! Read-only ext4.

use crate::cache::BufferCache;
use crate::volume::{DirectoryEntry, FileSystem, Format, Space};
use crate::{FileId, FsError};
use alloc::rc::Rc;
use alloc::vec::Vec;

pub(crate) struct Ext4Volume;

impl Ext4Volume {
    pub(crate) fn mount(_cache: Rc<BufferCache>) -> Result<Ext4Volume, FsError> {
        Err(FsError::UnknownFormat)
    }
}

#[allow(unused_variables)]
impl FileSystem for Ext4Volume {
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
