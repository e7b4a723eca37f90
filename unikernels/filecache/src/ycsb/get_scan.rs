//! How the mix GET-SCAN caches.
//!
//! Default: it says nothing, and every scan of half of the store sweeps out what the point reads want (LRU).
//!
//! Own: [`ScansAside`]. The program knows which requests are scans. Blocks that came in with a scan are the
//! first to go, last come first; a point read makes a block an ordinary one, and of ordinary ones the one
//! goes that point reads have wanted least often since the program began ([`Counted`]). A scan does not count
//! as a use of ordinary blocks.

use super::policy::Counted;
use crate::files::WorkFile;
use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::Cell;
use libos_fs::cache::{Cached, Order};
use libos_fs::{BufferCache, ReadAheadKind, ReplacementPolicy};

/// Priority of the index. Everything else has 0 and is replaced before it.
const INDEX: i32 = 1;

/// Tells the cache what is worth keeping of the store. `scanning` says at any time whether a scan is under
/// way.
pub fn choose_own(cache: &BufferCache, index: &WorkFile, scanning: &Rc<Cell<bool>>) {
    let ordinary = Box::<Counted>::default();
    let policy: Box<dyn ReplacementPolicy> = Box::new(ScansAside::new(Rc::clone(scanning), ordinary));
    cache.set_read_ahead(ReadAheadKind::None);
    cache.set_priority(index, INDEX);
    cache.set_policy(0, policy);
}

/// Replaces what only scans have used, then what another policy chooses.
pub struct ScansAside {
    scanning: Rc<Cell<bool>>,
    /// Used by scans only; back: came last.
    scanned: Order,
    /// Has all others in its care.
    ordinary: Box<dyn ReplacementPolicy>,
}

impl ScansAside {
    /// A policy that learns from `scanning` whether a scan is under way, and leaves to `ordinary`, which has
    /// nothing in its care yet, what point reads have used.
    pub fn new(scanning: Rc<Cell<bool>>, ordinary: Box<dyn ReplacementPolicy>) -> ScansAside {
        ScansAside { scanning, scanned: Order::default(), ordinary }
    }
}

impl ReplacementPolicy for ScansAside {
    fn name(&self) -> &'static str {
        "scans-aside"
    }

    fn inserted(&mut self, block: Cached) {
        if self.scanning.get() {
            self.scanned.push_back(block.slot);
        } else {
            self.ordinary.inserted(block);
        }
    }

    fn accessed(&mut self, block: Cached) {
        if self.scanning.get() {
            return;
        }
        if self.scanned.contains(block.slot) {
            self.scanned.remove(block.slot);
            self.ordinary.inserted(block);
        } else {
            self.ordinary.accessed(block);
        }
    }

    fn removed(&mut self, block: Cached) {
        if self.scanned.contains(block.slot) {
            self.scanned.remove(block.slot);
        } else {
            self.ordinary.removed(block);
        }
    }

    fn evicted(&mut self, block: Cached) {
        if self.scanned.contains(block.slot) {
            self.scanned.remove(block.slot);
        } else {
            self.ordinary.evicted(block);
        }
    }

    fn victim(&mut self, missing: Option<u64>) -> Option<usize> {
        self.scanned.back().or_else(|| self.ordinary.victim(missing))
    }

    fn resized(&mut self, blocks: usize) {
        self.ordinary.resized(blocks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libos_fs::PolicyKind;
    use libos_fs::cache::{Referenced, Simulation};

    #[test]
    fn a_scan_leaves_the_rest_alone() {
        let scanning = Rc::new(Cell::new(false));
        let mut policy = ScansAside::new(Rc::clone(&scanning), PolicyKind::Lru.build(10));
        let mut cache = Simulation::new(&mut policy, 10);
        let mut misses = |scan: bool, blocks: core::ops::Range<u64>| {
            scanning.set(scan);
            blocks.filter(|block| cache.reference(*block) != Referenced::Hit).count()
        };
        assert_eq!(misses(false, 0..9), 9);
        assert_eq!(misses(true, 100..200), 100);
        assert_eq!(misses(false, 0..9), 0, "one block was enough for the scan");
        assert_eq!(misses(false, 199..200), 0, "which keeps its last");
        assert_eq!(misses(false, 300..301), 1);
        assert_eq!(misses(false, 1..9), 0, "then what was used longest ago goes");
    }
}
