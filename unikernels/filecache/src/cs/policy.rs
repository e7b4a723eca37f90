//! How `cs` caches.
//!
//! Default: it says nothing, and the library operating system keeps what was used last (LRU).
//!
//! Own: every search goes through the database and through all sources, always in the same order. With a
//! cache a bit too small for that, LRU throws out each block just before it is needed. What was used *last*
//! is what is needed last: one call. And before the first search it discloses what all of them will read, for
//! read-ahead policies that fetch such blocks while it compares (`directed`, `aggressive`).

use super::{Files, Query};
use crate::files::{FileError, OwnCache};
use crate::workload::blocks_of;
use libos_fs::PolicyKind;

/// Tells the cache to replace the most recently used block, in all files of priority 0: those that were given
/// none.
pub fn choose_own(cache: OwnCache<'_>) {
    cache.set_policy(0, PolicyKind::Mru);
}

/// Discloses what the queries will read, in their order.
pub fn disclose(cache: OwnCache<'_>, files: &Files, queries: &[Query]) -> Result<(), FileError> {
    if !cache.uses_disclosures() {
        return Ok(());
    }
    let mut reads = queries.iter().flat_map(|query| files.read_by(query));
    reads.try_for_each(|file| file.will_need(0..blocks_of(file)))
}
