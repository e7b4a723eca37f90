//! Policies against each other and against Belady's optimum.

use libos_fs::PolicyKind;
use libos_fs::cache::{
    Advice, Cached, Hinted, Opt, Referenced, ReplacementPolicy, Share, Simulation, optimal_misses, simulate,
};
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

/// Blocks of a file, as policies see them.
fn of_file(file: u64, blocks: impl Iterator<Item = u64>) -> impl Iterator<Item = u64> {
    blocks.map(move |block| file << 32 | block)
}

#[test]
fn ubm_finds_loops_by_itself() {
    let once: Vec<u64> = of_file(5, 0..1024).collect();
    let references = once.repeat(9);
    for capacity in [200, 819, 1000] {
        let misses = simulate(&mut *PolicyKind::Ubm.build(capacity), capacity, &references);
        assert!(misses <= optimal_misses(capacity, &references) + 1, "{capacity}: {misses}");
    }
}

#[test]
fn ubm_lets_a_scan_pass_by_what_is_used_again() {
    // A hot set that fits, used in no order, then scans of what never comes back.
    let hot = (0..2000u64).map(|step| step * step % 97 * 1000);
    let mut references: Vec<u64> = hot.clone().collect();
    for scan in 1..6 {
        references.extend(of_file(scan, 0..500));
        references.extend(hot.clone().take(100));
    }
    let misses = |kind: PolicyKind| simulate(&mut *kind.build(120), 120, &references);
    assert!(
        misses(PolicyKind::Ubm) <= optimal_misses(120, &references) + 5 * 8,
        "the start of a scan is no scan yet"
    );
    assert!(misses(PolicyKind::Lru) > misses(PolicyKind::Ubm));
}

#[test]
fn ubm_gives_up_a_loop_that_has_ended() {
    // A short loop fills the cache; then a longer one comes instead.
    let first: Vec<u64> = of_file(1, 0..100).collect();
    let second: Vec<u64> = of_file(2, 0..150).collect();
    let references = [first.repeat(10), second.repeat(40)].concat();
    let best = optimal_misses(100, &references);
    let misses = simulate(&mut *PolicyKind::Ubm.build(100), 100, &references);
    assert!(misses <= best + 6 * 150, "{misses} of {best}");
}

/// Misses under [`Hinted`], told something before the first reference.
fn hinted_misses(capacity: usize, advice: &[(std::ops::Range<u64>, Advice)], references: &[u64]) -> u64 {
    let mut policy = Hinted::default();
    for (blocks, advice) in advice {
        policy.advised(blocks.clone(), *advice);
    }
    simulate(&mut policy, capacity, references)
}

#[test]
fn hints_are_followed() {
    let (n, k, c) = (100, 5, 80);
    let looping: Vec<u64> = (0..n).collect::<Vec<_>>().repeat(k);
    let best = optimal_misses(c, &looping);
    assert_eq!(hinted_misses(c, &[(0..n, Advice::Loop)], &looping), best);
    assert_eq!(hinted_misses(c, &[], &looping), n * k as u64, "without hints it is LRU");
    assert_eq!(
        hinted_misses(c, &[(0..n, Advice::Loop), (0..n, Advice::Normal)], &looping),
        n * k as u64,
        "a hint can be taken back"
    );
    // A scan between two uses of a set that fits.
    let scan = (0..60).chain(1000..2000).chain(0..60).collect::<Vec<u64>>();
    assert_eq!(hinted_misses(80, &[(1000..2000, Advice::Sequential)], &scan), 1060);
    assert_eq!(
        hinted_misses(80, &[(500..3000, Advice::Sequential), (1500..1501, Advice::Normal)], &scan),
        1060
    );
    assert_eq!(
        hinted_misses(80, &[(1000..1900, Advice::Sequential)], &scan),
        1120,
        "100 blocks were not named"
    );
}

#[test]
fn what_is_done_with_goes_first_and_what_is_wanted_last() {
    let mut policy = Hinted::default();
    for slot in 0..4 {
        policy.inserted(Cached { slot, block: 10 + slot as u64 });
    }
    policy.advised(10..11, Advice::WillNeed);
    policy.advised(12..100, Advice::DoneWith);
    let mut order = Vec::new();
    while let Some(slot) = policy.victim(None) {
        policy.evicted(Cached { slot, block: 10 + slot as u64 });
        order.push(slot);
    }
    assert_eq!(order, [2, 3, 1, 0]);
}

#[test]
fn lru_includes_what_a_smaller_one_holds() {
    let references: Vec<u64> = (0..20_000u64).map(|step| step * step % 1009 % 300).collect();
    let mut policies: Vec<_> = (1..40).map(|capacity| (capacity, PolicyKind::Lru.build(capacity))).collect();
    let mut caches: Vec<Simulation> =
        policies.iter_mut().map(|(capacity, policy)| Simulation::new(&mut **policy, *capacity)).collect();
    for block in references {
        let hits: Vec<bool> =
            caches.iter_mut().map(|cache| cache.reference(block) == Referenced::Hit).collect();
        assert!(hits.is_sorted(), "a larger cache misses what a smaller one has");
    }
}

#[test]
fn frequent_blocks_stay_under_lfu_until_they_age() {
    let hot: Vec<u64> = (0..10).collect::<Vec<u64>>().repeat(5);
    let scan: Vec<u64> = (100..200).collect();
    let references: Vec<u64> = hot.iter().chain(&scan).chain(&hot[..10]).copied().collect();
    assert_eq!(simulate(&mut *PolicyKind::Lfu.build(20), 20, &references), 10 + 100);
    // In time another set takes over, though the first was used more often.
    let later: Vec<u64> = (200..220).collect::<Vec<u64>>().repeat(200);
    let references: Vec<u64> = hot.repeat(10).into_iter().chain(later).collect();
    assert!(simulate(&mut *PolicyKind::Lfu.build(20), 20, &references) < 10 + 20 * 100);
}

#[test]
fn names_are_understood() {
    for kind in PolicyKind::ALL {
        assert_eq!(kind.name().parse(), Ok(kind));
        assert_eq!(kind.build(1).name(), kind.name());
    }
    let error = "best".parse::<PolicyKind>().unwrap_err().to_string();
    assert!(PolicyKind::ALL.iter().all(|kind| error.contains(kind.name())), "{error}");
}

/// A cache that is given a policy while it runs tells it its size later than one that begins with it.
#[test]
fn a_policy_that_hears_its_size_late_does_as_well() {
    let references: Vec<u64> = (0..6000u64).map(|at| at * at % 911 * (at % 3)).collect();
    for kind in PolicyKind::ALL {
        for blocks in [5, 150, 413] {
            let late = simulate(&mut *kind.build(0), blocks, &references);
            assert_eq!(late, simulate(&mut *kind.build(blocks), blocks, &references), "{kind:?}, {blocks}");
        }
    }
}

/// Values of parameters from nothing to no limit, in all pairs: nobody is better than the optimum, no policy
/// loses its way, and values by default are those of the policy without parameters.
#[test]
fn parameters_keep_policies_sound() {
    let mut state = 7_u64;
    let references: Vec<u64> = (0..3000)
        .map(|step| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (near, far) = (state >> 60, (state >> 33) % 90);
            if step % 3 == 0 { far } else { near }
        })
        .collect();
    let shares: Vec<Share> =
        ["0%", "1%", "33.3%", "100%", "500%", "unlimited"].map(|text| text.parse().unwrap()).to_vec();
    for kind in PolicyKind::ALL.into_iter().filter(|kind| !kind.parameters().is_empty()) {
        let parameters = kind.parameters();
        let defaults: Vec<Option<Share>> =
            parameters.iter().map(|parameter| Some(parameter.default)).collect();
        for capacity in [1, 2, 7, 50] {
            let misses = |values: &[Option<Share>]| {
                simulate(&mut *kind.build_with(values, capacity), capacity, &references)
            };
            assert_eq!(misses(&defaults), simulate(&mut *kind.build(capacity), capacity, &references));
            let best = optimal_misses(capacity, &references);
            let allowed = |number: usize| {
                let most = parameters.get(number).map_or(Share::percent(0), |parameter| parameter.most);
                shares.iter().filter(move |share| **share <= most)
            };
            for first in allowed(0) {
                for second in allowed(1) {
                    let found = misses(&[Some(*first), Some(*second)]);
                    assert!(found >= best && found <= 3000, "{} {first} {second}: {found}", kind.name());
                }
            }
        }
    }
}

/// LIRS with no limit on its stack remembers blocks that come back late, and gives them the room of those
/// that never do.
#[test]
fn parameters_matter() {
    let references: Vec<u64> = (0..50).chain((0..6).flat_map(|_| 1000..1150)).collect();
    let misses = |kind: PolicyKind, values: &[Option<Share>]| {
        simulate(&mut *kind.build_with(values, 50), 50, &references)
    };
    let unlimited = misses(PolicyKind::Lirs, &[None, Some(Share::UNLIMITED)]);
    assert!(unlimited < misses(PolicyKind::Lirs, &[]));
    let remembering = misses(PolicyKind::TwoQ, &[None, Some(Share::percent(400))]);
    assert!(remembering < misses(PolicyKind::TwoQ, &[]));
}
