//! Policies against each other and against Belady's optimum.

use libos_fs::PolicyKind;
use libos_fs::cache::{Cached, Opt, ReplacementPolicy, optimal_misses, simulate};
use proptest::prelude::*;

/// The fewest misses, by trying every choice of victim.
fn exhaustive(capacity: usize, cached: &[u64], references: &[u64]) -> u64 {
    let Some((first, rest)) = references.split_first() else { return 0 };
    if cached.contains(first) {
        return exhaustive(capacity, cached, rest);
    }
    let mut with = cached.to_vec();
    with.push(*first);
    if cached.len() < capacity {
        return 1 + exhaustive(capacity, &with, rest);
    }
    let choices = (0..cached.len()).map(|victim| {
        let mut next = with.clone();
        next.remove(victim);
        exhaustive(capacity, &next, rest)
    });
    1 + choices.min().unwrap()
}

/// Names victims at random, or no victim, or one that does not exist.
struct Whim(u64);

impl ReplacementPolicy for Whim {
    fn name(&self) -> &'static str {
        "whim"
    }
    fn inserted(&mut self, block: Cached) {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(block.block | 1);
    }
    fn accessed(&mut self, _: Cached) {}
    fn removed(&mut self, _: Cached) {}
    fn victim(&mut self, _: Option<u64>) -> Option<usize> {
        let number = self.0 >> 40;
        number.is_multiple_of(3).then_some(number as usize % 20)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_beats_the_optimum(references in prop::collection::vec(0u64..40, 0..400), capacity in 1usize..30, seed: u64) {
        let best = optimal_misses(capacity, &references);
        for kind in PolicyKind::ALL {
            let misses = simulate(&mut *kind.build(capacity), capacity, &references);
            prop_assert!(misses >= best, "{} misses {misses}, the optimum {best}", kind.name());
        }
        prop_assert!(simulate(&mut Whim(seed), capacity, &references) >= best);
        let mut distinct = references.clone();
        distinct.sort_unstable();
        distinct.dedup();
        prop_assert!(best >= distinct.len() as u64 && best <= references.len() as u64);
    }

    #[test]
    fn the_optimum_is_what_trying_everything_finds(references in prop::collection::vec(0u64..6, 0..14), capacity in 1usize..4) {
        prop_assert_eq!(optimal_misses(capacity, &references), exhaustive(capacity, &[], &references));
    }
}

#[test]
fn loops_have_closed_formulas() {
    for (n, k, c) in
        [(1024u64, 9u64, 819usize), (1152, 8, 1024), (2304, 4, 1536), (1280, 4, 819), (100, 50, 50)]
    {
        let references: Vec<u64> = (0..k).flat_map(|_| 0..n).collect();
        let best = n + (k - 1) * (n - c as u64);
        assert_eq!(simulate(&mut *PolicyKind::Lru.build(c), c, &references), k * n);
        assert_eq!(simulate(&mut *PolicyKind::Fifo.build(c), c, &references), k * n);
        assert_eq!(simulate(&mut *PolicyKind::Clock.build(c), c, &references), k * n);
        assert_eq!(simulate(&mut *PolicyKind::Mru.build(c), c, &references), best);
        assert_eq!(optimal_misses(c, &references), best);
    }
}

#[test]
fn the_optimum_is_quick_on_a_long_trace() {
    let references: Vec<u64> =
        (0..300_000u64).map(|at| at.wrapping_mul(2_654_435_761) >> 7 & 0x3fff).collect();
    let mut opt = Opt::new(&references);
    assert!(simulate(&mut opt, 4096, &references) > 4096);
}

#[test]
fn clock_gives_a_second_chance() {
    // 1 is used again before room is needed: 2 goes.
    assert_eq!(simulate(&mut *PolicyKind::Clock.build(2), 2, &[1, 2, 1, 3, 1]), 3);
    assert_eq!(simulate(&mut *PolicyKind::Fifo.build(2), 2, &[1, 2, 1, 3, 1]), 4);
}
