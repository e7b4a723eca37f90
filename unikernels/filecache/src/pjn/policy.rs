//! How `pjn` caches.
//!
//! Default: it says nothing, and the library operating system keeps what was used last (LRU).
//!
//! Own: the index is asked for every tuple, so all of it is worth more than any tuple: it has a priority of its own. Inner
//! tuples are fetched here and there, so reading ahead is in vain; outer ones are read once.

use crate::btree::Tree;
use crate::files::WorkFile;
use core::ops::Range;
use libos_fs::{BufferCache, ReadAheadKind};

/// Priority of the index. Everything else has 0 and is replaced before it.
const INDEX: i32 = 1;

/// Tells the cache to keep the index.
pub fn choose_own(cache: &BufferCache, index: &Tree) {
    cache.set_read_ahead(ReadAheadKind::None);
    cache.set_priority(index.index(), INDEX);
    cache.set_priority(index.leaves(), INDEX);
}

/// Blocks of the outer relation have been read for the last time.
pub fn has_read(cache: &BufferCache, outer: &WorkFile, blocks: Range<u64>) {
    cache.done_with(outer, blocks);
}
