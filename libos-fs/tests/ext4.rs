//! Images made by `mke2fs -d`, read through the cache.

use libos_fs::cache::SharedCache;
use libos_fs::device::fault::DelayedDevice;
use libos_fs::ext4::{name_from_bytes, name_to_bytes};
use libos_fs::shared::Threads;
use libos_fs::{CacheOptions, EntryKind, Format, FsError, Operation, RamDisk, SharedVolume, Volume};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
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

/// The same image, maps of ext2 included, on one core and on several.
#[test]
fn several_cores_read_an_image() {
    let test = "several_cores_read_an_image";
    let Some(mke2fs) = host_needs::program(test, "mke2fs") else { return };
    for (block_bytes, more) in [(1024, vec![]), (4096, vec![]), (1024, vec!["-O", "^extents,^64bit"])] {
        let bytes = image_with(&mke2fs, block_bytes, &more);
        let disk = RamDisk::from_bytes(bytes.clone());
        let one = Volume::mount(Box::new(disk.clone()), CacheOptions::default()).unwrap();
        let volume = SharedVolume::mount(disk, SharedCache::sieve(20, 1), Threads).unwrap();
        assert_eq!(volume.format(), Format::Ext4);
        for folder in ["/", "sub", "/sub/deep", "./sub/../sub"] {
            assert_eq!(volume.list(folder), one.list(folder), "{folder}");
        }
        for path in ["/nothing", "/sub", "small/below", "sub/nothing/below"] {
            assert_eq!(volume.open(path).err(), one.open(path).err(), "{path}");
        }
        assert_eq!(volume.open("link").unwrap().id(), volume.open("/sub/large").unwrap().id());
        assert!(volume.open("empty").unwrap().is_empty());
        std::thread::scope(|scope| {
            for (path, seed, length) in
                [("/sub/large", 1, 300_001), ("sub/deep/other", 2, 70_000), ("link", 1, 300_001)]
            {
                let file = volume.open(path).unwrap();
                scope.spawn(move || {
                    let expected = contents(seed, length);
                    assert_eq!(file.len(), length as u64);
                    for (offset, bytes) in [(0, length + 10), (12_345, 5000), (length - 3, 9), (length, 1)] {
                        let mut read = vec![0; bytes];
                        let most = bytes.min(length - offset);
                        assert_eq!(file.read_at(offset as u64, &mut read), Ok(most));
                        assert!(read[..most] == expected[offset..offset + most], "{path} at {offset}");
                    }
                });
            }
        });
        let file = volume.open("small").unwrap();
        assert_eq!(file.write_at(0, b"x"), Err(FsError::ReadOnly));
        assert_eq!(file.truncate(0), Err(FsError::ReadOnly));
        assert_eq!(volume.create("/new").err(), Some(FsError::ReadOnly));
        assert_eq!(volume.remove("small"), Err(FsError::ReadOnly));
        assert_eq!(volume.commit(), Ok(()));
        let counted = volume.statistics();
        assert!(counted.blocks_read > 0 && counted.mount_reads > 0 && counted.blocks_written == 0);
        // Cut off, as files of the image lie to its end.
        let half = RamDisk::from_bytes(bytes[..bytes.len() / 8].to_vec());
        match SharedVolume::mount(half, SharedCache::sieve(20, 1), Threads) {
            Ok(cut) => assert!(matches!(cut.open("sub/large").err(), Some(FsError::Corrupt(_)))),
            Err(error) => assert!(matches!(error, FsError::Corrupt(_)), "{error}"),
        }
    }
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

/// Mounts an image; what `mke2fs` and `debugfs` have made is not damaged.
fn mount(bytes: Vec<u8>) -> Result<Volume, FsError> {
    Volume::mount(Box::new(RamDisk::from_bytes(bytes)), CacheOptions::default())
}

fn read(volume: &Volume, path: &str) -> Result<Vec<u8>, FsError> {
    let file = volume.open(path)?;
    let mut bytes = vec![0; file.len()? as usize];
    let length = file.read_at(0, &mut bytes)?;
    assert_eq!(length, bytes.len());
    Ok(bytes)
}

/// An image with the files of a folder that `fill` fills, changed by the commands of `debugfs`.
fn image_of(mke2fs: &Path, arguments: &[&str], fill: impl FnOnce(&Path), commands: &[&str]) -> Vec<u8> {
    let folder = tempfile();
    let (tree, image) = (folder.join("tree"), folder.join("image"));
    fs::create_dir_all(&tree).unwrap();
    fill(&tree);
    let made = Command::new(mke2fs)
        .arg("-qF")
        .args(arguments)
        .arg("-d")
        .args([&tree, &image])
        .arg("8M")
        .output()
        .unwrap();
    assert!(made.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&made.stderr));
    for command in commands {
        let done = Command::new("debugfs").args(["-w", "-R", command]).arg(&image).output().unwrap();
        assert!(done.status.success(), "{command}: {done:?}");
    }
    let bytes = fs::read(&image).unwrap();
    remove(&folder);
    bytes
}

/// A folder for one image.
fn tempfile() -> PathBuf {
    static FOLDERS: AtomicUsize = AtomicUsize::new(0);
    let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("libos-fs-ext4-made-{}-{number}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn features_that_are_not_read_are_named() {
    let Some(mke2fs) = host_needs::program("features_that_are_not_read_are_named", "mke2fs") else { return };
    for (feature, name) in [
        ("inline_data", "inline_data"),
        ("casefold", "casefold"),
        ("meta_bg,^resize_inode", "meta_bg"),
        ("mmp", "mmp"),
        ("ea_inode", "ea_inode"),
        ("large_dir", "large_dir"),
        ("casefold,inline_data", "inline_data, casefold"),
    ] {
        let bytes = image_of(&mke2fs, &["-t", "ext4", "-O", feature], |_| {}, &[]);
        match mount(bytes).err() {
            Some(FsError::UnsupportedFeatures { names, fix }) => {
                assert!(names == name && !fix.is_empty(), "{names}")
            }
            other => panic!("{feature}: {other:?}"),
        }
    }
    // What is set by hand, because `mke2fs` does not offer it: feature, byte, bit.
    for (name, byte, bit) in [
        ("compression", 0x60, 0x1),
        ("needs_recovery", 0x60, 0x4),
        ("journal_dev", 0x60, 0x8),
        ("dirdata", 0x61, 0x10),
        ("0x80000000", 0x63, 0x80),
        ("no filetype", 0x60, 0x2),
    ] {
        let mut bytes = image_of(&mke2fs, &["-t", "ext4"], |_| {}, &[]);
        bytes[1024 + byte] ^= bit;
        let error = mount(bytes).err().unwrap().to_string();
        assert!(error.contains(name) && error.contains("not supported"), "{name}: {error}");
    }
}

#[test]
fn features_that_change_nothing_for_a_reader_are_read() {
    let test = "features_that_change_nothing_for_a_reader_are_read";
    let Some(mke2fs) = host_needs::program(test, "mke2fs") else { return };
    for arguments in [
        &["-t", "ext4", "-O", "bigalloc", "-C", "16384"][..],
        &["-t", "ext4", "-O", "64bit"],
        &["-t", "ext4", "-O", "^64bit,^metadata_csum"],
        &["-t", "ext4", "-O", "encrypt,quota,project,verity"],
        &["-t", "ext4", "-O", "metadata_csum_seed,sparse_super2"],
        &["-t", "ext3"],
        &["-t", "ext2", "-b", "1024"],
        &["-t", "ext4", "-b", "2048"],
    ] {
        let content = contents(3, 3_000_001);
        let bytes = image_of(&mke2fs, arguments, |tree| fs::write(tree.join("f"), &content).unwrap(), &[]);
        let volume = mount(bytes).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
        assert!(read(&volume, "f").unwrap() == content, "{arguments:?}");
    }
}

#[test]
fn holes_are_zeros_however_large() {
    let Some(mke2fs) = host_needs::program("holes_are_zeros_however_large", "mke2fs") else { return };
    // With blocks of 1 KiB an indirect block stands for 256 KiB, and a doubly indirect one for 64 MiB.
    let lengths = [13 << 10, 300 << 10, 5 << 20, 70 << 20, (80 << 20) + 5];
    for arguments in
        [&["-t", "ext2", "-b", "1024"][..], &["-t", "ext2", "-b", "4096"], &["-t", "ext4", "-b", "1024"]]
    {
        let fill = |tree: &Path| {
            for length in lengths {
                let file = fs::File::create(tree.join(length.to_string())).unwrap();
                file.set_len(length).unwrap();
                file.write_all_at(b"middle", length / 2).unwrap();
                file.write_all_at(b"x", length).unwrap();
            }
        };
        let volume = mount(image_of(&mke2fs, arguments, fill, &[])).unwrap();
        for length in lengths {
            let mut expected = vec![0; length as usize + 1];
            expected[length as usize / 2..][..6].copy_from_slice(b"middle");
            expected[length as usize] = b'x';
            let found = read(&volume, &length.to_string());
            assert!(found.as_ref() == Ok(&expected), "{arguments:?} {length}: {:?}", found.err());
        }
    }
}

/// Blocks that were allocated and never written hold what somebody else left there.
#[test]
fn preallocated_blocks_are_zeros() {
    let test = "preallocated_blocks_are_zeros";
    let Some(mke2fs) = host_needs::program(test, "mke2fs") else { return };
    if host_needs::program(test, "debugfs").is_none() {
        return;
    }
    let old = vec![0xaa; 2 << 20];
    let fill = |tree: &Path| {
        fs::write(tree.join("old"), &old).unwrap();
        fs::write(tree.join("f"), b"start").unwrap();
    };
    let commands = ["rm old", "fallocate f 1 400", "set_inode_field f size 1600000"];
    let volume = mount(image_of(&mke2fs, &["-t", "ext4", "-b", "4096"], fill, &commands)).unwrap();
    let found = read(&volume, "f").unwrap();
    assert_eq!((&found[..5], found.len()), (&b"start"[..], 1_600_000));
    assert!(found[5..].iter().all(|byte| *byte == 0));
}

#[test]
fn names_that_are_not_text_stay_apart() {
    let Some(mke2fs) = host_needs::program("names_that_are_not_text_stay_apart", "mke2fs") else { return };
    let names: [&[u8]; 4] = [b"caf\xe9", b"caf\xe8", "caf\u{fffd}".as_bytes(), "\u{10ffe9}".as_bytes()];
    let fill = |tree: &Path| {
        fs::create_dir(tree.join(OsStr::from_bytes(b"d\xff"))).unwrap();
        for name in names {
            fs::write(tree.join(OsStr::from_bytes(b"d\xff")).join(OsStr::from_bytes(name)), name).unwrap();
        }
    };
    let volume = mount(image_of(&mke2fs, &["-t", "ext4"], fill, &[])).unwrap();
    let folder = name_from_bytes(b"d\xff");
    let mut listed: Vec<Vec<u8>> = Vec::new();
    for entry in volume.list(&folder).unwrap() {
        let bytes = name_to_bytes(&entry.name);
        assert_eq!(read(&volume, &format!("{folder}/{}", entry.name)).unwrap(), bytes);
        listed.push(bytes);
    }
    let mut expected = names.map(<[u8]>::to_vec);
    listed.sort();
    expected.sort();
    assert_eq!(listed, expected);
}

/// Images that somebody else made, beside the repository: see [`host_needs::case`].
fn reported(test: &str, name: &str) -> Option<Volume> {
    let path = host_needs::case(test, name)?;
    let unpacked = Command::new("gzip").arg("-dc").arg(&path).output().unwrap();
    assert!(unpacked.status.success());
    Some(mount(unpacked.stdout).unwrap())
}

#[test]
fn a_reported_image_with_small_inodes_is_read() {
    let test = "a_reported_image_with_small_inodes_is_read";
    let Some(volume) = reported(test, "inode128.img.gz") else { return };
    let names: Vec<_> = volume.list("/").unwrap().into_iter().map(|entry| entry.name).collect();
    assert!(names.contains(&"small".into()), "{names:?}");
}

#[test]
fn a_reported_image_with_a_large_hole_is_read() {
    let test = "a_reported_image_with_a_large_hole_is_read";
    let Some(volume) = reported(test, "ext2-hole.img.gz") else { return };
    let found = read(&volume, "/hole").unwrap();
    assert_eq!((found.len(), found.last()), (307_201, Some(&b'x')));
    assert!(found[..307_200].iter().all(|byte| *byte == 0));
}
