//! How `ycsb` caches.
//!
//! Default: it says nothing, and the library operating system keeps what was used last (LRU).
//!
//! Own: which record comes next is chance, but some are asked for far more often than others, and in all
//! mixes but one they stay the same. Who knows that can count for as long as the store exists: [`Counted`]
//! gives up the block that has been used least often, and remembers the counts of blocks that have left. The
//! counts of earlier runs lie in a small file beside the store (two bytes a leaf), as real stores keep
//! statistics; without it, what is popular would have to be learned anew each time, at 2 to 10 % more misses.
//! A policy for everybody can't count like that: it has to forget, because elsewhere what was wanted
//! yesterday is in the way today. In mix D it is so here, too, as what was added last is read most: there
//! SIEVE finds out what is wanted now, of the index as well.
//!
//! A node of the index leads to hundreds of leaves: else the index goes last. And reading ahead is in vain
//! where neighbours have nothing to do with each other; only scans of half of the store are worth it.

use super::Mix;
use crate::btree::Tree;
use crate::files::OwnCache;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use core::cmp::Reverse;
use libos_fs::cache::{Cached, reference};
use libos_fs::{PolicyKind, ReadAheadKind, ReplacementPolicy};

/// Priority of the index. Everything else has 0 and is replaced before it.
const INDEX: i32 = 1;

/// Tells the cache what is worth keeping of the store. `history` says how often each leaf was used before.
pub fn choose_own(cache: OwnCache<'_>, tree: &Tree, history: &[u16], mix: Mix) {
    if mix != Mix::GetScan {
        cache.set_read_ahead(ReadAheadKind::None);
    }
    if mix == Mix::D {
        cache.set_policy(0, PolicyKind::Sieve);
        return;
    }
    cache.set_priority(tree.index(), INDEX);
    let leaves = (0..).map(|leaf| reference(tree.leaves().into(), leaf));
    let counted = Counted::after(leaves.zip(history.iter().map(|uses| u64::from(*uses))));
    cache.set_policy(0, Box::new(counted) as Box<dyn ReplacementPolicy>);
}

/// Replaces the block that has been used least often since it began to count; of several, the one used last.
/// So a scan over many blocks, all of which have been used as often as each other, finds room in one: each
/// makes room for the next, and what is wanted more often stays.
///
/// Where each reference is independent of the last, that comes near the best fixed set of blocks as soon as
/// the counts tell them apart. It takes some ten bytes for each block of the data, and O(log n) a use.
#[derive(Default)]
pub struct Counted {
    /// Uses of every block, in the cache or not.
    uses: BTreeMap<u64, u64>,
    /// Blocks in the cache: uses, the last of them (the latest first), slot.
    least: BTreeSet<(u64, Reverse<u64>, usize)>,
    /// The entry in `least` of each slot.
    of_slot: BTreeMap<usize, (u64, Reverse<u64>, usize)>,
    now: u64,
}

impl Counted {
    /// Blocks have been used so often before.
    pub fn after(uses: impl Iterator<Item = (u64, u64)>) -> Counted {
        Counted { uses: uses.collect(), ..Counted::default() }
    }

    fn used(&mut self, block: Cached) {
        let uses = self.uses.entry(block.block).or_default();
        *uses += 1;
        self.now += 1;
        let entry = (*uses, Reverse(self.now), block.slot);
        if let Some(old) = self.of_slot.insert(block.slot, entry) {
            self.least.remove(&old);
        }
        self.least.insert(entry);
    }
}

impl ReplacementPolicy for Counted {
    fn name(&self) -> &'static str {
        "counted"
    }

    fn inserted(&mut self, block: Cached) {
        self.used(block);
    }

    fn accessed(&mut self, block: Cached) {
        self.used(block);
    }

    fn removed(&mut self, block: Cached) {
        if let Some(entry) = self.of_slot.remove(&block.slot) {
            self.least.remove(&entry);
        }
    }

    fn victim(&mut self, _: Option<u64>) -> Option<usize> {
        self.least.first().map(|(_, _, slot)| *slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libos_fs::cache::{Referenced, Simulation, fixed_set_misses, simulate};

    #[test]
    fn counts_outlive_the_blocks() {
        let mut policy = Counted::default();
        // 1 has been used three times when it leaves. Back again, it soon outlasts what was used four times.
        let references = [1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 1, 4, 1, 5, 1];
        assert_eq!(simulate(&mut policy, 2, &references), 7, "1, 2, 3, 1, 4, 1 and 5");
    }

    #[test]
    fn who_has_counted_before_need_not_learn() {
        // A stream of blocks that come once, and two that come again and again.
        let references: Vec<u64> = (0..100).flat_map(|turn| [1000 + turn, turn % 2]).collect();
        let mut stranger = Counted::default();
        let mut acquainted = Counted::after([(0, 50), (1, 50)].into_iter());
        assert_eq!(simulate(&mut acquainted, 3, &references), 102, "each of the two once");
        assert!(simulate(&mut stranger, 2, &references) > 102);
        let mut acquainted = Counted::after([(0, 50)].into_iter());
        assert_eq!(simulate(&mut acquainted, 2, &references), 100 + 1 + 50, "room for one of the two");
    }

    #[test]
    fn a_scan_leaves_the_rest_alone() {
        let mut policy = Counted::default();
        let mut cache = Simulation::new(&mut policy, 10);
        let mut misses = |blocks: core::ops::Range<u64>| {
            blocks.filter(|block| cache.reference(*block) != Referenced::Hit).count()
        };
        assert_eq!(misses(0..9) + misses(0..9), 9);
        assert_eq!(misses(100..200), 100);
        assert_eq!(misses(0..9), 0, "one block was enough for the scan");
    }

    #[test]
    fn it_comes_near_the_best_fixed_set_where_references_are_chance() {
        let mut state = 7_u64;
        let references: Vec<u64> = (0..60_000)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                // About as skewed as requests to a store.
                let chance = (state >> 11) as f64 / (1_u64 << 53) as f64;
                (1000.0_f64.powf(chance)) as u64
            })
            .collect();
        let counted = simulate(&mut Counted::default(), 100, &references);
        let fixed = fixed_set_misses(&[100], references.iter().copied())[0];
        let s3_fifo = simulate(&mut *PolicyKind::S3Fifo.build(100), 100, &references);
        assert!(counted < s3_fifo && counted as f64 <= fixed as f64 * 1.05, "{counted}, {fixed}, {s3_fifo}");
    }
}
