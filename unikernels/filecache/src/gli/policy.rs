//! How `gli` caches.
//!
//! Default: it says nothing, and the library operating system keeps what was used last (LRU).
//!
//! Own: every query reads the whole index, which is small: it gets a priority of its own. The articles are read in the
//! same order by every query, though not all by each, so what was used last is needed last: MRU.

use crate::files::WorkFile;
use libos_fs::{BufferCache, PolicyKind};

/// Priority of the index. Everything else has 0 and is replaced before it.
const INDEX: i32 = 1;

/// Tells the cache to keep the index, and to replace the most recently used block of anything else.
pub fn choose_own(cache: &BufferCache, index: &WorkFile) {
    cache.set_priority(index, INDEX);
    cache.set_policy(0, PolicyKind::Mru);
}
