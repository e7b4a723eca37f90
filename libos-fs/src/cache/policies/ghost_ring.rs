//! Blocks that have left the cache, first in, first out: for policies that only ask whether a block is
//! remembered.

use crate::cache::chains::{Chains, mix};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

/// Places there are first, unless fewer are enough.
const FIRST_PLACES: usize = 64;

/// The last blocks that were pushed, up to a number, but for those that were forgotten.
///
/// They lie in a ring. One that is forgotten leaves a gap, which goes when its turn comes; a quarter more
/// places than blocks make room for gaps. There are twice as many places whenever they do not suffice, up to
/// that. 28 to 32 bytes a block, constant time on average.
#[derive(Default)]
pub(super) struct GhostRing {
    by_block: Chains,
    /// By place: the block, and whether it is remembered.
    places: Box<[(u64, bool)]>,
    oldest: usize,
    /// Places from the oldest on that are in use, gaps included.
    used: usize,
    /// Blocks remembered.
    len: usize,
    most: usize,
}

impl GhostRing {
    /// Remembers no more than so many from now on.
    pub(super) fn resize(&mut self, most: usize) {
        self.most = most;
        self.trim();
        self.rebuild(self.limit().min(FIRST_PLACES.max(2 * self.len)));
    }

    /// Places that are enough: with one block more, as one leaves before the next comes in.
    fn limit(&self) -> usize {
        self.most.saturating_add(self.most / 4).saturating_add(2)
    }

    fn place(&self, after_oldest: usize) -> usize {
        let place = self.oldest + after_oldest;
        if place >= self.places.len() { place - self.places.len() } else { place }
    }

    /// The same blocks, without gaps, in so many places.
    #[cold]
    fn rebuild(&mut self, places: usize) {
        let in_use = (0..self.used).map(|number| self.places[self.place(number)]);
        let blocks: Vec<u64> = in_use.filter(|place| place.1).map(|place| place.0).collect();
        *self = GhostRing {
            by_block: Chains::new(places),
            places: vec![(0, false); places].into_boxed_slice(),
            most: self.most,
            ..GhostRing::default()
        };
        blocks.into_iter().for_each(|block| self.push(block));
    }

    /// Remembers a block, which is not remembered, as the one that left last.
    pub(super) fn push(&mut self, block: u64) {
        if self.used == self.places.len() {
            if self.places.is_empty() {
                return;
            }
            let (places, limit) = (self.places.len(), self.limit());
            if self.len < places - places / 5 {
                self.rebuild(places);
            } else if places < limit {
                self.rebuild(limit.min(2 * places));
            } else if self.len == places {
                self.drop_oldest();
            } else {
                self.rebuild(places);
            }
        }
        let place = self.place(self.used);
        self.places[place] = (block, true);
        self.by_block.link(mix(block), place);
        self.used += 1;
        self.len += 1;
    }

    /// Forgets a block; says whether it was remembered.
    #[inline]
    pub(super) fn forget(&mut self, block: u64) -> bool {
        let hash = mix(block);
        let Some(place) = self.by_block.find(hash, |place| self.places[place].0 == block) else {
            return false;
        };
        self.by_block.unlink(hash, place);
        self.places[place].1 = false;
        self.len -= 1;
        true
    }

    /// Forgets those that left longest ago, until no more are left than there may be.
    #[inline]
    pub(super) fn trim(&mut self) {
        while self.len > self.most {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let oldest = self.oldest;
        let (block, remembered) = self.places[oldest];
        if remembered {
            self.by_block.unlink(mix(block), oldest);
            self.len -= 1;
        }
        self.oldest = self.place(1);
        self.used -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Against a queue.
        #[test]
        fn the_last_are_remembered(most in 0usize..9, steps in prop::collection::vec((0u8..5, 0u64..16), 0..300)) {
            let (mut ring, mut model, mut limit) = (GhostRing::default(), VecDeque::new(), most);
            ring.resize(most);
            for (step, block) in steps {
                match step {
                    0 => {
                        let at = model.iter().position(|known| *known == block);
                        prop_assert_eq!(ring.forget(block), at.is_some());
                        at.map(|at| model.remove(at));
                    }
                    1 if block < 3 => {
                        limit = block as usize * 4;
                        ring.resize(limit);
                    }
                    _ if !model.contains(&block) => {
                        ring.push(block);
                        ring.trim();
                        model.push_back(block);
                    }
                    _ => {}
                }
                while model.len() > limit {
                    model.pop_front();
                }
                prop_assert_eq!(ring.len, model.len());
            }
            for block in 0..16 {
                prop_assert_eq!(ring.forget(block), model.contains(&block));
            }
        }
    }
}
