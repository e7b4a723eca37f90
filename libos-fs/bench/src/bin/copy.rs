//! `cargo run --release --bin copy` in this directory: what it costs to read a block of 4 KiB that is in
//! memory, by the way its bytes are kept from changing meanwhile. Processor time for a block, the ways take
//! turns; the ratio as in `main.rs`.
//!
//! | name | a block is read by |
//! |---|---|
//! | `volume` | `SharedFile::read_at`: a copy while a count says that somebody reads |
//! | `lock` | the same index, then a `spin::RwLock` around each block, whose count of readers every hit changes |
//! | `one core` | `File::read_at`, over the cache that one core alone may use |
//! | `bare` | nothing but the copy, from an array of blocks |
#![forbid(unsafe_code)]

use libos_fs::cache::SharedCache;
use libos_fs::shared::Threads;
use libos_fs::{BLOCK_BYTES, CacheOptions, PolicyKind, RamDisk, SharedVolume, Volume, extent_fs};
use libos_fs_bench::{compare, zipf};
use spin::RwLock;

const BLOCKS: usize = 2000;
const READS: usize = 50_000;
const ROUNDS: usize = 21;

/// Reads all blocks on so many threads, each from another one on, by a reader of its own.
fn on_threads<R: Fn(u64, &mut [u8])>(blocks: &[u64], threads: usize, reader: &(impl Fn() -> R + Sync)) {
    let pass = |start: usize| {
        let (read, mut into) = (reader(), vec![0; BLOCK_BYTES]);
        let (before, after) = blocks.split_at(start);
        after.iter().chain(before).for_each(|block| read(*block, &mut into));
        std::hint::black_box(&into);
    };
    std::thread::scope(|scope| {
        let pass = &pass;
        (0..threads).for_each(|thread| drop(scope.spawn(move || pass(thread * blocks.len() / threads))));
    });
}

fn main() {
    let disk = RamDisk::new(BLOCKS as u64 + 100);
    extent_fs::make(Box::new(disk.clone())).unwrap();
    let mount = || {
        let options = CacheOptions { blocks: BLOCKS, policy: PolicyKind::Sieve.into(), ..CacheOptions::default() };
        Volume::mount(Box::new(disk.clone()), options).unwrap()
    };
    let volume = mount();
    volume.create("/data").unwrap().write_at(0, &vec![7; BLOCKS * BLOCK_BYTES]).unwrap();
    volume.unmount().unwrap();

    let shared = SharedVolume::mount(disk.clone(), SharedCache::sieve(BLOCKS, 1), Threads).unwrap();
    let shared = shared.open("/data").unwrap();
    let file = mount().open("/data").unwrap();
    let index = SharedCache::sieve(BLOCKS, 1);
    for block in 0..BLOCKS as u64 {
        index.insert(block, block);
    }
    let locked: Vec<RwLock<Box<[u8]>>> =
        (0..BLOCKS).map(|_| RwLock::new(vec![7; BLOCK_BYTES].into_boxed_slice())).collect();
    let pages: Vec<Vec<u8>> = (0..BLOCKS).map(|_| vec![7; BLOCK_BYTES]).collect();

    println!("blocks     threads  way        ns a block    volume = 1");
    let at = |block: u64| block * BLOCK_BYTES as u64;
    let in_order = (0..READS as u64).map(|read| read % BLOCKS as u64).collect();
    for (pattern, blocks) in [("zipf 1.2", ranks(zipf(1.2, BLOCKS, READS))), ("in order", in_order)] {
        for threads in [1, 2] {
            let shared_volume = || {
                on_threads(&blocks, threads, &|| {
                    let file = shared.clone();
                    move |block, into: &mut [u8]| assert_eq!(file.read_at(at(block), into), Ok(BLOCK_BYTES))
                });
            };
            let lock = || {
                on_threads(&blocks, threads, &|| {
                    |block, into: &mut [u8]| {
                        into.copy_from_slice(&locked[index.get(block).unwrap() as usize].read());
                    }
                });
            };
            let bare = || {
                on_threads(&blocks, threads, &|| {
                    |block: u64, into: &mut [u8]| into.copy_from_slice(&pages[block as usize])
                });
            };
            let one_core = || {
                let mut into = vec![0; BLOCK_BYTES];
                for block in &blocks {
                    assert_eq!(file.read_at(at(*block), &mut into), Ok(BLOCK_BYTES));
                }
            };
            let mut ways: Vec<(&str, &dyn Fn())> =
                vec![("volume", &shared_volume), ("lock", &lock), ("bare", &bare)];
            if threads == 1 {
                ways.push(("one core", &one_core));
            }
            let passes: Vec<&dyn Fn()> = ways.iter().map(|(_, pass)| *pass).collect();
            for ((way, _), figures) in ways.iter().zip(compare(ROUNDS, &passes)) {
                let nanoseconds = figures.seconds / (threads * READS) as f64 * 1e9;
                println!("{pattern:10} {threads:7}  {way:10} {nanoseconds:10.0}    {figures}");
            }
        }
    }
}

/// The same order with numbers below `BLOCKS`, by first appearance.
fn ranks(references: Vec<u64>) -> Vec<u64> {
    let mut number = std::collections::HashMap::new();
    let rank = |reference| {
        let next = number.len() as u64;
        *number.entry(reference).or_insert(next)
    };
    references.into_iter().map(rank).collect()
}
