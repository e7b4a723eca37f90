//! How a cache starts.

use crate::cache::allocation::Allocation;
use crate::cache::policies::{MakePolicy, ReadAheadKind, WriteBackKind};

/// How a cache starts.
#[derive(Clone, Debug)]
pub struct CacheOptions {
    /// Blocks it may hold; at least 1.
    pub blocks: usize,
    /// Policy of all priorities that are not given another.
    pub policy: MakePolicy,
    /// How room is divided between managers.
    pub allocation: Allocation,
    /// Read-ahead policy.
    pub read_ahead: ReadAheadKind,
    /// When written blocks go to the device before they have to.
    pub write_back: WriteBackKind,
    /// Blocks that may be in staging once the cache is full. `None`: a sixteenth of `blocks`, from 1 to 64.
    /// Larger requests cost fewer of them, but every staged block displaces one that the replacement policy
    /// wants to keep.
    pub staging: Option<usize>,
    /// Whether to record references from the start; see [`BufferCache::start_recording`].
    ///
    /// [`BufferCache::start_recording`]: crate::cache::BufferCache::start_recording
    pub record_references: bool,
}

impl Default for CacheOptions {
    fn default() -> CacheOptions {
        CacheOptions {
            blocks: 1024,
            policy: MakePolicy::default(),
            allocation: Allocation::default(),
            read_ahead: ReadAheadKind::default(),
            write_back: WriteBackKind::default(),
            staging: None,
            record_references: false,
        }
    }
}
