//! How `pjn` caches.
//!
//! Default: it says nothing, and the library operating system keeps what was used last (LRU).
//!
//! Own: the index is asked for every tuple, so all of it is worth more than any tuple: it has a priority of
//! its own. Inner tuples are fetched here and there, so reading ahead is in vain; which of them are wanted is
//! chance, but some are wanted more often than others, throughout: what has been used least often goes first
//! ([`Counted`]). Outer ones are read once.
//!
//! Unless read-ahead fetches what is disclosed (`directed`, `aggressive`): then the index is asked for all
//! outer tuples in memory at once, and the inner ones that it names are disclosed before the first is fetched
//! (as R. H. Patterson et al. had Postgres do it, "Informed prefetching and caching", SOSP 1995).

use crate::btree::Tree;
use crate::files::{FileError, OwnCache, WorkFile};
use crate::ycsb::policy::Counted;
use alloc::boxed::Box;
use core::ops::Range;
use libos_fs::{ReadAheadKind, ReplacementPolicy};

/// Priority of the index. Everything else has 0 and is replaced before it.
const INDEX: i32 = 1;

/// Tells the cache to keep the index.
pub fn choose_own(cache: OwnCache<'_>, index: &Tree) {
    if !cache.uses_disclosures() {
        cache.set_read_ahead(ReadAheadKind::None);
    }
    cache.set_policy(0, Box::<Counted>::default() as Box<dyn ReplacementPolicy>);
    cache.set_priority(index.index(), INDEX);
    cache.set_priority(index.leaves(), INDEX);
}

/// Blocks of the outer relation have been read for the last time.
pub fn has_read(cache: OwnCache<'_>, outer: &WorkFile, blocks: Range<u64>) {
    cache.done_with(outer, blocks);
}

/// Blocks of a relation will be read, after all that was disclosed before.
pub fn will_read(relation: &WorkFile, blocks: Range<u64>) -> Result<(), FileError> {
    relation.will_need(blocks)
}
