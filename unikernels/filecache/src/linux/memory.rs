//! The budget of the page cache, and which replacement the kernel uses.
//!
//! Sources: Linux, Documentation/admin-guide/cgroup-v2.rst ("Memory"), mm/multigen_lru.rst, sysctl/vm.rst.

use crate::files::FileError;
use crate::lines::BLOCK_BYTES;
use crate::workload::RunError;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io;
use std::path::{Path, PathBuf};

/// Where control groups of version 2 are mounted.
const GROUPS: &str = "/sys/fs/cgroup";
/// The group of the workload.
const NAME: &str = "filecache";
const GENERATIONS: &str = "/sys/kernel/mm/lru_gen/enabled";
const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";
const STATISTICS: &str = "/proc/vmstat";
const STATISTICS_REFRESH: &str = "/proc/sys/vm/stat_refresh";
/// Line of the statistics with the pages of the page cache.
const CACHED: &str = "nr_file_pages";

/// The kernel's page replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplacementKind {
    /// Active and inactive lists: what Debian's kernel does unless told otherwise.
    Lists,
    /// Multi-generational LRU.
    Generations,
}

/// What became of the memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Bytes of the program and of the kernel on its behalf at the end, without page cache.
    pub own_bytes: u64,
    /// Most blocks of page cache that were seen.
    pub most_cached: u64,
    /// Blocks of page cache seen, on average.
    pub mean_cached: u64,
}

/// An error for a file of the kernel's.
pub(super) fn unreadable(path: impl AsRef<Path>, error: &io::Error) -> RunError {
    RunError::file(&path.as_ref().to_string_lossy(), FileError::Host(error.to_string()))
}

fn write(path: impl AsRef<Path>, text: &str) -> Result<(), RunError> {
    std::fs::write(&path, text).map_err(|error| unreadable(path, &error))
}

/// Switches to a replacement.
pub(super) fn choose_replacement(kind: ReplacementKind) -> Result<(), RunError> {
    match kind {
        ReplacementKind::Generations => write(GENERATIONS, "y"),
        // A kernel without generations has nothing to switch off.
        ReplacementKind::Lists if Path::new(GENERATIONS).exists() => write(GENERATIONS, "n"),
        ReplacementKind::Lists => Ok(()),
    }
}

/// Lets this process open as many files as the kernel permits: the source trees have more than the usual
/// limit.
pub(super) fn allow_open_files() -> Result<(), RunError> {
    let failed = |errno: nix::Error| RunError::file("open files", FileError::Host(errno.to_string()));
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(failed)
}

/// Writes what is dirty and drops everything cached: pages, names and inodes.
pub(super) fn drop_caches() -> Result<(), RunError> {
    nix::unistd::sync();
    write(DROP_CACHES, "3")
}

/// The control group in which the workload runs.
pub(super) struct Group {
    folder: PathBuf,
}

impl Group {
    /// Makes it and enters it.
    pub(super) fn make() -> Result<Group, RunError> {
        write(Path::new(GROUPS).join("cgroup.subtree_control"), "+memory")?;
        let folder = Path::new(GROUPS).join(NAME);
        match std::fs::create_dir(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(unreadable(folder, &error));
            }
            _ => {}
        }
        write(folder.join("cgroup.procs"), &std::process::id().to_string())?;
        Ok(Group { folder })
    }

    /// Bytes in use, page cache included.
    fn bytes(&self) -> Result<u64, RunError> {
        let path = self.folder.join("memory.current");
        let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
        let wrong = |error| RunError::malformed(&path.to_string_lossy(), format!("{text:?}: {error}"));
        text.trim().parse().map_err(wrong)
    }

    /// Sets the limit of everything together, in bytes.
    fn limit(&self, bytes: u64) -> Result<(), RunError> {
        write(self.folder.join("memory.max"), &bytes.to_string())
    }
}

/// Blocks in the page cache of the whole system, those of the initial file system included.
fn cached_blocks() -> Result<u64, RunError> {
    // Has each core add up what it has counted so far.
    write(STATISTICS_REFRESH, "1")?;
    let text = std::fs::read_to_string(STATISTICS).map_err(|error| unreadable(STATISTICS, &error))?;
    statistic(&text, CACHED).ok_or_else(|| RunError::malformed(STATISTICS, format!("no line for {CACHED}")))
}

/// A limit for the page cache alone.
///
/// A control group has one limit for everything. So every few reads it is set anew, to what is in use besides
/// page cache and the size of the cache: what the kernel takes for its own purposes is not held against the
/// cache, nor does the cache grow when that shrinks.
pub(super) struct Budget {
    group: Group,
    /// Blocks of the initial file system, which are not the group's and stay.
    others: u64,
    blocks: u64,
    most: u64,
    sum: u64,
    samples: u64,
}

impl Budget {
    /// No limit yet. Nothing must be cached that can go: see [`drop_caches`].
    pub(super) fn new(group: Group) -> Result<Budget, RunError> {
        Ok(Budget { group, others: cached_blocks()?, blocks: 0, most: 0, sum: 0, samples: 0 })
    }

    /// From now on there is a limit of so many blocks.
    pub(super) fn start(&mut self, blocks: u64) -> Result<(), RunError> {
        self.blocks = blocks;
        self.adjust()
    }

    /// Sets the group's limit anew, once there is one.
    pub(super) fn adjust(&mut self) -> Result<(), RunError> {
        if self.blocks == 0 {
            return Ok(());
        }
        let cached = cached_blocks()?.saturating_sub(self.others);
        self.most = self.most.max(cached);
        self.sum += cached;
        self.samples += 1;
        let block = BLOCK_BYTES as u64;
        let own = self.group.bytes()?.saturating_sub(cached * block);
        self.group.limit(own + self.blocks * block)
    }

    /// What became of the memory so far.
    pub(super) fn result(&self) -> Result<MemoryUse, RunError> {
        let cached = cached_blocks()?.saturating_sub(self.others);
        Ok(MemoryUse {
            own_bytes: self.group.bytes()?.saturating_sub(cached * BLOCK_BYTES as u64),
            most_cached: self.most,
            mean_cached: self.sum / self.samples.max(1),
        })
    }
}

/// The value of a line `key value`.
fn statistic(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_found_by_their_whole_name() {
        let text = "nr_file_pages 8192\nnr_file 7\n";
        assert_eq!(statistic(text, "nr_file_pages"), Some(8192));
        assert_eq!(statistic(text, "nr_file"), Some(7));
        assert_eq!(statistic(text, "nr_fil"), None);
    }
}
