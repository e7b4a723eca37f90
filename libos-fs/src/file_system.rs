//! What every format offers, and the words in which it does.

use crate::error::FsError;
use crate::file_id::FileId;
use crate::lent_page::LentPage;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// Something else that an ext4 image can hold: a symbolic link, a device, a pipe.
    Other,
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// The name, without the path.
    pub name: String,
    /// What it stands for.
    pub kind: EntryKind,
    /// Length of a file in bytes; 0 for others.
    pub bytes: u64,
}

/// Formats that can be mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// [`crate::extent_fs`].
    ExtentFs,
    /// [`crate::ext4`], read-only.
    Ext4,
}

/// Blocks of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Blocks of the volume.
    pub blocks: u64,
    /// Blocks that can be allocated now.
    pub free: u64,
    /// Blocks that become free with the next commit.
    pub after_commit: u64,
}

/// What a format has to offer. Paths name things from the root; block ranges are the cache's business.
pub(crate) trait FileSystem {
    fn format(&self) -> Format;
    fn space(&self) -> Space;
    fn open(&self, path: &str) -> Result<FileId, FsError>;
    fn create(&self, path: &str) -> Result<FileId, FsError>;
    fn create_dir(&self, path: &str) -> Result<(), FsError>;
    fn remove(&self, path: &str) -> Result<(), FsError>;
    fn rename(&self, from: &str, to: &str) -> Result<(), FsError>;
    fn list(&self, path: &str) -> Result<Vec<DirectoryEntry>, FsError>;
    fn bytes(&self, file: FileId) -> Result<u64, FsError>;
    fn read_at(&self, file: FileId, offset: u64, into: &mut [u8]) -> Result<usize, FsError>;
    /// A block of a file, lent by the cache. `None` for a hole, and where blocks of files are not those
    /// of the cache.
    fn lend(&self, _: FileId, _: u64) -> Result<Option<Arc<LentPage>>, FsError> {
        Ok(None)
    }
    /// CRC-32 of each block of a file, if the format keeps them and no change is under way.
    fn block_sums(&self, _: FileId) -> Result<Option<Vec<u32>>, FsError> {
        Ok(None)
    }
    fn will_need(&self, file: FileId, blocks: Range<u64>) -> Result<(), FsError>;
    fn write_at(&self, file: FileId, offset: u64, from: &[u8]) -> Result<(), FsError>;
    fn truncate(&self, file: FileId, bytes: u64) -> Result<(), FsError>;
    fn commit(&self) -> Result<(), FsError>;
}
