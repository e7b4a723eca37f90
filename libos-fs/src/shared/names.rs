//! What is where: the metadata of either format, which several cores look at.

use crate::cache::{Run, block_of, reference};
use crate::device::BLOCK_BYTES;
use crate::error::FsError;
use crate::ext4::Ext4Names;
use crate::extent_fs::Metadata;
use crate::file_id::FileId;
use crate::file_system::{DirectoryEntry, Format, Space};
use crate::lock::RwLock;
use alloc::vec::Vec;

/// The metadata of a volume.
pub(super) enum Names {
    /// It changes, with the holder of the desk.
    Extents(RwLock<Metadata>),
    /// It never changes.
    Ext4(Ext4Names),
}

/// Where a byte of a file is, for the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    /// In a block of the cache, at this offset; so many bytes of the file follow each other in adjacent
    /// blocks.
    Block { block: u64, offset: usize, bytes: u64 },
    /// Nowhere: so many bytes are zeros.
    Zeros(u64),
}

impl Names {
    pub(super) fn format(&self) -> Format {
        match self {
            Names::Extents(_) => Format::ExtentFs,
            Names::Ext4(_) => Format::Ext4,
        }
    }

    pub(super) fn space(&self) -> Space {
        match self {
            Names::Extents(metadata) => metadata.read().room(),
            Names::Ext4(names) => Space { blocks: names.device_blocks(), free: 0, after_commit: 0 },
        }
    }

    /// The metadata, if it can be changed.
    pub(super) fn changeable(&self) -> Result<&RwLock<Metadata>, FsError> {
        match self {
            Names::Extents(metadata) => Ok(metadata),
            Names::Ext4(_) => Err(FsError::ReadOnly),
        }
    }

    pub(super) fn open(&self, path: &str) -> Result<FileId, FsError> {
        match self {
            Names::Extents(metadata) => metadata.read().open(path),
            Names::Ext4(names) => names.open(path),
        }
    }

    pub(super) fn list(&self, path: &str) -> Result<Vec<DirectoryEntry>, FsError> {
        match self {
            Names::Extents(metadata) => metadata.read().list(path),
            Names::Ext4(names) => names.list(path),
        }
    }

    pub(super) fn bytes(&self, file: FileId) -> Result<u64, FsError> {
        match self {
            Names::Extents(metadata) => metadata.read().file_bytes(file),
            Names::Ext4(names) => names.bytes(file),
        }
    }

    /// Where a byte of a file is. Takes no lock.
    #[inline]
    pub(super) fn spot(&self, file: FileId, at: u64) -> Spot {
        match self {
            Names::Extents(_) => {
                let (number, offset) = (at / BLOCK_BYTES as u64, (at % BLOCK_BYTES as u64) as usize);
                Spot::Block { block: reference(file, number), offset, bytes: u64::MAX }
            }
            Names::Ext4(names) => match names.place(file, at) {
                (Some(byte), bytes) => {
                    let block = reference(FileId::WHOLE_DEVICE, byte / BLOCK_BYTES as u64);
                    Spot::Block { block, offset: (byte % BLOCK_BYTES as u64) as usize, bytes }
                }
                (None, bytes) => Spot::Zeros(bytes),
            },
        }
    }

    /// Where on the device a block of the cache and at most so many in all are, as far as they are adjacent.
    /// Nothing, if it is a hole.
    pub(super) fn run(&self, block: u64, most: u64) -> Option<Run> {
        let (file, number) = block_of(block);
        match self {
            Names::Extents(metadata) => metadata.read().run_at(file, number, most),
            Names::Ext4(names) => {
                let count = names.device_blocks().saturating_sub(number).min(most);
                (count > 0).then_some(Run { disk: number, count, checksums: None })
            }
        }
    }
}
