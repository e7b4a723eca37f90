//! By what the application says.

use super::per_slot::PerSlot;
use super::replacement::{Advice, Cached, ReplacementPolicy};
use crate::cache::order::Lists;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;
use hashbrown::HashMap;

/// Blocks that are done with.
const DONE: usize = 0;
/// Blocks of loops.
const LOOP: usize = 1;
/// Blocks about which nothing is known, or that are read in no order.
const PLAIN: usize = 2;
/// Blocks that will be used soon.
const WANTED: usize = 3;

/// Follows [`Advice`] (after R. H. Patterson et al., "Informed prefetching and caching", SOSP 1995, and P.
/// Cao et al., OSDI 1994: disclosing how a file is read is enough to choose well):
///
/// 1. First go blocks that are done with, or that were read in order once ([`Advice::Sequential`]): oldest
///    first.
/// 2. Then either a block of a loop, the one used last (MRU), or one that nothing is known about, the one
///    used longest ago (LRU). A block of a loop comes back after as many references as the loop is long; so
///    it goes if the other one has been idle for less than that.
/// 3. Last go blocks that are wanted soon, until they are used: oldest first.
///
/// Without advice this is LRU.
///
/// 56 to 70 bytes a slot. Constant time, but for looking up advice, O(log r) for r ranges about which
/// something was said; `will_need` and `done_with` look at each block that they name and that is in the
/// cache.
pub struct Hinted {
    lists: Lists,
    slot_of: HashMap<u64, usize>,
    block_of: PerSlot<u64>,
    last_use: PerSlot<u64>,
    now: u64,
    /// Ranges, by start, that do not overlap: end, how they are read, and the length of the whole range
    /// named.
    patterns: BTreeMap<u64, Pattern>,
}

#[derive(Clone, Copy)]
struct Pattern {
    end: u64,
    advice: Advice,
    /// Blocks of the range as it was named, before others cut it.
    length: u64,
}

impl Default for Hinted {
    fn default() -> Hinted {
        Hinted {
            lists: Lists::new(4),
            slot_of: HashMap::new(),
            block_of: PerSlot::default(),
            last_use: PerSlot::default(),
            now: 0,
            patterns: BTreeMap::new(),
        }
    }
}

impl Hinted {
    fn pattern(&self, block: u64) -> Option<Pattern> {
        let (_, pattern) = self.patterns.range(..=block).next_back()?;
        (block < pattern.end).then_some(*pattern)
    }

    fn used(&mut self, block: Cached) {
        self.now += 1;
        self.last_use.set(block.slot, self.now);
        let list = match self.pattern(block.block).map(|pattern| pattern.advice) {
            Some(Advice::Sequential) => DONE,
            Some(Advice::Loop) => LOOP,
            _ => PLAIN,
        };
        self.lists.push_back(list, block.slot);
    }

    /// Cuts a range out of all patterns.
    fn clear(&mut self, blocks: &Range<u64>) {
        let before = self.patterns.range(..blocks.start).next_back().map(|(start, _)| *start);
        let within = self.patterns.range(blocks.clone()).map(|(start, _)| *start);
        let touched: Vec<u64> = before.into_iter().chain(within).collect();
        for start in touched {
            let Some(pattern) = self.patterns.remove(&start) else { continue };
            if start < blocks.start {
                let end = pattern.end.min(blocks.start);
                self.patterns.insert(start, Pattern { end, ..pattern });
            }
            if pattern.end > blocks.end {
                self.patterns.insert(blocks.end.max(start), pattern);
            }
        }
    }

    /// Slots that hold blocks of a range, without looking at more blocks than are in the cache.
    fn resident(&self, blocks: &Range<u64>) -> Vec<usize> {
        if blocks.end - blocks.start <= self.slot_of.len() as u64 {
            return blocks.clone().filter_map(|block| self.slot_of.get(&block).copied()).collect();
        }
        let mut found: Vec<(u64, usize)> = self.slot_of.iter().map(|(block, slot)| (*block, *slot)).collect();
        found.retain(|(block, _)| blocks.contains(block));
        found.sort_unstable();
        found.into_iter().map(|(_, slot)| slot).collect()
    }
}

impl ReplacementPolicy for Hinted {
    fn name(&self) -> &'static str {
        "hinted"
    }

    fn inserted(&mut self, block: Cached) {
        self.slot_of.insert(block.block, block.slot);
        self.block_of.set(block.slot, block.block);
        self.used(block);
    }

    fn accessed(&mut self, block: Cached) {
        self.used(block);
    }

    fn removed(&mut self, block: Cached) {
        self.slot_of.remove(&block.block);
        self.lists.remove(block.slot);
    }

    fn victim(&mut self, _: Option<u64>) -> Option<usize> {
        if let Some(done) = self.lists.front(DONE) {
            return Some(done);
        }
        let (looping, plain) = (self.lists.back(LOOP), self.lists.front(PLAIN));
        let chosen = match (looping, plain) {
            (Some(looping), Some(plain)) => {
                let idle = self.now - self.last_use.get(plain);
                let returns = self.pattern(self.block_of.get(looping)).map_or(0, |pattern| pattern.length);
                Some(if idle < returns { looping } else { plain })
            }
            (looping, plain) => looping.or(plain),
        };
        chosen.or(self.lists.front(WANTED))
    }

    fn advised(&mut self, blocks: Range<u64>, advice: Advice) {
        if blocks.is_empty() {
            return;
        }
        match advice {
            Advice::WillNeed | Advice::DoneWith => {
                let list = if advice == Advice::WillNeed { WANTED } else { DONE };
                for slot in self.resident(&blocks) {
                    self.lists.push_back(list, slot);
                }
            }
            Advice::Normal => self.clear(&blocks),
            Advice::Sequential | Advice::Loop | Advice::Random => {
                self.clear(&blocks);
                let length = blocks.end - blocks.start;
                self.patterns.insert(blocks.start, Pattern { end: blocks.end, advice, length });
            }
        }
    }
}
