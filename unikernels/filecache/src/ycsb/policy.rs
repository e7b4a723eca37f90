//! How `ycsb` caches.
//!
//! Default: it says nothing, and the library operating system keeps what was used last (LRU).
//!
//! Own: which record comes next is chance, but some are asked for far more often than others, so a block that
//! was used once is no reason to give up one that was used twice: S3-FIFO. A node of the index leads to
//! hundreds of leaves: the index goes last. And reading ahead is in vain where neighbours have nothing to do
//! with each other.

use crate::files::WorkFile;
use libos_fs::{BufferCache, PolicyKind, ReadAheadKind};

/// Priority of the index. Everything else has 0 and is replaced before it.
const INDEX: i32 = 1;

/// Tells the cache what is worth keeping of the store.
pub fn choose_own(cache: &BufferCache, index: &WorkFile) {
    cache.set_read_ahead(ReadAheadKind::None);
    cache.set_priority(index, INDEX);
    cache.set_policy(0, PolicyKind::S3Fifo);
}
