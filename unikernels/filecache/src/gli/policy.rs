//! How `gli` caches.
//!
//! Default: it says nothing, and the library operating system keeps what was used last (LRU).
//!
//! Own: every query reads the whole index, which is small: it gets a priority of its own. The articles are
//! read in the same order by every query, though not all by each, so what was used last is needed last: MRU.
//! And as soon as it knows what it will read it discloses it, for read-ahead policies that fetch such blocks
//! while it compares (`directed`, `aggressive`): the index, then the articles to search, and the index for
//! the next query.

use crate::files::{FileError, OwnCache, WorkFile};
use crate::workload::blocks_of;
use libos_fs::PolicyKind;

/// Priority of the index. Everything else has 0 and is replaced before it.
const INDEX: i32 = 1;

/// Tells the cache to keep the index, and to replace the most recently used block of anything else.
pub fn choose_own(cache: OwnCache<'_>, index: &WorkFile) {
    cache.set_priority(index, INDEX);
    cache.set_policy(0, PolicyKind::Mru);
}

/// Discloses that these files will be read, each from its start to its end, after all that was disclosed
/// before.
pub fn disclose<'f>(
    cache: OwnCache<'_>,
    files: impl IntoIterator<Item = &'f WorkFile>,
) -> Result<(), FileError> {
    if !cache.uses_disclosures() {
        return Ok(());
    }
    files.into_iter().try_for_each(|file| file.will_need(0..blocks_of(file)))
}
