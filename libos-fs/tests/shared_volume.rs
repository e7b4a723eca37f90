//! Files that several cores read: the bytes are right whatever is replaced meanwhile, nothing is read twice
//! at once, and on one core misses are those of the simulator.

use crate::slow_disk::{Control, NOTHING, SlowDisk};
use libos_fs::cache::{Arc as ArcPolicy, Lru, ReplacementPolicy, SharedCache, reference};
use libos_fs::device::fault::Dice;
use libos_fs::shared::Threads;
use libos_fs::{
    BLOCK_BYTES, CacheOptions, FsError, PolicyKind, RamDisk, ReadAheadKind, SharedFile, SharedVolume, Volume,
    extent_fs, simulate,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const FILES: [(&str, u64); 3] = [("/one", 90), ("/two", 60), ("/three", 45)];
const THREADS: u64 = 4;

/// The byte at an offset of a file: nothing that could be guessed from another block.
fn byte(file: usize, offset: u64) -> u8 {
    let mut dice = Dice::new(((file as u64) << 40) | (offset / 8));
    dice.roll().to_le_bytes()[(offset % 8) as usize]
}

fn bytes(file: usize, offset: u64, count: u64) -> Vec<u8> {
    (offset..offset + count).map(|offset| byte(file, offset)).collect()
}

/// An image with the files; the last block of each is incomplete.
fn image() -> Vec<u8> {
    let disk = RamDisk::new(400);
    extent_fs::make(Box::new(disk.clone())).unwrap();
    let volume = Volume::mount(Box::new(disk.clone()), CacheOptions::default()).unwrap();
    for (number, (path, blocks)) in FILES.iter().enumerate() {
        let contents = bytes(number, 0, blocks * BLOCK_BYTES as u64 - 100);
        volume.create(path).unwrap().write_at(0, &contents).unwrap();
    }
    volume.unmount().unwrap();
    disk.to_bytes()
}

fn mount<P: ReplacementPolicy>(cache: SharedCache<P>) -> (SharedVolume<P>, Arc<Control>) {
    let (disk, control) = SlowDisk::new(image());
    let volume = SharedVolume::mount(disk, cache, Threads).unwrap();
    volume.set_read_ahead(ReadAheadKind::None).unwrap();
    control.blocks_read.store(0, Ordering::SeqCst);
    (volume, control)
}

fn open_all<P: ReplacementPolicy>(volume: &SharedVolume<P>) -> Vec<SharedFile<P>> {
    FILES.iter().map(|(path, _)| volume.open(path).unwrap()).collect()
}

/// Several threads read at random, popular parts and others, of all lengths.
fn hammer<P: ReplacementPolicy>(cache: SharedCache<P>, read_ahead: ReadAheadKind) {
    let (volume, control) = mount(cache);
    volume.set_read_ahead(read_ahead).unwrap();
    let model: Vec<Vec<u8>> =
        FILES.iter().enumerate().map(|(number, (_, blocks))| bytes(number, 0, blocks * 4096 - 100)).collect();
    let references = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for seed in 0..THREADS {
            let (model, references, files) = (&model, &references, open_all(&volume));
            scope.spawn(move || {
                let mut dice = Dice::new(seed);
                let mut into = vec![0; 6 * BLOCK_BYTES];
                for _ in 0..1500 {
                    let number = dice.below(files.len() as u64) as usize;
                    let most = 1 + dice.below(files[number].len());
                    let offset = dice.below(most);
                    let wish = dice.below(1 + dice.clone().below(into.len() as u64)) as usize;
                    let read = files[number].read_at(offset, &mut into[..wish]).unwrap();
                    assert_eq!(read as u64, (wish as u64).min(files[number].len() - offset));
                    let expected = &model[number][offset as usize..][..read];
                    assert!(into[..read] == *expected, "{read} bytes of {} at {offset}", FILES[number].0);
                    if read > 0 {
                        let blocks = (offset + read as u64 - 1) / 4096 - offset / 4096 + 1;
                        references.fetch_add(blocks, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let statistics = volume.statistics();
    assert_eq!(statistics.hits + statistics.misses, references.into_inner());
    // Blocks on their way ahead may not have been noticed yet.
    assert!(statistics.blocks_read <= control.blocks_read.load(Ordering::SeqCst));
    let staged = statistics.blocks_read + statistics.rescued - statistics.misses - statistics.staged_wasted;
    assert!(staged <= volume.staging() as u64, "{statistics:?}");
    if read_ahead == ReadAheadKind::None {
        assert_eq!((staged, statistics.staged_used + statistics.staged_wasted), (0, 0));
    }
    assert_eq!(statistics.read_errors, 0);
    assert!(statistics.hits > 0 && statistics.read_requests <= statistics.misses);
}

#[test]
fn bytes_are_right_whatever_is_replaced() {
    for (capacity, shards) in [(1, 1), (3, 2), (20, 1), (60, 4)] {
        for read_ahead in [ReadAheadKind::None, ReadAheadKind::Sequential, ReadAheadKind::Cluster] {
            hammer(SharedCache::clock(capacity, shards), read_ahead);
            hammer(SharedCache::sieve(capacity, shards), read_ahead);
            hammer(SharedCache::s3_fifo(capacity, shards), read_ahead);
            hammer(SharedCache::new(capacity, shards, Lru::default), read_ahead);
            hammer(SharedCache::new(capacity, shards, ArcPolicy::default), read_ahead);
        }
    }
}

#[test]
fn what_fits_is_read_once() {
    let total: u64 = FILES.iter().map(|(_, blocks)| blocks).sum();
    let (volume, control) = mount(SharedCache::sieve(total as usize, 1));
    std::thread::scope(|scope| {
        for seed in 0..THREADS {
            let files = open_all(&volume);
            scope.spawn(move || {
                for (number, file) in files.iter().enumerate() {
                    let blocks = FILES[number].1;
                    for step in 0..blocks {
                        let block = if seed % 2 == 0 { step } else { blocks - 1 - step };
                        let mut into = [0; 32];
                        file.read_at(block * 4096, &mut into).unwrap();
                        assert_eq!(into, *bytes(number, block * 4096, 32));
                    }
                }
            });
        }
    });
    let statistics = volume.statistics();
    assert_eq!((statistics.misses, statistics.hits), (total, total * (THREADS - 1)));
    assert_eq!(control.blocks_read.load(Ordering::SeqCst), total);
}

/// Reads of one and of several blocks; the numbers of the blocks in order.
fn read_and_note<P: ReplacementPolicy>(volume: &SharedVolume<P>) -> Vec<u64> {
    let file = volume.open(FILES[0].0).unwrap();
    let mut dice = Dice::new(11);
    let mut references = Vec::new();
    let mut into = vec![0; 5 * BLOCK_BYTES];
    for _ in 0..2000 {
        let most = 1 + dice.below(80);
        let block = dice.below(most);
        let blocks = if dice.below(4) == 0 { 1 + dice.below(5) } else { 1 };
        let bytes = blocks as usize * BLOCK_BYTES - 10;
        assert_eq!(file.read_at(block * 4096 + 5, &mut into[..bytes]), Ok(bytes));
        references.extend((block..block + blocks).map(|block| reference(file.id(), block)));
    }
    references
}

#[test]
fn one_core_misses_as_simulated() {
    fn check<P: ReplacementPolicy>(cache: SharedCache<P>, kind: PolicyKind) {
        let capacity = cache.capacity();
        let (volume, control) = mount(cache);
        let references = read_and_note(&volume);
        let statistics = volume.statistics();
        let misses = simulate(&mut *kind.build(capacity), capacity, &references);
        assert_eq!(statistics.misses, misses, "{} with {capacity} blocks", kind.name());
        assert_eq!(statistics.hits + statistics.misses, references.len() as u64);
        assert_eq!(control.blocks_read.load(Ordering::SeqCst), misses);
        assert!(statistics.read_requests < misses, "adjacent blocks come together");
        assert_eq!(statistics.waits, 0);
    }
    for capacity in [1, 8, 30] {
        check(SharedCache::clock(capacity, 1), PolicyKind::Clock);
        check(SharedCache::sieve(capacity, 1), PolicyKind::Sieve);
        check(SharedCache::s3_fifo(capacity, 1), PolicyKind::S3Fifo);
        check(SharedCache::new(capacity, 1, Lru::default), PolicyKind::Lru);
        check(SharedCache::new(capacity, 1, ArcPolicy::default), PolicyKind::Arc);
    }
}

#[test]
fn a_block_on_its_way_is_waited_for() {
    let (volume, control) = mount(SharedCache::sieve(10, 1));
    control.stopped.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            let file = volume.open("/two").unwrap();
            scope.spawn(move || {
                let mut into = [0; 100];
                assert_eq!(file.read_at(7 * 4096, &mut into), Ok(100));
                assert_eq!(into, *bytes(1, 7 * 4096, 100));
            });
        }
        while volume.statistics().waits < THREADS - 1 {
            std::thread::yield_now();
        }
        control.stopped.store(false, Ordering::SeqCst);
    });
    let statistics = volume.statistics();
    assert_eq!((statistics.misses, statistics.hits, statistics.waits), (1, THREADS - 1, THREADS - 1));
    assert_eq!(statistics.read_requests, 1);
}

#[test]
fn more_cores_than_the_queue_has_room_for() {
    let (volume, control) = mount(SharedCache::sieve(40, 1));
    control.stopped.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let file = volume.open("/one").unwrap();
            scope.spawn(move || {
                let mut into = [0; 10];
                assert_eq!(file.read_at(thread * 4096, &mut into), Ok(10));
                assert_eq!(into, *bytes(0, thread * 4096, 10));
            });
        }
        while volume.statistics().read_requests < 3 {
            std::thread::yield_now();
        }
        control.stopped.store(false, Ordering::SeqCst);
    });
    assert_eq!(volume.statistics().misses, 16);
}

#[test]
fn a_bad_block_is_an_error_of_its_own() {
    let contents = bytes(0, 3 * 4096, 4096);
    let broken = image().chunks(BLOCK_BYTES).position(|block| block == contents).expect("the block is there");
    let mut into = vec![0; 8 * BLOCK_BYTES];
    let (volume, control) = mount(SharedCache::sieve(40, 1));
    let file = volume.open("/one").unwrap();
    control.broken.store(broken as u64, Ordering::SeqCst);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            let file = file.clone();
            scope.spawn(move || {
                let mut into = vec![0; 8 * BLOCK_BYTES];
                assert!(matches!(file.read_at(0, &mut into), Err(FsError::Device { blocks: 1, .. })));
                assert_eq!(file.read_at(0, &mut into[..3 * BLOCK_BYTES]), Ok(3 * BLOCK_BYTES));
                assert!(into[..3 * BLOCK_BYTES] == *bytes(0, 0, 3 * 4096));
            });
        }
    });
    control.broken.store(NOTHING, Ordering::SeqCst);
    assert_eq!(file.read_at(0, &mut into), Ok(into.len()));
    assert!(into == bytes(0, 0, 8 * 4096));
    assert!(volume.statistics().read_errors > 0);
}

#[test]
fn a_damaged_block_is_found() {
    let mut damaged = image();
    let contents = bytes(1, 20 * 4096, 4096);
    let disk = damaged.chunks(BLOCK_BYTES).position(|block| block == contents).expect("the block is there");
    damaged[disk * BLOCK_BYTES + 77] ^= 1;
    let volume = SharedVolume::mount(SlowDisk::new(damaged).0, SharedCache::sieve(40, 1), Threads).unwrap();
    volume.set_read_ahead(ReadAheadKind::None).unwrap();
    let file = volume.open("/two").unwrap();
    let mut into = vec![0; 8 * BLOCK_BYTES];
    assert_eq!(file.read_at(17 * 4096, &mut into), Err(FsError::Checksum { block: disk as u64 }));
    assert_eq!(file.read_at(17 * 4096, &mut into[..3 * BLOCK_BYTES]), Ok(3 * BLOCK_BYTES));
    assert_eq!(volume.statistics().misses, 3, "those before it came in");
}

#[test]
fn holes_ends_and_names() {
    let disk = RamDisk::new(100);
    extent_fs::make(Box::new(disk.clone())).unwrap();
    let volume = Volume::mount(Box::new(disk.clone()), CacheOptions::default()).unwrap();
    volume.create_dir("/deep").unwrap();
    volume.create("/deep/sparse").unwrap().write_at(3 * 4096 + 5, b"after a hole").unwrap();
    volume.create("/empty").unwrap();
    volume.unmount().unwrap();
    let before = disk.to_bytes();
    let volume = SharedVolume::mount(disk.clone(), SharedCache::clock(5, 1), Threads).unwrap();
    let file = volume.open("/deep/sparse").unwrap();
    let mut into = vec![7; 5 * BLOCK_BYTES];
    assert_eq!(file.read_at(10, &mut into), Ok(3 * 4096 + 17 - 10));
    assert!(into[..3 * 4096 - 5].iter().all(|byte| *byte == 0));
    assert_eq!(&into[3 * 4096 - 5..3 * 4096 + 7], b"after a hole");
    assert_eq!(file.read_at(file.len(), &mut into), Ok(0));
    assert_eq!(file.read_at(u64::MAX, &mut into), Ok(0));
    let statistics = volume.statistics();
    assert_eq!((statistics.hits, statistics.misses), (0, 1), "a hole is no reference");
    assert!(volume.open("/empty").unwrap().is_empty());
    assert!(matches!(volume.open("/deep"), Err(FsError::IsADirectory(_))));
    assert!(matches!(volume.open("/nothing"), Err(FsError::NotFound(_))));
    assert_eq!(volume.list("/").unwrap().len(), 2);
    assert!(disk.to_bytes() == before, "nothing is written");
    let blank = SharedVolume::mount(RamDisk::new(100), SharedCache::clock(5, 1), Threads);
    assert!(matches!(blank.err(), Some(FsError::UnknownFormat)));
}

#[test]
fn cores_may_share_them() {
    fn may_be_shared<T: Send + Sync>() {}
    may_be_shared::<SharedVolume<Lru>>();
    may_be_shared::<SharedFile<Lru>>();
}
