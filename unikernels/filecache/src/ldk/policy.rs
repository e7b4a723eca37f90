//! How `ldk` caches.
//!
//! Default: it says nothing, and the library operating system keeps what was used last (LRU). Then the second
//! pass finds nothing of what the first one read.
//!
//! Own, in two parts:
//!
//! * It says "done with" for blocks that it has read for the last time: after the first pass, those with
//!   nothing but headers and symbols; in the second pass, all others. Such blocks make room.
//! * Both passes read in the same order, so what was used last is needed last: MRU. But objects share blocks
//!   with their neighbours, and tables are looked up within an object, so the very last few are spared:
//!   [`LateMru`], as `sort` has it.
//!
//! And it discloses what it will read, for read-ahead policies that fetch such blocks while it computes
//! (`directed`, `aggressive`): after the first pass it knows all that the second one reads, and in the end
//! the program.

use crate::files::{FileError, OwnCache, WorkFile};
use crate::sort::policy::LateMru;
use alloc::boxed::Box;
use core::ops::Range;
use libos_fs::ReplacementPolicy;

/// The link starts.
pub fn choose_own(cache: OwnCache<'_>) {
    let policy: Box<dyn ReplacementPolicy> = Box::new(LateMru::default());
    cache.set_policy(0, policy);
}

/// Blocks of an archive have been read for the last time.
pub fn has_read(cache: OwnCache<'_>, archive: &WorkFile, blocks: Range<u64>) {
    cache.done_with(archive, blocks);
}

/// Discloses blocks of files that will be read, in this order, after all that was disclosed before. They are
/// found out only if somebody listens.
pub fn disclose<'f, R: Iterator<Item = (&'f WorkFile, Range<u64>)>>(
    cache: OwnCache<'_>,
    reads: impl FnOnce() -> R,
) -> Result<(), FileError> {
    if !cache.uses_disclosures() {
        return Ok(());
    }
    reads().try_for_each(|(file, blocks)| file.will_need(blocks))
}
