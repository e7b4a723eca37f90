//! Making volumes and judging them.

use super::ExtentVolume;
use super::format::{
    FIRST_BLOCK, Inode, Item, ItemKey, Key, ObjectKind, Pointer, ROOT, SUPERBLOCKS, Superblock,
};
use super::load::{self, Loaded, Other};
use super::metadata::Metadata;
use super::space::SpaceMap;
use super::tree::Tree;
use crate::cache::{BufferCache, CacheOptions};
use crate::device::{BlockDevice, DeviceQueue, zeroed_page};
use crate::error::FsError;
use crate::file_system::FileSystem;
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;

/// Blocks of the smallest volume.
pub const SMALLEST: u64 = 32;

/// Data blocks that [`check`] reads at a time.
const CHECKED_TOGETHER: usize = 128;

/// What [`check`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Commits so far.
    pub generation: u64,
    /// Blocks of the volume.
    pub blocks: u64,
    /// Blocks in use, superblocks and metadata included.
    pub used: u64,
    /// Blocks of metadata, superblocks included.
    pub metadata: u64,
    /// Files.
    pub files: u64,
    /// Directories, the root included.
    pub directories: u64,
    /// What is wrong; empty if nothing is.
    pub problems: Vec<String>,
    /// What is worth knowing but as it may be, such as the trace of a power cut.
    pub notes: Vec<String>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

fn cache_over(device: Box<dyn BlockDevice>) -> Rc<BufferCache> {
    let options = CacheOptions { blocks: 1, ..CacheOptions::default() };
    Rc::new(BufferCache::new(Rc::new(DeviceQueue::new(device)), options))
}

/// Makes an empty volume that fills a device. What was on the device is lost.
///
/// # Errors
///
/// [`FsError::TooSmall`] for devices of less than [`SMALLEST`] blocks, [`FsError::ReadOnly`],
/// [`FsError::Device`].
pub fn make(device: Box<dyn BlockDevice>) -> Result<(), FsError> {
    let cache = cache_over(device);
    let blocks = cache.device_blocks();
    if blocks < SMALLEST {
        return Err(FsError::TooSmall { blocks, needed: SMALLEST });
    }
    if cache.device_read_only() {
        return Err(FsError::ReadOnly);
    }
    // A volume that was here must not come back if we are interrupted.
    cache.write_metadata(SUPERBLOCKS.map(|block| (block, zeroed_page())).into())?;
    cache.flush()?;
    let mut tree = Tree::empty();
    tree.insert(Key::inode(ROOT), Item::Inode(Inode { kind: ObjectKind::Directory, bytes: 0 }));
    let root = Pointer { block: FIRST_BLOCK, checksum: 0 };
    let next_object = ROOT + 1;
    let superblock = Superblock { generation: 0, blocks, root, next_object };
    let space = SpaceMap::new(blocks);
    let metadata = Metadata { superblock, copy: 1, tree, space, next_object, commit_unknown: false };
    let volume = ExtentVolume { cache, metadata: RefCell::new(metadata) };
    volume.commit()?;
    volume.cache.flush()
}

/// Reads every block in use and says what is wrong.
///
/// # Errors
///
/// [`FsError::UnknownFormat`] if there is no such volume on the device. Whatever else is wrong, unreadable
/// blocks included, is in the report.
pub fn check(device: Box<dyn BlockDevice>) -> Result<Report, FsError> {
    let cache = cache_over(device);
    let mut report = Report::default();
    let superblocks = match load::superblocks(&cache) {
        Ok(superblocks) => superblocks,
        Err(FsError::UnknownFormat) => return Err(FsError::UnknownFormat),
        Err(error) => {
            report.problems.push(error.to_string());
            return Ok(report);
        }
    };
    report.generation = superblocks.current.generation;
    report.blocks = superblocks.current.blocks;
    let block = SUPERBLOCKS[1 - superblocks.copy];
    match superblocks.other {
        Other::Same => {}
        Other::Older => {
            report.notes.push(format!("superblock in block {block} is older: a commit was cut short"))
        }
        Other::Damaged(why) => {
            report
                .problems
                .push(format!("superblock in block {block}: {why}; the next commit writes it anew"));
        }
    }
    match load::load(&cache, superblocks) {
        Ok(loaded) => look_at_all(&cache, &loaded, &mut report),
        Err(error) => report.problems.push(error.to_string()),
    }
    Ok(report)
}

fn look_at_all(cache: &BufferCache, loaded: &Loaded, report: &mut Report) {
    report.used = loaded.space.blocks() - loaded.space.free();
    report.metadata = loaded.tree.nodes() + FIRST_BLOCK;
    let mut data: Vec<(u64, u32, u64)> = Vec::new();
    loaded.tree.visit(|key, item| match (&key.item, item) {
        (ItemKey::Inode, Item::Inode(inode)) => match inode.kind {
            ObjectKind::File => report.files += 1,
            ObjectKind::Directory => report.directories += 1,
        },
        (_, Item::Extent(extent)) => {
            let sums = extent.checksums.iter().enumerate();
            data.extend(sums.map(|(at, sum)| (extent.disk + at as u64, *sum, key.object)));
        }
        _ => {}
    });
    data.sort_unstable();
    for part in data.chunks(CHECKED_TOGETHER) {
        look_at_data(cache, part, &mut report.problems);
    }
}

fn look_at_data(cache: &BufferCache, data: &[(u64, u32, u64)], problems: &mut Vec<String>) {
    let blocks: Vec<u64> = data.iter().map(|(block, ..)| *block).collect();
    match cache.read_metadata(&blocks) {
        Ok(pages) => {
            for (page, (block, checksum, file)) in pages.iter().zip(data) {
                if crc32fast::hash(&page.0) != *checksum {
                    problems.push(format!("file {file}: block {block} is damaged: its checksum is wrong"));
                }
            }
        }
        // One of many can't be read: which?
        Err(_) if data.len() > 1 => {
            data.chunks(data.len().div_ceil(2)).for_each(|half| look_at_data(cache, half, problems));
        }
        Err(error) => problems.push(format!("file {}: {error}", data[0].2)),
    }
}
