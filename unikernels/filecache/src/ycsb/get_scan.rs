//! How the mix GET-SCAN caches.
//!
//! Default: it says nothing, and every scan of half of the store sweeps out what the point reads want (LRU).
//!
//! Own: [`ScansAside`]. The program knows which requests are scans. Blocks that came in with a scan are the first to go,
//! last come first; a point read makes a block an ordinary one, of which the one used longest ago goes. A scan does not
//! count as a use of ordinary blocks.

use crate::files::WorkFile;
use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::Cell;
use libos_fs::cache::{Cached, Order};
use libos_fs::{BufferCache, ReadAheadKind, ReplacementPolicy};

/// Priority of the index. Everything else has 0 and is replaced before it.
const INDEX: i32 = 1;

/// Tells the cache what is worth keeping of the store. `scanning` says at any time whether a scan is under way.
pub fn choose_own(cache: &BufferCache, index: &WorkFile, scanning: &Rc<Cell<bool>>) {
    let policy: Box<dyn ReplacementPolicy> = Box::new(ScansAside::new(Rc::clone(scanning)));
    cache.set_read_ahead(ReadAheadKind::None);
    cache.set_priority(index, INDEX);
    cache.set_policy(0, policy);
}

/// Replaces what only scans have used, then what was used longest ago.
pub struct ScansAside {
    scanning: Rc<Cell<bool>>,
    /// Used by scans only; back: came last.
    scanned: Order,
    /// Used by point reads; back: used last.
    wanted: Order,
}

impl ScansAside {
    /// A policy that learns from `scanning` whether a scan is under way.
    pub fn new(scanning: Rc<Cell<bool>>) -> ScansAside {
        ScansAside { scanning, scanned: Order::default(), wanted: Order::default() }
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
            self.wanted.push_back(block.slot);
        }
    }

    fn accessed(&mut self, block: Cached) {
        if !self.scanning.get() {
            self.scanned.remove(block.slot);
            self.wanted.push_back(block.slot);
        }
    }

    fn removed(&mut self, block: Cached) {
        self.scanned.remove(block.slot);
        self.wanted.remove(block.slot);
    }

    fn victim(&mut self, _: Option<u64>) -> Option<usize> {
        self.scanned.back().or(self.wanted.front())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libos_fs::cache::{Referenced, Simulation};

    #[test]
    fn a_scan_leaves_the_rest_alone() {
        let scanning = Rc::new(Cell::new(false));
        let mut policy = ScansAside::new(Rc::clone(&scanning));
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
