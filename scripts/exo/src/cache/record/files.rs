//! Files as the record knows them: which are the same, what they are called, what was done to them.
//!
//! A file is a regular file or a block device. Two regular files are the same if device, inode and time of
//! birth are: a file that is deleted often leaves its inode to the next one. Files of `/proc`, `/sys` and
//! their like are none here, for their bytes are made when they are read.

use super::blocks::Blocks;
use nix::sys::statfs::{self, FsType, statfs};
use std::collections::{BTreeSet, HashMap};
use std::fs::Metadata;
use std::os::linux::fs::MetadataExt;
use std::os::unix::fs::FileTypeExt;
use std::time::SystemTime;

/// File systems whose files have no blocks.
const WITHOUT_BLOCKS: [FsType; 11] = [
    statfs::PROC_SUPER_MAGIC,
    statfs::SYSFS_MAGIC,
    statfs::CGROUP_SUPER_MAGIC,
    statfs::CGROUP2_SUPER_MAGIC,
    statfs::DEBUGFS_MAGIC,
    statfs::TRACEFS_MAGIC,
    statfs::SECURITYFS_MAGIC,
    statfs::SELINUX_MAGIC,
    statfs::BPF_FS_MAGIC,
    statfs::NSFS_MAGIC,
    statfs::DEVPTS_SUPER_MAGIC,
];

/// What tells files apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Identity {
    /// A regular file.
    Regular { device: u64, inode: u64, born: Option<SystemTime> },
    /// A block device, whatever path names it.
    Device(u64),
}

/// Which file, in the order of first sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileIndex(usize);

/// A file.
#[derive(Debug)]
pub struct File {
    /// Its path at first sight.
    pub name: String,
    /// Its number in the record; `None` until there is a reference to it.
    pub number: Option<u32>,
    /// The largest size it was seen with, in bytes.
    pub bytes: u64,
    /// References by reading.
    pub reads: u64,
    /// References by writing.
    pub writes: u64,
    /// Blocks with references.
    pub blocks: Blocks,
    /// Ranges of bytes that were mapped.
    pub mapped: BTreeSet<(u64, u64)>,
    /// Whether it was mapped as code: a program or a library.
    pub executable: bool,
}

impl File {
    /// References.
    pub fn references(&self) -> u64 {
        self.reads + self.writes
    }

    /// Bytes that were mapped, each counted once.
    pub fn mapped_bytes(&self) -> u64 {
        let (mut bytes, mut end) = (0, 0);
        for (from, to) in &self.mapped {
            let to = (*to).min(self.bytes);
            bytes += to.saturating_sub(end.max(*from));
            end = end.max(to);
        }
        bytes
    }
}

/// All files.
#[derive(Debug, Default)]
pub struct Files {
    files: Vec<File>,
    index_of: HashMap<Identity, FileIndex>,
    /// By device: whether its files have blocks.
    with_blocks: HashMap<u64, bool>,
}

impl Files {
    /// The file behind a descriptor, and its size now; `None` if that is a pipe, a socket, a terminal, or
    /// closed.
    pub fn find(&mut self, thread: i32, descriptor: i32) -> Option<(FileIndex, u64)> {
        if descriptor < 0 {
            return None;
        }
        let link = format!("/proc/{thread}/fd/{descriptor}");
        let metadata = std::fs::metadata(&link).ok()?;
        let (identity, bytes) = self.identity(&link, &metadata)?;
        let next = FileIndex(self.files.len());
        let index = *self.index_of.entry(identity).or_insert(next);
        if index == next {
            let path = std::fs::read_link(&link).unwrap_or_else(|_| link.into());
            self.files.push(File {
                name: path.to_string_lossy().into_owned(),
                number: None,
                bytes,
                reads: 0,
                writes: 0,
                blocks: Blocks::default(),
                mapped: BTreeSet::new(),
                executable: false,
            });
        }
        self.files[index.0].bytes = bytes.max(self.files[index.0].bytes);
        Some((index, bytes))
    }

    fn identity(&mut self, link: &str, metadata: &Metadata) -> Option<(Identity, u64)> {
        let kind = metadata.file_type();
        if kind.is_block_device() {
            let device = metadata.st_rdev();
            return Some((Identity::Device(device), device_bytes(device).unwrap_or(0)));
        }
        let device = metadata.st_dev();
        // A file system that can't be asked is taken for one like others.
        let has_blocks =
            || statfs(link).map_or(true, |status| !WITHOUT_BLOCKS.contains(&status.filesystem_type()));
        if !kind.is_file() || !*self.with_blocks.entry(device).or_insert_with(has_blocks) {
            return None;
        }
        let born = metadata.created().ok();
        Some((Identity::Regular { device, inode: metadata.st_ino(), born }, metadata.len()))
    }

    /// A file.
    pub fn get_mut(&mut self, index: FileIndex) -> &mut File {
        &mut self.files[index.0]
    }

    /// All files, in the order of first sight.
    pub fn all(&self) -> &[File] {
        &self.files
    }
}

/// Size of a block device, in bytes.
fn device_bytes(device: u64) -> Option<u64> {
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let sectors = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/size")).ok()?;
    // Of 512 bytes each, whatever the device's own sectors are (sysfs-block).
    sectors.trim().parse::<u64>().ok()?.checked_mul(512)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn files_are_told_apart() {
        let own = std::process::id().cast_signed();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "12345").unwrap();
        let mut files = Files::default();
        let mut find = |file: &std::fs::File| files.find(own, file.as_raw_fd());
        let (first, second) = (std::fs::File::open(&path).unwrap(), std::fs::File::open(&path).unwrap());
        let found = find(&first).unwrap();
        assert_eq!((Some(found), found.1), (find(&second), 5));
        let other = std::fs::File::create(folder.path().join("b")).unwrap();
        assert_ne!(find(&other).unwrap().0, found.0);
        for none in ["/proc/self/status", "/dev/null", "/"] {
            assert_eq!(find(&std::fs::File::open(none).unwrap()), None, "{none}");
        }
        assert_eq!(files.find(own, -1), None);
        assert!(files.all()[0].name.ends_with("/a") && files.all().len() == 2);
    }

    #[test]
    fn mapped_bytes_count_once() {
        let mut files = Files::default();
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(100).unwrap();
        let own = std::process::id().cast_signed();
        let index = files.find(own, file.as_file().as_raw_fd()).unwrap().0;
        let file = files.get_mut(index);
        file.mapped.extend([(0, 10), (5, 20), (40, 50), (41, 42), (90, 4096)]);
        assert_eq!(file.mapped_bytes(), 20 + 10 + 10);
    }
}
