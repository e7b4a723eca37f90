//! Images made by `mke2fs -d`, read through the cache.

use libos_fs::device::fault::DelayedDevice;
use libos_fs::{CacheOptions, EntryKind, Format, FsError, Operation, RamDisk, Volume};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

fn contents(seed: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at.wrapping_mul(31) ^ (at >> 12).wrapping_mul(seed + 7)) as u8).collect()
}

/// An image with a few files, made by this program.
fn image(mke2fs: &Path, block_bytes: u32) -> Vec<u8> {
    image_with(mke2fs, block_bytes, &[])
}

/// The same, with more arguments.
fn image_with(mke2fs: &Path, block_bytes: u32, more: &[&str]) -> Vec<u8> {
    static IMAGES: AtomicUsize = AtomicUsize::new(0);
    let number = IMAGES.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("libos-fs-ext4-{}-{number}", std::process::id()));
    let tree = folder.join("tree");
    fs::create_dir_all(tree.join("sub/deep")).unwrap();
    fs::write(tree.join("empty"), b"").unwrap();
    fs::write(tree.join("small"), b"hello\n").unwrap();
    fs::write(tree.join("sub/large"), contents(1, 300_001)).unwrap();
    fs::write(tree.join("sub/deep/other"), contents(2, 70_000)).unwrap();
    std::os::unix::fs::symlink("sub/large", tree.join("link")).unwrap();
    let image = folder.join("image");
    let made = Command::new(mke2fs)
        .args(["-q", "-t", "ext4", "-b", &block_bytes.to_string()])
        .args(more)
        .arg("-d")
        .args([&tree, &image])
        .arg("8M")
        .status()
        .unwrap();
    assert!(made.success());
    let bytes = fs::read(&image).unwrap();
    remove(&folder);
    bytes
}

fn remove(folder: &Path) {
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn files_of_an_image_are_read_through_the_cache() {
    let test = "files_of_an_image_are_read_through_the_cache";
    let Some(mke2fs) = host_needs::program(test, "mke2fs") else { return };
    for block_bytes in [1024, 4096] {
        let bytes = image(&mke2fs, block_bytes);
        let (device, seen) = DelayedDevice::new(RamDisk::from_bytes(bytes), 16, 1);
        let options = CacheOptions { blocks: 64, ..CacheOptions::default() };
        let volume = Volume::mount(Box::new(device), options).unwrap();
        assert_eq!(volume.format(), Format::Ext4);
        let names: Vec<_> =
            volume.list("/").unwrap().into_iter().map(|e| (e.name, e.kind, e.bytes)).collect();
        assert!(names.contains(&("small".into(), EntryKind::File, 6)), "{names:?}");
        assert!(names.contains(&("sub".into(), EntryKind::Directory, 0)));
        assert!(names.contains(&("link".into(), EntryKind::Other, 0)));
        assert_eq!(volume.list("sub/deep").unwrap().len(), 1);
        for (path, seed, length) in
            [("/sub/large", 1, 300_001), ("sub/deep/other", 2, 70_000), ("link", 1, 300_001)]
        {
            let file = volume.open(path).unwrap();
            assert_eq!(file.len().unwrap(), length as u64);
            let mut read = vec![0; length + 10];
            assert_eq!(file.read_at(0, &mut read).unwrap(), length);
            assert!(read[..length] == contents(seed, length)[..], "{path}");
            let mut middle = [0; 5000];
            assert_eq!(file.read_at(12_345, &mut middle).unwrap(), 5000);
            assert_eq!(middle[..], contents(seed, length)[12_345..17_345]);
            assert_eq!(file.read_at(length as u64, &mut middle).unwrap(), 0);
        }
        assert_eq!(volume.open("/sub/large").unwrap().id(), volume.open("/link").unwrap().id());
        assert_eq!(volume.open("/empty").unwrap().len(), Ok(0));
        assert_eq!(volume.open("/nothing").err(), Some(FsError::NotFound("/nothing".into())));
        assert_eq!(volume.open("/sub").err(), Some(FsError::IsADirectory("/sub".into())));
        assert_eq!(volume.create("/new").err(), Some(FsError::ReadOnly));
        let counted = volume.cache().statistics();
        assert!(counted.blocks_read > 0 && counted.metadata_reads > 0 && counted.mount_reads > 0);
        let moved = counted.mount_reads + counted.metadata_reads + counted.blocks_read;
        assert_eq!(moved, seen.blocks(Operation::Read), "{counted:?}");
    }
}

#[test]
fn damaged_images_are_errors() {
    let Some(mke2fs) = host_needs::program("damaged_images_are_errors", "mke2fs") else { return };
    let bytes = image(&mke2fs, 4096);
    for step in 0..400 {
        let mut damaged = bytes.clone();
        // The first blocks hold superblock, descriptors, inodes, directories.
        for at in 0..6 {
            let place = (step * 7919 + at * 104_729) % (64 * 4096);
            damaged[place] ^= 1 << (at % 8);
        }
        let Ok(volume) = Volume::mount(Box::new(RamDisk::from_bytes(damaged)), CacheOptions::default())
        else {
            continue;
        };
        let _ = volume.list("/");
        if let Ok(file) = volume.open("/sub/large") {
            let _ = file.read_at(0, &mut vec![0; 300_001]);
        }
    }
}

/// Inodes of 128 bytes have room for half a checksum only.
#[test]
fn images_with_small_inodes_are_read() {
    let Some(mke2fs) = host_needs::program("images_with_small_inodes_are_read", "mke2fs") else { return };
    let bytes = image_with(&mke2fs, 4096, &["-I", "128", "-O", "metadata_csum"]);
    let volume = Volume::mount(Box::new(RamDisk::from_bytes(bytes)), CacheOptions::default()).unwrap();
    assert_eq!(volume.list("sub/deep").unwrap().len(), 1);
    let mut read = vec![0; 300_001];
    assert_eq!(volume.open("/sub/large").unwrap().read_at(0, &mut read), Ok(300_001));
    assert!(read == contents(1, 300_001));
}

#[test]
fn checksums_of_other_images_are_still_checked() {
    let test = "checksums_of_other_images_are_still_checked";
    let Some(mke2fs) = host_needs::program(test, "mke2fs") else { return };
    let mut bytes = image_with(&mke2fs, 4096, &["-I", "256", "-O", "metadata_csum"]);
    let label = 1024 + 0x78;
    bytes[label] ^= 1;
    let result = Volume::mount(Box::new(RamDisk::from_bytes(bytes)), CacheOptions::default());
    assert!(matches!(result.err(), Some(FsError::Corrupt(_))));
}

/// An image that somebody else made, beside the repository.
#[test]
fn a_reported_image_with_small_inodes_is_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/cases/inode128.img.gz");
    if !host_needs::file("a_reported_image_with_small_inodes_is_read", &path) {
        return;
    }
    let unpacked = Command::new("gzip").arg("-dc").arg(&path).output().unwrap();
    assert!(unpacked.status.success());
    let disk = RamDisk::from_bytes(unpacked.stdout);
    let volume = Volume::mount(Box::new(disk), CacheOptions::default()).unwrap();
    let names: Vec<_> = volume.list("/").unwrap().into_iter().map(|entry| entry.name).collect();
    assert!(names.contains(&"small".into()), "{names:?}");
}
