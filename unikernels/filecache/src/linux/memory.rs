//! The budget of the page cache, and which replacement the kernel uses.
//!
//! Sources: Linux, Documentation/admin-guide/cgroup-v2.rst ("Memory"), mm/multigen_lru.rst, sysctl/vm.rst.

use crate::files::FileError;
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

/// Pages that the kernel takes from a group in advance for a core (`MEMCG_CHARGE_BATCH` in include/linux/memcontrol.h):
/// they count against the limit, but hold nothing.
pub(super) const TAKEN_IN_ADVANCE: u64 = 64;

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
    /// Bytes of the program and of the kernel on its behalf, without page cache.
    pub own_bytes: u64,
    /// The limit of both together, in bytes.
    pub limit_bytes: u64,
    /// Bytes of page cache at the end.
    pub cached_bytes: u64,
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

/// Lets this process open as many files as the kernel permits: the source trees have more than the usual limit.
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

    /// Bytes in use that are not page cache.
    pub(super) fn own_bytes(&self) -> Result<u64, RunError> {
        let path = self.folder.join("memory.current");
        let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
        let current: u64 = text
            .trim()
            .parse()
            .map_err(|error| RunError::malformed(&path.to_string_lossy(), format!("{text:?}: {error}")))?;
        Ok(current.saturating_sub(self.cached_bytes()?))
    }

    /// Bytes of page cache.
    pub(super) fn cached_bytes(&self) -> Result<u64, RunError> {
        let path = self.folder.join("memory.stat");
        let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
        statistic(&text, "file").ok_or_else(|| {
            RunError::malformed(&path.to_string_lossy(), "it has no line for page cache".to_owned())
        })
    }

    /// Sets the limit of everything together, in bytes.
    pub(super) fn limit(&self, bytes: u64) -> Result<(), RunError> {
        write(self.folder.join("memory.max"), &bytes.to_string())
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
        let text = "anon 4096\nfile_mapped 7\nfile 8192\nkernel 1\n";
        assert_eq!(statistic(text, "file"), Some(8192));
        assert_eq!(statistic(text, "file_mapped"), Some(7));
        assert_eq!(statistic(text, "fil"), None);
    }
}
