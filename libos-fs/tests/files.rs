//! Files, directories, and a disk that is full.

use libos_fs::device::fault::Dice;
use libos_fs::{BLOCK_BYTES, CacheOptions, EntryKind, FileDisk, FsError, RamDisk, Volume, extent_fs};

const BLOCK: u64 = BLOCK_BYTES as u64;

fn volume(blocks: u64) -> (RamDisk, Volume) {
    let disk = RamDisk::new(blocks);
    extent_fs::make(Box::new(disk.clone())).unwrap();
    let volume =
        Volume::mount(Box::new(disk.clone()), CacheOptions { blocks: 32, ..CacheOptions::default() });
    (disk, volume.unwrap())
}

fn assert_clean(disk: &RamDisk) -> extent_fs::Report {
    let report = extent_fs::check(Box::new(disk.clone())).unwrap();
    assert!(report.is_clean() && report.notes.is_empty(), "{report:?}");
    report
}

#[test]
fn names_and_directories() {
    let (disk, volume) = volume(200);
    volume.create_dir("/a").unwrap();
    volume.create_dir("a/b/").unwrap();
    volume.create("/a/b/file").unwrap().append(b"text").unwrap();
    let not_found = |path: &str| Err(FsError::NotFound(path.into()));
    assert_eq!(volume.create_dir("/none/x"), not_found("/none/x"));
    assert_eq!(volume.create_dir("/a"), Err(FsError::AlreadyExists("/a".into())));
    assert_eq!(volume.create("/a/b/file/x").err(), Some(FsError::NotADirectory("/a/b/file/x".into())));
    assert_eq!(volume.open("/a/b").err(), Some(FsError::IsADirectory("/a/b".into())));
    assert_eq!(volume.open("/").err(), Some(FsError::IsADirectory("/".into())));
    assert!(matches!(volume.open("/a/../b"), Err(FsError::BadPath(..))));
    assert!(matches!(volume.create(&"x".repeat(256)), Err(FsError::BadPath(..))));
    volume.create(&"ä".repeat(127)).unwrap();
    assert_eq!(volume.remove("/a"), Err(FsError::NotEmpty("/a".into())));
    assert!(matches!(volume.rename("/a", "/a/b/c"), Err(FsError::BadPath(..))));
    volume.rename("/a/b", "/c").unwrap();
    assert_eq!(volume.list("/a").unwrap(), []);
    let listed = volume.list("/c").unwrap();
    assert_eq!((&*listed[0].name, listed[0].kind, listed[0].bytes), ("file", EntryKind::File, 4));
    let open = volume.open("/c/file").unwrap();
    volume.create("/c/other").unwrap().append(b"other").unwrap();
    volume.rename("/c/other", "/c/file").unwrap();
    assert_eq!(open.len(), Err(FsError::Removed));
    assert_eq!(volume.open("/c/file").unwrap().len(), Ok(5));
    volume.remove("/a").unwrap();
    volume.unmount().unwrap();
    let report = assert_clean(&disk);
    assert_eq!((report.files, report.directories), (2, 2));
}

#[test]
fn holes_and_cuts_are_zeros() {
    let (disk, volume) = volume(200);
    let file = volume.create("f").unwrap();
    file.write_at(3 * BLOCK + 100, b"end").unwrap();
    let mut all = vec![1; 4 * BLOCK_BYTES];
    assert_eq!(file.read_at(0, &mut all), Ok(3 * BLOCK_BYTES + 103));
    assert!(all[..3 * BLOCK_BYTES + 100].iter().all(|byte| *byte == 0));
    file.write_at(0, &[7; 2 * BLOCK_BYTES]).unwrap();
    file.truncate(BLOCK + 10).unwrap();
    file.truncate(2 * BLOCK).unwrap();
    let mut second = [1; BLOCK_BYTES];
    file.read_at(BLOCK, &mut second).unwrap();
    assert!(second[..10] == [7; 10] && second[10..].iter().all(|byte| *byte == 0));
    file.truncate(BLOCK + 10).unwrap();
    file.write_at(BLOCK + 20, b"!").unwrap();
    file.read_at(BLOCK, &mut second).unwrap();
    assert_eq!(second[8..22], [7, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b'!', 0]);
    assert_eq!(file.write_at(u64::MAX, b"x"), Err(FsError::FileTooLarge(u64::MAX)));
    assert_eq!(file.read_at(u64::MAX, &mut second), Ok(0));
    volume.unmount().unwrap();
    assert_clean(&disk);
}

#[test]
fn a_full_disk_loses_nothing_and_can_be_emptied() {
    for seed in 0..4 {
        let (disk, volume) = volume(300);
        let mut dice = Dice::new(seed);
        volume.create("kept").unwrap().append(&[9; 10_000]).unwrap();
        volume.commit().unwrap();
        let mut sizes = Vec::new();
        let error = loop {
            let name = format!("file-{}", sizes.len());
            let bytes = dice.below(60_000) as usize;
            let file = match volume.create(&name) {
                Ok(file) => file,
                Err(error) => break error,
            };
            if let Err(error) = file.append(&vec![sizes.len() as u8; bytes]) {
                sizes.push(file.len().unwrap() as usize);
                break error;
            }
            sizes.push(bytes);
        };
        assert!(matches!(error, FsError::NoSpace { .. }), "{error}");
        assert_eq!(volume.space().free, 0);
        volume.commit().unwrap();
        assert_clean(&disk);
        for (number, bytes) in sizes.iter().enumerate() {
            let file = volume.open(&format!("file-{number}")).unwrap();
            let mut contents = vec![0; bytes + 1];
            assert_eq!(file.read_at(0, &mut contents), Ok(*bytes));
            assert!(contents[..*bytes].iter().all(|byte| *byte == number as u8));
        }
        // Overwriting needs room as well: nothing in use is overwritten.
        assert!(matches!(volume.open("kept").unwrap().write_at(0, b"new"), Err(FsError::NoSpace { .. })));
        for number in 0..sizes.len() {
            volume.remove(&format!("file-{number}")).unwrap();
        }
        let space = volume.space();
        assert!(space.after_commit > 200, "{space:?}");
        assert!(matches!(
            volume.open("kept").unwrap().write_at(0, &[1; 99_999]),
            Err(FsError::NoSpace { .. })
        ));
        volume.commit().unwrap();
        assert!(volume.space().free > 200);
        volume.open("kept").unwrap().write_at(0, &[1; 99_999]).unwrap();
        volume.unmount().unwrap();
        let report = assert_clean(&disk);
        assert!(report.used < 60, "{report:?}");
    }
}

#[test]
fn many_names_come_and_go() {
    let (disk, volume) = volume(600);
    let mut dice = Dice::new(5);
    let mut names = std::collections::BTreeSet::new();
    for step in 0..4000 {
        let name = format!("{:x}-{}", dice.below(700), "n".repeat(dice.below(3) as usize * 60));
        if dice.below(5) < if step < 2500 { 4 } else { 1 } {
            assert_eq!(volume.create(&name).is_ok(), names.insert(name));
        } else {
            assert_eq!(volume.remove(&name).is_ok(), names.remove(&name));
        }
        if step % 500 == 0 {
            volume.commit().unwrap();
        }
    }
    for name in std::mem::take(&mut names).into_iter().skip(3) {
        volume.remove(&name).unwrap();
    }
    assert_eq!(volume.list("/").unwrap().len(), 3);
    volume.unmount().unwrap();
    let report = assert_clean(&disk);
    assert_eq!(report.files, 3);
    assert!(report.metadata <= 5, "the tree shrinks: {report:?}");
}

#[test]
fn files_written_in_order_lie_in_order() {
    let (_, volume) = volume(2000);
    for name in ["one", "two"] {
        let file = volume.create(name).unwrap();
        for block in 0..500 {
            file.write_at(block * BLOCK, &[1; BLOCK_BYTES]).unwrap();
        }
    }
    volume.commit().unwrap();
    volume.cache().resize(600).unwrap();
    volume.cache().drop_clean();
    let before = volume.cache().statistics().read_requests;
    volume.open("two").unwrap().read_at(0, &mut vec![0; 500 * BLOCK_BYTES]).unwrap();
    assert_eq!(volume.cache().statistics().read_requests - before, 500u64.div_ceil(32));
}

#[test]
fn a_read_only_disk_is_left_alone() {
    let (disk, volume) = volume(64);
    volume.create("f").unwrap().append(b"text").unwrap();
    volume.unmount().unwrap();
    let before = disk.to_bytes();
    let volume = Volume::mount(Box::new(disk.clone().into_read_only()), CacheOptions::default()).unwrap();
    assert_eq!(volume.open("f").unwrap().append(b"x"), Err(FsError::ReadOnly));
    assert_eq!(volume.create("g").err(), Some(FsError::ReadOnly));
    assert_eq!(volume.remove("f"), Err(FsError::ReadOnly));
    volume.unmount().unwrap();
    assert!(disk.to_bytes() == before);
}

#[test]
fn an_image_in_a_file_of_the_host() {
    let path = std::env::temp_dir().join(format!("libos-fs-image-{}", std::process::id()));
    extent_fs::make(Box::new(FileDisk::create(&path, 100).unwrap())).unwrap();
    let volume = Volume::mount(Box::new(FileDisk::open(&path).unwrap()), CacheOptions::default()).unwrap();
    volume.create("f").unwrap().append(&[5; 50_000]).unwrap();
    volume.unmount().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 100 * BLOCK);
    let report = extent_fs::check(Box::new(FileDisk::open_read_only(&path).unwrap())).unwrap();
    assert!(report.is_clean());
    let disk = FileDisk::open_read_only(&path).unwrap();
    let volume = Volume::mount(Box::new(disk), CacheOptions::default()).unwrap();
    let mut contents = vec![0; 60_000];
    assert_eq!(volume.open("f").unwrap().read_at(0, &mut contents), Ok(50_000));
    assert!(contents[..50_000].iter().all(|byte| *byte == 5));
    assert_eq!(volume.open("f").unwrap().truncate(0), Err(FsError::ReadOnly));
    std::fs::remove_file(&path).unwrap();
}
