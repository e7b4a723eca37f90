//! Flipped bits and arbitrary bytes: always found, never a panic.

use libos_fs::device::fault::{BitFlipper, Dice};
use libos_fs::extent_fs::{check, make};
use libos_fs::{BLOCK_BYTES, CacheOptions, EntryKind, FsError, RamDisk, Volume};

/// A volume with enough in it for a tree of two levels.
fn filled() -> RamDisk {
    let disk = RamDisk::new(256);
    make(Box::new(disk.clone())).unwrap();
    let volume = Volume::mount(Box::new(disk.clone()), CacheOptions::default()).unwrap();
    volume.create_dir("/sub").unwrap();
    for number in 0..60 {
        let file = volume.create(&format!("/sub/file-{number}-{}", "x".repeat(number))).unwrap();
        file.write_at(0, &vec![number as u8; number * 180 + 1]).unwrap();
    }
    volume.unmount().unwrap();
    disk
}

/// Reads everything there is.
fn read_all(disk: RamDisk) -> Result<Vec<(String, Vec<u8>)>, FsError> {
    let volume = Volume::mount(Box::new(disk), CacheOptions { blocks: 8, ..CacheOptions::default() })?;
    let mut found = Vec::new();
    let mut directories = vec![String::new()];
    while let Some(directory) = directories.pop() {
        for entry in volume.list(&directory)? {
            let path = format!("{directory}/{}", entry.name);
            match entry.kind {
                EntryKind::File => {
                    let file = volume.open(&path)?;
                    let mut bytes = vec![0; entry.bytes.min(1 << 20) as usize];
                    file.read_at(0, &mut bytes)?;
                    found.push((path, bytes));
                }
                _ => directories.push(path),
            }
        }
    }
    Ok(found)
}

#[test]
fn a_flipped_bit_in_any_block_in_use_is_found() {
    let disk = filled();
    let good = read_all(disk.clone()).unwrap();
    let report = check(Box::new(disk.clone())).unwrap();
    assert!(report.is_clean() && report.notes.is_empty(), "{report:?}");
    assert_eq!((report.files, report.directories), (60, 2));
    assert!(report.metadata > 4, "{report:?}");
    let mut dice = Dice::new(1);
    let mut found_in = 0;
    for block in 0..256 {
        let bit = dice.below(BLOCK_BYTES as u64 * 8) as usize;
        let report = check(Box::new(BitFlipper::new(disk.clone(), [(block, bit)]))).unwrap();
        disk.modify(|bytes| bytes[block as usize * BLOCK_BYTES + bit / 8] ^= 1 << (bit % 8));
        let read = read_all(disk.clone());
        disk.modify(|bytes| bytes[block as usize * BLOCK_BYTES + bit / 8] ^= 1 << (bit % 8));
        match read {
            // A block that is not in use, or one copy of the superblock: what is read is right.
            Ok(contents) => assert!(contents == good, "block {block} bit {bit}"),
            Err(FsError::Checksum { .. } | FsError::Corrupt(_)) => {
                assert!(!report.is_clean(), "block {block}")
            }
            Err(other) => panic!("block {block} bit {bit}: {other}"),
        }
        found_in += u64::from(!report.is_clean());
    }
    assert_eq!(found_in, report.used, "exactly the blocks in use are watched");
}

#[test]
fn random_damage_is_an_error() {
    let good = filled().to_bytes();
    let mut dice = Dice::new(2);
    for _ in 0..300 {
        let mut bytes = good.clone();
        for _ in 0..=dice.below(20) {
            let block = dice.below(40) as usize * BLOCK_BYTES;
            match dice.below(3) {
                0 => bytes[block + dice.below(BLOCK_BYTES as u64) as usize] = dice.roll() as u8,
                1 => bytes.copy_within(dice.below(40) as usize * BLOCK_BYTES..41 * BLOCK_BYTES, block),
                _ => bytes[block..block + BLOCK_BYTES].fill_with(|| dice.roll() as u8),
            }
        }
        bytes.resize(good.len(), 0);
        let disk = RamDisk::from_bytes(bytes);
        let _ = read_all(disk.clone());
        let _ = check(Box::new(disk));
    }
}

/// Puts a correct checksum on the superblock and on the node it points to, so that what lies behind is
/// reached.
fn forge(bytes: &mut [u8]) {
    let word = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let root = word(bytes, 32) as usize;
    let Some(node) = bytes.get(root * BLOCK_BYTES..(root + 1) * BLOCK_BYTES) else { return };
    let sum = crc32(node);
    for copy in [0, BLOCK_BYTES] {
        bytes[copy + 40..copy + 44].copy_from_slice(&sum.to_le_bytes());
        bytes[copy + 12..copy + 16].fill(0);
        let sum = crc32(&bytes[copy..copy + BLOCK_BYTES]);
        bytes[copy + 12..copy + 16].copy_from_slice(&sum.to_le_bytes());
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(!0u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ ((sum & 1) * 0xedb8_8320))
    }) ^ !0
}

#[test]
fn keys_that_lead_astray_are_seen() {
    let good = filled().to_bytes();
    let mut dice = Dice::new(6);
    for _ in 0..600 {
        let mut bytes = good.clone();
        let root = u64::from_le_bytes(good[32..40].try_into().unwrap()) as usize * BLOCK_BYTES;
        let at = root + dice.below(400) as usize;
        bytes[at] = dice.roll() as u8;
        forge(&mut bytes);
        let disk = RamDisk::from_bytes(bytes);
        let Ok(volume) = Volume::mount(Box::new(disk), CacheOptions { blocks: 4, ..CacheOptions::default() })
        else {
            continue;
        };
        for entry in volume.list("/sub").unwrap_or_default() {
            volume.remove(&format!("/sub/{}", entry.name)).unwrap();
        }
        assert_eq!(volume.list("/sub").unwrap_or_default(), []);
        volume.commit().unwrap();
    }
}

#[test]
fn lies_with_right_checksums_are_seen_through() {
    let disk = RamDisk::new(64);
    make(Box::new(disk.clone())).unwrap();
    let volume = Volume::mount(Box::new(disk.clone()), CacheOptions::default()).unwrap();
    volume.create_dir("/d").unwrap();
    for name in ["/d/one", "/d/two", "/three"] {
        volume.create(name).unwrap().write_at(0, &[7; 20_000]).unwrap();
    }
    volume.unmount().unwrap();
    let good = disk.to_bytes();
    let root = u64::from_le_bytes(good[32..40].try_into().unwrap()) as usize * BLOCK_BYTES;
    let mut dice = Dice::new(3);
    let mut refused = 0;
    for _ in 0..4000 {
        let mut bytes = good.clone();
        for _ in 0..=dice.below(3) {
            let at = root + dice.below(400) as usize;
            bytes[at] = if dice.below(2) == 0 { dice.roll() as u8 } else { bytes[at] ^ 1 << dice.below(8) };
        }
        forge(&mut bytes);
        let disk = RamDisk::from_bytes(bytes);
        let report = check(Box::new(disk.clone())).unwrap();
        refused += usize::from(!report.is_clean());
        if read_all(disk.clone()).is_err() {
            assert!(!report.is_clean());
        }
        // Changing such a volume must not panic either.
        if let Ok(volume) =
            Volume::mount(Box::new(disk), CacheOptions { blocks: 4, ..CacheOptions::default() })
        {
            let _ = volume.create("/new").and_then(|file| file.write_at(4095, &[1; 9000]));
            let _ = volume.rename("/three", "/d/one");
            let _ = volume.remove("/d/two");
            let _ = volume.commit();
        }
    }
    assert!(refused > 2000, "{refused}");
}

#[test]
fn arbitrary_bytes_are_no_volume() {
    let mut dice = Dice::new(4);
    for _ in 0..50 {
        let bytes = (0..16 * BLOCK_BYTES).map(|_| dice.roll() as u8).collect();
        assert!(matches!(read_all(RamDisk::from_bytes(bytes)), Err(FsError::UnknownFormat)));
    }
    assert_eq!(check(Box::new(RamDisk::new(16))), Err(FsError::UnknownFormat));
    assert_eq!(read_all(RamDisk::new(0)), Err(FsError::UnknownFormat));
    assert_eq!(make(Box::new(RamDisk::new(5))), Err(FsError::TooSmall { blocks: 5, needed: 32 }));
}
