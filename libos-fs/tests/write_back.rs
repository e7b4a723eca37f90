//! When written blocks reach the disk, in which order, and what a failing device does to that.

use libos_fs::device::fault::{DelayControl, DelayedDevice, Dice, FailingDevice, FailureControl, PowerCut};
use libos_fs::{
    BLOCK_BYTES, CacheOptions, DeviceError, File, FsError, Operation, RamDisk, Volume, WriteBackKind,
    extent_fs,
};

const BLOCK: u64 = BLOCK_BYTES as u64;

fn fresh(blocks: u64) -> RamDisk {
    let disk = RamDisk::new(blocks);
    extent_fs::make(Box::new(disk.clone())).unwrap();
    disk
}

fn watched(
    disk: &RamDisk,
    blocks: usize,
    write_back: WriteBackKind,
) -> (Volume, DelayControl, FailureControl) {
    let (device, failures) = FailingDevice::new(disk.clone());
    let (device, seen) = DelayedDevice::new(device, 8, 3);
    let options = CacheOptions { blocks, write_back, ..CacheOptions::default() };
    (Volume::mount(Box::new(device), options).unwrap(), seen, failures)
}

fn write(file: &File, block: u64, byte: u8) {
    file.write_at(block * BLOCK, &[byte; BLOCK_BYTES]).unwrap();
}

#[test]
fn each_policy_writes_when_it_says() {
    for kind in WriteBackKind::ALL {
        let (volume, seen, _) = watched(&fresh(2000), 200, kind);
        let file = volume.create("f").unwrap();
        let mut most_dirty = 0;
        for block in 0..150 {
            write(&file, block, block as u8);
            most_dirty = most_dirty.max(volume.cache().statistics().dirty);
        }
        let early = seen.blocks(Operation::Write);
        match kind {
            WriteBackKind::OnReplacement => assert_eq!((early, most_dirty), (0, 150)),
            // Nothing is older than 4096 references.
            WriteBackKind::Age => assert_eq!((early, most_dirty), (0, 150)),
            WriteBackKind::Ratio => assert!((130..150).contains(&early) && most_dirty <= 21, "{early}"),
        }
        let mut page = vec![0; BLOCK_BYTES];
        for _ in 0..4096 {
            file.read_at(0, &mut page).unwrap();
        }
        write(&file, 0, 99);
        let counted = volume.cache().statistics();
        if kind == WriteBackKind::Age {
            assert!(counted.dirty < 30, "{counted:?}");
            assert!(counted.write_requests <= 10, "neighbours go together: {counted:?}");
        }
        volume.commit().unwrap();
        for block in 1..150 {
            file.read_at(block * BLOCK, &mut page).unwrap();
            assert!(page.iter().all(|byte| *byte == block as u8));
        }
        assert_eq!(volume.cache().statistics().dirty, 0);
    }
}

#[test]
fn files_come_and_go_while_they_are_written() {
    let disk = fresh(3000);
    let (volume, _, _) = watched(&disk, 40, WriteBackKind::Ratio);
    let mut dice = Dice::new(4);
    for round in 0..300u64 {
        let name = format!("{}", dice.below(5));
        let file = volume.open(&name).or_else(|_| volume.create(&name)).unwrap();
        (0..dice.below(12)).for_each(|block| write(&file, block, round as u8));
        match dice.below(6) {
            0 => volume.remove(&name).unwrap(),
            1 => file.truncate(dice.below(4) * BLOCK + 17).unwrap(),
            2 => volume.cache().set_priority(&file, dice.below(3) as i32),
            3 if dice.below(5) == 0 => file.sync().unwrap(),
            _ => {}
        }
    }
    volume.commit().unwrap();
    drop(volume);
    let report = extent_fs::check(Box::new(disk)).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn a_background_write_that_fails_is_tried_again_and_sync_tells_the_truth() {
    let (volume, _, failures) = watched(&fresh(600), 100, WriteBackKind::Ratio);
    let file = volume.create("f").unwrap();
    failures.fail_after(Operation::Write, 0, DeviceError::Io);
    (0..40).for_each(|block| write(&file, block, block as u8));
    assert!(volume.cache().statistics().write_errors > 0);
    assert_eq!(volume.cache().statistics().dirty, 40, "nothing is dropped");
    for _ in 0..2 {
        assert!(matches!(file.sync(), Err(FsError::Device { operation: Operation::Write, .. })));
    }
    failures.heal();
    file.sync().unwrap();
    assert_eq!(volume.cache().statistics().dirty, 0);
}

#[test]
fn what_was_written_before_a_failed_flush_is_written_again() {
    let (volume, seen, failures) = watched(&fresh(600), 100, WriteBackKind::OnReplacement);
    let file = volume.create("f").unwrap();
    (0..20).for_each(|block| write(&file, block, block as u8));
    failures.fail_after(Operation::Flush, 0, DeviceError::Io);
    assert!(matches!(file.sync(), Err(FsError::Device { operation: Operation::Flush, .. })));
    let before = volume.cache().statistics().blocks_written;
    assert_eq!((before, volume.cache().statistics().dirty), (20, 20), "the device may have dropped them");
    failures.heal();
    seen.reset();
    file.sync().unwrap();
    assert_eq!(volume.cache().statistics().blocks_written - before, 20);
    // What the cache no longer holds can't be written again: that is said, and not only once.
    let (volume, _, failures) = watched(&fresh(600), 10, WriteBackKind::OnReplacement);
    let file = volume.create("f").unwrap();
    (0..30).for_each(|block| write(&file, block, block as u8));
    failures.fail_after(Operation::Flush, 0, DeviceError::Io);
    assert!(matches!(file.sync(), Err(FsError::Device { operation: Operation::Flush, .. })));
    failures.heal();
    assert_eq!([file.sync(), file.sync()], [Err(FsError::LostWrite), Err(FsError::LostWrite)]);
}

/// A block that says in each of its sectors which record it is, of the log or of the data.
fn record(kind: &[u8; 4], number: u64) -> Vec<u8> {
    let mut sector = [0; 512];
    sector[..4].copy_from_slice(kind);
    sector[4..12].copy_from_slice(&number.to_le_bytes());
    sector.repeat(BLOCK_BYTES / 512)
}

/// Numbers of the records of a kind that are on a disk: in all sectors of a block, or in any. 0 is in none,
/// but in what a write left that broke off within a sector.
fn found(disk: &RamDisk, kind: &[u8; 4], whole: bool) -> Vec<u64> {
    let mut numbers = Vec::new();
    for block in disk.to_bytes().chunks(BLOCK_BYTES) {
        let of: Vec<Option<u64>> = block
            .chunks(512)
            .map(|s| (&s[..4] == kind).then(|| u64::from_le_bytes(s[4..12].try_into().unwrap())))
            .collect();
        if whole && of.iter().all(|number| *number == of[0]) {
            numbers.extend(of[0]);
        } else if !whole {
            numbers.extend(of.into_iter().flatten());
        }
    }
    numbers.retain(|number| *number > 0);
    numbers
}

/// Runs transactions (a record in the log, then one of the data) on a disk whose power is cut. Returns
/// whether it was, and how many data records survived whose log record did not.
fn transactions(ordered: bool, cut_after: u64, write_back: WriteBackKind) -> (bool, usize) {
    let (device, power) = PowerCut::new(&fresh(400), Some(cut_after), cut_after);
    let options = CacheOptions { blocks: 12, write_back, ..CacheOptions::default() };
    let volume = Volume::mount(Box::new(device), options).unwrap();
    let run = || -> Result<(), FsError> {
        let (log, data) = (volume.create("log")?, volume.create("data")?);
        if ordered {
            volume.cache().write_before(&log, &data)?;
        }
        let mut dice = Dice::new(cut_after);
        for number in 1..=60 {
            log.write_at(number * BLOCK, &record(b"LOGR", number))?;
            data.write_at(dice.below(30) * BLOCK, &record(b"DATA", number))?;
            if number % 20 == 0 {
                volume.commit()?;
            }
        }
        Ok(())
    };
    let ended = run();
    power.cut_now();
    assert!(ended.is_ok() || power.is_cut());
    let survivor = power.survivor();
    let log = found(&survivor, b"LOGR", true);
    let lost = found(&survivor, b"DATA", false).into_iter().filter(|number| !log.contains(number));
    (ended.is_err(), lost.count())
}

#[test]
fn after_a_cut_no_data_is_there_whose_log_is_not() {
    let (mut cuts, mut without_order) = (0, 0);
    for cut_after in 0..160 {
        let write_back = WriteBackKind::ALL[cut_after as usize % 3];
        let (cut, lost) = transactions(true, cut_after, write_back);
        assert_eq!(lost, 0, "cut after {cut_after}, {write_back:?}");
        cuts += usize::from(cut);
        without_order += usize::from(transactions(false, cut_after, write_back).1 > 0);
    }
    println!("{cuts} cuts; without the order, data without its log after {without_order}");
    assert!(cuts > 100 && without_order > 20, "{cuts} {without_order}");
}

#[test]
fn an_order_has_no_cycles() {
    let (volume, _, _) = watched(&fresh(100), 10, WriteBackKind::OnReplacement);
    let [a, b, c] = ["a", "b", "c"].map(|name| volume.create(name).unwrap());
    let cache = volume.cache();
    assert_eq!(cache.write_before(&a, &b), Ok(()));
    assert_eq!(cache.write_before(&b, &c), Ok(()));
    assert_eq!(cache.write_before(&a, &c), Ok(()));
    let cycle = |first: &File, then: &File| Err(FsError::OrderCycle { first: first.id(), then: then.id() });
    assert_eq!(cache.write_before(&c, &a), cycle(&c, &a));
    assert_eq!(cache.write_before(&a, &a), cycle(&a, &a));
    // A file that is gone binds nobody.
    volume.remove("b").unwrap();
    volume.remove("a").unwrap();
    let a = volume.create("a").unwrap();
    assert_eq!(cache.write_before(&c, &a), Ok(()));
}
