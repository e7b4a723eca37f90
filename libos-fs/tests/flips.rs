//! Images that are cut off or have flipped bits: reading fails or gives what was written, and never panics.

use libos_fs::device::fault::Dice;
use libos_fs::{BLOCK_BYTES, CacheOptions, EntryKind, FsError, RamDisk, Volume, extent_fs};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Images to damage for each kind: 3000, or as many as `HYPEREXO_ALTERED` says.
fn cases() -> usize {
    let asked = std::env::var("HYPEREXO_ALTERED").ok();
    asked.map_or(3000, |text| text.parse().expect("HYPEREXO_ALTERED is a number"))
}

/// Files and what they hold.
type Files = BTreeMap<String, Vec<u8>>;

/// Contents in which no run of bytes comes twice, with a hole.
fn files() -> Files {
    let mut dice = Dice::new(11);
    let mut files = Files::new();
    for (name, bytes) in [("a", 5), ("sub/b", 30_000), ("sub/deep/c", 90_000)] {
        files.insert(name.into(), (0..bytes).map(|_| dice.roll() as u8).collect());
    }
    files
}

/// Everything on a volume, read from the end to the start, so that every file is sought in.
fn read_all(disk: RamDisk) -> Result<Files, FsError> {
    let volume = Volume::mount(Box::new(disk), CacheOptions { blocks: 16, ..CacheOptions::default() })?;
    let mut found = Files::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in volume.list(&folder)? {
            let path = if folder.is_empty() { entry.name } else { format!("{folder}/{}", entry.name) };
            // A damaged directory may lead round and round.
            if path.len() > 200 {
                return Err(FsError::Corrupt("too deep".into()));
            }
            match entry.kind {
                EntryKind::Directory => folders.push(path),
                EntryKind::Other => {}
                EntryKind::File => {
                    let file = volume.open(&path)?;
                    let mut bytes = vec![0; entry.bytes.min(1 << 20) as usize];
                    let mut end = bytes.len();
                    while end > 0 {
                        let start = end.saturating_sub(7_000);
                        file.read_at(start as u64, &mut bytes[start..end])?;
                        end = start;
                    }
                    found.insert(path, bytes);
                }
            }
        }
    }
    Ok(found)
}

/// Whether a block of the image holds contents, in which ext4 does not see a flipped bit.
fn contents_of(image: &[u8], files: &Files, unit: usize) -> BTreeSet<usize> {
    let parts: BTreeSet<&[u8]> =
        files.values().flat_map(|bytes| bytes.chunks(unit)).map(|part| &part[..part.len().min(5)]).collect();
    let starts = image.chunks(unit).enumerate().filter(|(_, block)| parts.contains(&block[..5]));
    starts.map(|(number, _)| number).collect()
}

/// Flips one to three bits anywhere but in `unseen` blocks, [`cases`] times; says how often reading failed.
fn flip(image: &[u8], files: &Files, unit: usize, unseen: &BTreeSet<usize>, judge: bool) -> usize {
    let disk = RamDisk::from_bytes(image.to_vec());
    let mut dice = Dice::new(12);
    let metadata: Vec<usize> = (0..image.len() / unit)
        .filter(|block| {
            !unseen.contains(block) && image[block * unit..][..unit].iter().any(|byte| *byte != 0)
        })
        .collect();
    let mut failed = 0;
    for case in 0..cases() {
        let flips: Vec<(usize, u8)> = (0..=dice.below(3))
            .map(|_| {
                let block = metadata[dice.below(metadata.len() as u64) as usize];
                (block * unit + dice.below(unit as u64) as usize, 1 << dice.below(8))
            })
            .collect();
        let change = || disk.modify(|bytes| flips.iter().for_each(|(at, bit)| bytes[*at] ^= bit));
        change();
        match read_all(disk.clone()) {
            Ok(found) => assert!(!judge || found == *files, "case {case}: {flips:?}"),
            Err(_) => failed += 1,
        }
        change();
    }
    assert_eq!(read_all(disk).as_ref(), Ok(files), "all was put back");
    failed
}

/// Cuts the image off anywhere.
fn cut(image: &[u8], files: &Files) {
    let mut dice = Dice::new(13);
    for _ in 0..cases() / 10 {
        let bytes = dice.below(image.len() as u64) as usize;
        if let Ok(found) = read_all(RamDisk::from_bytes(image[..bytes / BLOCK_BYTES * BLOCK_BYTES].to_vec()))
        {
            assert!(found == *files, "cut at {bytes}");
        }
    }
}

fn ext_image(mke2fs: &Path, arguments: &[&str], files: &Files) -> Vec<u8> {
    let kind = arguments.join("");
    let folder = std::env::temp_dir().join(format!("libos-fs-flips-{}{kind}", std::process::id()));
    for (name, bytes) in files {
        let path = folder.join("tree").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let image = folder.join("image");
    let made = Command::new(mke2fs)
        .args(["-qF", "-b", "1024", "-N", "64"])
        .args(arguments)
        .arg("-d")
        .args([&folder.join("tree"), &image])
        .arg("512K")
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let bytes = std::fs::read(&image).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    bytes
}

#[test]
fn flips_in_ext4_are_found() {
    let Some(mke2fs) = host_needs::program("flips_in_ext4_are_found", "mke2fs") else { return };
    let files = files();
    let image = ext_image(&mke2fs, &["-t", "ext4", "-O", "^has_journal,metadata_csum"], &files);
    let unseen = contents_of(&image, &files, 1024);
    assert!(unseen.len() >= 117, "{}", unseen.len());
    let failed = flip(&image, &files, 1024, &unseen, true);
    assert!(failed > cases() / 10, "{failed}");
    cut(&image, &files);
}

/// Without checksums of metadata a flipped bit may change what is read, and no more than that.
#[test]
fn flips_in_ext2_do_no_harm() {
    let Some(mke2fs) = host_needs::program("flips_in_ext2_do_no_harm", "mke2fs") else { return };
    for arguments in [&["-t", "ext2"][..], &["-t", "ext4", "-O", "^has_journal,^metadata_csum"]] {
        let files = files();
        let image = ext_image(&mke2fs, arguments, &files);
        flip(&image, &files, 1024, &BTreeSet::new(), false);
        cut(&image, &files);
    }
}

#[test]
fn flips_in_the_extent_file_system_are_found() {
    let files = files();
    let disk = RamDisk::new(64);
    extent_fs::make(Box::new(disk.clone())).unwrap();
    let volume = Volume::mount(Box::new(disk.clone()), CacheOptions::default()).unwrap();
    for folder in ["sub", "sub/deep"] {
        volume.create_dir(folder).unwrap();
    }
    for (name, bytes) in &files {
        volume.create(name).unwrap().write_at(0, bytes).unwrap();
    }
    volume.unmount().unwrap();
    let image = disk.to_bytes();
    let failed = flip(&image, &files, BLOCK_BYTES, &BTreeSet::new(), true);
    assert!(failed > cases() / 2, "{failed}");
    cut(&image, &files);
}
