//! The cache for several cores: alone it is exact, together nothing is mixed up.

use libos_fs::cache::{Arc, Lirs, Lru, ReplacementPolicy, SharedCache, TwoQ};
use libos_fs::device::fault::Dice;
use libos_fs::{PolicyKind, simulate};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Blocks of unequal popularity, with scans between.
fn references() -> Vec<u64> {
    let mut dice = Dice::new(5);
    let mut references = Vec::new();
    for round in 0..30u64 {
        references.extend((0..600).map(|_| {
            let most = 1 + dice.below(500);
            dice.below(most)
        }));
        references.extend(10_000 + round * 50..10_000 + round * 50 + 100);
    }
    references
}

fn misses<P: ReplacementPolicy>(cache: &SharedCache<P>, references: &[u64]) -> u64 {
    let mut misses = 0;
    for block in references {
        match cache.get(*block) {
            Some(word) => assert_eq!(word, block * 3),
            None => {
                misses += 1;
                cache.insert(*block, block * 3);
            }
        }
    }
    misses
}

#[test]
fn one_shard_on_one_core_misses_as_simulated() {
    let references = references();
    for capacity in [1, 7, 64, 200, 1000] {
        let simulated = |kind: PolicyKind| simulate(&mut *kind.build(capacity), capacity, &references);
        let clock = misses(&SharedCache::clock(capacity, 1), &references);
        let sieve = misses(&SharedCache::sieve(capacity, 1), &references);
        let s3_fifo = misses(&SharedCache::s3_fifo(capacity, 1), &references);
        let lru = misses(&SharedCache::new(capacity, 1, Lru::default), &references);
        let lirs = misses(&SharedCache::new(capacity, 1, Lirs::default), &references);
        let arc = misses(&SharedCache::new(capacity, 1, Arc::default), &references);
        assert_eq!(clock, simulated(PolicyKind::Clock), "{capacity}");
        assert_eq!(sieve, simulated(PolicyKind::Sieve), "{capacity}");
        assert_eq!(s3_fifo, simulated(PolicyKind::S3Fifo), "{capacity}");
        assert_eq!(lru, simulated(PolicyKind::Lru), "{capacity}");
        assert_eq!(lirs, simulated(PolicyKind::Lirs), "{capacity}");
        assert_eq!(arc, simulated(PolicyKind::Arc), "{capacity}");
    }
}

#[test]
fn steps_in_any_order_are_those_of_a_map() {
    for seed in 0..20 {
        let mut dice = Dice::new(seed);
        let shards = 1 << dice.below(3);
        let cache = SharedCache::new(40, shards, TwoQ::default);
        let mut model = BTreeMap::new();
        for step in 0..3000 {
            let block = dice.below(90);
            match dice.below(4) {
                0 => assert_eq!(cache.remove(block), model.remove(&block)),
                1 => assert_eq!(cache.get(block), model.get(&block).copied()),
                _ => {
                    let evicted = cache.insert(block, step);
                    model.insert(block, step);
                    if let Some((old, word)) = evicted {
                        assert_ne!(old, block);
                        assert_eq!(model.remove(&old), Some(word));
                    }
                }
            }
            assert_eq!(cache.len(), model.len());
        }
        assert!((0..90).all(|block| cache.get(block) == model.get(&block).copied()));
    }
}

/// Several threads get, insert and remove; a word says which block it belongs to, so any mix-up shows.
fn hammer<P: ReplacementPolicy + Send>(cache: &SharedCache<P>, capacity: usize) {
    let hits = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let hits = &hits;
            scope.spawn(move || {
                let mut dice = Dice::new(seed);
                for step in 0..40_000u64 {
                    let most = 1 + dice.below(300);
                    let block = dice.below(most);
                    match cache.get(block) {
                        Some(word) => {
                            assert_eq!(word % 1000, block);
                            hits.fetch_add(1, Ordering::Relaxed);
                        }
                        None => {
                            let evicted = cache.insert(block, step * 1000 + block);
                            assert!(evicted.is_none_or(|(old, word)| old == word % 1000));
                        }
                    }
                    if dice.below(50) == 0 {
                        assert!(cache.remove(block).is_none_or(|word| word % 1000 == block));
                    }
                }
            });
        }
    });
    assert!(hits.into_inner() > 10_000);
    assert!(cache.len() <= capacity);
    let found = (0..300).filter(|block| cache.get(*block).is_some()).count();
    assert_eq!(found, cache.len());
}

#[test]
fn cores_do_not_mix_up_words() {
    for shards in [1, 4] {
        hammer(&SharedCache::sieve(100, shards), 100);
        hammer(&SharedCache::s3_fifo(100, shards), 100);
        hammer(&SharedCache::new(100, shards, Lru::default), 100);
        hammer(&SharedCache::new(100, shards, Lirs::default), 100);
    }
}

#[test]
#[should_panic(expected = "cannot be divided")]
fn a_shard_needs_a_block() {
    SharedCache::clock(3, 4);
}
