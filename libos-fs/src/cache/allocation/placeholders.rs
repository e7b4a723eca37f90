//! What managers gave up instead of what they were asked for.
//!
//! A placeholder for block B remembers that B was replaced so that the block in slot A could stay. If B is
//! missed while the placeholder lives, the manager was wrong, and A is the next candidate: the manager pays
//! for its own mistake.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use hashbrown::HashMap;

/// A placeholder.
#[derive(Clone, Copy)]
struct Kept {
    /// The slot whose block stayed.
    slot: usize,
    /// How often that slot had changed hands when it did.
    tenancy: u64,
    /// How many placeholders had been made before this one.
    serial: u64,
}

/// The placeholders of a cache.
///
/// A placeholder ends when its block comes back, when the block that stayed instead leaves or is used, or
/// when as many later ones have been made as the cache has blocks: LRU, too, would have replaced the block by
/// then. So there are never more placeholders than blocks. All operations take constant time, amortised.
pub(super) struct Placeholders {
    by_block: HashMap<u64, Kept>,
    /// Oldest first; what is no longer in `by_block` under its serial number is void.
    order: VecDeque<(u64, u64)>,
    /// By slot: how often its block has left or been used. A placeholder that is older is void.
    tenancies: Vec<u64>,
    made: u64,
    most: usize,
}

impl Placeholders {
    pub(super) fn new(most: usize) -> Placeholders {
        Placeholders {
            by_block: HashMap::new(),
            order: VecDeque::new(),
            tenancies: Vec::new(),
            made: 0,
            most,
        }
    }

    /// Changes how many there may be.
    pub(super) fn resize(&mut self, most: usize) {
        self.most = most;
        self.drop_oldest();
    }

    /// Remembers that `block` left so that the block in `slot` could stay.
    pub(super) fn make(&mut self, block: u64, slot: usize) {
        let kept = Kept { slot, tenancy: self.tenancy(slot), serial: self.made };
        self.by_block.insert(block, kept);
        self.order.push_back((block, self.made));
        self.made += 1;
        self.drop_oldest();
    }

    /// The slot whose block stayed instead of `block`, if that is remembered.
    pub(super) fn slot_for(&self, block: u64) -> Option<usize> {
        let kept = self.by_block.get(&block)?;
        (kept.tenancy == self.tenancy(kept.slot)).then_some(kept.slot)
    }

    /// A block has come back: its placeholder ends.
    pub(super) fn block_is_back(&mut self, block: u64) {
        self.by_block.remove(&block);
    }

    /// The block in a slot has left or was used: placeholders that name the slot end.
    pub(super) fn slot_is_over(&mut self, slot: usize) {
        if slot >= self.tenancies.len() {
            self.tenancies.resize(slot + 1, 0);
        }
        self.tenancies[slot] += 1;
    }

    fn tenancy(&self, slot: usize) -> u64 {
        self.tenancies.get(slot).copied().unwrap_or(0)
    }

    fn drop_oldest(&mut self) {
        while self.order.len() > self.most {
            let Some((block, serial)) = self.order.pop_front() else { return };
            if self.by_block.get(&block).is_some_and(|kept| kept.serial == serial) {
                self.by_block.remove(&block);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_lives_until_its_block_is_back_its_slot_is_over_or_too_many_came_after_it() {
        let mut placeholders = Placeholders::new(3);
        placeholders.make(10, 0);
        assert_eq!(placeholders.slot_for(10), Some(0));
        assert_eq!(placeholders.slot_for(11), None);
        placeholders.block_is_back(10);
        assert_eq!(placeholders.slot_for(10), None);
        placeholders.make(10, 5);
        placeholders.make(11, 5);
        placeholders.slot_is_over(5);
        assert_eq!((placeholders.slot_for(10), placeholders.slot_for(11)), (None, None));
        for block in 20..24 {
            placeholders.make(block, 7);
        }
        let found: Vec<bool> = (20..24).map(|block| placeholders.slot_for(block).is_some()).collect();
        assert_eq!(found, [false, true, true, true]);
        placeholders.resize(1);
        assert_eq!((placeholders.slot_for(22), placeholders.slot_for(23)), (None, Some(7)));
        assert!(placeholders.by_block.len() <= 1);
    }
}
