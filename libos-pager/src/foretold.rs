//! By what the program foretells.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use libos_fs::cache::{Advice, Cached, ReplacementPolicy};
use spin::Mutex;

/// What a program has said of its next uses.
#[derive(Debug, Default)]
struct Coming {
    /// Pages, in the order of their uses.
    pages: VecDeque<u64>,
    /// Uses that are over.
    over: u64,
    /// Pages of which all uses are foretold.
    told: Vec<Range<u64>>,
}

/// The program's end of a [`Foretold`] policy: here it says which pages it will use, in which order. Pages
/// are those of the memory ([`Region::first_page`](crate::Region::first_page)).
///
/// Some programs know their next accesses though no compiler does: a breadth-first search has a queue of what
/// it will visit, a join reads keys before it looks them up. What they know ends somewhere, as the queue
/// does; a few hundred uses are enough, if that is more than the pages in memory.
#[derive(Clone, Debug, Default)]
pub struct Foretelling(Arc<Mutex<Coming>>);

impl Foretelling {
    /// Most uses that are remembered; 8 bytes each.
    pub const MOST: usize = 1024;

    /// Nothing is foretold.
    pub fn new() -> Foretelling {
        Foretelling::default()
    }

    /// The policy that follows it.
    pub fn policy(&self) -> Foretold {
        Foretold { coming: self.clone(), slots: Vec::new(), slot_of: BTreeMap::new(), came: 0, done: 0 }
    }

    /// Of these pages all uses will be foretold: one without a use among those told is used later than all of
    /// them.
    pub fn tells_all_of(&self, pages: Range<u64>) {
        self.0.lock().told.push(pages);
    }

    /// A page will be used after all those told so far. Forgotten if they are [`Foretelling::MOST`] already.
    pub fn will_use(&self, page: u64) {
        let mut coming = self.0.lock();
        if coming.pages.len() < Foretelling::MOST {
            coming.pages.push_back(page);
        }
    }

    /// A page was used as told: its first use is over.
    pub fn has_used(&self, page: u64) {
        let mut coming = self.0.lock();
        coming.over += 1;
        if let Some(at) = coming.pages.iter().position(|told| *told == page) {
            coming.pages.remove(at);
        }
    }
}

/// A page in memory.
#[derive(Clone, Copy)]
struct Slot {
    page: u64,
    /// The time of its last use.
    last_use: u64,
    /// When it was done with, if it is.
    done: Option<u64>,
}

/// Replaces the page whose next use is farthest, as far as the program has foretold it
/// ([`Foretelling`]; after R. H. Patterson et al., "Informed prefetching and caching", SOSP 1995: hints in
/// order, and an estimate for what nothing is said of):
///
/// 1. First go pages that are done with, oldest first.
/// 2. Of the others the one whose next use is farthest. That is known of a page that was foretold. One of
///    which all is told and no use is known is used after all known uses, and the later the longer it has
///    been idle. Of any other the time since its last use is taken for the time to its next.
///
/// Time is counted in foretold uses and pages that come in. Without a word this is LRU, as far as the
/// processor's bits tell it.
///
/// A victim takes O((f + u) log f) steps for f frames and u uses that are known.
pub struct Foretold {
    coming: Foretelling,
    slots: Vec<Option<Slot>>,
    slot_of: BTreeMap<u64, usize>,
    /// Pages that have come in so far.
    came: u64,
    /// Pages done with so far.
    done: u64,
}

impl Foretold {
    fn used(&mut self, block: Cached) {
        if self.slots.len() <= block.slot {
            self.slots.resize(block.slot + 1, None);
        }
        let last_use = self.coming.0.lock().over + self.came;
        self.slots[block.slot] = Some(Slot { page: block.block, last_use, done: None });
    }
}

impl ReplacementPolicy for Foretold {
    fn name(&self) -> &'static str {
        "foretold"
    }

    fn inserted(&mut self, block: Cached) {
        self.came += 1;
        self.slot_of.insert(block.block, block.slot);
        self.used(block);
    }

    fn accessed(&mut self, block: Cached) {
        self.used(block);
    }

    fn removed(&mut self, block: Cached) {
        self.slot_of.remove(&block.block);
        if let Some(slot) = self.slots.get_mut(block.slot) {
            *slot = None;
        }
    }

    fn victim(&mut self, missing: Option<u64>) -> Option<usize> {
        let coming = self.coming.0.lock();
        let (horizon, now) = (coming.pages.len() as u64, coming.over + self.came);
        // Position of the first use of each page in memory that has one.
        let mut next: Vec<Option<u64>> = vec![None; self.slots.len()];
        for (position, page) in (0..).zip(&coming.pages) {
            if let Some(slot) = self.slot_of.get(page) {
                next[*slot].get_or_insert(position);
            }
        }
        let distance = |number: usize, slot: &Slot| {
            let idle = now - slot.last_use;
            let told = || coming.told.iter().any(|told| told.contains(&slot.page));
            next[number].unwrap_or_else(|| if told() { horizon + idle } else { idle })
        };
        let of = |(number, slot): (usize, &Option<Slot>)| {
            let slot = slot.as_ref().filter(|slot| Some(slot.page) != missing)?;
            // Those done with go first, and of them the oldest.
            let done = slot.done.map(core::cmp::Reverse);
            Some(((done.is_some(), done, distance(number, slot), core::cmp::Reverse(slot.last_use)), number))
        };
        self.slots.iter().enumerate().filter_map(of).max().map(|(_, number)| number)
    }

    fn advised(&mut self, blocks: Range<u64>, advice: Advice) {
        if advice != Advice::DoneWith {
            return;
        }
        for slot in self.slots.iter_mut().flatten().filter(|slot| blocks.contains(&slot.page)) {
            self.done += 1;
            slot.done = Some(self.done);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(pages: &[u64]) -> (Foretelling, Foretold) {
        let coming = Foretelling::new();
        let mut policy = coming.policy();
        for (slot, block) in pages.iter().enumerate() {
            policy.inserted(Cached { slot, block: *block });
        }
        (coming, policy)
    }

    #[test]
    fn the_farthest_goes() {
        let (coming, mut policy) = filled(&[10, 11, 12, 3]);
        coming.tells_all_of(10..20);
        [12, 10, 12, 11].into_iter().for_each(|page| coming.will_use(page));
        assert_eq!(policy.victim(None), Some(1), "11 is used last");
        [12, 10, 12].into_iter().for_each(|page| coming.has_used(page));
        // 11 is next; of 10 and 12 nothing more is known; 3 has been idle for three uses, so may come in
        // three.
        policy.accessed(Cached { slot: 2, block: 12 });
        assert_eq!(policy.victim(None), Some(0));
        policy.removed(Cached { slot: 0, block: 10 });
        assert_eq!(policy.victim(None), Some(3), "idle for three uses: 12 only for the one that is known");
        policy.advised(11..12, Advice::DoneWith);
        assert_eq!(policy.victim(None), Some(1));
        assert_eq!(policy.victim(Some(11)), Some(3), "not the page that comes");
    }

    #[test]
    fn without_a_word_it_goes_by_age() {
        let (coming, mut policy) = filled(&[1, 2, 3]);
        coming.has_used(9);
        policy.accessed(Cached { slot: 0, block: 1 });
        assert_eq!(policy.victim(None), policy.victim(None));
        assert_ne!(policy.victim(None), Some(0));
        let more = Foretelling::MOST + 5;
        (0..more as u64).for_each(|page| coming.will_use(page));
        assert_eq!(coming.0.lock().pages.len(), Foretelling::MOST);
    }
}
