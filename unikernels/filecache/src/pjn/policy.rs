//! How `pjn` caches.
//!
//! Default: it says nothing, and the library operating system keeps what was used last (LRU).
//!
//! Own: the index is asked for every tuple, so all of it is worth more than any tuple: it has a priority of
//! its own. Which inner tuples will be fetched is chance to the cache, but not to the join. It looks ahead in
//! the outer relation and asks the index for tuples whose turn has not come: so the next few hundred fetches
//! are known, and [`Planned`] gives up the block that is needed last. (R. H. Patterson et al. had Postgres
//! look up tuples first and fetch them in a second loop, "Informed prefetching and caching", SOSP 1995.)
//!
//! That has its price: outer tuples are read twice, and wait in the cache in between. A cache that holds
//! little more than the index can't afford a far look, so its distance follows from the room.
//!
//! Read-ahead policies that fetch what was disclosed (`directed`, `aggressive`) get the same plan, and before
//! it the index, which comes in a few large requests if there is room for it. For others reading ahead is in
//! vain, as inner tuples are fetched here and there.

use crate::btree::Tree;
use crate::files::{FileError, OwnCache, WorkFile};
use crate::gli::policy::{Planned, plan_blocks};
use crate::workload::blocks_of;
use alloc::boxed::Box;
use core::ops::Range;
use libos_fs::{ReadAheadKind, ReplacementPolicy};

/// Priority of the index. Everything else has 0 and is replaced before it.
const INDEX: i32 = 1;

/// Of the room that the index leaves, the part that outer tuples may take while they wait.
const WAITING: u64 = 4;

/// Tells the cache to keep the index, and to follow the plan in all else.
pub fn choose_own(cache: OwnCache<'_>, index: &Tree) {
    if !cache.uses_disclosures() {
        cache.set_read_ahead(ReadAheadKind::None);
    }
    cache.set_policy(0, Box::<Planned>::default() as Box<dyn ReplacementPolicy>);
    cache.set_priority(index.index(), INDEX);
    cache.set_priority(index.leaves(), INDEX);
}

/// Blocks of the cache that the index leaves.
fn room_beside(cache: OwnCache<'_>, index: &Tree) -> u64 {
    let of_index = blocks_of(index.index()) + blocks_of(index.leaves());
    (cache.blocks() as u64).saturating_sub(of_index)
}

/// All of the index will be read, in whatever order.
pub fn will_read_index(cache: OwnCache<'_>, index: &Tree) -> Result<(), FileError> {
    if !cache.uses_disclosures() || room_beside(cache, index) == 0 {
        return Ok(());
    }
    index.leaves().will_need(0..blocks_of(index.leaves()))
}

/// How far to look ahead, in blocks of the outer relation.
pub fn look_ahead_blocks(cache: OwnCache<'_>, index: &Tree) -> u64 {
    room_beside(cache, index) / WAITING
}

/// Takes blocks of a relation that will be read, after all that was planned before.
pub fn plan(cache: OwnCache<'_>) -> impl Fn(&WorkFile, Range<u64>) -> Result<(), FileError> {
    move |relation, blocks| plan_blocks(cache, relation, blocks)
}
