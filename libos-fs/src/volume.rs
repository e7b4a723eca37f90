//! Volumes and files: the interface that applications use.

use crate::cache::{BufferCache, CacheOptions, LentPage, Manager, ManagerId};
use crate::device::{BlockDevice, DeviceQueue, EndRequest};
use crate::error::FsError;
use crate::ext4::Ext4Volume;
use crate::extent_fs::ExtentVolume;
use crate::file_id::FileId;
use crate::file_system::{DirectoryEntry, EntryKind, FileSystem, Format, Space};
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

impl From<&File> for FileId {
    fn from(file: &File) -> FileId {
        file.id()
    }
}

/// A file system, and where it shows that it is to commit and the program to end.
#[derive(Clone)]
struct Watched {
    format: Rc<dyn FileSystem>,
    end: Option<Arc<dyn EndRequest>>,
}

impl Watched {
    /// The file system, for an operation that begins now: before it, nothing is half done.
    fn now(&self) -> &dyn FileSystem {
        if let Some(end) = self.end.as_ref().filter(|end| end.is_there()) {
            match self.format.commit() {
                Ok(()) => end.end(None),
                Err(error) => end.end(Some(&error)),
            }
        }
        &*self.format
    }

    /// The same for an operation that changes something.
    fn changing(&self) -> &dyn FileSystem {
        let format = self.now();
        self.has_something(true);
        format
    }

    fn commit(&self) -> Result<(), FsError> {
        self.now().commit()?;
        self.has_something(false);
        Ok(())
    }

    fn has_something(&self, there_is: bool) {
        if let Some(end) = &self.end {
            end.has_something(there_is);
        }
    }
}

/// A mounted file system and its cache.
///
/// Clones are the same volume. Changes become permanent, all at once, with [`Volume::commit`]; a volume that
/// is dropped without it is as it was after the last one. If the device has a power button
/// ([`BlockDevice::end_request`]) and it was pressed, the next operation on the volume or a file of it
/// commits, and ends the program.
#[derive(Clone)]
pub struct Volume {
    cache: Rc<BufferCache>,
    format: Watched,
    /// Who takes the files that are opened.
    manager: Option<ManagerId>,
}

impl Volume {
    /// Mounts what is on the device: our own format or ext4.
    ///
    /// # Errors
    ///
    /// [`FsError::UnknownFormat`] if it is neither, [`FsError::Corrupt`] or [`FsError::Checksum`] if it is
    /// damaged, [`FsError::Device`] if the device fails.
    pub fn mount(device: Box<dyn BlockDevice>, options: CacheOptions) -> Result<Volume, FsError> {
        Volume::mount_by(device, options, |cache| match ExtentVolume::mount(Rc::clone(cache)) {
            Ok(volume) => Ok(Rc::new(volume)),
            Err(FsError::UnknownFormat) => Ok(Rc::new(Ext4Volume::mount(Rc::clone(cache))?)),
            Err(error) => Err(error),
        })
    }

    /// The same for our own format alone. An image that mounts so has no code for the other.
    ///
    /// # Errors
    ///
    /// [`FsError::UnknownFormat`] if it is another, else as [`Volume::mount`].
    pub fn mount_extent_fs(device: Box<dyn BlockDevice>, options: CacheOptions) -> Result<Volume, FsError> {
        Volume::mount_by(device, options, |cache| Ok(Rc::new(ExtentVolume::mount(Rc::clone(cache))?)))
    }

    fn mount_by(
        device: Box<dyn BlockDevice>,
        options: CacheOptions,
        mount: impl FnOnce(&Rc<BufferCache>) -> Result<Rc<dyn FileSystem>, FsError>,
    ) -> Result<Volume, FsError> {
        let (log, end) = (device.reference_log(), device.end_request());
        let queue = Rc::new(DeviceQueue::new(device));
        let cache = Rc::new(BufferCache::new(queue, options));
        let format = mount(&cache)?;
        cache.end_of_mount();
        if let Some(print) = log {
            cache.log_references(print);
        }
        Ok(Volume { cache, format: Watched { format, end }, manager: None })
    }

    /// Which format it is.
    pub fn format(&self) -> Format {
        self.format.format.format()
    }

    /// The cache: policies, priorities, statistics.
    pub fn cache(&self) -> &BufferCache {
        &self.cache
    }

    /// The same volume for a manager of the cache: it takes every file that is opened or made through this
    /// handle. The manager is made if there is none of this name.
    ///
    /// On ext4, where the cache knows blocks by their number on the device only, files stay with the default
    /// manager.
    pub fn as_manager(&self, name: &str) -> Volume {
        Volume { manager: Some(self.cache.manager(name).id()), ..self.clone() }
    }

    /// The manager that takes the files opened through this handle, or the default manager.
    pub fn manager(&self) -> Manager<'_> {
        self.cache.manager_by_id(self.manager.unwrap_or_default())
    }

    /// Gives all files that are below a directory now a priority of the manager of this handle.
    ///
    /// # Errors
    ///
    /// If there is no such directory, or a file belongs to another manager.
    pub fn set_priority_below(&self, directory: &str, priority: i32) -> Result<(), FsError> {
        for path in self.files_below(directory)? {
            self.manager().set_priority(&self.open(&path)?, priority)?;
        }
        Ok(())
    }

    /// Paths of all files that are below a directory, whose own path has no `/` at its end.
    ///
    /// # Errors
    ///
    /// If there is no such directory.
    pub fn files_below(&self, directory: &str) -> Result<Vec<String>, FsError> {
        let mut files = Vec::new();
        for entry in self.list(if directory.is_empty() { "/" } else { directory })? {
            let path = format!("{directory}/{}", entry.name);
            match entry.kind {
                EntryKind::File => files.push(path),
                // An ext4 directory may list itself and its parent.
                EntryKind::Directory if entry.name != "." && entry.name != ".." => {
                    files.extend(self.files_below(&path)?);
                }
                EntryKind::Directory | EntryKind::Other => {}
            }
        }
        Ok(files)
    }

    /// How full it is. An ext4 volume has nothing free: it is read-only.
    pub fn space(&self) -> Space {
        self.format.format.space()
    }

    /// Opens a file.
    pub fn open(&self, path: &str) -> Result<File, FsError> {
        Ok(self.file(self.format.now().open(path)?))
    }

    /// Makes an empty file. Its directory must exist, its name must not.
    pub fn create(&self, path: &str) -> Result<File, FsError> {
        Ok(self.file(self.format.changing().create(path)?))
    }

    /// Makes an empty directory. The directory it is in must exist, its name must not.
    pub fn create_dir(&self, path: &str) -> Result<(), FsError> {
        self.format.changing().create_dir(path)
    }

    /// Removes a file or an empty directory. Blocks of the file that were not yet written never will be.
    /// Using an open file after that is [`FsError::Removed`].
    pub fn remove(&self, path: &str) -> Result<(), FsError> {
        self.format.changing().remove(path)
    }

    /// Gives a file or a directory another path. A file that had it is replaced.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), FsError> {
        self.format.changing().rename(from, to)
    }

    /// What is in a directory, in the order of names.
    pub fn list(&self, path: &str) -> Result<Vec<DirectoryEntry>, FsError> {
        self.format.now().list(path)
    }

    /// Makes all changes since the last commit permanent, all or none. Nothing to do on ext4.
    ///
    /// # Errors
    ///
    /// After an error nothing is lost and the commit can be tried again, except after
    /// [`FsError::CommitUnknown`].
    pub fn commit(&self) -> Result<(), FsError> {
        self.format.commit()
    }

    /// Commits and lets go of the device, unless clones or open files still hold it.
    pub fn unmount(self) -> Result<(), FsError> {
        self.commit()
    }

    fn file(&self, id: FileId) -> File {
        if self.manager.is_some() {
            self.manager().take(id);
        }
        File { format: self.format.clone(), id }
    }
}

/// An open file. Clones are the same file.
#[derive(Clone)]
pub struct File {
    format: Watched,
    id: FileId,
}

impl File {
    /// Its number, by which the cache knows it.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Its length in bytes.
    pub fn len(&self) -> Result<u64, FsError> {
        self.format.now().bytes(self.id)
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> Result<bool, FsError> {
        Ok(self.len()? == 0)
    }

    /// Reads from an offset in bytes. Returns how many bytes there were: fewer than asked for only at the end
    /// of the file. Bytes that were never written are zeros.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<usize, FsError> {
        self.format.now().read_at(self.id, offset, into)
    }

    /// Lends a block: the page of the cache that holds it, without a copy. `None` if it is a hole or beyond
    /// the end of the file, and on ext4, whose files the cache does not know by their blocks: then
    /// [`File::read_at`] reads it.
    ///
    /// # Errors
    ///
    /// As [`File::read_at`].
    pub fn lend(&self, block: u64) -> Result<Option<Arc<LentPage>>, FsError> {
        self.format.now().lend(self.id, block)
    }

    /// CRC-32 of each block as the volume keeps them: they tell contents from others without reading them. A
    /// hole has 0; the last block counts whole. `None` on ext4, which keeps none, and while something that
    /// was written to any file is not committed.
    ///
    /// # Errors
    ///
    /// [`FsError::Removed`] if the file is gone.
    pub fn block_sums(&self) -> Result<Option<Vec<u32>>, FsError> {
        self.format.now().block_sums(self.id)
    }

    /// Discloses that these blocks will be read, in this order, after all that its manager's files were
    /// disclosed for before. What comes of it is up to the read-ahead policy: `directed` and `aggressive`
    /// start to fetch them (see [`cache::Disclosed`](crate::cache::Disclosed)), others ignore it. Wrong
    /// disclosures cost time, nothing else.
    ///
    /// Has no effect on ext4, where the cache does not know the blocks of a file.
    ///
    /// # Errors
    ///
    /// [`FsError::Removed`] if the file is gone.
    pub fn will_need(&self, blocks: Range<u64>) -> Result<(), FsError> {
        self.format.now().will_need(self.id, blocks)
    }

    /// Writes all of `from` at an offset in bytes; the file grows as needed.
    ///
    /// # Errors
    ///
    /// After an error, bytes from the offset on may have been written and the rest not.
    pub fn write_at(&self, offset: u64, from: &[u8]) -> Result<(), FsError> {
        self.format.changing().write_at(self.id, offset, from)
    }

    /// Writes at the end of the file; returns the offset.
    pub fn append(&self, from: &[u8]) -> Result<u64, FsError> {
        let offset = self.len()?;
        self.write_at(offset, from)?;
        Ok(offset)
    }

    /// Makes all that was written permanent, on stable storage. Commits the whole volume: a state that holds
    /// for one file only does not exist.
    ///
    /// # Errors
    ///
    /// Those of [`Volume::commit`]. `Ok` means that everything written before is on the disk, whatever went
    /// wrong meanwhile: what a write-back in the background could not write is still in the cache and is
    /// tried again here, and what was written before a flush that failed is written again. As long as
    /// something is not there, every call says so.
    pub fn sync(&self) -> Result<(), FsError> {
        self.format.commit()
    }

    /// Makes the file this long: cuts it, or adds zeros.
    pub fn truncate(&self, bytes: u64) -> Result<(), FsError> {
        self.format.changing().truncate(self.id, bytes)
    }
}
