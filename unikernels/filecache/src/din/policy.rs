//! How `din` caches.
//!
//! Default: it says nothing, and the library operating system keeps what was used last (LRU).
//!
//! Own: the trace is read from its start to its end once for every cache that is simulated. With a cache a
//! bit too small for it, LRU throws out each block just before it is needed. The trace gets a priority of its
//! own, and in it what was used *last*, and so is needed last, is replaced first: two calls. And before the
//! first pass it discloses all of them, which read-ahead policies of that kind (`directed`, `aggressive`)
//! fetch while it computes.

use crate::files::{FileError, OwnCache, WorkFile};
use crate::workload::blocks_of;
use libos_fs::PolicyKind;

/// Priority of the trace. Everything else has 0 and is replaced before it.
const TRACE: i32 = 1;

/// Tells the cache to replace the most recently used block of the trace.
pub fn choose_own(cache: OwnCache<'_>, trace: &WorkFile) {
    cache.set_policy(TRACE, PolicyKind::Mru);
    cache.set_priority(trace, TRACE);
}

/// Discloses so many passes over the trace.
pub fn disclose(trace: &WorkFile, passes: usize) -> Result<(), FileError> {
    (0..passes).try_for_each(|_| trace.will_need(0..blocks_of(trace)))
}
