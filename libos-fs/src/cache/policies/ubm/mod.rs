//! UBM: unified buffer management.

mod detection;

use super::ghosts::GhostQueue;
use super::per_slot::PerSlot;
use super::replacement::{Cached, ReplacementPolicy};
use crate::cache::order::Lists;
use detection::{Detection, Kind};

/// Blocks of sequential references.
const SEQUENTIAL: usize = 0;
/// Blocks of other references.
const OTHER: usize = 1;
/// The first list of blocks of loops.
const LOOPS: usize = 2;

/// Loops whose periods differ by less than an eighth share a list.
const PER_DOUBLING: usize = 8;

/// Lists for loops: periods up to 2³².
const LOOP_LISTS: usize = 32 * PER_DOUBLING;

/// References for each block of the cache after which what is known about gains counts half.
const MEMORY: u64 = 4;

/// Detects sequential and looping references by itself and treats each kind as it deserves (J. M. Kim et al.,
/// "A low-overhead high-performance unified buffer management scheme that exploits sequential and looping
/// references", OSDI 2000):
///
/// * blocks of *sequential* references go first: they are not expected to come back. Of these the one used
///   last, in case they do;
/// * blocks of *loops* are replaced by period: first those of the loop with the longest, and of these the one
///   used last;
/// * *other* blocks are under LRU.
///
/// Between loops and others the smaller *marginal gain* decides: a buffer given to a loop of period p saves
/// one miss in p references; what one more for the others would save is measured by hits on ghosts of blocks
/// that they lost. Where the paper detects patterns for each file, here a run is known by its blocks alone;
/// where it fits a curve to the hits of the others, here their ghosts are as many as a quarter of the cache;
/// and a block of a loop that is overdue by a whole period is replaced.
///
/// 28 bytes a slot, about 150 for each run of adjacent blocks remembered (at most as many as blocks in the
/// cache), up to 40 for each ghost. Constant time.
pub struct Ubm {
    detection: Detection,
    /// Front: used longest ago.
    lists: Lists,
    last_use: PerSlot<u64>,
    /// Bit n of word w: list `LOOPS` + 64 w + n may not be empty.
    used_lists: [u64; LOOP_LISTS / 64],
    /// The list of loops whose oldest block may be overdue.
    inspected: usize,
    /// What other blocks lost.
    ghosts: GhostQueue,
    ghost_hits: u64,
    /// References during which the ghost hits were counted.
    observed: u64,
    capacity: usize,
}

impl Default for Ubm {
    fn default() -> Ubm {
        Ubm {
            detection: Detection::default(),
            lists: Lists::new(LOOPS + LOOP_LISTS),
            last_use: PerSlot::default(),
            used_lists: [0; LOOP_LISTS / 64],
            inspected: 0,
            ghosts: GhostQueue::default(),
            ghost_hits: 0,
            observed: 0,
            capacity: 0,
        }
    }
}

/// The list for loops of a period, from 0.
fn loop_list(period: u64) -> usize {
    let period = period.clamp(PER_DOUBLING as u64, (1 << 32) - 1);
    let exponent = period.ilog2() as usize;
    exponent * PER_DOUBLING + (period >> (exponent - 3)) as usize % PER_DOUBLING
}

/// The longest period in a list.
fn period_of(list: usize) -> u64 {
    let (exponent, eighth) = (list / PER_DOUBLING, list % PER_DOUBLING);
    ((PER_DOUBLING + eighth + 1) as u64) << exponent.saturating_sub(3)
}

impl Ubm {
    fn used(&mut self, block: Cached) {
        let kind = self.detection.reference(block.block);
        self.last_use.set(block.slot, self.detection.now());
        self.observed += 1;
        if self.observed > MEMORY * self.capacity.max(1) as u64 {
            self.observed /= 2;
            self.ghost_hits /= 2;
        }
        let list = match kind {
            Kind::Sequential => SEQUENTIAL,
            Kind::Other => OTHER,
            Kind::Looping(period) => {
                let list = loop_list(period);
                self.used_lists[list / 64] |= 1 << (list % 64);
                LOOPS + list
            }
        };
        self.lists.push_back(list, block.slot);
    }

    /// The list of the loop with the longest period that has a block.
    fn longest_loop(&mut self) -> Option<usize> {
        for word in (0..self.used_lists.len()).rev() {
            while self.used_lists[word] != 0 {
                let bit = self.used_lists[word].ilog2() as usize;
                let list = 64 * word + bit;
                if !self.lists.is_empty(LOOPS + list) {
                    return Some(list);
                }
                self.used_lists[word] &= !(1 << bit);
            }
        }
        None
    }

    /// The oldest block of the loops under inspection, if it has not come back though its period is over
    /// twice.
    fn overdue(&self) -> Option<usize> {
        let oldest = self.lists.front(LOOPS + self.inspected)?;
        let idle = self.detection.now() - self.last_use.get(oldest);
        (idle > 2 * period_of(self.inspected)).then_some(oldest)
    }

    /// Goes on to the next list of loops that has blocks, unless there is more to do at this one.
    fn inspect(&mut self) {
        if self.overdue().is_some() {
            return;
        }
        let from = (self.inspected + 1) % LOOP_LISTS;
        let words = self.used_lists.len();
        for step in 0..=words {
            let word = (from / 64 + step) % words;
            let mask = if step == 0 { u64::MAX << (from % 64) } else { u64::MAX };
            let lists = self.used_lists[word] & mask;
            if lists != 0 {
                self.inspected = 64 * word + lists.trailing_zeros() as usize;
                return;
            }
        }
    }

    /// Whether a buffer is worth more to the other blocks than to a loop of this period: hits on ghosts, for
    /// each ghost and reference, against 1/period.
    fn others_gain_more(&self, period: u64) -> bool {
        let ghosts = self.ghosts.len().max(1) as u64;
        u128::from(self.ghost_hits) * u128::from(period) > u128::from(self.observed) * u128::from(ghosts)
    }
}

impl ReplacementPolicy for Ubm {
    fn name(&self) -> &'static str {
        "ubm"
    }

    fn resized(&mut self, blocks: usize) {
        self.capacity = blocks;
        self.detection.resized(blocks.max(16));
        self.ghosts.trim(blocks / 4);
    }

    fn inserted(&mut self, block: Cached) {
        self.ghost_hits += u64::from(self.ghosts.forget(block.block));
        self.ghosts.trim(self.capacity / 4);
        self.used(block);
        self.inspect();
    }

    fn accessed(&mut self, block: Cached) {
        self.used(block);
    }

    fn removed(&mut self, block: Cached) {
        self.lists.remove(block.slot);
    }

    fn evicted(&mut self, block: Cached) {
        if self.lists.contains(OTHER, block.slot) {
            self.ghosts.push(block.block);
        }
        self.removed(block);
    }

    fn victim(&mut self, _: Option<u64>) -> Option<usize> {
        if let Some(sequential) = self.lists.back(SEQUENTIAL) {
            return Some(sequential);
        }
        let other = self.lists.front(OTHER);
        let Some(longest) = self.longest_loop() else { return other };
        if let Some(overdue) = self.overdue() {
            return Some(overdue);
        }
        let looping = self.lists.back(LOOPS + longest);
        if self.others_gain_more(period_of(longest)) { looping.or(other) } else { other.or(looping) }
    }
}
