//! Several cores write, to files of their own and to shared ones: bytes are those of a model, commits are
//! whole, on one core counts are those of the ordinary cache, and what the device fails is not lost.

use crate::slow_disk::SlowDisk;
use libos_fs::cache::{Lru, Managed, ReplacementPolicy, SharedCache};
use libos_fs::device::fault::{Dice, FailingDevice, PowerCut};
use libos_fs::shared::Threads;
use libos_fs::{
    BLOCK_BYTES, CacheOptions, DeviceError, FsError, Operation, PolicyKind, RamDisk, ReadAheadKind,
    SharedFile, SharedVolume, Volume, extent_fs,
};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const BLOCK: u64 = BLOCK_BYTES as u64;
const THREADS: u64 = 4;

fn fresh(blocks: u64) -> RamDisk {
    let disk = RamDisk::new(blocks);
    extent_fs::make(Box::new(disk.clone())).unwrap();
    disk
}

/// What a file holds according to a volume of one core.
fn contents(disk: RamDisk, path: &str) -> Vec<u8> {
    let volume = Volume::mount(Box::new(disk), CacheOptions::default()).unwrap();
    let file = volume.open(path).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

fn assert_sound(disk: RamDisk) {
    let report = extent_fs::check(Box::new(disk)).unwrap();
    // One copy of the superblock may have been under way when the power went.
    let harmless = |problem: &String| problem.ends_with("the next commit writes it anew");
    assert!(report.problems.iter().all(harmless), "{report:?}");
}

/// One step of a core on its own file, and on the model of it.
fn step<P: ReplacementPolicy>(file: &SharedFile<P>, model: &mut Vec<u8>, dice: &mut Dice) {
    match dice.below(12) {
        0 => {
            let bytes = dice.below(60_000);
            file.truncate(bytes).unwrap();
            model.resize(bytes as usize, 0);
        }
        1 => {
            let bytes = vec![dice.roll() as u8; dice.below(9000) as usize];
            assert_eq!(file.append(&bytes), Ok(model.len() as u64));
            model.extend(&bytes);
        }
        2..=6 => {
            let offset = dice.below(50_000) as usize;
            let bytes = vec![dice.roll() as u8; dice.below(12_000) as usize];
            file.write_at(offset as u64, &bytes).unwrap();
            if !bytes.is_empty() {
                model.resize(model.len().max(offset + bytes.len()), 0);
                model[offset..offset + bytes.len()].copy_from_slice(&bytes);
            }
        }
        _ => {
            let offset = dice.below(60_000);
            let mut into = vec![1; dice.below(20_000) as usize];
            let read = file.read_at(offset, &mut into).unwrap();
            let expected = model.get(offset as usize..).unwrap_or_default();
            assert_eq!(read, expected.len().min(into.len()));
            assert!(into[..read] == expected[..read], "{read} bytes at {offset}");
        }
    }
}

/// Cores work on files of their own, which they make, rename and remove, and one of them commits.
fn files_of_their_own<P: ReplacementPolicy>(cache: SharedCache<P>, read_ahead: ReadAheadKind) {
    let (disk, control) = SlowDisk::new(fresh(800).to_bytes());
    let volume = SharedVolume::mount(disk, cache, Threads).unwrap();
    volume.set_read_ahead(read_ahead).unwrap();
    let models: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let cores: Vec<_> = (0..THREADS)
            .map(|core| {
                let volume = volume.clone();
                scope.spawn(move || {
                    let (path, other) = (format!("/{core}"), format!("/{core}-other"));
                    let mut dice = Dice::new(core + 77);
                    let (mut file, mut model) = (volume.create(&path).unwrap(), Vec::new());
                    for _ in 0..250 {
                        match dice.below(40) {
                            0 => {
                                volume.remove(&path).unwrap();
                                assert_eq!(file.write_at(0, b"gone"), Err(FsError::Removed));
                                (file, model) = (volume.create(&path).unwrap(), Vec::new());
                            }
                            1 => {
                                // Over a file that has blocks.
                                volume.create(&other).unwrap().write_at(0, &[9; 10_000]).unwrap();
                                volume.rename(&path, &other).unwrap();
                                volume.rename(&other, &path).unwrap();
                            }
                            2 => file.sync().unwrap(),
                            _ => step(&file, &mut model, &mut dice),
                        }
                    }
                    model
                })
            })
            .collect();
        cores.into_iter().map(|core| core.join().unwrap()).collect()
    });
    volume.commit().unwrap();
    let statistics = volume.statistics();
    assert_eq!((statistics.dirty, statistics.read_errors, statistics.write_errors), (0, 0, 0));
    let written = statistics.blocks_written + statistics.metadata_writes;
    assert_eq!(written, control.blocks_written.load(Ordering::SeqCst));
    let after = RamDisk::from_bytes(control.bytes.lock().unwrap().clone());
    for (core, model) in models.iter().enumerate() {
        assert!(contents(after.clone(), &format!("/{core}")) == *model, "file of core {core}");
    }
    assert_sound(after);
}

#[test]
fn every_core_finds_what_it_has_written() {
    for (capacity, shards) in [(1, 1), (7, 2), (40, 1)] {
        for read_ahead in [ReadAheadKind::None, ReadAheadKind::Sequential] {
            files_of_their_own(SharedCache::sieve(capacity, shards), read_ahead);
            files_of_their_own(SharedCache::new(capacity, shards, Lru::default), read_ahead);
        }
        let managed = || Managed::new(PolicyKind::Arc);
        files_of_their_own(SharedCache::new(capacity, shards, managed), ReadAheadKind::Cluster);
    }
}

/// All cores write whole blocks of one file, append to another, and read both: a block is as one write has
/// left it, and nothing that was appended is lost or torn.
#[test]
fn cores_share_files_block_by_block() {
    const BLOCKS: u64 = 30;
    let (disk, control) = SlowDisk::new(fresh(400).to_bytes());
    let volume = SharedVolume::mount(disk, SharedCache::s3_fifo(12, 1), Threads).unwrap();
    volume.create("/blocks").unwrap().truncate(BLOCKS * BLOCK).unwrap();
    volume.create("/log").unwrap();
    let versions: Vec<AtomicU64> = (0..BLOCKS).map(|_| AtomicU64::new(0)).collect();
    std::thread::scope(|scope| {
        for core in 0..THREADS {
            let (volume, versions) = (volume.clone(), &versions);
            scope.spawn(move || {
                let (blocks, log) = (volume.open("/blocks").unwrap(), volume.open("/log").unwrap());
                let mut dice = Dice::new(core);
                for round in 0..300u64 {
                    let block = dice.below(BLOCKS);
                    if block % THREADS == core {
                        let version = versions[block as usize].load(Ordering::SeqCst) + 1;
                        let bytes: Vec<u8> = (version << 8 | block).to_le_bytes().repeat(512);
                        blocks.write_at(block * BLOCK, &bytes).unwrap();
                        versions[block as usize].store(version, Ordering::SeqCst);
                    } else {
                        let least = versions[block as usize].load(Ordering::SeqCst);
                        let mut into = [0; BLOCK_BYTES];
                        assert_eq!(blocks.read_at(block * BLOCK, &mut into), Ok(BLOCK_BYTES));
                        let words: Vec<u64> =
                            into.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
                        assert!(words.iter().all(|word| *word == words[0]), "block {block} is torn");
                        assert!(words[0] >> 8 >= least, "block {block} is older than it was");
                        assert!(words[0] == 0 || words[0] & 255 == block, "another block");
                    }
                    if round % 3 == 0 {
                        log.append(&(core << 32 | round).to_le_bytes().repeat(100)).unwrap();
                    }
                    if round % 50 == 0 {
                        volume.commit().unwrap();
                    }
                }
            });
        }
    });
    volume.commit().unwrap();
    let after = RamDisk::from_bytes(control.bytes.lock().unwrap().clone());
    let log = contents(after.clone(), "/log");
    let mut records: Vec<&[u8]> = log.chunks(800).collect();
    assert!(
        records.iter().all(|record| record.len() == 800 && record.chunks(8).all(|word| word == &record[..8]))
    );
    records.sort_unstable();
    records.dedup();
    assert_eq!(records.len() as u64, THREADS * 100);
    assert_sound(after);
}

/// The same program over both kinds of volume, one core, the same policy, no read-ahead: all counts agree.
#[test]
fn one_core_counts_as_the_ordinary_cache() {
    for capacity in [3, 20, 100] {
        let options = CacheOptions {
            blocks: capacity,
            read_ahead: ReadAheadKind::None,
            staging: Some(0),
            ..CacheOptions::default()
        };
        let volume = Volume::mount(Box::new(fresh(600)), options).unwrap();
        let cache = SharedCache::new(capacity, 1, || Managed::new(PolicyKind::Lru));
        let shared = SharedVolume::mount(fresh(600), cache, Threads).unwrap();
        shared.set_read_ahead(ReadAheadKind::None).unwrap();
        let mut dice = Dice::new(capacity as u64);
        for file in 0..3 {
            let path = format!("/{file}");
            let (one, other) = (volume.create(&path).unwrap(), shared.create(&path).unwrap());
            assert_eq!(one.id(), other.id());
            if file == 1 {
                volume.cache().set_priority(&one, 1);
                volume.cache().set_policy(1, PolicyKind::Mru);
                shared.set_priority(other.id(), 1);
                shared.set_policy(1, || PolicyKind::Mru.into());
            }
            for _ in 0..400 {
                let (offset, bytes) = (dice.below(150_000), 1 + dice.below(9000));
                match dice.below(10) {
                    0 => assert_eq!(one.truncate(offset), other.truncate(offset)),
                    1 => assert_eq!(volume.commit(), shared.commit()),
                    2 => {
                        volume.cache().done_with(&one, 3..20);
                        shared.done_with(other.id(), 3..20);
                    }
                    3..=5 => {
                        let bytes = vec![offset as u8; bytes as usize];
                        assert_eq!(one.write_at(offset, &bytes), other.write_at(offset, &bytes));
                    }
                    _ => {
                        // A block at a time: how many are asked for together is another question.
                        let (mut into, mut same) = (vec![0; 100], vec![1; 100]);
                        let at = offset / BLOCK * BLOCK;
                        let read = one.read_at(at, &mut into).unwrap();
                        assert_eq!(other.read_at(at, &mut same), Ok(read));
                        assert_eq!(into[..read], same[..read]);
                    }
                }
            }
        }
        assert_eq!(volume.commit(), shared.commit());
        let (one, other) = (volume.cache().statistics(), shared.statistics());
        assert_eq!((one.hits, one.misses, one.allocated), (other.hits, other.misses, other.allocated));
        assert_eq!((one.blocks_read, one.read_requests), (other.blocks_read, other.read_requests));
        assert_eq!((one.blocks_written, one.write_requests), (other.blocks_written, other.write_requests));
        assert_eq!((one.metadata_writes, one.flushes), (other.metadata_writes, other.flushes));
        assert_eq!((one.dropped_dirty, other.rescued, other.waits), (other.dropped_dirty, 0, 0));
        assert_eq!(one.mount_reads, other.mount_reads);
    }
}

/// The power goes during any write while two cores write three blocks at a time. Of each file what is found
/// is what one of its writes left, all three blocks of it, and not older than what a `sync` has promised.
#[test]
fn a_cut_leaves_a_whole_state() {
    let start = fresh(200);
    let disk = start.clone();
    let volume = Volume::mount(Box::new(disk), CacheOptions::default()).unwrap();
    (0..2).for_each(|file| volume.create(&format!("/{file}")).unwrap().write_at(0, &[0; 12_288]).unwrap());
    volume.unmount().unwrap();
    for seed in 0..60 {
        let (device, power) = PowerCut::new(&start, Some(1 + seed * 3), seed);
        let volume = SharedVolume::mount(device, SharedCache::clock(4, 1), Threads).unwrap();
        let promised: Vec<u8> = std::thread::scope(|scope| {
            let cores: Vec<_> = (0..2)
                .map(|core| {
                    let volume = volume.clone();
                    scope.spawn(move || {
                        let file = volume.open(&format!("/{core}")).unwrap();
                        let mut promised = 0;
                        for version in 1..40 {
                            let written = file.write_at(0, &[version; 3 * BLOCK_BYTES]);
                            if written.and_then(|()| file.sync()).is_err() {
                                break;
                            }
                            promised = version;
                        }
                        promised
                    })
                })
                .collect();
            cores.into_iter().map(|core| core.join().unwrap()).collect()
        });
        power.cut_now();
        assert_sound(power.survivor());
        for (file, promised) in promised.iter().enumerate() {
            let found = contents(power.survivor(), &format!("/{file}"));
            assert!(found.iter().all(|byte| *byte == found[0]), "seed {seed}: versions are mixed");
            assert!(found[0] >= *promised, "seed {seed}: {} after {promised} was promised", found[0]);
        }
    }
}

#[test]
fn what_can_not_be_written_is_kept_until_it_can() {
    let (disk, control) = SlowDisk::new(fresh(300).to_bytes());
    let volume = SharedVolume::mount(disk, SharedCache::sieve(6, 1), Threads).unwrap();
    let old = volume.create("/old").unwrap();
    old.write_at(0, &[7; 20 * BLOCK_BYTES]).unwrap();
    volume.commit().unwrap();
    control.fails_writes.store(true, Ordering::SeqCst);
    let done = AtomicBool::new(false);
    let failed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for core in 0..THREADS {
            let (volume, old) = (volume.clone(), old.clone());
            let (done, failed) = (&done, &failed);
            scope.spawn(move || {
                let file = volume.create(&format!("/{core}")).unwrap();
                for block in 0..40 {
                    let error = loop {
                        match file.write_at(block * BLOCK, &[core as u8 + 1; BLOCK_BYTES]) {
                            Ok(()) => break None,
                            Err(_) if done.load(Ordering::SeqCst) => std::thread::yield_now(),
                            Err(error) => break Some(error),
                        }
                    };
                    if let Some(error) = error {
                        let FsError::Device { operation: Operation::Write, .. } = error else {
                            panic!("{error}")
                        };
                        // Whoever needs room is told, who reads as well.
                        let mut into = [0; 10];
                        let read = old.read_at(block % 20 * BLOCK, &mut into);
                        assert!(matches!(read, Ok(10) | Err(FsError::Device { .. })), "{read:?}");
                        failed.fetch_add(1, Ordering::SeqCst);
                        while !done.load(Ordering::SeqCst) {
                            std::thread::yield_now();
                        }
                        file.write_at(block * BLOCK, &[core as u8 + 1; BLOCK_BYTES]).unwrap();
                    }
                }
            });
        }
        while failed.load(Ordering::SeqCst) < THREADS {
            std::thread::yield_now();
        }
        assert!(volume.commit().is_err());
        control.fails_writes.store(false, Ordering::SeqCst);
        done.store(true, Ordering::SeqCst);
    });
    volume.commit().unwrap();
    assert!(volume.statistics().write_errors > 0);
    let after = RamDisk::from_bytes(control.bytes.lock().unwrap().clone());
    for core in 0..THREADS {
        let found = contents(after.clone(), &format!("/{core}"));
        assert!(found == vec![core as u8 + 1; 40 * BLOCK_BYTES], "file of core {core}");
    }
    assert_sound(after);
}

#[test]
fn after_a_failed_flush_all_is_written_again_or_called_lost() {
    for capacity in [50, 4] {
        let disk = fresh(300);
        let (device, failures) = FailingDevice::new(disk.clone());
        let volume = SharedVolume::mount(device, SharedCache::sieve(capacity, 1), Threads).unwrap();
        let file = volume.create("/file").unwrap();
        file.write_at(0, &[5; 10 * BLOCK_BYTES]).unwrap();
        failures.fail_after(Operation::Flush, 0, DeviceError::Io);
        assert!(matches!(file.sync(), Err(FsError::Device { operation: Operation::Flush, .. })));
        failures.heal();
        let before = volume.statistics().blocks_written;
        if capacity == 50 {
            file.sync().unwrap();
            assert_eq!(volume.statistics().blocks_written, before + 10, "all once more");
            assert!(contents(disk, "/file") == vec![5; 10 * BLOCK_BYTES]);
        } else {
            assert_eq!(file.sync(), Err(FsError::LostWrite), "the cache no longer holds them");
            assert_eq!(file.sync(), Err(FsError::LostWrite), "from then on");
        }
    }
}

#[test]
fn a_file_in_order_comes_ahead() {
    const BLOCKS: u64 = 300;
    let disk = fresh(600);
    let volume = Volume::mount(Box::new(disk.clone()), CacheOptions::default()).unwrap();
    volume.create("/file").unwrap().write_at(0, &vec![3; (BLOCKS * BLOCK) as usize]).unwrap();
    volume.unmount().unwrap();
    let count = |kind, cores: u64| {
        let (device, control) = SlowDisk::new(disk.to_bytes());
        let volume = SharedVolume::mount(device, SharedCache::sieve(128, 1), Threads).unwrap();
        volume.set_read_ahead(kind).unwrap();
        control.blocks_read.store(0, Ordering::SeqCst);
        std::thread::scope(|scope| {
            for _ in 0..cores {
                let file = volume.open("/file").unwrap();
                scope.spawn(move || {
                    let mut into = [0; 100];
                    for block in 0..BLOCKS {
                        assert_eq!(file.read_at(block * BLOCK, &mut into), Ok(100));
                        assert_eq!(into, [3; 100]);
                    }
                });
            }
        });
        volume.statistics()
    };
    let (none, sequential) = (count(ReadAheadKind::None, 1), count(ReadAheadKind::Sequential, 1));
    assert_eq!((none.misses, none.read_requests, none.staged_used), (BLOCKS, BLOCKS, 0));
    assert_eq!((sequential.misses, sequential.blocks_read), (BLOCKS, BLOCKS), "the policy sees the same");
    assert!(sequential.staged_used > BLOCKS * 3 / 4, "{sequential:?}");
    assert!(sequential.read_requests < BLOCKS / 3, "{sequential:?}");
    let both = count(ReadAheadKind::Sequential, 2);
    assert_eq!(both.hits + both.misses, 2 * BLOCKS);
    assert!(both.read_requests < 2 * BLOCKS / 3, "{both:?}");
    assert!(
        SharedVolume::mount(disk.clone(), SharedCache::sieve(9, 1), Threads)
            .unwrap()
            .set_read_ahead(ReadAheadKind::Directed)
            .is_err()
    );
}

#[test]
fn a_volume_gets_another_cache() {
    let volume = SharedVolume::mount(fresh(100), SharedCache::sieve(4, 1), Threads).unwrap();
    volume.create("/file").unwrap().write_at(0, &[1; 10_000]).unwrap();
    let open = volume.open("/file").unwrap();
    assert!(volume.clone().with_cache(SharedCache::sieve(30, 1)).is_err(), "a file is open");
    drop(open);
    let before = volume.statistics();
    let volume = volume.with_cache(SharedCache::new(30, 1, Lru::default)).unwrap();
    let mut into = [0; 10_000];
    assert_eq!(volume.open("/file").unwrap().read_at(0, &mut into), Ok(10_000));
    assert_eq!(into, [1; 10_000]);
    let after = volume.statistics();
    assert_eq!((after.misses, after.hits), (before.misses + 3, before.hits));
    assert_eq!(after.dirty, 0, "it was committed");
}

#[test]
fn what_can_not_be_written_is_refused() {
    let volume = SharedVolume::mount(fresh(40), SharedCache::sieve(4, 1), Threads).unwrap();
    let file = volume.create("/file").unwrap();
    assert!(matches!(file.write_at(u64::MAX - 3, b"x"), Err(FsError::FileTooLarge(_))));
    assert!(matches!(file.write_at(0, &[1; 40 * BLOCK_BYTES]), Err(FsError::NoSpace { .. })));
    let kept = file.len();
    assert!(kept > 0 && kept < 40 * BLOCK);
    let mut into = vec![0; kept as usize];
    assert_eq!(file.read_at(0, &mut into), Ok(kept as usize));
    assert!(into.iter().all(|byte| *byte == 1), "what was written before the volume was full");
    volume.commit().unwrap();
    assert!(matches!(volume.create("/file"), Err(FsError::AlreadyExists(_))));
    assert!(matches!(volume.remove("/other"), Err(FsError::NotFound(_))));
    volume.create_dir("/deep").unwrap();
    volume.rename("/file", "/deep/file").unwrap();
    assert!(matches!(volume.remove("/deep"), Err(FsError::NotEmpty(_))));
    volume.remove("/deep/file").unwrap();
    assert_eq!(file.read_at(0, &mut into), Err(FsError::Removed));
    volume.remove("/deep").unwrap();
    volume.commit().unwrap();
    assert!(volume.list("/").unwrap().is_empty());
}
