//! Read-only ext4 images, such as `mke2fs -d` makes, through the crate `ext4-view`.
//!
//! That crate finds names, follows links, checks metadata checksums and replays the journal in memory. It
//! reads through a callback, which we lead two ways:
//!
//! * metadata past the buffer cache (the crate has a small cache of its own), counted as
//!   [`metadata_reads`](crate::CacheStatistics::metadata_reads);
//! * contents of files through the buffer cache. There, blocks go by their number on the device, as blocks of
//!   [`FileId::WHOLE_DEVICE`]: the crate does not tell which block of a file is where. So priorities can be
//!   given to the volume as a whole, not to a file or a range. The crate asks for groups of up to 8 adjacent
//!   blocks, which act as read-ahead above our own, and keeps 64 of them.
//!
//! Inodes of 128 bytes, which `mke2fs` made by default for small disks, have room for half a checksum only,
//! and the crate takes such an inode for damaged. So it is told that images with such inodes have no
//! checksums of metadata: they are read, and none of their metadata is checked.
//!
//! The crate knows no hole that covers a whole indirect block (files of ext2 and ext3 that are longer than 12
//! blocks): it reports such a file as damaged.
//!
//! The crate borrows its own state while it reads, so the reads of one ext4 volume don't overlap with each
//! other; those of our read-ahead do.
//!
//! Files are known by number in the order in which they are first opened.

use crate::cache::{BufferCache, Run};
use crate::device::BLOCK_BYTES;
use crate::error::FsError;
use crate::file_id::FileId;
use crate::file_system::{DirectoryEntry, EntryKind, FileSystem, Format, Space};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::error::Error;
use core::ops::Range;
use ext4_view::{Ext4, Ext4Error, Ext4Read, FileType, PathBuf};

/// Where the superblock begins.
const SUPERBLOCK_BYTE: u64 = 1024;

/// The byte that holds the feature of metadata checksums (`RO_COMPAT_METADATA_CSUM`, 0x400 of four bytes).
const CHECKSUM_FEATURE_BYTE: u64 = SUPERBLOCK_BYTE + 0x65;

/// Its bit in that byte.
const CHECKSUM_FEATURE_BIT: u8 = 0x04;

/// Bytes of an inode that ends before the second half of its checksum.
const SMALL_INODE_BYTES: u16 = 128;

/// What the callback is reading for.
type ForContents = Rc<Cell<bool>>;

/// The callback.
struct Reader {
    cache: Rc<BufferCache>,
    for_contents: ForContents,
    /// Whether the superblock is shown without the feature of metadata checksums.
    hides_checksums: bool,
}

impl Reader {
    fn read_contents(&self, block: u64, last: u64, show: &mut dyn FnMut(&[u8])) -> Result<(), FsError> {
        let blocks = self.cache.device_blocks();
        let locate = |_, block: u64, most: u64| match blocks.saturating_sub(block).min(most) {
            0 => Ok(None),
            count => Ok(Some(Run { disk: block, count, checksums: None })),
        };
        let key = (FileId::WHOLE_DEVICE, block);
        if self.cache.read(key, last.saturating_sub(block), &locate, |page| show(&page.0))? {
            Ok(())
        } else {
            Err(FsError::Corrupt("a block lies beyond the end of the device".into()))
        }
    }

    fn read_bytes(&self, start_byte: u64, into: &mut [u8]) -> Result<(), FsError> {
        if into.is_empty() {
            return Ok(());
        }
        let first = start_byte / BLOCK_BYTES as u64;
        let last = (start_byte + (into.len() as u64 - 1)) / BLOCK_BYTES as u64;
        let mut skip = (start_byte % BLOCK_BYTES as u64) as usize;
        let mut into = into;
        let mut take = |contents: &[u8]| {
            let bytes = into.len().min(BLOCK_BYTES - skip);
            let (part, rest) = core::mem::take(&mut into).split_at_mut(bytes);
            part.copy_from_slice(&contents[skip..skip + bytes]);
            into = rest;
            skip = 0;
        };
        if self.for_contents.get() {
            for block in first..=last {
                self.read_contents(block, last, &mut take)?;
            }
        } else {
            if last >= self.cache.device_blocks() {
                let what = "metadata lies beyond the end of the device".into();
                return Err(FsError::Corrupt(what));
            }
            let blocks: Vec<u64> = (first..=last).collect();
            for page in self.cache.read_metadata(&blocks)? {
                take(&page.0);
            }
        }
        Ok(())
    }
}

impl Ext4Read for Reader {
    fn read(
        &mut self,
        start_byte: u64,
        into: &mut [u8],
    ) -> Result<(), Box<dyn Error + Send + Sync + 'static>> {
        self.read_bytes(start_byte, into)?;
        if self.hides_checksums && start_byte <= CHECKSUM_FEATURE_BYTE {
            let at = usize::try_from(CHECKSUM_FEATURE_BYTE - start_byte).ok();
            if let Some(byte) = at.and_then(|at| into.get_mut(at)) {
                *byte &= !CHECKSUM_FEATURE_BIT;
            }
        }
        Ok(())
    }
}

/// An open file.
struct Open {
    path: PathBuf,
    bytes: u64,
    file: ext4_view::File,
}

/// A mounted image.
pub(crate) struct Ext4Volume {
    cache: Rc<BufferCache>,
    image: Ext4,
    for_contents: ForContents,
    opened: RefCell<Vec<Open>>,
}

fn error(path: &str, error: Ext4Error) -> FsError {
    let path = path.to_string();
    match error {
        Ext4Error::NotFound => FsError::NotFound(path),
        Ext4Error::NotADirectory => FsError::NotADirectory(path),
        Ext4Error::IsADirectory => FsError::IsADirectory(path),
        Ext4Error::IsASpecialFile => FsError::Unsupported("special files"),
        Ext4Error::PathTooLong => FsError::BadPath(path, "too long"),
        Ext4Error::TooManySymlinks => FsError::BadPath(path, "too many symbolic links"),
        Ext4Error::Incompatible(_) => FsError::Unsupported("a feature of this ext4 image"),
        Ext4Error::Encrypted => FsError::Unsupported("encrypted files"),
        Ext4Error::Io(below) => match below.downcast::<FsError>() {
            Ok(error) => *error,
            Err(other) => FsError::Corrupt(other.to_string()),
        },
        other => FsError::Corrupt(other.to_string()),
    }
}

impl Ext4Volume {
    /// Mounts the image on the cache's device; [`FsError::UnknownFormat`] if there is none.
    pub(crate) fn mount(cache: Rc<BufferCache>) -> Result<Ext4Volume, FsError> {
        let inode_bytes = inode_bytes(&cache)?.ok_or(FsError::UnknownFormat)?;
        let for_contents = ForContents::default();
        let reader = Reader {
            cache: Rc::clone(&cache),
            for_contents: Rc::clone(&for_contents),
            hides_checksums: inode_bytes == SMALL_INODE_BYTES,
        };
        let image = Ext4::load(Box::new(reader)).map_err(|e| error("/", e))?;
        Ok(Ext4Volume { cache, image, for_contents, opened: RefCell::default() })
    }

    /// The path from the root, whether or not it starts with a slash.
    fn absolute(path: &str) -> String {
        let mut absolute = String::from("/");
        absolute.push_str(path.trim_start_matches('/'));
        absolute
    }

    fn number(file: FileId) -> usize {
        file.0.wrapping_sub(1) as usize
    }
}

/// Bytes of an inode, if the device holds the magic number of ext2, ext3 and ext4.
fn inode_bytes(cache: &BufferCache) -> Result<Option<u16>, FsError> {
    const MAGIC: usize = SUPERBLOCK_BYTE as usize + 0x38;
    const INODE_SIZE: usize = SUPERBLOCK_BYTE as usize + 0x58;
    if cache.device_blocks() == 0 {
        return Ok(None);
    }
    let bytes = &cache.read_metadata(&[0])?[0].0;
    let is_ext = bytes[MAGIC..MAGIC + 2] == [0x53, 0xef];
    Ok(is_ext.then(|| u16::from_le_bytes([bytes[INODE_SIZE], bytes[INODE_SIZE + 1]])))
}

impl FileSystem for Ext4Volume {
    fn format(&self) -> Format {
        Format::Ext4
    }

    fn space(&self) -> Space {
        Space { blocks: self.cache.device_blocks(), free: 0, after_commit: 0 }
    }

    fn open(&self, path: &str) -> Result<FileId, FsError> {
        let absolute = Ext4Volume::absolute(path);
        let real = self.image.canonicalize(absolute.as_str()).map_err(|e| error(path, e))?;
        let opened = &mut *self.opened.borrow_mut();
        if let Some(number) = opened.iter().position(|open| open.path == real) {
            return Ok(FileId(number as u64 + 1));
        }
        let file = self.image.open(&real).map_err(|e| error(path, e))?;
        opened.push(Open { path: real, bytes: file.metadata().len(), file });
        Ok(FileId(opened.len() as u64))
    }

    fn create(&self, _: &str) -> Result<FileId, FsError> {
        Err(FsError::ReadOnly)
    }

    fn create_dir(&self, _: &str) -> Result<(), FsError> {
        Err(FsError::ReadOnly)
    }

    fn remove(&self, _: &str) -> Result<(), FsError> {
        Err(FsError::ReadOnly)
    }

    fn rename(&self, _: &str, _: &str) -> Result<(), FsError> {
        Err(FsError::ReadOnly)
    }

    fn list(&self, path: &str) -> Result<Vec<DirectoryEntry>, FsError> {
        let absolute = Ext4Volume::absolute(path);
        let mut entries = Vec::new();
        for entry in self.image.read_dir(absolute.as_str()).map_err(|e| error(path, e))? {
            let entry = entry.map_err(|e| error(path, e))?;
            let name = entry.file_name().display().to_string();
            if name == "." || name == ".." {
                continue;
            }
            let metadata = entry.metadata().map_err(|e| error(path, e))?;
            let (kind, bytes) = match metadata.file_type() {
                FileType::Regular => (EntryKind::File, metadata.len()),
                FileType::Directory => (EntryKind::Directory, 0),
                _ => (EntryKind::Other, 0),
            };
            entries.push(DirectoryEntry { name, kind, bytes });
        }
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(entries)
    }

    fn bytes(&self, file: FileId) -> Result<u64, FsError> {
        let opened = self.opened.borrow();
        opened.get(Ext4Volume::number(file)).map(|open| open.bytes).ok_or(FsError::Removed)
    }

    fn read_at(&self, file: FileId, offset: u64, into: &mut [u8]) -> Result<usize, FsError> {
        let opened = &mut *self.opened.borrow_mut();
        let open = opened.get_mut(Ext4Volume::number(file)).ok_or(FsError::Removed)?;
        if offset >= open.bytes || into.is_empty() {
            return Ok(0);
        }
        if open.file.position() != offset {
            open.file.seek_to(offset).map_err(|e| error("", e))?;
        }
        let mut done = 0;
        self.for_contents.set(true);
        let result = loop {
            match open.file.read_bytes(&mut into[done..]) {
                Ok(0) => break Ok(done),
                Ok(bytes) => done += bytes,
                Err(e) => break Err(error("", e)),
            }
        };
        self.for_contents.set(false);
        if result.is_err() {
            // After an error the position and the block it belongs to may disagree.
            open.file = self.image.open(&open.path).map_err(|e| error("", e))?;
        }
        result
    }

    /// The cache knows blocks by their number on the device, the application by that in the file.
    fn will_need(&self, _: FileId, _: Range<u64>) -> Result<(), FsError> {
        Ok(())
    }

    fn write_at(&self, _: FileId, _: u64, _: &[u8]) -> Result<(), FsError> {
        Err(FsError::ReadOnly)
    }

    fn truncate(&self, _: FileId, _: u64) -> Result<(), FsError> {
        Err(FsError::ReadOnly)
    }

    fn commit(&self) -> Result<(), FsError> {
        Ok(())
    }
}
