//! The cache under hostile policies, failing devices and changing orders.

use libos_fs::cache::{Cached, ReplacementPolicy, reference};
use libos_fs::device::fault::{DelayControl, DelayedDevice, Dice, FailingDevice, FailureControl};
use libos_fs::{
    BLOCK_BYTES, CacheOptions, DeviceError, File, FsError, Operation, PolicyKind, RamDisk, ReadAheadKind,
    Volume, extent_fs,
};

const BLOCK: u64 = BLOCK_BYTES as u64;

fn fresh(blocks: u64) -> RamDisk {
    let disk = RamDisk::new(blocks);
    extent_fs::make(Box::new(disk.clone())).unwrap();
    disk
}

fn options(blocks: usize) -> CacheOptions {
    CacheOptions { blocks, read_ahead: ReadAheadKind::None, ..CacheOptions::default() }
}

type Watched = (Volume, DelayControl, FailureControl);

/// A volume whose device completes late and out of order, is watched, and can be made to fail.
fn watched(disk: &RamDisk, options: CacheOptions) -> Watched {
    let (device, failures) = FailingDevice::new(disk.clone());
    let (device, seen) = DelayedDevice::new(device, 8, 42);
    let volume = Volume::mount(Box::new(device), options).unwrap();
    (volume, seen, failures)
}

fn byte_of(file: u64, block: u64) -> u8 {
    (file * 101 + block * 7 + 1) as u8
}

/// Files `0`, `1`, … of so many blocks each.
fn fill(disk: &RamDisk, files: &[u64]) {
    let volume = Volume::mount(Box::new(disk.clone()), CacheOptions::default()).unwrap();
    for (number, blocks) in files.iter().enumerate() {
        let file = volume.create(&number.to_string()).unwrap();
        for block in 0..*blocks {
            file.write_at(block * BLOCK, &[byte_of(number as u64, block); BLOCK_BYTES]).unwrap();
        }
    }
    volume.unmount().unwrap();
}

fn read(file: &File, block: u64) -> u8 {
    let mut page = [0; BLOCK_BYTES];
    assert_eq!(file.read_at(block * BLOCK, &mut page), Ok(BLOCK_BYTES));
    assert!(page.iter().all(|byte| *byte == page[0]));
    page[0]
}

fn assert_all_counted(volume: &Volume, seen: &DelayControl) {
    assert!(volume.cache().statistics().resident <= volume.cache().blocks());
    // Waits for what is on its way. What is dropped from staging was read in vain.
    volume.cache().drop_clean();
    let counted = volume.cache().statistics();
    let read = counted.mount_reads + counted.metadata_reads + counted.blocks_read;
    let written = counted.metadata_writes + counted.blocks_written;
    assert_eq!((read, written), (seen.blocks(Operation::Read), seen.blocks(Operation::Write)), "{counted:?}");
    assert_eq!(counted.references, counted.hits + counted.misses);
    assert_eq!(
        counted.blocks_read + counted.allocated,
        counted.misses + counted.staged_wasted,
        "{counted:?}"
    );
}

/// Answers nonsense, sometimes.
struct Liar(Dice);

impl ReplacementPolicy for Liar {
    fn name(&self) -> &'static str {
        "liar"
    }
    fn inserted(&mut self, _: Cached) {}
    fn accessed(&mut self, _: Cached) {}
    fn removed(&mut self, _: Cached) {}
    fn victim(&mut self, _: Option<u64>) -> Option<usize> {
        match self.0.below(4) {
            0 => None,
            1 => Some(usize::MAX),
            _ => Some(self.0.below(40) as usize),
        }
    }
}

#[test]
fn no_policy_can_lose_a_block() {
    for seed in 0..8 {
        let disk = fresh(600);
        let read_ahead = ReadAheadKind::ALL[seed as usize % 3];
        let (volume, seen, _) = watched(&disk, CacheOptions { read_ahead, ..options(12) });
        for priority in [-1, 0, 3] {
            let liar: Box<dyn ReplacementPolicy> = Box::new(Liar(Dice::new(seed)));
            volume.cache().set_policy(priority, liar);
        }
        let mut dice = Dice::new(seed);
        let files: Vec<File> = (0..3).map(|n| volume.create(&n.to_string()).unwrap()).collect();
        let mut model = vec![vec![0u8; 40]; 3];
        for file in &files {
            file.truncate(40 * BLOCK).unwrap();
        }
        volume.cache().set_priority(&files[2], 3);
        for _ in 0..1500 {
            let (number, block) = (dice.below(3) as usize, dice.below(40));
            match dice.below(8) {
                0..=2 => {
                    let byte = dice.roll() as u8;
                    files[number].write_at(block * BLOCK, &[byte; BLOCK_BYTES]).unwrap();
                    model[number][block as usize] = byte;
                }
                3 => volume.cache().done_with(&files[number], block..block + 5),
                4 if dice.below(20) == 0 => volume.commit().unwrap(),
                5 if dice.below(20) == 0 => volume.cache().drop_clean(),
                6 if dice.below(20) == 0 => volume.cache().resize(3 + dice.below(20) as usize).unwrap(),
                _ => assert_eq!(read(&files[number], block), model[number][block as usize]),
            }
            assert!(volume.cache().statistics().resident <= volume.cache().blocks());
        }
        assert!(volume.cache().statistics().rejected_victims > 100);
        assert_all_counted(&volume, &seen);
        volume.commit().unwrap();
        drop((volume, files));
        let report = extent_fs::check(Box::new(disk.clone())).unwrap();
        assert!(report.is_clean(), "{report:?}");
        let volume = Volume::mount(Box::new(disk), options(100)).unwrap();
        for (number, blocks) in model.iter().enumerate() {
            let file = volume.open(&number.to_string()).unwrap();
            for (block, byte) in blocks.iter().enumerate() {
                assert_eq!(read(&file, block as u64), *byte);
            }
        }
    }
}

#[test]
fn a_read_of_adjacent_blocks_is_one_request_and_many_requests_fly_together() {
    let disk = fresh(600);
    fill(&disk, &[200]);
    let (volume, seen, _) = watched(&disk, options(300));
    let file = volume.open("0").unwrap();
    seen.reset();
    file.read_at(10 * BLOCK, &mut [0; 16 * BLOCK_BYTES]).unwrap();
    assert_eq!(seen.requests().len(), 1, "{:?}", seen.requests());
    assert_eq!(volume.cache().statistics().blocks_read, 16);
    // Nothing of what is there is read again, and the rest in as many requests as it has gaps.
    seen.reset();
    file.read_at(5 * BLOCK, &mut [0; 30 * BLOCK_BYTES]).unwrap();
    let requests: Vec<usize> = seen.requests().iter().map(|(.., blocks)| *blocks).collect();
    assert_eq!(requests, [5, 9]);
    seen.reset();
    file.read_at(40 * BLOCK, &mut vec![0; 160 * BLOCK_BYTES]).unwrap();
    assert_eq!(seen.blocks(Operation::Read), 160);
    assert!(seen.requests().len() <= 6, "{:?}", seen.requests());
    assert!(seen.deepest_reads() >= 4, "{}", seen.deepest_reads());
    assert_eq!(volume.cache().statistics().read_requests, 3 + seen.requests().len() as u64);
}

#[test]
fn read_errors_surface_and_poison_nothing() {
    let disk = fresh(600);
    fill(&disk, &[64]);
    let (volume, seen, _) = watched(&disk, options(40));
    let bad_block = 20;
    read(&volume.open("0").unwrap(), bad_block);
    let (_, bad, _) = seen.requests().pop().unwrap();
    for read_ahead in ReadAheadKind::ALL {
        let (volume, _, failures) = watched(&disk, CacheOptions { read_ahead, ..options(40) });
        let file = volume.open("0").unwrap();
        failures.fail_reads_of(bad, DeviceError::Io);
        for block in 0..64 {
            let result = file.read_at(block * BLOCK, &mut [0; BLOCK_BYTES]);
            if block == bad_block {
                let wrong = FsError::Device {
                    operation: Operation::Read,
                    block: bad,
                    blocks: 1,
                    error: DeviceError::Io,
                };
                assert_eq!(result, Err(wrong), "{read_ahead:?}");
            } else {
                assert_eq!(result, Ok(BLOCK_BYTES), "{read_ahead:?} block {block}");
            }
        }
        let counted = volume.cache().statistics();
        assert!(counted.read_errors > 0);
        failures.heal();
        for block in 0..64 {
            assert_eq!(read(&file, block), byte_of(0, block));
        }
        // A device that keeps the buffers after a timeout costs buffers, nothing else.
        failures.fail_reads_of(bad, DeviceError::Timeout);
        volume.cache().drop_clean();
        assert!(file.read_at(bad_block * BLOCK, &mut [0; 10]).is_err());
        failures.heal();
        for block in 0..64 {
            assert_eq!(read(&file, block), byte_of(0, block));
        }
        assert!(volume.cache().statistics().resident < 40);
    }
}

#[test]
fn write_errors_surface_and_lose_nothing() {
    let disk = fresh(600);
    let (volume, _, failures) = watched(&disk, options(10));
    let file = volume.create("f").unwrap();
    for block in 0..8 {
        file.write_at(block * BLOCK, &[block as u8; BLOCK_BYTES]).unwrap();
    }
    failures.fail_after(Operation::Write, 0, DeviceError::Io);
    assert!(matches!(volume.commit(), Err(FsError::Device { operation: Operation::Write, .. })));
    let mut block = 8;
    let error = loop {
        if let Err(error) = file.write_at(block * BLOCK, &[block as u8; BLOCK_BYTES]) {
            break error;
        }
        block += 1;
    };
    assert!(matches!(error, FsError::Device { operation: Operation::Write, .. }));
    assert_eq!(block, 10, "all buffers are dirty");
    for block in 0..10 {
        assert_eq!(read(&file, block), block as u8);
    }
    failures.heal();
    volume.commit().unwrap();
    failures.fail_after(Operation::Flush, 0, DeviceError::Io);
    file.write_at(0, b"again").unwrap();
    assert!(matches!(volume.commit(), Err(FsError::Device { operation: Operation::Flush, .. })));
    failures.heal();
    volume.commit().unwrap();
    // The device keeps what it was to write: that can't be committed any more.
    let (other, _, timeouts) = watched(&fresh(100), options(10));
    other.create("g").unwrap().write_at(0, &[1; 3 * BLOCK_BYTES]).unwrap();
    timeouts.fail_after(Operation::Write, 0, DeviceError::Timeout);
    assert!(matches!(other.commit(), Err(FsError::Device { error: DeviceError::Timeout, .. })));
    timeouts.heal();
    assert_eq!(other.commit(), Err(FsError::LostWrite));
    // The flush between the two copies of the superblock: nobody knows whether the state is valid.
    file.write_at(0, b"twice").unwrap();
    failures.fail_after(Operation::Flush, 1, DeviceError::Io);
    assert_eq!(volume.commit(), Err(FsError::CommitUnknown));
    failures.heal();
    assert_eq!(file.write_at(0, b"x"), Err(FsError::CommitUnknown));
    drop((volume, file));
    assert!(extent_fs::check(Box::new(disk.clone())).unwrap().is_clean());
    let file = Volume::mount(Box::new(disk), options(10)).unwrap().open("f").unwrap();
    let mut start = [0; 5];
    file.read_at(0, &mut start).unwrap();
    assert!(&start == b"again" || &start == b"twice");
}

#[test]
fn lower_priority_goes_first_and_temporary_priority_ends_with_use() {
    let disk = fresh(600);
    fill(&disk, &[10, 40]);
    let (volume, _, _) = watched(&disk, options(20));
    let cache = volume.cache();
    let (index, data) = (volume.open("0").unwrap(), volume.open("1").unwrap());
    cache.set_priority(&index, 1);
    assert_eq!((cache.get_priority(&index), cache.get_priority(&data)), (1, 0));
    let misses = || cache.statistics().misses;
    let scan = |file: &File, blocks: core::ops::Range<u64>| {
        for block in blocks {
            read(file, block);
        }
    };
    scan(&index, 0..10);
    scan(&data, 0..40);
    let before = misses();
    scan(&index, 0..10);
    assert_eq!(misses(), before, "the index stays, however much data is read");
    // Data blocks 30–39 are in the cache. "Done with" 35 and 36: they go next, before older ones.
    cache.done_with(&data, 35..37);
    scan(&data, 0..2);
    let before = misses();
    scan(&data, 30..35);
    scan(&data, 37..40);
    assert_eq!(misses(), before);
    scan(&data, 35..36);
    assert_eq!(misses(), before + 1);
    // Use ends a temporary priority: 38 is data like any other, and the most recent.
    cache.set_temporary_priority(&data, 38..39, -1);
    scan(&data, 38..39);
    scan(&data, 10..12);
    let before = misses();
    scan(&data, 38..39);
    assert_eq!(misses(), before);
    // A temporary priority upwards keeps a block, until it is used.
    cache.set_temporary_priority(&data, 38..39, 2);
    scan(&data, 0..30);
    let before = misses();
    scan(&data, 38..39);
    assert_eq!(misses(), before);
    scan(&data, 0..30);
    scan(&data, 38..39);
    assert_eq!(misses(), before + 30 + 1);
}

#[test]
fn a_policy_has_no_say_outside_its_pool() {
    let disk = fresh(600);
    fill(&disk, &[10, 40]);
    let (volume, _, _) = watched(&disk, options(20));
    let (index, data) = (volume.open("0").unwrap(), volume.open("1").unwrap());
    volume.cache().set_priority(&index, 1);
    let liar: Box<dyn ReplacementPolicy> = Box::new(Liar(Dice::new(9)));
    volume.cache().set_policy(0, liar);
    for _ in 0..5 {
        for block in 0..40 {
            read(&index, block % 10);
            read(&data, block);
        }
    }
    let counted = volume.cache().statistics();
    assert!(counted.rejected_victims > 20 && counted.misses <= 10 + 5 * 40, "{counted:?}");
    assert!(counted.hits >= 190, "the index is read once: {counted:?}");
}

#[test]
fn policies_change_while_running() {
    let disk = fresh(600);
    fill(&disk, &[50]);
    let (volume, _, _) = watched(&disk, options(40));
    let cache = volume.cache();
    let file = volume.open("0").unwrap();
    let pass = || {
        let before = cache.statistics().misses;
        for block in 0..50 {
            read(&file, block);
        }
        cache.statistics().misses - before
    };
    assert_eq!((pass(), pass()), (50, 50));
    assert_eq!(cache.get_policy(0), "lru");
    cache.set_policy(0, PolicyKind::Mru);
    assert_eq!(cache.get_policy(0), "mru");
    assert_eq!(cache.get_policy(7), "lru");
    pass();
    // In the long run (N−C)/(N−1) of the references.
    assert!((10..=11).contains(&pass()));
    cache.resize(50).unwrap();
    pass();
    assert_eq!(pass(), 0);
    cache.resize(5).unwrap();
    assert!(cache.statistics().resident <= 5);
    assert_eq!(read(&file, 7), byte_of(0, 7));
}

#[test]
fn temporary_files_are_never_written() {
    let disk = fresh(600);
    let (volume, seen, _) = watched(&disk, options(100));
    let file = volume.create("run").unwrap();
    file.write_at(0, &vec![1; 60 * BLOCK_BYTES]).unwrap();
    volume.remove("run").unwrap();
    assert_eq!(file.read_at(0, &mut [0; 1]), Err(FsError::Removed));
    volume.commit().unwrap();
    let counted = volume.cache().statistics();
    assert_eq!((counted.blocks_written, counted.dropped_dirty, counted.dirty), (0, 60, 0));
    assert_all_counted(&volume, &seen);
}

#[test]
fn dirty_neighbours_leave_together() {
    let disk = fresh(600);
    let (volume, seen, _) = watched(&disk, options(40));
    let file = volume.create("f").unwrap();
    for block in 0..200 {
        file.write_at(block * BLOCK, &[block as u8; BLOCK_BYTES]).unwrap();
    }
    volume.commit().unwrap();
    let counted = volume.cache().statistics();
    assert_eq!(counted.blocks_written, 200);
    assert!(counted.write_requests <= 12, "{counted:?}");
    assert_eq!((counted.allocated, counted.misses, counted.blocks_read), (200, 200, 0));
    assert_all_counted(&volume, &seen);
}

#[test]
fn references_are_recorded_as_the_policy_sees_them() {
    let disk = fresh(600);
    fill(&disk, &[8]);
    for read_ahead in ReadAheadKind::ALL {
        let (volume, seen, _) = watched(&disk, CacheOptions { read_ahead, ..options(4) });
        let file = volume.open("0").unwrap();
        volume.cache().start_recording();
        file.read_at(BLOCK, &mut vec![0; 3 * BLOCK_BYTES]).unwrap();
        file.read_at(10, &mut [0; 20]).unwrap();
        file.write_at(7 * BLOCK, &[1; BLOCK_BYTES]).unwrap();
        let expected: Vec<u64> = [1, 2, 3, 0, 7].map(|block| reference(file.id(), block)).into();
        assert_eq!(volume.cache().take_references(), expected);
        assert_eq!(volume.cache().take_references(), []);
        assert_all_counted(&volume, &seen);
    }
}

#[test]
fn a_stream_is_read_while_it_is_used() {
    let disk = fresh(2000);
    fill(&disk, &[1500]);
    let (volume, seen, _) = watched(&disk, CacheOptions { blocks: 1024, ..CacheOptions::default() });
    let file = volume.open("0").unwrap();
    let mut arrived_before = 0;
    for block in 0..1500 {
        read(&file, block);
        arrived_before += usize::from(seen.depth() > 0);
    }
    assert!(arrived_before > 600, "a request is on its way most of the time: {arrived_before}");
    let counted = volume.cache().statistics();
    assert_eq!((counted.blocks_read, counted.staged_wasted), (1500, 0));
    assert!(counted.read_requests < 80, "{counted:?}");
    assert_all_counted(&volume, &seen);
}

#[test]
fn policies_see_the_same_references_whatever_is_read_ahead() {
    let disk = fresh(600);
    fill(&disk, &[90, 50]);
    for seed in 0..20 {
        let run = |read_ahead, staging| {
            let (volume, seen, _) = watched(&disk, CacheOptions { read_ahead, staging, ..options(24) });
            let files = [volume.open("0").unwrap(), volume.open("1").unwrap()];
            volume.cache().start_recording();
            let mut dice = Dice::new(seed);
            for _ in 0..60 {
                let number = dice.below(2) as usize;
                let (first, blocks) = (dice.below(50), 1 + dice.below(12));
                if dice.below(6) == 0 {
                    files[1].truncate(first * BLOCK).unwrap();
                } else if dice.below(4) == 0 {
                    files[number].write_at(first * BLOCK + 5, &[3; 2 * BLOCK_BYTES]).unwrap();
                } else {
                    files[number]
                        .read_at(first * BLOCK, &mut vec![0; blocks as usize * BLOCK_BYTES])
                        .unwrap();
                }
            }
            let references = volume.cache().take_references();
            assert_all_counted(&volume, &seen);
            references
        };
        let plain = run(ReadAheadKind::None, Some(0));
        for kind in ReadAheadKind::ALL {
            assert_eq!(run(kind, None), plain);
            assert_eq!(run(kind, Some(20)), plain);
        }
    }
}

#[test]
fn interleaved_streams_waste_no_read_ahead() {
    let disk = fresh(2000);
    fill(&disk, &[100; 12]);
    let (volume, seen, _) = watched(&disk, CacheOptions { blocks: 64, ..CacheOptions::default() });
    let files: Vec<File> = (0..12).map(|n| volume.open(&n.to_string()).unwrap()).collect();
    for block in 0..100 {
        for (number, file) in files.iter().enumerate() {
            assert_eq!(read(file, block), byte_of(number as u64, block));
            volume.cache().done_with(file, block..block + 1);
        }
    }
    let counted = volume.cache().statistics();
    assert_eq!((counted.blocks_read, counted.staged_wasted), (1200, 0), "{counted:?}");
    assert!(counted.read_requests < 600, "{counted:?}");
    assert_all_counted(&volume, &seen);
}
