//! Caches with one face, and references for them. A block is a `u64`, and so is what is found.
#![forbid(unsafe_code)]

use libos_fs::cache::{Lru, ReplacementPolicy, SharedCache, WTinyLfu};
use std::sync::Mutex;

/// Blocks that every cache has room for.
pub const CAPACITY: usize = 10_000;
/// References of a pattern.
pub const REFERENCES: usize = 200_000;

/// A cache that several threads use.
pub trait Contender: Sync {
    /// Looks a block up; if it is missing, puts it in. Whether it was there.
    fn reference(&self, block: u64) -> bool;
}

impl<P: ReplacementPolicy + Send> Contender for SharedCache<P> {
    fn reference(&self, block: u64) -> bool {
        let found = self.get(block);
        if found.is_none() {
            self.insert(block, block);
        }
        found == Some(block)
    }
}

struct LruCrate(Mutex<lru::LruCache<u64, u64>>);

impl Contender for LruCrate {
    fn reference(&self, block: u64) -> bool {
        let mut cache = self.0.lock().unwrap();
        let found = cache.get(&block).copied();
        if found.is_none() {
            cache.put(block, block);
        }
        found == Some(block)
    }
}

struct Moka(moka::sync::Cache<u64, u64>);

impl Contender for Moka {
    fn reference(&self, block: u64) -> bool {
        let found = self.0.get(&block);
        if found.is_none() {
            self.0.insert(block, block);
        }
        found == Some(block)
    }
}

struct Quick(quick_cache::sync::Cache<u64, u64>);

impl Contender for Quick {
    fn reference(&self, block: u64) -> bool {
        let found = self.0.get(&block);
        if found.is_none() {
            self.0.insert(block, block);
        }
        found == Some(block)
    }
}

struct Foyer(foyer_memory::Cache<u64, u64>);

impl Foyer {
    fn new(capacity: usize, policy: impl Into<foyer_memory::EvictionConfig>) -> Foyer {
        let builder = foyer_memory::CacheBuilder::new(capacity).with_shards(SHARDS);
        Foyer(builder.with_eviction_config(policy).build())
    }
}

impl Contender for Foyer {
    fn reference(&self, block: u64) -> bool {
        let found = self.0.get(&block).map(|entry| *entry.value());
        if found.is_none() {
            self.0.insert(block, block);
        }
        found == Some(block)
    }
}

/// Shards of those caches that let one choose.
pub const SHARDS: usize = 8;

/// A policy, the cache of this project under it, and the others that have it.
pub struct Class {
    /// The policy.
    pub policy: &'static str,
    /// Name and cache; the first is this project's.
    pub contenders: Vec<(&'static str, Box<dyn Contender>)>,
}

/// All caches, with room for so many blocks each, by policy. Where a crate has but one policy it stands with
/// those that are closest: `quick_cache` (a variant of CLOCK-Pro) with S3-FIFO, `moka` (TinyLFU) with
/// W-TinyLFU.
pub fn classes(capacity: usize) -> Vec<Class> {
    let lru_crate = lru::LruCache::new(std::num::NonZeroUsize::new(capacity).unwrap());
    vec![
        Class {
            policy: "lru",
            contenders: vec![
                ("libos-fs", Box::new(SharedCache::new(capacity, SHARDS, Lru::default))),
                ("lru in a Mutex", Box::new(LruCrate(Mutex::new(lru_crate)))),
                ("foyer", Box::new(Foyer::new(capacity, foyer_memory::LruConfig::default()))),
            ],
        },
        Class {
            policy: "s3-fifo",
            contenders: vec![
                ("libos-fs", Box::new(SharedCache::s3_fifo(capacity, SHARDS))),
                ("foyer", Box::new(Foyer::new(capacity, foyer_memory::S3FifoConfig::default()))),
                ("quick_cache", Box::new(Quick(quick_cache::sync::Cache::new(capacity)))),
            ],
        },
        Class {
            policy: "sieve",
            contenders: vec![
                ("libos-fs", Box::new(SharedCache::sieve(capacity, SHARDS))),
                ("foyer", Box::new(Foyer::new(capacity, foyer_memory::SieveConfig))),
            ],
        },
        Class {
            policy: "w-tinylfu",
            contenders: vec![
                ("libos-fs", Box::new(SharedCache::new(capacity, SHARDS, WTinyLfu::default))),
                ("moka", Box::new(Moka(moka::sync::Cache::new(capacity as u64)))),
                ("foyer", Box::new(Foyer::new(capacity, foyer_memory::LfuConfig::default()))),
            ],
        },
    ]
}

/// References.
pub struct Pattern {
    /// Name.
    pub name: &'static str,
    /// Blocks.
    pub references: Vec<u64>,
}

/// Zipf with exponents from 0.6 to 1.2 over ten times as many blocks as fit, a scan, and hits alone.
pub fn patterns(capacity: usize, count: usize) -> Vec<Pattern> {
    let mut patterns = vec![
        Pattern { name: "hits", references: zipf(0.8, capacity / 2, count) },
        Pattern {
            name: "scan",
            references: (0..count as u64).map(|at| at % (4 * capacity as u64)).collect(),
        },
    ];
    for (name, exponent) in [("zipf 0.6", 0.6), ("zipf 0.8", 0.8), ("zipf 1.0", 1.0), ("zipf 1.2", 1.2)] {
        patterns.push(Pattern { name, references: zipf(exponent, 10 * capacity, count) });
    }
    patterns
}

/// Zipf's law; ranks are scattered over block numbers.
pub fn zipf(exponent: f64, blocks: usize, count: usize) -> Vec<u64> {
    let mut sum = 0.0;
    let cumulative: Vec<f64> = (1..=blocks)
        .map(|rank| {
            sum += (rank as f64).powf(-exponent);
            sum
        })
        .collect();
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..count)
        .map(|_| {
            let point = draw() * sum;
            let rank = cumulative.partition_point(|bound| *bound < point) as u64;
            rank.wrapping_mul(0x9e37_79b9) & 0xffff_ffff
        })
        .collect()
}

/// References all blocks on so many threads, each from another point on. Returns the hits.
#[inline(never)]
pub fn run(cache: &dyn Contender, references: &[u64], threads: usize) -> usize {
    let pass = |start: usize| {
        let (before, after) = references.split_at(start);
        after.iter().chain(before).filter(|block| cache.reference(**block)).count()
    };
    if threads == 1 {
        return pass(0);
    }
    std::thread::scope(|scope| {
        let pass = &pass;
        let step = references.len() / threads;
        let running: Vec<_> = (0..threads).map(|number| scope.spawn(move || pass(number * step))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

/// What comparing says of one of several.
pub struct Figures {
    /// Processor time of a pass, in seconds: the median.
    pub seconds: f64,
    /// Processor time in units of the first one's, round by round: lower quartile, median, upper quartile.
    pub ratios: [f64; 3],
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [lower, median, upper] = self.ratios;
        write!(f, "{median:6.2} ({lower:.2} to {upper:.2})")
    }
}

/// Has them take turns for so many rounds, after one that does not count: the first fills caches.
pub fn compare(rounds: usize, passes: &[&dyn Fn()]) -> Vec<Figures> {
    let mut times = vec![Vec::new(); passes.len()];
    for round in 0..=rounds {
        for (pass, times) in passes.iter().zip(&mut times) {
            let start = cpu_time::ProcessTime::now();
            pass();
            if round > 0 {
                times.push(start.elapsed().as_secs_f64());
            }
        }
    }
    let quartiles = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        [rounds / 4, rounds / 2, rounds * 3 / 4].map(|at| values[at])
    };
    let of_first = times.first().cloned().unwrap_or_default();
    let figures = |times: &Vec<f64>| Figures {
        seconds: quartiles(times.clone())[1],
        ratios: quartiles(times.iter().zip(&of_first).map(|(other, own)| other / own).collect()),
    };
    times.iter().map(figures).collect()
}
