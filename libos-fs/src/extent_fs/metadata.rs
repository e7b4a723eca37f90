//! The volume in memory: names, mapping, space. No I/O here.

use super::format::{
    Extent, Inode, Item, ItemKey, Key, MAX_EXTENT_BLOCKS, MAX_NUMBER, ObjectKind, ROOT, Superblock,
};
use super::space::SpaceMap;
use super::tree::Tree;
use crate::cache::Run;
use crate::device::BLOCK_BYTES;
use crate::error::FsError;
use crate::file_id::FileId;
use crate::file_system::{DirectoryEntry, EntryKind, Space};
use crate::path::{names, parent_and_name};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Range;

/// Free blocks beyond one per node that must remain: as many nodes as one operation can add.
const SLACK: u64 = 16;

/// Everything about a volume but the contents of its files.
pub(crate) struct Metadata {
    /// As committed last.
    pub(super) superblock: Superblock,
    /// Copy of the superblock that was written last.
    pub(super) copy: usize,
    pub(super) tree: Tree,
    pub(super) space: SpaceMap,
    pub(super) next_object: u64,
    /// A commit failed after it may have become valid.
    pub(crate) commit_unknown: bool,
}

/// Blocks that a file of this many bytes has.
pub(crate) fn blocks_of(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK_BYTES as u64)
}

impl Metadata {
    /// Free blocks that data may not take: a commit may have to write every node anew.
    pub(crate) fn reserve(&self) -> u64 {
        self.tree.nodes() + SLACK
    }

    /// How full the volume is.
    pub(crate) fn room(&self) -> Space {
        Space {
            blocks: self.space.blocks(),
            free: self.space.free().saturating_sub(self.reserve()),
            after_commit: self.space.after_commit(),
        }
    }

    /// Makes sure that a few more nodes could be committed.
    fn room_for_nodes(&self) -> Result<(), FsError> {
        let (free, reserve) = (self.space.free(), self.reserve());
        if free >= reserve {
            return Ok(());
        }
        Err(FsError::NoSpace { needed: reserve - free, free: 0, after_commit: self.space.after_commit() })
    }

    pub(super) fn inode(&self, object: u64) -> Option<Inode> {
        match self.tree.get(&Key::inode(object)) {
            Some(Item::Inode(inode)) => Some(*inode),
            _ => None,
        }
    }

    /// Length of an open file.
    pub(crate) fn file_bytes(&self, file: FileId) -> Result<u64, FsError> {
        match self.inode(file.0) {
            Some(Inode { kind: ObjectKind::File, bytes }) => Ok(bytes),
            _ => Err(FsError::Removed),
        }
    }

    pub(crate) fn set_file_bytes(&mut self, file: FileId, bytes: u64) {
        if self.inode(file.0).is_none_or(|inode| inode.bytes == bytes) {
            return;
        }
        self.tree.update(&Key::inode(file.0), |item| {
            if let Item::Inode(inode) = item {
                inode.bytes = bytes;
            }
        });
    }

    fn entry(&self, directory: u64, name: &str) -> Option<u64> {
        match self.tree.get(&Key::entry(directory, name)) {
            Some(Item::Entry(object)) => Some(*object),
            _ => None,
        }
    }

    /// The directories on a way down from the root, the root first.
    fn walk(&self, names: &[&str], path: &str) -> Result<Vec<u64>, FsError> {
        let mut way = Vec::from([ROOT]);
        let mut at = ROOT;
        for name in names {
            at = self.entry(at, name).ok_or_else(|| FsError::NotFound(path.to_string()))?;
            if self.inode(at).is_none_or(|inode| inode.kind != ObjectKind::Directory) {
                return Err(FsError::NotADirectory(path.to_string()));
            }
            way.push(at);
        }
        Ok(way)
    }

    /// The directories leading to a path, and its last name.
    fn locate_name<'a>(&self, path: &'a str) -> Result<(Vec<u64>, u64, &'a str), FsError> {
        let (parents, name) = parent_and_name(path)?;
        let way = self.walk(&parents, path)?;
        let directory = way[way.len() - 1];
        Ok((way, directory, name))
    }

    fn kind_of(&self, object: u64) -> ObjectKind {
        self.inode(object).map_or(ObjectKind::File, |inode| inode.kind)
    }

    pub(crate) fn open(&self, path: &str) -> Result<FileId, FsError> {
        if names(path)?.is_empty() {
            return Err(FsError::IsADirectory(path.to_string()));
        }
        let (_, directory, name) = self.locate_name(path)?;
        let object = self.entry(directory, name).ok_or_else(|| FsError::NotFound(path.to_string()))?;
        match self.kind_of(object) {
            ObjectKind::File => Ok(FileId(object)),
            ObjectKind::Directory => Err(FsError::IsADirectory(path.to_string())),
        }
    }

    pub(crate) fn create(&mut self, path: &str, kind: ObjectKind) -> Result<FileId, FsError> {
        let (_, directory, name) = self.locate_name(path)?;
        if self.entry(directory, name).is_some() {
            return Err(FsError::AlreadyExists(path.to_string()));
        }
        self.room_for_nodes()?;
        let object = self.next_object;
        if object >= MAX_NUMBER {
            return Err(FsError::Unsupported("more than 2^32 files and directories in the life of a volume"));
        }
        self.next_object += 1;
        self.tree.insert(Key::inode(object), Item::Inode(Inode { kind, bytes: 0 }));
        self.tree.insert(Key::entry(directory, name), Item::Entry(object));
        Ok(FileId(object))
    }

    /// Removes a name and what it stands for. Returns the file whose blocks are gone.
    pub(crate) fn remove(&mut self, path: &str) -> Result<FileId, FsError> {
        let (_, directory, name) = self.locate_name(path)?;
        let object = self.entry(directory, name).ok_or_else(|| FsError::NotFound(path.to_string()))?;
        if self.kind_of(object) == ObjectKind::Directory && !self.is_empty_directory(object) {
            return Err(FsError::NotEmpty(path.to_string()));
        }
        self.unmap(FileId(object), 0..u64::MAX);
        self.tree.remove(&Key::inode(object));
        self.tree.remove(&Key::entry(directory, name));
        Ok(FileId(object))
    }

    /// Moves a name. Returns the file that was replaced, if any.
    pub(crate) fn rename(&mut self, from: &str, to: &str) -> Result<Option<FileId>, FsError> {
        let (_, old_directory, old_name) = self.locate_name(from)?;
        let object =
            self.entry(old_directory, old_name).ok_or_else(|| FsError::NotFound(from.to_string()))?;
        let (way, directory, name) = self.locate_name(to)?;
        if way.contains(&object) {
            return Err(FsError::BadPath(to.to_string(), "a directory can't be moved into itself"));
        }
        let replaced = match self.entry(directory, name) {
            Some(same) if same == object => return Ok(None),
            Some(_) if self.kind_of(object) == ObjectKind::Directory => {
                return Err(FsError::AlreadyExists(to.to_string()));
            }
            Some(other) if self.kind_of(other) == ObjectKind::Directory => {
                return Err(FsError::IsADirectory(to.to_string()));
            }
            Some(_) => {
                self.room_for_nodes()?;
                Some(self.remove(to)?)
            }
            None => {
                self.room_for_nodes()?;
                None
            }
        };
        self.tree.remove(&Key::entry(old_directory, old_name));
        self.tree.insert(Key::entry(directory, name), Item::Entry(object));
        Ok(replaced)
    }

    fn is_empty_directory(&self, directory: u64) -> bool {
        self.next_entry(directory, "").is_none()
    }

    /// The first entry of a directory whose name is not below `from`.
    fn next_entry(&self, directory: u64, from: &str) -> Option<(&str, u64)> {
        match self.tree.ceiling(&Key::entry(directory, from))? {
            (Key { object, item: ItemKey::Entry(name) }, Item::Entry(target)) if *object == directory => {
                Some((name, *target))
            }
            _ => None,
        }
    }

    pub(crate) fn list(&self, path: &str) -> Result<Vec<DirectoryEntry>, FsError> {
        let way = self.walk(&names(path)?, path)?;
        let directory = way[way.len() - 1];
        let mut entries = Vec::new();
        let mut from = String::new();
        while let Some((name, object)) = self.next_entry(directory, &from) {
            let inode = self.inode(object);
            let kind = match self.kind_of(object) {
                ObjectKind::File => EntryKind::File,
                ObjectKind::Directory => EntryKind::Directory,
            };
            let bytes = inode.map_or(0, |inode| inode.bytes);
            entries.push(DirectoryEntry { name: name.to_string(), kind, bytes });
            from = name.to_string();
            from.push('\0');
        }
        Ok(entries)
    }

    /// The extent that maps a block of a file: its first block and itself.
    fn extent_at(&self, file: FileId, block: u64) -> Option<(u64, &Extent)> {
        match self.tree.floor(&Key::extent(file.0, block))? {
            (Key { object, item: ItemKey::Extent(first) }, Item::Extent(extent))
                if *object == file.0 && block - first < extent.checksums.len() as u64 =>
            {
                Some((*first, extent))
            }
            _ => None,
        }
    }

    /// Where a block of a file is on the disk.
    pub(crate) fn disk_block(&self, file: FileId, block: u64) -> Option<u64> {
        self.extent_at(file, block).map(|(first, extent)| extent.disk + (block - first))
    }

    /// The blocks of a file from `block` on that are adjacent on the disk, `most` at most.
    pub(crate) fn run_at(&self, file: FileId, block: u64, most: u64) -> Option<Run> {
        let disk = self.disk_block(file, block)?;
        let mut checksums = Vec::new();
        while (checksums.len() as u64) < most {
            let at = checksums.len() as u64;
            let Some((first, extent)) = self.extent_at(file, block + at) else { break };
            let skip = (block + at - first) as usize;
            if extent.disk + skip as u64 != disk + at {
                break;
            }
            let take = (most - at) as usize;
            checksums.extend(extent.checksums[skip..].iter().take(take));
        }
        Some(Run { disk, count: checksums.len() as u64, checksums: Some(checksums) })
    }

    /// CRC-32 of the first `blocks` blocks of a file; 0 for a hole.
    pub(crate) fn block_sums(&self, file: FileId, blocks: u64) -> Vec<u32> {
        let mut sums = Vec::new();
        while (sums.len() as u64) < blocks {
            let block = sums.len() as u64;
            match self.extent_at(file, block) {
                Some((first, extent)) => {
                    let part = &extent.checksums[(block - first) as usize..];
                    sums.extend(part.iter().take((blocks - block) as usize));
                }
                None => sums.push(0),
            }
        }
        sums
    }

    /// Gives a block of a file a place that may be written before the next commit. `want` blocks will follow.
    pub(crate) fn place(&mut self, file: FileId, block: u64, want: u64) -> Result<u64, FsError> {
        let old = self.disk_block(file, block);
        if let Some(disk) = old.filter(|disk| self.space.is_fresh(*disk)) {
            return Ok(disk);
        }
        let before = block.checked_sub(1).and_then(|before| self.disk_block(file, before));
        let disk = self.space.allocate(before.map(|before| before + 1), want, self.reserve())?;
        if old.is_some() {
            self.unmap(file, block..block + 1);
        }
        self.map(file, block, disk);
        Ok(disk)
    }

    /// Maps a block that is not mapped.
    fn map(&mut self, file: FileId, block: u64, disk: u64) {
        let before = block.checked_sub(1).and_then(|before| self.extent_at(file, before));
        if let Some((first, extent)) = before {
            let length = extent.checksums.len();
            if extent.disk + length as u64 == disk && length < MAX_EXTENT_BLOCKS {
                self.tree.update(&Key::extent(file.0, first), |item| {
                    if let Item::Extent(extent) = item {
                        extent.checksums.push(0);
                    }
                });
                return;
            }
        }
        let extent = Extent { disk, checksums: Vec::from([0]) };
        self.tree.insert(Key::extent(file.0, block), Item::Extent(extent));
    }

    /// Takes blocks away from a file; what an extent has outside the range stays.
    pub(crate) fn unmap(&mut self, file: FileId, blocks: Range<u64>) {
        while let Some((first, extent)) = self.first_extent(file, blocks.clone()) {
            let end = first + extent.checksums.len() as u64;
            if self.tree.remove(&Key::extent(file.0, first)).is_none() {
                return;
            }
            let cut = blocks.start.max(first)..blocks.end.min(end);
            for block in cut.clone() {
                self.space.release(extent.disk + (block - first));
            }
            for kept in [first..cut.start, cut.end..end] {
                if !kept.is_empty() {
                    let part = (kept.start - first) as usize..(kept.end - first) as usize;
                    let disk = extent.disk + part.start as u64;
                    let extent = Extent { disk, checksums: extent.checksums[part].to_vec() };
                    self.tree.insert(Key::extent(file.0, kept.start), Item::Extent(extent));
                }
            }
        }
    }

    /// The first extent of a file that has blocks in a range.
    fn first_extent(&self, file: FileId, blocks: Range<u64>) -> Option<(u64, Extent)> {
        if let Some((first, extent)) = self.extent_at(file, blocks.start) {
            return Some((first, extent.clone()));
        }
        match self.tree.ceiling(&Key::extent(file.0, blocks.start))? {
            (Key { object, item: ItemKey::Extent(first) }, Item::Extent(extent))
                if *object == file.0 && *first < blocks.end =>
            {
                Some((*first, extent.clone()))
            }
            _ => None,
        }
    }

    /// Notes what the contents of a block must be from now on.
    pub(crate) fn set_checksum(&mut self, file: FileId, block: u64, checksum: u32) {
        let Some((first, _)) = self.extent_at(file, block) else { return };
        self.tree.update(&Key::extent(file.0, first), |item| {
            if let Item::Extent(extent) = item {
                extent.checksums[(block - first) as usize] = checksum;
            }
        });
    }
}
