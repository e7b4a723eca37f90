//! How `gli` caches.
//!
//! Default: it says nothing, and the library operating system keeps what was used last (LRU).
//!
//! Own: the queries wait in a queue. While it reads the index for one, it looks for the words of the next as
//! well, which costs comparisons but no reads. So when it searches the articles of one query, it knows which
//! ones the next will search, and says so: the plan. [`Planned`] gives up the block that the plan needs last,
//! as L. A. Belady's optimum does ("A study of replacement algorithms for a virtual-storage computer", IBM
//! Systems Journal 5(2), 1966); R. H. Patterson et al. call that informed caching (SOSP 1995).
//!
//! Read-ahead policies that fetch what was disclosed while it compares (`directed`, `aggressive`) get the
//! same plan.

use crate::files::{FileError, OwnCache, WorkFile};
use crate::workload::blocks_of;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use core::ops::Range;
use libos_fs::ReplacementPolicy;
use libos_fs::cache::{Advice, Cached};

/// Tells the cache to follow the plan.
pub fn choose_own(cache: OwnCache<'_>) {
    cache.set_policy(0, Box::<Planned>::default() as Box<dyn ReplacementPolicy>);
}

/// These files will be read, each from its start to its end, after all that was planned before.
pub fn plan<'f>(cache: OwnCache<'_>, files: impl IntoIterator<Item = &'f WorkFile>) -> Result<(), FileError> {
    files.into_iter().try_for_each(|file| plan_blocks(cache, file, 0..blocks_of(file)))
}

/// These blocks will be read, as far as the file has them, in this order, after all that was planned before.
pub fn plan_blocks(cache: OwnCache<'_>, file: &WorkFile, blocks: Range<u64>) -> Result<(), FileError> {
    let blocks = blocks.start..blocks.end.min(blocks_of(file));
    if blocks.is_empty() {
        return Ok(());
    }
    cache.advise(file, blocks.clone(), Advice::WillNeed);
    if cache.uses_disclosures() { file.will_need(blocks) } else { Ok(()) }
}

/// Not in the plan: needed after everything that is.
const NEVER: u64 = u64::MAX;

/// Replaces the block whose next use is farthest ahead, by what the application said with
/// [`Advice::WillNeed`]: these blocks, in this order, once more each time they are mentioned. Of several that
/// are not mentioned, the one used last.
///
/// A plan that does not come true costs room: blocks wait for a use that never comes. It takes some thirty
/// bytes for each use that is planned, and O(log n) a use.
#[derive(Default)]
pub struct Planned {
    /// Uses planned so far.
    planned: u64,
    /// Of each block in the plan, the places of its uses there, those to come.
    uses: BTreeMap<u64, VecDeque<u64>>,
    /// Blocks in the cache: next use, last use, slot. The last goes first.
    farthest: BTreeSet<(u64, u64, usize)>,
    /// Each block in the cache, with its entry in `farthest`.
    cached: BTreeMap<u64, (u64, u64, usize)>,
    now: u64,
}

impl Planned {
    fn next_use(&self, block: u64) -> u64 {
        self.uses.get(&block).and_then(|uses| uses.front()).copied().unwrap_or(NEVER)
    }

    fn rank(&mut self, block: u64, last_use: u64, slot: usize) {
        let entry = (self.next_use(block), last_use, slot);
        if let Some(old) = self.cached.insert(block, entry) {
            self.farthest.remove(&old);
        }
        self.farthest.insert(entry);
    }

    fn used(&mut self, block: Cached) {
        if let Some(uses) = self.uses.get_mut(&block.block) {
            uses.pop_front();
            if uses.is_empty() {
                self.uses.remove(&block.block);
            }
        }
        self.now += 1;
        self.rank(block.block, self.now, block.slot);
    }
}

impl ReplacementPolicy for Planned {
    fn name(&self) -> &'static str {
        "planned"
    }

    fn inserted(&mut self, block: Cached) {
        self.used(block);
    }

    fn accessed(&mut self, block: Cached) {
        self.used(block);
    }

    fn removed(&mut self, block: Cached) {
        if let Some(entry) = self.cached.remove(&block.block) {
            self.farthest.remove(&entry);
        }
    }

    fn victim(&mut self, _: Option<u64>) -> Option<usize> {
        self.farthest.last().map(|(_, _, slot)| *slot)
    }

    fn advised(&mut self, blocks: Range<u64>, advice: Advice) {
        if advice != Advice::WillNeed {
            return;
        }
        for block in blocks {
            self.uses.entry(block).or_default().push_back(self.planned);
            self.planned += 1;
            if let Some(&(NEVER, last_use, slot)) = self.cached.get(&block) {
                self.rank(block, last_use, slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use libos_fs::cache::{optimal_misses, simulate};

    #[test]
    fn who_knows_the_plan_misses_as_little_as_can_be() {
        let mut state = 7_u64;
        let references: Vec<u64> = (0..3000)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                state >> 57
            })
            .collect();
        for capacity in [1, 2, 10, 50, 127] {
            let mut planned = Planned::default();
            references.iter().for_each(|block| planned.advised(*block..*block + 1, Advice::WillNeed));
            let best = optimal_misses(capacity, &references);
            assert_eq!(simulate(&mut planned, capacity, &references), best, "{capacity} blocks");
        }
    }

    #[test]
    fn what_is_planned_while_it_is_in_the_cache_stays() {
        let mut planned = Planned::default();
        for block in [1, 2] {
            planned.inserted(Cached { slot: block as usize, block });
        }
        assert_eq!(planned.victim(None), Some(2), "neither is planned, 2 was used last");
        planned.advised(2..3, Advice::WillNeed);
        assert_eq!(planned.victim(None), Some(1));
        planned.accessed(Cached { slot: 2, block: 2 });
        assert_eq!(planned.victim(None), Some(2), "its planned use is over");
    }
}
