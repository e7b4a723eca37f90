//! One pass for all sizes gives what one simulation for each size gives.

use libos_fs::PolicyKind;
use libos_fs::cache::{
    LruStack, OptStack, ReferenceString, Referenced, Simulation, fixed_set_misses, optimal_misses, simulate,
};
use proptest::prelude::*;

fn string(references: &[u64]) -> ReferenceString {
    ReferenceString::of(references.iter().copied()).expect("few references")
}

fn lru_stack(references: &[u64]) -> LruStack {
    let mut stack = LruStack::default();
    string(references).numbers().iter().for_each(|number| stack.reference(*number));
    stack
}

fn opt_stack(sizes: &[usize], references: &[u64]) -> Vec<u64> {
    let string = string(references);
    let mut stack = OptStack::new(sizes, &string);
    references.iter().for_each(|_| stack.reference());
    stack.misses()
}

/// Loops, repeated parts and single blocks.
fn references() -> impl Strategy<Value = Vec<u64>> {
    let part = (0..40u64, 1..30u64, 1..4usize)
        .prop_map(|(first, length, times)| (first..first + length).collect::<Vec<_>>().repeat(times));
    proptest::collection::vec(part, 0..30).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn lru_misses_the_same_at_every_size(references in references()) {
        let stack = lru_stack(&references);
        for size in (0..12).chain([25, 39, 40, 80]) {
            let one = simulate(&mut *PolicyKind::Lru.build(size), size, &references);
            prop_assert_eq!(stack.misses(size), one, "{} buffers", size);
        }
    }

    #[test]
    fn the_optimum_misses_the_same_at_every_size(
        references in references(),
        sizes in proptest::collection::btree_set(1..80usize, 0..12),
    ) {
        let sizes: Vec<usize> = sizes.into_iter().collect();
        let single: Vec<u64> = sizes.iter().map(|size| optimal_misses(*size, &references)).collect();
        prop_assert_eq!(opt_stack(&sizes, &references), single);
    }
}

proptest! {
    #[test]
    fn numbered_blocks_miss_the_same(references in references(), capacity in 0..50usize) {
        let string = string(&references);
        for kind in PolicyKind::ALL {
            let mut made = 0;
            let misses = string.misses(kind, &[], capacity, &mut |more| made += more);
            let one = simulate(&mut *kind.build(capacity), capacity, &references);
            prop_assert_eq!(misses, one, "{}, {} buffers", kind.name(), capacity);
            prop_assert_eq!(made, references.len() as u64);
        }
        let sizes = [0, 1, 7, capacity];
        prop_assert_eq!(string.fixed_set_misses(&sizes), fixed_set_misses(&sizes, references));
    }
}

#[test]
fn positions_are_packed_when_they_run_out() {
    // More references than positions, several times over, with few and with many distinct blocks.
    for distinct in [1, 3, 700, 3000] {
        let references: Vec<u64> = (0..20_000).map(|step: u64| step * step % distinct).collect();
        let stack = lru_stack(&references);
        for size in [1, 2, 350, 699, 700, 2999, 4000] {
            let one = simulate(&mut *PolicyKind::Lru.build(size), size, &references);
            assert_eq!(stack.misses(size), one, "{distinct} blocks, {size} buffers");
        }
    }
}

#[test]
fn a_loop_misses_as_arithmetic_says() {
    let (k, n, c) = (5, 100, 80);
    let references: Vec<u64> = (0..k).flat_map(|_| 0..n).collect();
    assert_eq!(opt_stack(&[c as usize, n as usize], &references), [n + (k - 1) * (n - c), n]);
    let stack = lru_stack(&references);
    assert_eq!([stack.misses(c as usize), stack.misses(n as usize)], [k * n, n]);
    assert!(opt_stack(&[], &references).is_empty());
}

#[test]
fn a_simulation_says_what_left() {
    let mut policy = PolicyKind::Fifo.build(2);
    let mut cache = Simulation::new(&mut *policy, 2);
    let evicted: Vec<Referenced> = [1, 2, 1, 3].iter().map(|block| cache.reference(*block)).collect();
    let miss = Referenced::Miss { evicted: None };
    assert_eq!(evicted, [miss, miss, Referenced::Hit, Referenced::Miss { evicted: Some(1) }]);
}
