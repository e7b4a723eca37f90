//! Two limits for a recorded reference string: Belady's optimum, and the best fixed set.

use libos_fs::PolicyKind;
use libos_fs::cache::{fixed_set_misses, optimal_misses, simulate};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// The references of a workload, and the limits for the cache sizes asked for so far.
pub struct Optimum {
    references: Vec<u64>,
    optima: RefCell<BTreeMap<u64, u64>>,
    fixed: RefCell<BTreeMap<u64, u64>>,
}

impl Optimum {
    /// For these references.
    pub fn of(references: Vec<u64>) -> Optimum {
        Optimum { references, optima: RefCell::default(), fixed: RefCell::default() }
    }

    /// Fewest misses that any policy can have with so many blocks of cache.
    pub fn misses(&self, cache_blocks: u64) -> u64 {
        let compute = || optimal_misses(cache_blocks as usize, &self.references);
        *self.optima.borrow_mut().entry(cache_blocks).or_insert_with(compute)
    }

    /// Misses of the best fixed set of so many blocks.
    pub fn fixed_misses(&self, cache_blocks: u64) -> u64 {
        let references = || self.references.iter().copied();
        let compute = || fixed_set_misses(&[cache_blocks as usize], references())[0];
        *self.fixed.borrow_mut().entry(cache_blocks).or_insert_with(compute)
    }

    /// Misses of LRU, simulated.
    pub fn lru_misses(&self, cache_blocks: u64) -> u64 {
        let mut policy: Box<dyn libos_fs::ReplacementPolicy> = PolicyKind::Lru.into();
        simulate(&mut *policy, cache_blocks as usize, &self.references)
    }

    /// The references.
    pub fn recorded(&self) -> &[u64] {
        &self.references
    }

    /// Number of references.
    pub fn references(&self) -> u64 {
        self.references.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_misses_as_theory_says() {
        // k passes over N blocks with C buffers: Belady misses N + (k-1)(N-C), LRU kN.
        let (k, n, c) = (5, 100, 80);
        let references = (0..k).flat_map(|_| 0..n).collect();
        let optimum = Optimum::of(references);
        assert_eq!(optimum.misses(c), n + (k - 1) * (n - c));
        assert_eq!((optimum.lru_misses(c), optimum.fixed_misses(c)), (k * n, n + (k - 1) * (n - c + 1)));
        assert_eq!(optimum.references(), k * n);
    }
}
