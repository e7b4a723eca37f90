//! What can go wrong between a path and a block.

use crate::device::{DeviceError, Operation};
use crate::file_id::FileId;
use alloc::string::String;
use core::fmt;

/// Why an operation on a volume failed. Whatever the error, what was committed before stays as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FsError {
    /// Nothing has this name.
    NotFound(String),
    /// Something has this name already.
    AlreadyExists(String),
    /// A directory is needed and this is a file.
    NotADirectory(String),
    /// A file is needed and this is a directory.
    IsADirectory(String),
    /// The directory to remove or replace has entries.
    NotEmpty(String),
    /// The text can't be a path; the second field says why.
    BadPath(String, &'static str),
    /// The device or the format can only be read.
    ReadOnly,
    /// The disk has `free` blocks left, and `needed` are needed. `after_commit` blocks more become free with
    /// the next commit.
    NoSpace {
        /// Blocks needed.
        needed: u64,
        /// Blocks that can be allocated now.
        free: u64,
        /// Blocks that are kept only because the last committed state needs them.
        after_commit: u64,
    },
    /// The end of the write, or the length, is beyond what a file can have.
    FileTooLarge(u64),
    /// The file has been removed while open.
    Removed,
    /// The file belongs to another manager of the cache.
    OtherManager(FileId),
    /// Blocks of `first` can't go before those of `then`: they have to wait for them already.
    OrderCycle {
        /// The file that should go first.
        first: FileId,
        /// The file that should wait for it.
        then: FileId,
    },
    /// The cache has no buffer that can be given up: all are in the hands of the device.
    NoBuffer {
        /// Blocks the cache may hold.
        capacity: usize,
    },
    /// The device failed.
    Device {
        /// What it should have done.
        operation: Operation,
        /// First block of the request.
        block: u64,
        /// Blocks of the request.
        blocks: u64,
        /// What it says.
        error: DeviceError,
    },
    /// A block's contents are not what was written.
    Checksum {
        /// Block of the device.
        block: u64,
    },
    /// The structures on the disk contradict themselves.
    Corrupt(String),
    /// The device holds no format that is known.
    UnknownFormat,
    /// The disk is too small for a volume.
    TooSmall {
        /// Blocks it has.
        blocks: u64,
        /// Blocks it must have.
        needed: u64,
    },
    /// A failed commit left it unknown which state the disk holds: nothing can be written until the volume is
    /// mounted again.
    CommitUnknown,
    /// The device kept the data of a write that timed out, or failed to make durable what the cache no longer
    /// holds: what was not committed can't be committed any more.
    LostWrite,
    /// The format can't do this.
    Unsupported(&'static str),
    /// The image has features of its format that are not read here.
    UnsupportedFeatures {
        /// Their names, as the format's own tools have them.
        names: String,
        /// What to do about it.
        fix: String,
    },
}

impl fmt::Display for FsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FsError::NotFound(path) => write!(f, "{path}: not found"),
            FsError::AlreadyExists(path) => write!(f, "{path}: exists already"),
            FsError::NotADirectory(path) => write!(f, "{path}: not a directory"),
            FsError::IsADirectory(path) => write!(f, "{path}: is a directory"),
            FsError::NotEmpty(path) => write!(f, "{path}: directory is not empty"),
            FsError::BadPath(path, why) => write!(f, "{path:?} is no path: {why}"),
            FsError::ReadOnly => f.write_str("the volume is read-only"),
            FsError::NoSpace { needed, free, after_commit } => write!(
                f,
                "disk full: {needed} blocks needed, {free} free, {after_commit} more after the next commit"
            ),
            FsError::FileTooLarge(bytes) => write!(f, "{bytes} bytes are too many for one file"),
            FsError::Removed => f.write_str("the file has been removed"),
            FsError::OtherManager(FileId(file)) => {
                write!(f, "file {file} belongs to another manager of the cache")
            }
            FsError::OrderCycle { first, then } => {
                write!(
                    f,
                    "file {} can't be written before file {}, for which it has to wait",
                    first.0, then.0
                )
            }
            FsError::NoBuffer { capacity } => write!(f, "all {capacity} buffers of the cache are in use"),
            FsError::Device { operation, block, blocks, error } => {
                write!(f, "{operation:?} of {blocks} blocks at block {block}: {error}")
            }
            FsError::Checksum { block } => write!(f, "block {block} is damaged: its checksum is wrong"),
            FsError::Corrupt(what) => write!(f, "the volume is corrupt: {what}"),
            FsError::UnknownFormat => f.write_str("no known file system on the device"),
            FsError::TooSmall { blocks, needed } => {
                write!(f, "a disk of {blocks} blocks is too small: {needed} are needed")
            }
            FsError::CommitUnknown => {
                f.write_str("a commit failed half-way: mount the volume again before writing")
            }
            FsError::LostWrite => {
                f.write_str("the device lost written data: mount the volume again before writing")
            }
            FsError::Unsupported(what) => write!(f, "not supported: {what}"),
            FsError::UnsupportedFeatures { names, fix } => {
                write!(f, "the image has features of ext4 that are not supported: {names}; {fix}")
            }
        }
    }
}

impl core::error::Error for FsError {}
