//! How `ldk` caches.
//!
//! Default: it says nothing, and the library operating system keeps what was used last (LRU). Then the second pass finds
//! nothing of what the first one read.
//!
//! Own: both passes read in the same order, so what was used last is needed last: MRU. In the second pass each block is
//! used for the last time, which it says: such blocks make room for the program that is being written, of which
//! nothing needs to leave before it is read once more.

use crate::files::WorkFile;
use core::ops::Range;
use libos_fs::{BufferCache, PolicyKind};

/// Tells the cache to replace the most recently used block.
pub fn choose_own(cache: &BufferCache) {
    cache.set_policy(0, PolicyKind::Mru);
}

/// Blocks of an archive have been read for the last time.
pub fn has_read(cache: &BufferCache, archive: &WorkFile, blocks: Range<u64>) {
    cache.done_with(archive, blocks);
}
