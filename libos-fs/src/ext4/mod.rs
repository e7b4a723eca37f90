//! Read-only images of ext2, ext3 and ext4, such as `mke2fs -d` makes, with the crate `ext4-view`.
//!
//! * That crate finds names, follows links, and checks superblock, descriptors, inodes and directories. It
//!   reads through a callback, past the buffer cache (it has a small cache of its own); that is counted as
//!   [`metadata_reads`](crate::CacheStatistics::metadata_reads).
//! * Where the contents of a file lie is found here (`contents.rs`): the crate knows no hole that covers a
//!   whole indirect block, takes preallocated extents for written ones, and panics where it seeks in a
//!   damaged tree.
//! * Contents go through the buffer cache, by their number on the device, as blocks of
//!   [`FileId::WHOLE_DEVICE`]. So priorities can be given to the volume as a whole, not to a file or a
//!   range.
//!
//! An image with a feature that is not read is refused by the feature's name before anything else
//! (`features.rs`). One of these is a journal that was not replayed: the crate knows newer journals only,
//! and the contents of files would be read past it.
//!
//! Inodes of 128 bytes, which `mke2fs` made by default for small disks, have room for half a checksum only,
//! and the crate takes such an inode for damaged. So it is told that images with such inodes have no
//! checksums of metadata: they are read, and none of their metadata is checked.
//!
//! Files are known by number in the order in which they are first opened. Names that are not UTF-8 are text
//! all the same: see [`name_from_bytes`].

mod contents;
mod features;
mod names;
mod snapshot;
mod superblock;

pub use names::{name_from_bytes, name_to_bytes};
pub(crate) use snapshot::Ext4Names;

use crate::cache::{BufferCache, Run};
use crate::device::BLOCK_BYTES;
use crate::error::FsError;
use crate::file_id::FileId;
use crate::file_system::{DirectoryEntry, EntryKind, FileSystem, Format, Space};
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::ToString;
use alloc::vec::Vec;
use contents::{Nodes, ROOT_BYTES, Root};
use core::cell::RefCell;
use core::error::Error;
use core::ops::Range;
use ext4_view::{Ext4, Ext4Error, Ext4Read, FileType, Metadata, PathBuf};
use superblock::{SUPERBLOCK_BYTE, Superblock, checksum, word};

/// The byte that holds the feature of metadata checksums (`RO_COMPAT_METADATA_CSUM`, 0x400 of four bytes).
const CHECKSUM_FEATURE_BYTE: u64 = SUPERBLOCK_BYTE + 0x65;
/// Its bit in that byte.
const CHECKSUM_FEATURE_BIT: u8 = 0x04;
/// Bytes of an inode that every inode has.
const INODE_BYTES: usize = 128;
/// Flags of an inode: its contents are encrypted.
const ENCRYPTED: u32 = 0x800;
/// Its contents are found by extents.
const EXTENTS: u32 = 0x8_0000;
/// Its contents are in the inode.
const INLINE_DATA: u32 = 0x1000_0000;

/// What the crate tells of a mode.
const PERMISSIONS: u16 = 0o7777;

/// Says that the image contradicts itself.
fn corrupt(what: &str) -> FsError {
    FsError::Corrupt(what.to_string())
}

/// How bytes of the image are read; the callback of the crate, and our own.
#[derive(Clone)]
struct Reader {
    cache: Rc<BufferCache>,
    /// Whether the superblock is shown without the feature of metadata checksums.
    hides_checksums: bool,
}

impl Reader {
    /// The blocks of the device that hold these bytes, and where in the first they begin.
    fn blocks(&self, start_byte: u64, bytes: usize) -> Result<(Range<u64>, usize), FsError> {
        let end = start_byte.checked_add(bytes as u64).map(|end| end.div_ceil(BLOCK_BYTES as u64));
        let end = end.filter(|end| *end <= self.cache.device_blocks());
        let end =
            end.ok_or_else(|| corrupt("the image is cut off: something lies beyond the end of the device"))?;
        Ok((start_byte / BLOCK_BYTES as u64..end, (start_byte % BLOCK_BYTES as u64) as usize))
    }

    /// Reads past the cache.
    fn metadata(&self, start_byte: u64, into: &mut [u8]) -> Result<(), FsError> {
        let (blocks, skip) = self.blocks(start_byte, into.len())?;
        let blocks: Vec<u64> = blocks.collect();
        let pages = self.cache.read_metadata(&blocks)?;
        let found = pages.iter().flat_map(|page| page.0.iter()).skip(skip);
        into.iter_mut().zip(found).for_each(|(to, from)| *to = *from);
        Ok(())
    }

    /// Reads through the cache.
    fn contents(&self, start_byte: u64, mut into: &mut [u8]) -> Result<(), FsError> {
        let (blocks, mut skip) = self.blocks(start_byte, into.len())?;
        let device_blocks = self.cache.device_blocks();
        let locate = |_, block: u64, most: u64| match device_blocks.saturating_sub(block).min(most) {
            0 => Ok(None),
            count => Ok(Some(Run { disk: block, count, checksums: None })),
        };
        for block in blocks.clone() {
            let mut take = |page: &[u8]| {
                let bytes = into.len().min(BLOCK_BYTES - skip);
                let (part, rest) = core::mem::take(&mut into).split_at_mut(bytes);
                part.copy_from_slice(&page[skip..skip + bytes]);
                (into, skip) = (rest, 0);
            };
            let key = (FileId::WHOLE_DEVICE, block);
            if !self.cache.read(key, blocks.end - 1 - block, &locate, |page| take(&page.0))? {
                return Err(corrupt("a block lies beyond the end of the device"));
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
        self.metadata(start_byte, into)?;
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
    root: Root,
}

/// A mounted image.
pub(crate) struct Ext4Volume {
    cache: Rc<BufferCache>,
    image: Ext4,
    nodes: Nodes,
    opened: RefCell<Vec<Open>>,
}

fn error(path: &str, error: Ext4Error) -> FsError {
    let path = path.to_string();
    match error {
        Ext4Error::NotFound => FsError::NotFound(path),
        Ext4Error::NotADirectory => FsError::NotADirectory(path),
        Ext4Error::IsADirectory => FsError::IsADirectory(path),
        Ext4Error::IsASpecialFile => FsError::Unsupported("special files"),
        Ext4Error::MalformedPath => FsError::BadPath(path, "no path of ext4"),
        Ext4Error::PathTooLong => FsError::BadPath(path, "too long"),
        Ext4Error::TooManySymlinks => FsError::BadPath(path, "too many symbolic links"),
        Ext4Error::Incompatible(what) => FsError::UnsupportedFeatures {
            names: what.to_string(),
            fix: "copy the files out on Linux".to_string(),
        },
        Ext4Error::Encrypted => encrypted(&path),
        Ext4Error::Io(below) => match below.downcast::<FsError>() {
            Ok(error) => *error,
            Err(other) => FsError::Corrupt(other.to_string()),
        },
        other => FsError::Corrupt(other.to_string()),
    }
}

fn encrypted(path: &str) -> FsError {
    let fix = "copy it on Linux, with its key".to_string();
    FsError::UnsupportedFeatures { names: format!("encrypt, which {path} is"), fix }
}

impl Ext4Volume {
    /// Mounts the image on the cache's device; [`FsError::UnknownFormat`] if there is none.
    pub(crate) fn mount(cache: Rc<BufferCache>) -> Result<Ext4Volume, FsError> {
        if cache.device_blocks() == 0 {
            return Err(FsError::UnknownFormat);
        }
        let first = cache.read_metadata(&[0])?;
        let superblock = Superblock::of(&first[0].0).ok_or(FsError::UnknownFormat)?;
        features::check(&superblock)?;
        let reader = Reader { cache: Rc::clone(&cache), hides_checksums: superblock.has_small_inodes() };
        let image = Ext4::load(Box::new(reader.clone())).map_err(|e| error("/", e))?;
        let nodes = Nodes::new(reader, superblock.geometry()?);
        Ok(Ext4Volume { cache, image, nodes, opened: RefCell::default() })
    }

    /// Where the contents of a file are, as its inode says.
    fn root(&self, path: &str, file: &ext4_view::File) -> Result<Root, FsError> {
        let (reader, geometry) = (&self.nodes.reader, &self.nodes.geometry);
        let number =
            inode_number(file).ok_or(FsError::Unsupported("files of another version of `ext4-view`"))?;
        let mut descriptor = [0; 64];
        let descriptor = &mut descriptor[..geometry.descriptor_bytes()];
        reader.metadata(geometry.descriptor(number), descriptor)?;
        let start = geometry.inode(number, descriptor).ok_or_else(|| corrupt("where an inode is"))?;
        let mut inode = [0; INODE_BYTES];
        reader.metadata(start, &mut inode)?;
        // It is the inode that the crate has read, and whose checksum it has checked.
        if !is_inode_of(&inode, file.metadata()) {
            return Err(corrupt("an inode is not what it was"));
        }
        let mut root = [0; ROOT_BYTES];
        root.copy_from_slice(&inode[0x28..0x28 + ROOT_BYTES]);
        let flags = word(&inode, 0x20);
        if flags & ENCRYPTED != 0 {
            return Err(encrypted(path));
        }
        if flags & INLINE_DATA != 0 {
            return Err(corrupt("a file has its contents in its inode, and the image has no such feature"));
        }
        if flags & EXTENTS == 0 {
            return Ok(Root::Map(root));
        }
        let seed = geometry.checksum_seed.map(|seed| {
            let generation = &inode[0x64..0x68];
            checksum(checksum(seed, &number.to_le_bytes()), generation)
        });
        Ok(Root::Extents(root, seed))
    }

    /// The path from the root, whether or not it starts with a slash.
    fn absolute(path: &str) -> Result<PathBuf, FsError> {
        let absolute = [b"/", &name_to_bytes(path.trim_start_matches('/'))[..]].concat();
        PathBuf::try_from(absolute).map_err(|_| FsError::BadPath(path.to_string(), "no path of ext4"))
    }

    fn number(file: FileId) -> usize {
        file.0.wrapping_sub(1) as usize
    }
}

/// The number of a file's inode. The crate tells it nowhere but in the text for debugging, so its version
/// is fixed in Cargo.toml.
fn inode_number(file: &ext4_view::File) -> Option<u32> {
    let text = format!("{file:?}");
    let digits = text.strip_prefix("File { inode: ")?;
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok().filter(|number| *number > 0)
}

/// Whether mode, owner and length are those of an inode.
fn is_inode_of(inode: &[u8; INODE_BYTES], metadata: &Metadata) -> bool {
    let length = u64::from(word(inode, 0x4)) | u64::from(word(inode, 0x6c)) << 32;
    // Owner: the lower half is behind the mode, the upper one in the part that Linux has for itself.
    let (mode, owner) = (word(inode, 0) as u16, word(inode, 0) >> 16 | word(inode, 0x78) << 16);
    (metadata.mode(), metadata.uid(), metadata.len()) == (mode & PERMISSIONS, owner, length)
}

impl FileSystem for Ext4Volume {
    fn format(&self) -> Format {
        Format::Ext4
    }

    fn space(&self) -> Space {
        Space { blocks: self.cache.device_blocks(), free: 0, after_commit: 0 }
    }

    fn open(&self, path: &str) -> Result<FileId, FsError> {
        let absolute = Ext4Volume::absolute(path)?;
        let real = self.image.canonicalize(&absolute).map_err(|e| error(path, e))?;
        let opened = &mut *self.opened.borrow_mut();
        if let Some(number) = opened.iter().position(|open| open.path == real) {
            return Ok(FileId(number as u64 + 1));
        }
        let file = self.image.open(&real).map_err(|e| error(path, e))?;
        let root = self.root(path, &file)?;
        opened.push(Open { path: real, bytes: file.metadata().len(), root });
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
        let absolute = Ext4Volume::absolute(path)?;
        let mut entries = Vec::new();
        for entry in self.image.read_dir(&absolute).map_err(|e| error(path, e))? {
            let entry = entry.map_err(|e| error(path, e))?;
            let name = name_from_bytes(entry.file_name().as_ref());
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
        let opened = self.opened.borrow();
        let open = opened.get(Ext4Volume::number(file)).ok_or(FsError::Removed)?;
        let left = usize::try_from(open.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let bytes = left.min(into.len());
        let block_bytes = self.nodes.geometry.block_bytes;
        let mut done = 0;
        while done < bytes {
            let at = offset + done as u64;
            let (block, skip) = (at / block_bytes, at % block_bytes);
            let found = self.nodes.stretch(&open.root, block)?;
            let there = found.blocks.saturating_mul(block_bytes) - skip;
            let count = usize::try_from(there).unwrap_or(usize::MAX).min(bytes - done);
            let part = &mut into[done..done + count];
            match found.start {
                // The stretch lies within the image, so this is no more than its length.
                Some(start) => self.nodes.reader.contents(start.saturating_mul(block_bytes) + skip, part)?,
                None => part.fill(0),
            }
            done += count;
        }
        Ok(bytes)
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
