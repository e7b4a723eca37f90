//! W-TinyLFU.

use super::per_slot::PerSlot;
use super::replacement::{Cached, ReplacementPolicy};
use super::share::Share;
use super::sketch::Sketch;
use crate::cache::order::Lists;

/// Blocks that came in last.
const WINDOW: usize = 0;
/// Blocks that were let into the main part.
const PROBATION: usize = 1;
/// Blocks used since.
const PROTECTED: usize = 2;

/// A small window under LRU takes every new block; what falls out of it gets into the main part only if it
/// was used more often, lately, than the block that would have to leave there (G. Einziger, R. Friedman, B.
/// Manes, "TinyLFU: a highly efficient cache admission policy", ACM Transactions on Storage 13(4), 2017,
/// section 4). The main part is segmented LRU.
///
/// As in the paper: the window is 1 % of the cache, at least one block; four fifths of the rest is the
/// protected segment; uses are counted in a sketch that ages. There is no doorkeeper.
/// [`WTinyLfu::with`] takes other sizes.
///
/// 20 bytes a slot, and 8 to 16 for each block that the cache may hold. Constant time on average: aging goes
/// through the sketch, but seldom.
pub struct WTinyLfu {
    /// Front: used longest ago.
    segments: Lists,
    /// What is in each slot.
    blocks: PerSlot<u64>,
    sketch: Sketch,
    capacity: usize,
    window_share: Share,
    protected_share: Share,
}

impl Default for WTinyLfu {
    fn default() -> WTinyLfu {
        WTinyLfu::with(Share::percent(1), Share::percent(80))
    }
}

impl WTinyLfu {
    /// A policy with this share of the cache as its window, at least one block, and this share of the rest as
    /// its protected segment.
    pub fn with(window: Share, protected: Share) -> WTinyLfu {
        WTinyLfu {
            segments: Lists::new(3),
            blocks: PerSlot::default(),
            sketch: Sketch::default(),
            capacity: 0,
            window_share: window,
            protected_share: protected,
        }
    }

    fn window(&self) -> usize {
        self.window_share.of(self.capacity).max(1)
    }

    fn protected(&self) -> usize {
        self.protected_share.of(self.capacity.saturating_sub(self.window()))
    }

    fn frequency(&self, slot: usize) -> u64 {
        self.sketch.estimate(self.blocks.get(slot))
    }
}

impl ReplacementPolicy for WTinyLfu {
    fn name(&self) -> &'static str {
        "w-tinylfu"
    }

    fn resized(&mut self, blocks: usize) {
        if blocks != self.capacity {
            self.capacity = blocks;
            self.sketch = Sketch::for_blocks(blocks);
        }
    }

    fn inserted(&mut self, block: Cached) {
        self.sketch.count(block.block);
        self.blocks.set(block.slot, block.block);
        self.segments.push_back(WINDOW, block.slot);
        if self.segments.len(WINDOW) > self.window()
            && let Some(oldest) = self.segments.front(WINDOW)
        {
            self.segments.push_back(PROBATION, oldest);
        }
    }

    fn accessed(&mut self, block: Cached) {
        self.sketch.count(block.block);
        if self.segments.contains(WINDOW, block.slot) {
            self.segments.push_back(WINDOW, block.slot);
            return;
        }
        self.segments.push_back(PROTECTED, block.slot);
        if self.segments.len(PROTECTED) > self.protected()
            && let Some(oldest) = self.segments.front(PROTECTED)
        {
            self.segments.push_back(PROBATION, oldest);
        }
    }

    fn removed(&mut self, block: Cached) {
        self.segments.remove(block.slot);
    }

    /// The block that the next one pushes out of the window, or the one in the main part whose place it would
    /// take.
    fn victim(&mut self, _: Option<u64>) -> Option<usize> {
        let main = self.segments.front(PROBATION).or(self.segments.front(PROTECTED));
        let full = self.segments.len(WINDOW) >= self.window();
        let candidate = self.segments.front(WINDOW).filter(|_| full || main.is_none());
        match (candidate, main) {
            (Some(candidate), Some(main)) => {
                Some(if self.frequency(candidate) > self.frequency(main) { main } else { candidate })
            }
            (candidate, main) => candidate.or(main),
        }
    }
}
