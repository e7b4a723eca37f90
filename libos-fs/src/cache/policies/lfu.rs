//! LFU with aging.

use super::per_slot::PerSlot;
use super::replacement::{Cached, ReplacementPolicy};
use crate::cache::order::Lists;

/// Counts up to here.
const MAX_COUNT: usize = 63;

/// References for each block of the cache after which all counts are halved.
const AGING_PERIOD: u64 = 10;

/// Replaces the block that was used least often since it came in; among equals, the one whose count has stood
/// there the longest. Counts are halved from time to time, so that what was popular once does not stay for
/// ever (J. T. Robinson, M. V. Devarakonda, "Data cache management using frequency-based replacement",
/// SIGMETRICS 1990, section 2, from whom the halving comes; after ten references for each block of the cache,
/// as in G. Einziger, R. Friedman, B. Manes, "TinyLFU", ACM Transactions on Storage 13(4), 2017). Counts end
/// at 63.
///
/// 13 bytes a slot. Constant time on average: one list for each count, as in K. Shah, A. Mitra, D. Matani,
/// "An O(1) algorithm for implementing the LFU cache eviction scheme", 2010; aging walks through all blocks,
/// but seldom.
pub struct Lfu {
    /// By count; front: there the longest.
    by_count: Lists,
    counts: PerSlot<u8>,
    /// Bit n: list n may not be empty.
    used_lists: u64,
    references: u64,
    capacity: usize,
}

impl Default for Lfu {
    fn default() -> Lfu {
        Lfu {
            by_count: Lists::new(MAX_COUNT + 1),
            counts: PerSlot::default(),
            used_lists: 0,
            references: 0,
            capacity: 0,
        }
    }
}

impl Lfu {
    fn set(&mut self, slot: usize, count: usize) {
        self.counts.set(slot, count as u8);
        self.by_count.push_back(count, slot);
        self.used_lists |= 1 << count;
    }

    /// Halves all counts if it is time. Blocks of a lower count come before those of a higher one in their
    /// new list.
    fn age(&mut self) {
        self.references += 1;
        if self.references < AGING_PERIOD * self.capacity.max(1) as u64 {
            return;
        }
        self.references = 0;
        for count in 1..=MAX_COUNT {
            while let Some(slot) = self.by_count.front(count) {
                self.set(slot, count / 2);
            }
        }
    }
}

impl ReplacementPolicy for Lfu {
    fn name(&self) -> &'static str {
        "lfu"
    }

    fn resized(&mut self, blocks: usize) {
        self.capacity = blocks;
    }

    fn inserted(&mut self, block: Cached) {
        self.age();
        self.set(block.slot, 1);
    }

    fn accessed(&mut self, block: Cached) {
        self.age();
        let count = usize::from(self.counts.get(block.slot));
        self.set(block.slot, (count + 1).min(MAX_COUNT));
    }

    fn removed(&mut self, block: Cached) {
        self.by_count.remove(block.slot);
    }

    fn victim(&mut self, _: Option<u64>) -> Option<usize> {
        while self.used_lists != 0 {
            let lowest = self.used_lists.trailing_zeros() as usize;
            if let Some(slot) = self.by_count.front(lowest) {
                return Some(slot);
            }
            self.used_lists &= self.used_lists - 1;
        }
        None
    }
}
