//! The kernel's files as the workloads see them.

use super::hints::PageCache;
use crate::files::{FileAccess, FileError, Storage, WorkFile};
use libos_fs::FileId;
use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// A folder.
pub(super) struct HostStorage {
    root: PathBuf,
    page_cache: Rc<PageCache>,
    /// Number of the file opened last; its own each time, so that numbers are never used again.
    last_id: Cell<u64>,
}

/// An open file in it.
struct HostFile {
    id: FileId,
    file: Rc<File>,
    page_cache: Rc<PageCache>,
}

impl HostStorage {
    /// All files in `root`.
    pub(super) fn new(root: &Path, page_cache: Rc<PageCache>) -> HostStorage {
        HostStorage { root: root.to_path_buf(), page_cache, last_id: Cell::new(0) }
    }

    fn opened(&self, file: File) -> WorkFile {
        self.last_id.set(self.last_id.get() + 1);
        let id = FileId(self.last_id.get());
        let file = Rc::new(file);
        self.page_cache.opened(id, &file);
        WorkFile::new(HostFile { id, file, page_cache: Rc::clone(&self.page_cache) })
    }
}

fn host(error: io::Error) -> FileError {
    FileError::Host(error.to_string())
}

impl Storage for HostStorage {
    fn open(&self, path: &str) -> Result<WorkFile, FileError> {
        let opened = OpenOptions::new().read(true).write(true).open(self.root.join(path));
        opened.map(|file| self.opened(file)).map_err(host)
    }

    fn create(&self, path: &str) -> Result<WorkFile, FileError> {
        let path = self.root.join(path);
        let made = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path);
        made.map(|file| self.opened(file)).map_err(host)
    }

    fn remove(&self, path: &str) -> Result<(), FileError> {
        std::fs::remove_file(self.root.join(path)).map_err(host)
    }

    fn commit(&self) -> Result<(), FileError> {
        nix::unistd::sync();
        Ok(())
    }
}

impl FileAccess for HostFile {
    fn id(&self) -> FileId {
        self.id
    }

    fn bytes(&self) -> Result<u64, FileError> {
        self.file.metadata().map(|metadata| metadata.len()).map_err(host)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<usize, FileError> {
        let mut count = 0;
        while count < into.len() {
            match self.file.read_at(&mut into[count..], offset + count as u64) {
                Ok(0) => break,
                Ok(more) => count += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(host(error)),
            }
        }
        self.page_cache.touched(self.id, offset, count as u64, true)?;
        Ok(count)
    }

    fn write_at(&self, offset: u64, from: &[u8]) -> Result<(), FileError> {
        self.file.write_all_at(from, offset).map_err(host)?;
        self.page_cache.touched(self.id, offset, from.len() as u64, false)
    }
}
