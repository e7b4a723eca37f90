//! Miss counts of the library's policies against two others that count the same thing: implementations of
//! their own written from the papers (`agreement/reference.rs`), and libCacheSim (`agreement/oracle.py` made
//! the table). Equal means equal, not close.

#[path = "agreement/reference.rs"]
mod reference;
#[path = "agreement/traces.rs"]
mod traces;

use libos_fs::cache::{Lru2, optimal_misses};
use libos_fs::{PolicyKind, simulate};
use proptest::prelude::*;

/// Those for which exact agreement is claimed.
const NAMES: [&str; 9] = ["fifo", "lru", "clock", "lru-2", "2q", "lirs", "arc", "s3-fifo", "sieve"];

/// Sizes of the columns of [`LIBCACHESIM`].
const SIZES: [usize; 5] = [20, 100, 200, 500, 1000];

fn misses(name: &str, capacity: usize, references: &[u64]) -> u64 {
    let kind: PolicyKind = name.parse().unwrap();
    simulate(&mut *kind.build(capacity), capacity, references)
}

fn trace(name: &str) -> Vec<u64> {
    match name {
        "zipf" => traces::zipf(1, 5000, 20_000),
        "loops-and-scans" => traces::loops_and_scans(2, 5),
        _ => traces::drift(3, 20_000),
    }
}

fn agrees_with_reference(name: &str, capacity: usize, references: &[u64]) -> (u64, u64) {
    let mut other = reference::build(name, capacity).unwrap();
    (misses(name, capacity, references), reference::misses(&mut *other, references))
}

#[test]
fn misses_are_those_of_the_papers_on_long_traces() {
    for trace_name in ["zipf", "loops-and-scans", "drift"] {
        let references = trace(trace_name);
        for name in NAMES {
            for capacity in [20, 100] {
                let (ours, theirs) = agrees_with_reference(name, capacity, &references);
                assert_eq!(ours, theirs, "{name}, {trace_name}, {capacity} blocks");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 100, ..ProptestConfig::default() })]

    /// Short strings over few blocks reach the corners: caches of one block, ghosts at their limits.
    #[test]
    fn misses_are_those_of_the_papers(
        references in prop::collection::vec(prop_oneof![0u64..12, 0u64..60], 0..500),
        capacity in 1usize..40,
    ) {
        for name in NAMES {
            let (ours, theirs) = agrees_with_reference(name, capacity, &references);
            prop_assert_eq!(ours, theirs, "{}, {} blocks", name, capacity);
        }
    }
}

/// Misses that libCacheSim counts, by trace, policy and size. Its LIRS is left out: on a hit of a HIR block
/// that is only in Q it seems to give up a LIR block, which the paper does not (not verified). Its LRU-K
/// remembers nothing of blocks that have left.
const LIBCACHESIM: [(&str, &str, [u64; SIZES.len()]); 27] = [
    ("zipf", "fifo", [16054, 12336, 10543, 7961, 5984]),
    ("zipf", "lru", [15350, 11313, 9525, 7050, 5216]),
    ("zipf", "clock", [15077, 11040, 9270, 6846, 5081]),
    ("zipf", "lru-2-forgetful", [12578, 9262, 7960, 6131, 4828]),
    ("zipf", "2q", [13157, 9627, 8232, 6469, 5193]),
    ("zipf", "arc", [12853, 9368, 7933, 6108, 4812]),
    ("zipf", "s3-fifo", [12564, 9181, 7810, 6045, 4790]),
    ("zipf", "sieve", [12835, 9237, 7969, 6131, 4828]),
    ("zipf", "opt", [11198, 7542, 6084, 4391, 3481]),
    ("loops-and-scans", "fifo", [19478, 17562, 15443, 13991, 6991]),
    ("loops-and-scans", "lru", [19480, 17561, 15455, 13991, 6991]),
    ("loops-and-scans", "clock", [19469, 17557, 15426, 13991, 6991]),
    ("loops-and-scans", "lru-2-forgetful", [19484, 17512, 15062, 12811, 3014]),
    ("loops-and-scans", "2q", [19515, 17574, 15125, 10546, 5250]),
    ("loops-and-scans", "arc", [19497, 17522, 15081, 12811, 3017]),
    ("loops-and-scans", "s3-fifo", [19466, 17445, 14876, 10222, 3602]),
    ("loops-and-scans", "sieve", [19479, 17527, 15102, 12811, 3066]),
    ("loops-and-scans", "opt", [17563, 14353, 12274, 8012, 3001]),
    ("drift", "fifo", [18175, 16002, 13545, 8137, 5033]),
    ("drift", "lru", [18170, 15988, 13381, 6768, 3733]),
    ("drift", "clock", [18173, 15985, 13261, 6471, 3719]),
    ("drift", "lru-2-forgetful", [18153, 15903, 13346, 9421, 5493]),
    ("drift", "2q", [18116, 15715, 12824, 6291, 4678]),
    ("drift", "arc", [18159, 15685, 12651, 5204, 3821]),
    ("drift", "s3-fifo", [18128, 15622, 12598, 5863, 4164]),
    ("drift", "sieve", [18158, 15793, 12908, 6461, 4198]),
    ("drift", "opt", [14862, 10023, 7072, 3626, 3586]),
];

#[test]
fn misses_are_those_of_libcachesim() {
    for (trace_name, name, expected) in LIBCACHESIM {
        let references = trace(trace_name);
        let counted = SIZES.map(|capacity| match name {
            "lru-2-forgetful" => simulate(&mut Lru2::forgetful(), capacity, &references),
            "opt" => optimal_misses(capacity, &references),
            name => misses(name, capacity, &references),
        });
        assert_eq!(counted, expected, "{name}, {trace_name}");
    }
}
