//! The buffer cache.

mod clock;
mod fifo;
mod lru;
mod mru;
mod opt;
mod order;
mod policy;
mod read_ahead;
mod statistics;

pub use clock::Clock;
pub use fifo::Fifo;
pub use lru::Lru;
pub use mru::Mru;
pub use opt::{Opt, optimal_misses, simulate};
pub use order::Order;
pub use policy::{Cached, PolicyKind, ReplacementPolicy, UnknownPolicy};
pub use read_ahead::{
    Cluster, NoReadAhead, ReadAhead, ReadAheadKind, Reference, Sequential, UnknownReadAhead,
};
pub use statistics::CacheStatistics;

use crate::device::DeviceQueue;
use crate::{FileId, FsError};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::ops::Range;

/// How a cache starts.
#[derive(Clone, Debug)]
pub struct CacheOptions {
    /// Blocks it may hold; at least 1.
    pub blocks: usize,
    /// Policy of all priorities that are not given another.
    pub policy: PolicyKind,
    /// Read-ahead policy.
    pub read_ahead: ReadAheadKind,
    /// Blocks that may be in staging once the cache is full. `None`: 1 % of `blocks`, from 1 to 31.
    pub staging: Option<usize>,
    /// Whether to record references from the start; see [`BufferCache::start_recording`].
    pub record_references: bool,
}

impl Default for CacheOptions {
    fn default() -> CacheOptions {
        CacheOptions {
            blocks: 1024,
            policy: PolicyKind::default(),
            read_ahead: ReadAheadKind::default(),
            staging: None,
            record_references: false,
        }
    }
}

/// The number by which policies and recorded references know a block of a file: file number × 2³² + block.
pub fn reference(file: FileId, block: u64) -> u64 {
    file.0 << 32 | block & 0xffff_ffff
}

/// The buffer cache.
pub struct BufferCache {
    #[allow(dead_code)]
    queue: Rc<DeviceQueue>,
}

#[allow(unused_variables, missing_docs)]
impl BufferCache {
    pub(crate) fn new(queue: Rc<DeviceQueue>, options: CacheOptions) -> BufferCache {
        BufferCache { queue }
    }
    pub(crate) fn end_of_mount(&self) {}
    pub fn set_policy(&self, priority: i32, policy: impl Into<Box<dyn ReplacementPolicy>>) {
        todo!()
    }
    pub fn get_policy(&self, priority: i32) -> &'static str {
        todo!()
    }
    pub fn set_read_ahead(&self, policy: impl Into<Box<dyn ReadAhead>>) {
        todo!()
    }
    pub fn set_priority(&self, file: impl Into<FileId>, priority: i32) {
        todo!()
    }
    pub fn get_priority(&self, file: impl Into<FileId>) -> i32 {
        todo!()
    }
    pub fn set_temporary_priority(&self, file: impl Into<FileId>, blocks: Range<u64>, priority: i32) {
        todo!()
    }
    pub fn done_with(&self, file: impl Into<FileId>, blocks: Range<u64>) {
        todo!()
    }
    pub fn statistics(&self) -> CacheStatistics {
        todo!()
    }
    pub fn blocks(&self) -> usize {
        todo!()
    }
    pub fn resize(&self, blocks: usize) -> Result<(), FsError> {
        todo!()
    }
    pub fn drop_clean(&self) {
        todo!()
    }
    pub fn start_recording(&self) {
        todo!()
    }
    pub fn take_references(&self) -> Vec<u64> {
        todo!()
    }
}
