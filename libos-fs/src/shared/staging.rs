//! Blocks that were read ahead and not yet asked for. The replacement policy has not heard of them.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use core::ops::Range;
use hyperexo_abi::Page;

/// Most blocks in staging.
const MOST: usize = 2 * hyperexo_abi::ring::MAX_REQUEST_BLOCKS;

/// A block in staging.
pub(super) struct Staged {
    /// Its contents, unless their checksum is wrong.
    pub(super) page: Box<Page>,
    /// CRC-32 that it must have, if the format knows.
    pub(super) checksum: Option<u32>,
    /// When this block is first asked for, read-ahead goes on from that one.
    pub(super) goes_on: Option<u64>,
    /// Misses there had been when it came.
    since: u64,
}

/// Blocks read ahead, by number.
#[derive(Default)]
pub(super) struct Staging {
    blocks: BTreeMap<u64, Staged>,
    /// In the order in which they came; some are gone.
    order: VecDeque<(u64, u64)>,
    most: usize,
    /// How long a block waits, in misses.
    patience: u64,
}

impl Staging {
    /// For a cache of so many blocks: a sixteenth of it.
    pub(super) fn new(capacity: usize) -> Staging {
        let most = (capacity / 16).clamp(1, MOST).min(capacity.saturating_sub(1));
        Staging { most, patience: capacity as u64, ..Staging::default() }
    }

    /// Blocks it may hold.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Blocks it holds.
    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether a block is here.
    pub(super) fn contains(&self, block: u64) -> bool {
        self.blocks.contains_key(&block)
    }

    /// A block has come, after so many misses.
    pub(super) fn put(&mut self, block: u64, page: Box<Page>, checksum: Option<u32>, since: u64) {
        self.order.push_back((block, since));
        self.blocks.insert(block, Staged { page, checksum, goes_on: None, since });
    }

    /// When this block is first asked for, read-ahead goes on from `next`.
    pub(super) fn set_goes_on(&mut self, block: u64, next: u64) {
        if let Some(staged) = self.blocks.get_mut(&block) {
            staged.goes_on = Some(next);
        }
    }

    /// Takes a block.
    pub(super) fn take(&mut self, block: u64) -> Option<Staged> {
        self.blocks.remove(&block)
    }

    /// Takes all blocks of a range. Returns how many.
    pub(super) fn forget(&mut self, blocks: Range<u64>) -> u64 {
        let of_range: alloc::vec::Vec<u64> = self.blocks.range(blocks).map(|(block, _)| *block).collect();
        of_range.iter().for_each(|block| drop(self.blocks.remove(block)));
        of_range.len() as u64
    }

    /// Drops blocks that have waited too long, now that there have been so many misses. Returns how many.
    pub(super) fn drop_stale(&mut self, misses: u64) -> u64 {
        let mut dropped = 0;
        while let Some((block, since)) = self.order.front().copied() {
            let still = self.blocks.get(&block).is_some_and(|staged| staged.since == since);
            if still && misses - since <= self.patience {
                break;
            }
            self.order.pop_front();
            if still {
                self.blocks.remove(&block);
                dropped += 1;
            }
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::zeroed_page;

    #[test]
    fn blocks_do_not_wait_for_ever() {
        let mut staging = Staging::new(64);
        assert_eq!((staging.most(), Staging::new(1).most(), Staging::new(1 << 20).most()), (4, 0, MOST));
        staging.put(1, zeroed_page(), None, 10);
        staging.put(2, zeroed_page(), Some(7), 20);
        assert!(staging.take(1).is_some_and(|staged| staged.checksum.is_none()));
        staging.put(1, zeroed_page(), None, 30);
        assert_eq!(staging.drop_stale(84), 0);
        assert_eq!(staging.drop_stale(85), 1, "block 2");
        assert!(staging.contains(1) && !staging.contains(2));
        staging.set_goes_on(1, 9);
        assert_eq!(staging.forget(0..2), 1);
        assert_eq!((staging.len(), staging.drop_stale(1000)), (0, 0));
    }
}
