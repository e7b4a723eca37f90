//! A hash table of small numbers, which one core changes and several may read meanwhile.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU32, Ordering};

/// Numbers by the hash of what they stand for, which only the caller knows. Chains through an array: 8 to 12
/// bytes for each number there is room for. A number never moves.
///
/// One core at a time may change it. A core that looks meanwhile may find a wrong number, or none; but its
/// search ends, and it finds no number that there is no room for. The caller has to check what such a core
/// found.
#[derive(Default)]
pub(super) struct Chains {
    /// By bits of the hash: the first number of the chain + 1, or 0 if there is none. A power of two of them.
    heads: Box<[AtomicU32]>,
    /// By number: the next number of its chain + 1, or 0 if it is the last.
    next: Box<[AtomicU32]>,
}

/// The last steps of SplitMix64.
#[inline]
pub(super) fn mix(block: u64) -> u64 {
    let bits = (block ^ block >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits ^ bits >> 29
}

impl Chains {
    /// With room for numbers below `room`, which is less than 2³².
    pub(super) fn new(room: usize) -> Chains {
        let empty = |count: usize| (0..count).map(|_| AtomicU32::new(0)).collect();
        Chains { heads: empty(room.next_power_of_two()), next: empty(room) }
    }

    /// Numbers below may come in.
    pub(super) fn room(&self) -> usize {
        self.next.len()
    }

    /// Where the chain of a hash begins. The lower half of the hash serves others, to divide blocks among
    /// shards.
    #[inline]
    fn head(&self, hash: u64) -> Option<&AtomicU32> {
        self.heads.get((hash >> 32) as usize & self.heads.len().wrapping_sub(1))
    }

    /// A number with this hash of which `is_it` holds.
    #[inline(always)]
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(usize) -> bool) -> Option<usize> {
        let mut link = self.head(hash)?.load(Ordering::Relaxed);
        // A chain that changes under a reader can look as if it had no end.
        for _ in 0..self.next.len() {
            let number = (link as usize).checked_sub(1)?;
            if is_it(number) {
                return Some(number);
            }
            link = self.next[number].load(Ordering::Relaxed);
        }
        None
    }

    /// Puts a number in that is not in any chain.
    #[inline]
    pub(super) fn link(&self, hash: u64, number: usize) {
        if let Some(head) = self.head(hash) {
            self.next[number].store(head.load(Ordering::Relaxed), Ordering::Relaxed);
            head.store(number as u32 + 1, Ordering::Relaxed);
        }
    }

    /// Takes a number out that was put in with this hash.
    #[inline]
    pub(super) fn unlink(&self, hash: u64, number: usize) {
        let after = self.next[number].load(Ordering::Relaxed);
        let mut before = self.head(hash);
        while let Some(link) = before {
            match link.load(Ordering::Relaxed) as usize {
                0 => return,
                found if found == number + 1 => return link.store(after, Ordering::Relaxed),
                other => before = self.next.get(other - 1),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Against a map, with hashes that share chains in every way.
        #[test]
        fn numbers_are_found(room in 1usize..20, steps in prop::collection::vec((0u64..8, 0usize..20), 0..200)) {
            let chains = Chains::new(room);
            let mut model: BTreeMap<usize, u64> = BTreeMap::new();
            for (high, number) in steps {
                let (hash, number) = (high << 32, number % room);
                match model.remove(&number) {
                    Some(hash) => chains.unlink(hash, number),
                    None => {
                        chains.link(hash, number);
                        model.insert(number, hash);
                    }
                }
                for number in 0..room {
                    let hash = model.get(&number).copied();
                    let found = (0..8u64).find(|high| chains.find(high << 32, |found| found == number).is_some());
                    prop_assert_eq!(found.is_some(), hash.is_some());
                    let found = chains.find(hash.unwrap_or(0), |found| found == number);
                    prop_assert_eq!(found, hash.map(|_| number));
                }
            }
        }
    }
}
