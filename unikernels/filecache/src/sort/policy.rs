//! How `sort` caches.
//!
//! Default: it says nothing, and the library operating system keeps what was used last (LRU). Then the cache
//! fills with input and runs that have just been read, which nobody will ever read again.
//!
//! Own, in two parts:
//!
//! * It says "done with" for every block as soon as it has read it: such blocks go first (free behind). What
//!   stays are runs that are still to be merged, oldest first, and then the output, which is read once more
//!   from its start.
//! * So of these, what was written last is needed last. MRU would replace it at once, which means to write it
//!   at once, alone. [`LateMru`] waits until a request's worth of blocks has come after it: neighbours are
//!   written together.
//!
//! And it discloses what it will read, for read-ahead policies that fetch such blocks while it compares
//! (`directed`, `aggressive`): all of the input and of the output, and of a run that is merged the next few
//! blocks, as which run comes next depends on what is in them.

use crate::files::{FileError, OwnCache, WorkFile};
use alloc::boxed::Box;
use core::ops::Range;
use libos_fs::ReplacementPolicy;
use libos_fs::cache::{Cached, Order};

/// The sort starts.
pub fn choose_own(cache: OwnCache<'_>) {
    let policy: Box<dyn ReplacementPolicy> = Box::new(LateMru::default());
    cache.set_policy(0, policy);
}

/// Blocks of the input, of a run or of the output have been read for the last time.
pub fn has_read(cache: OwnCache<'_>, file: &WorkFile, blocks: Range<u64>) {
    cache.done_with(file, blocks);
}

/// Blocks of a file will be read next, in this order.
pub fn will_read(file: &WorkFile, blocks: Range<u64>) -> Result<(), FileError> {
    file.will_need(blocks)
}

/// Replaces the most recently used block but a few: the one after which [`LateMru::LATE_BY`] others were
/// used.
#[derive(Default)]
pub struct LateMru {
    /// The last few, back: used last.
    recent: Order,
    /// All others, back: used last.
    rest: Order,
}

impl LateMru {
    /// Blocks that may be more recent than the victim.
    pub const LATE_BY: usize = 16;

    fn used(&mut self, slot: usize) {
        self.rest.remove(slot);
        self.recent.push_back(slot);
        if self.recent.len() > LateMru::LATE_BY
            && let Some(oldest) = self.recent.front()
        {
            self.recent.remove(oldest);
            self.rest.push_back(oldest);
        }
    }
}

impl ReplacementPolicy for LateMru {
    fn name(&self) -> &'static str {
        "late-mru"
    }

    fn inserted(&mut self, block: Cached) {
        self.used(block.slot);
    }

    fn accessed(&mut self, block: Cached) {
        self.used(block.slot);
    }

    fn removed(&mut self, block: Cached) {
        self.recent.remove(block.slot);
        self.rest.remove(block.slot);
    }

    fn victim(&mut self, _: Option<u64>) -> Option<usize> {
        if self.recent.len() == LateMru::LATE_BY {
            self.recent.front()
        } else {
            self.rest.back().or(self.recent.front())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use libos_fs::cache::simulate;

    #[test]
    fn the_victim_is_late_and_old_blocks_stay() {
        let (blocks, capacity) = (100, 60);
        let once: Vec<u64> = (0..blocks).collect();
        let again = once.repeat(2);
        let misses = simulate(&mut LateMru::default(), capacity, &again);
        let kept = (capacity - LateMru::LATE_BY) as u64;
        assert!(misses <= blocks + blocks - kept, "{misses}");
        assert_eq!(simulate(&mut LateMru::default(), blocks as usize, &again), blocks);
        assert_eq!(simulate(&mut LateMru::default(), 1, &again), 2 * blocks);
    }
}
