//! Which blocks are in use. Not stored: rebuilt from the tree when mounting.

use super::format::FIRST_BLOCK;
use crate::error::FsError;
use alloc::vec;
use alloc::vec::Vec;

/// A set of blocks.
struct BlockSet(Vec<u64>);

impl BlockSet {
    fn contains(&self, block: u64) -> bool {
        self.0[(block / 64) as usize] >> (block % 64) & 1 != 0
    }

    fn insert(&mut self, block: u64) {
        self.0[(block / 64) as usize] |= 1 << (block % 64);
    }

    fn remove(&mut self, block: u64) {
        self.0[(block / 64) as usize] &= !(1 << (block % 64));
    }
}

/// The blocks of a volume. A block of the last committed state stays in use until the next commit, even if
/// nothing refers to it any more.
pub(super) struct SpaceMap {
    blocks: u64,
    used: BlockSet,
    /// Allocated since the last commit: nothing on the disk needs them if they are given back.
    fresh: BlockSet,
    free: u64,
    /// Given back since the last commit, and needed by the committed state.
    released: Vec<u64>,
    /// Where the search for room goes on.
    cursor: u64,
}

impl SpaceMap {
    /// A volume whose superblocks only are in use.
    pub(super) fn new(blocks: u64) -> SpaceMap {
        let words = blocks.div_ceil(64) as usize;
        let mut map = SpaceMap {
            blocks,
            used: BlockSet(vec![0; words]),
            fresh: BlockSet(vec![0; words]),
            free: blocks,
            released: Vec::new(),
            cursor: FIRST_BLOCK,
        };
        for block in 0..FIRST_BLOCK.min(blocks) {
            map.used.insert(block);
            map.free -= 1;
        }
        map
    }

    pub(super) fn blocks(&self) -> u64 {
        self.blocks
    }

    pub(super) fn free(&self) -> u64 {
        self.free
    }

    /// Blocks that become free with the next commit.
    pub(super) fn after_commit(&self) -> u64 {
        self.released.len() as u64
    }

    /// Marks a block of the committed state as used. `false` if it does not exist or is in use already.
    pub(super) fn claim(&mut self, block: u64) -> bool {
        if block >= self.blocks || self.used.contains(block) {
            return false;
        }
        self.used.insert(block);
        self.free -= 1;
        self.cursor = self.cursor.max(block + 1);
        true
    }

    /// Whether a block was allocated since the last commit, so that it may be written in place.
    pub(super) fn is_fresh(&self, block: u64) -> bool {
        block < self.blocks && self.fresh.contains(block)
    }

    /// Allocates a block: `goal` if it is free, so that what follows each other in a file does so on disk;
    /// otherwise the first of a free run of `want` blocks, or of the longest there is. Fails if it would
    /// leave less than `reserve`.
    pub(super) fn allocate(&mut self, goal: Option<u64>, want: u64, reserve: u64) -> Result<u64, FsError> {
        if self.free <= reserve {
            let free = self.free.saturating_sub(reserve);
            return Err(FsError::NoSpace { needed: 1, free, after_commit: self.after_commit() });
        }
        let goal = goal.filter(|goal| *goal < self.blocks && !self.used.contains(*goal));
        let block = goal.or_else(|| self.find_run(want.max(1)));
        let Some(block) = block else {
            return Err(FsError::NoSpace { needed: 1, free: 0, after_commit: self.after_commit() });
        };
        self.used.insert(block);
        self.fresh.insert(block);
        self.free -= 1;
        self.cursor = block + 1;
        Ok(block)
    }

    /// Allocates blocks for metadata, all or none, adjacent if possible.
    pub(super) fn allocate_many(&mut self, count: u64) -> Result<Vec<u64>, FsError> {
        if self.free < count {
            return Err(FsError::NoSpace {
                needed: count,
                free: self.free,
                after_commit: self.after_commit(),
            });
        }
        let mut blocks: Vec<u64> = Vec::with_capacity(count as usize);
        while (blocks.len() as u64) < count {
            let goal = blocks.last().map(|last| last + 1);
            blocks.push(self.allocate(goal, count - blocks.len() as u64, 0)?);
        }
        Ok(blocks)
    }

    /// Gives a block back: at once if it is fresh, with the next commit otherwise.
    pub(super) fn release(&mut self, block: u64) {
        if self.fresh.contains(block) {
            self.fresh.remove(block);
            self.used.remove(block);
            self.free += 1;
        } else {
            self.released.push(block);
        }
    }

    /// The state with all allocations and releases so far has been committed.
    pub(super) fn committed(&mut self) {
        self.fresh.0.fill(0);
        for block in core::mem::take(&mut self.released) {
            self.used.remove(block);
            self.free += 1;
        }
    }

    /// Start of the first free run of `want` blocks from the cursor on, once round; or of the longest run.
    fn find_run(&self, want: u64) -> Option<u64> {
        let mut longest = (0, None);
        for range in [self.cursor..self.blocks, FIRST_BLOCK..self.cursor.min(self.blocks)] {
            let mut block = range.start;
            while block < range.end {
                if block.is_multiple_of(64) && self.used.0[(block / 64) as usize] == u64::MAX {
                    block += 64;
                    continue;
                }
                if self.used.contains(block) {
                    block += 1;
                    continue;
                }
                let length = (block..range.end).take(want as usize).take_while(|b| !self.used.contains(*b));
                let length = length.count() as u64;
                if length >= want {
                    return Some(block);
                }
                if length > longest.0 {
                    longest = (length, Some(block));
                }
                block += length;
            }
        }
        longest.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_blocks_come_back_only_after_a_commit() {
        let mut map = SpaceMap::new(8);
        assert_eq!(map.free(), 6);
        let first = map.allocate_many(6).unwrap();
        assert_eq!(first, [2, 3, 4, 5, 6, 7]);
        map.committed();
        map.release(3);
        assert!(map.allocate(Some(3), 1, 0).is_err());
        assert_eq!(map.after_commit(), 1);
        map.committed();
        assert_eq!(map.allocate(None, 1, 0), Ok(3));
        map.release(3);
        assert_eq!(map.allocate(None, 1, 0), Ok(3), "nothing on the disk needs a fresh block");
    }

    #[test]
    fn a_run_is_preferred_to_a_gap() {
        let mut map = SpaceMap::new(16);
        for block in [2, 3, 5, 6] {
            assert!(map.claim(block));
        }
        assert!(!map.claim(5));
        assert!(!map.claim(16));
        map.cursor = FIRST_BLOCK;
        assert_eq!(map.allocate(None, 4, 0), Ok(7));
        assert_eq!(map.allocate(Some(8), 4, 0), Ok(8));
        map.cursor = FIRST_BLOCK;
        assert_eq!(map.allocate(None, 1, 0), Ok(4));
    }
}
