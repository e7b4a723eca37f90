//! Block devices to files: what a library operating system does with a disk.
//!
//! ```text
//!  Volume, File         names, bytes                         volume.rs
//!      │
//!  extent_fs │ ext4     which block of a file is where       extent_fs/, ext4/
//!      │
//!  BufferCache          which blocks stay in memory          cache/
//!      │    └── ReplacementPolicy, ReadAhead: yours to write
//!  BlockDevice          RamDisk, FileDisk, RingDevice        device/
//! ```
//!
//! The way in is [`Volume::mount`]. An application that knows its own accesses better than any default takes
//! [`Volume::cache`] and chooses policies and priorities there, for a whole cache or for a single file or
//! range; or it writes a policy of its own: four methods, see [`cache::ReplacementPolicy`].
//!
//! Nothing here spins or waits except inside [`BlockDevice::wait`], and nothing is borrowed meanwhile but the
//! device. All of it is `no_std`, free of `unsafe`, and runs on the host as it does in a unikernel.
//!
//! A module uses only what is in rows above its own, and no two use each other (`scripts/exo/src/rows` checks
//! both):
//!
//! ```text
//! rows: lock cache::order cache::chains · cache::policies::*
//! rows: file_id lent_page device::+ cache::references cache::shared · error cache::key
//! rows: path file_system cache::allocation::* · cache::buffer::* cache::managed cache::model::*
//! rows: cache::replay · cache
//! rows: ext4::+ extent_fs::+ · volume shared::+ · plan
//! ```
#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod cache;
pub mod device;
mod error;
pub mod ext4;
pub mod extent_fs;
mod file_id;
mod file_system;
mod lent_page;
mod lock;
mod path;
mod plan;
pub mod shared;
mod volume;

pub use cache::{
    Advice, BufferCache, CacheOptions, CacheStatistics, LentPage, PolicyKind, ReadAheadKind,
    ReplacementPolicy, WriteBackKind, simulate,
};
#[cfg(feature = "std")]
pub use device::FileDisk;
#[cfg(feature = "unikernel")]
pub use device::RingDevice;
pub use device::{
    BLOCK_BYTES, BlockDevice, Completion, DeviceError, EndRequest, Operation, RamDisk, Rejected, Rejection,
    Request,
};
pub use error::FsError;
pub use file_id::FileId;
pub use file_system::{DirectoryEntry, EntryKind, Format, Space};
pub use plan::{BadPlan, CachePlan};
pub use shared::{SharedFile, SharedStatistics, SharedVolume, Turns};
pub use volume::{File, Volume};
