//! The extent file system: files in extents, checksums on everything, commits that happen or don't.
//!
//! # On the disk
//!
//! ```text
//!  block 0   superblock, first copy      generation, size, root ─┐
//!  block 1   superblock, second copy                             │
//!  block 2…  nodes of one tree, and data, in any order           ▼
//!
//!                    inner node   [key │ block, CRC-32] [key │ block, CRC-32] …
//!                                            │                │
//!                          leaf   [key │ item] …            leaf …
//!
//!  item         key                              value
//!  inode        (object, 1)                      file or directory, length in bytes
//!  entry        (directory, 2, name)             object
//!  extent       (file, 3, first block of file)   first block on disk, CRC-32 of each of up to 256 blocks
//! ```
//!
//! All numbers are little-endian. Object 1 is the root directory. One tree holds all items in the order of
//! their keys, so that what belongs together lies together: an object's inode, then its names, or its
//! extents.
//!
//! * **Everything is checked.** A pointer to a node carries the node's CRC-32, an extent that of every data
//!   block, a superblock its own. A flipped bit in any block in use is found when it is read; [`check`] reads
//!   all.
//! * **Nothing in use is overwritten.** Changed nodes and changed data go to free blocks. A block that the
//!   last commit needs is not used again before the next.
//! * **A commit** writes all dirty data, then the changed nodes, flushes, writes one copy of the superblock,
//!   flushes, and writes the other copy. The first copy to be written is the one that does not count, so a
//!   cut at any moment leaves one that does: the state before the commit or the state after it.
//! * **Free space is not stored.** Mounting reads the whole tree (about one block in a thousand), judges it,
//!   and derives what is free. The tree then stays in memory, beside the cache's budget.
//! * **Disk full** is an error that changes nothing: enough blocks stay reserved to commit what is there, and
//!   files can be removed. What they free is available after the commit.
//! * **Placement.** A block goes right behind the one before it in the file, if that is free, and else to the
//!   next run that is long enough for the write; so files written in order lie in order.
//!
//! There are no links, owners or times: a unikernel has one user and perhaps no clock.

mod check;
mod commit;
mod format;
mod load;
mod metadata;
mod space;
mod tree;

pub use check::{Report, SMALLEST, check, make};

use crate::cache::{BufferCache, LentPage, Locate, Run};
use crate::device::BLOCK_BYTES;
use crate::error::FsError;
use crate::file_id::FileId;
use crate::file_system::{DirectoryEntry, FileSystem, Format, Space};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::vec::Vec;
pub(crate) use commit::{Committing, commit};
use core::cell::RefCell;
use core::ops::Range;
pub(crate) use format::{MAX_NUMBER, ObjectKind};
use hyperexo_abi::Page;
use load::Loaded;
pub(crate) use metadata::{Metadata, blocks_of};

/// A mounted volume.
pub(crate) struct ExtentVolume {
    cache: Rc<BufferCache>,
    /// Never borrowed while the cache or the device is called.
    metadata: RefCell<Metadata>,
}

/// Part of a file within one block.
pub(crate) struct Piece {
    pub(crate) block: u64,
    /// Offset in the block.
    pub(crate) offset: usize,
    pub(crate) bytes: usize,
}

/// Cuts a range of a file at the boundaries of blocks.
pub(crate) fn pieces(offset: u64, bytes: usize) -> impl Iterator<Item = Piece> {
    let mut at = offset;
    let end = offset + bytes as u64;
    core::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let within = (at % BLOCK_BYTES as u64) as usize;
        let bytes = (BLOCK_BYTES - within).min((end - at) as usize);
        let piece = Piece { block: at / BLOCK_BYTES as u64, offset: within, bytes };
        at += bytes as u64;
        Some(piece)
    })
}

impl ExtentVolume {
    /// Mounts the volume on the cache's device; [`FsError::UnknownFormat`] if there is none.
    pub(crate) fn mount(cache: Rc<BufferCache>) -> Result<ExtentVolume, FsError> {
        let superblocks = load::superblocks(&cache)?;
        let Loaded { superblocks, tree, space } = load::load(&cache, superblocks)?;
        let superblock = superblocks.current;
        let next_object = superblock.next_object;
        let copy = superblocks.copy;
        let metadata = Metadata { superblock, copy, tree, space, next_object, commit_unknown: false };
        Ok(ExtentVolume { cache, metadata: RefCell::new(metadata) })
    }

    /// Its metadata, without the cache and the device.
    pub(crate) fn into_metadata(self) -> Metadata {
        self.metadata.into_inner()
    }

    fn locate(&self, file: FileId, block: u64, most: u64) -> Result<Option<Run>, FsError> {
        Ok(self.metadata.borrow().run_at(file, block, most))
    }

    /// An error if the volume can't be changed now.
    fn writable(&self) -> Result<(), FsError> {
        if self.cache.device_read_only() {
            return Err(FsError::ReadOnly);
        }
        if self.metadata.borrow().commit_unknown { Err(FsError::CommitUnknown) } else { Ok(()) }
    }

    /// Changes part of one block. `want` blocks will follow.
    fn write_piece(
        &self,
        file: FileId,
        piece: &Piece,
        want: u64,
        change: impl FnOnce(&mut Page),
    ) -> Result<(), FsError> {
        let locate = |file, block, most| self.locate(file, block, most);
        let locate: Option<Locate<'_>> = if piece.bytes < BLOCK_BYTES { Some(&locate) } else { None };
        let place = || self.metadata.borrow_mut().place(file, piece.block, want);
        self.cache.write((file, piece.block), locate, place, change)?;
        self.cache.after_write();
        Ok(())
    }

    /// Makes the rest of the last block zeros, before the file grows over it.
    fn clear_tail(&self, file: FileId, bytes: u64) -> Result<(), FsError> {
        let offset = (bytes % BLOCK_BYTES as u64) as usize;
        let block = bytes / BLOCK_BYTES as u64;
        if offset == 0 || self.metadata.borrow().disk_block(file, block).is_none() {
            return Ok(());
        }
        let piece = Piece { block, offset, bytes: BLOCK_BYTES - offset };
        self.write_piece(file, &piece, 1, |page| page.0[offset..].fill(0))
    }

    fn forget_file(&self, file: FileId) {
        self.cache.forget(file, 0..u64::MAX);
        self.cache.forget_place(file);
    }
}

impl Committing for ExtentVolume {
    fn with_metadata<R>(&self, change: impl FnOnce(&mut Metadata) -> R) -> R {
        change(&mut self.metadata.borrow_mut())
    }

    fn write_metadata(&self, blocks: Vec<(u64, Box<Page>)>) -> Result<(), FsError> {
        self.cache.write_metadata(blocks)
    }

    fn flush(&self) -> Result<(), FsError> {
        self.cache.flush()
    }
}

impl FileSystem for ExtentVolume {
    fn format(&self) -> Format {
        Format::ExtentFs
    }

    fn space(&self) -> Space {
        self.metadata.borrow().room()
    }

    fn open(&self, path: &str) -> Result<FileId, FsError> {
        self.metadata.borrow().open(path)
    }

    fn create(&self, path: &str) -> Result<FileId, FsError> {
        self.writable()?;
        self.metadata.borrow_mut().create(path, ObjectKind::File)
    }

    fn create_dir(&self, path: &str) -> Result<(), FsError> {
        self.writable()?;
        self.metadata.borrow_mut().create(path, ObjectKind::Directory).map(drop)
    }

    fn remove(&self, path: &str) -> Result<(), FsError> {
        self.writable()?;
        let file = self.metadata.borrow_mut().remove(path)?;
        self.forget_file(file);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), FsError> {
        self.writable()?;
        let replaced = self.metadata.borrow_mut().rename(from, to)?;
        if let Some(file) = replaced {
            self.forget_file(file);
        }
        Ok(())
    }

    fn list(&self, path: &str) -> Result<Vec<DirectoryEntry>, FsError> {
        self.metadata.borrow().list(path)
    }

    fn bytes(&self, file: FileId) -> Result<u64, FsError> {
        self.metadata.borrow().file_bytes(file)
    }

    fn read_at(&self, file: FileId, offset: u64, into: &mut [u8]) -> Result<usize, FsError> {
        let left = self.bytes(file)?.saturating_sub(offset);
        let bytes = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut into = &mut into[..bytes];
        if bytes == 0 {
            return Ok(0);
        }
        let last = (offset + bytes as u64 - 1) / BLOCK_BYTES as u64;
        for Piece { block, offset, bytes } in pieces(offset, bytes) {
            let (part, rest) = into.split_at_mut(bytes);
            into = rest;
            let locate = |file, block, most| self.locate(file, block, most);
            let show = |page: &Page| part.copy_from_slice(&page.0[offset..offset + bytes]);
            if !self.cache.read((file, block), last - block, &locate, show)? {
                part.fill(0);
            }
        }
        Ok(bytes)
    }

    fn lend(&self, file: FileId, block: u64) -> Result<Option<Arc<LentPage>>, FsError> {
        if block >= blocks_of(self.bytes(file)?) {
            return Ok(None);
        }
        self.cache.lend((file, block), 0, &|file, block, most| self.locate(file, block, most))
    }

    fn block_sums(&self, file: FileId) -> Result<Option<Vec<u32>>, FsError> {
        let blocks = blocks_of(self.bytes(file)?);
        let known = !self.cache.has_news();
        Ok(known.then(|| self.metadata.borrow().block_sums(file, blocks)))
    }

    fn will_need(&self, file: FileId, blocks: Range<u64>) -> Result<(), FsError> {
        let end = blocks.end.min(blocks_of(self.bytes(file)?));
        self.cache.disclose(file, blocks.start..end);
        let locate = |file, block, most| self.locate(file, block, most);
        self.cache.prefetch(file, &locate);
        Ok(())
    }

    fn write_at(&self, file: FileId, offset: u64, from: &[u8]) -> Result<(), FsError> {
        self.writable()?;
        let end = offset.saturating_add(from.len() as u64);
        if end > MAX_NUMBER * BLOCK_BYTES as u64 {
            return Err(FsError::FileTooLarge(end));
        }
        let old_bytes = self.bytes(file)?;
        if from.is_empty() {
            return Ok(());
        }
        if offset > old_bytes {
            self.clear_tail(file, old_bytes)?;
        }
        let last = (end - 1) / BLOCK_BYTES as u64;
        let mut from = from;
        for piece in pieces(offset, from.len()) {
            let (part, rest) = from.split_at(piece.bytes);
            from = rest;
            self.write_piece(file, &piece, 1 + last - piece.block, |page| {
                page.0[piece.offset..piece.offset + piece.bytes].copy_from_slice(part);
            })?;
            let reached = piece.block * BLOCK_BYTES as u64 + (piece.offset + piece.bytes) as u64;
            if reached > old_bytes {
                self.metadata.borrow_mut().set_file_bytes(file, reached);
            }
        }
        Ok(())
    }

    fn truncate(&self, file: FileId, bytes: u64) -> Result<(), FsError> {
        self.writable()?;
        if bytes > MAX_NUMBER * BLOCK_BYTES as u64 {
            return Err(FsError::FileTooLarge(bytes));
        }
        let old_bytes = self.bytes(file)?;
        if bytes > old_bytes {
            self.clear_tail(file, old_bytes)?;
        } else {
            let gone = blocks_of(bytes)..u64::MAX;
            self.cache.forget(file, gone.clone());
            self.metadata.borrow_mut().unmap(file, gone);
        }
        self.metadata.borrow_mut().set_file_bytes(file, bytes);
        Ok(())
    }

    fn commit(&self) -> Result<(), FsError> {
        if self.cache.device_read_only() {
            return Ok(());
        }
        self.writable()?;
        self.cache.write_back()?;
        for ((file, block), checksum) in self.cache.take_written() {
            self.metadata.borrow_mut().set_checksum(file, block, checksum);
        }
        commit(self)
    }
}
