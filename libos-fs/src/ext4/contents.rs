//! Which blocks of the device hold the contents of a file.
//!
//! An inode has 60 bytes for that. With the flag `EXTENTS` they are the root of a tree:
//!
//! ```text
//! node    magic, entries, room for entries, depth (2 bytes each), 4 more; entries; checksum behind the room
//! index   first block of the file (4), block of the child, low (4) and high (2), 2 more
//! leaf    first block of the file (4), blocks (2; more than 32768: that many less, never written),
//!         where they are, high (2) and low (4)
//! ```
//!
//! Else they are the map of ext2: twelve numbers of blocks, then one of a block of numbers, of a block of
//! such blocks, and one level more. A number 0 is a hole at every level: of a block, or of all that would
//! be below it.

use super::superblock::{Geometry, checksum, word};
use super::{Reader, corrupt};
use crate::error::FsError;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

/// Bytes of the root in an inode.
pub(super) const ROOT_BYTES: usize = 60;
/// Numbers of blocks of contents in the root of a map.
const DIRECT: u64 = 12;
/// Bytes of a number in a map.
const NUMBER_BYTES: usize = 4;
/// Blocks of a map that are put together at a time.
const MOST_STRETCH: u64 = 256;
/// Nodes and blocks of numbers that stay in memory.
const KEPT: usize = 16;
/// Bytes of an entry in a node, and of its header.
const ENTRY_BYTES: usize = 12;
/// Magic number of a node.
const NODE_MAGIC: u16 = 0xf30a;
/// Depth that no tree has.
const MOST_DEPTH: u16 = 5;
/// Blocks of an extent that was written, at most.
const MOST_WRITTEN: u64 = 32768;

/// Blocks in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// The first on the device; none if they are zeros.
    pub(super) start: Option<u64>,
    /// How many, at least 1.
    pub(super) blocks: u64,
}

/// How an inode says where its contents are.
pub(super) enum Root {
    /// The root of a tree of extents, and the checksum with which those of its nodes begin.
    Extents([u8; ROOT_BYTES], Option<u32>),
    /// The root of a map.
    Map([u8; ROOT_BYTES]),
}

/// Reads nodes, and keeps the last.
pub(super) struct Nodes {
    pub(super) reader: Reader,
    pub(super) geometry: Geometry,
    kept: RefCell<Vec<(u64, Rc<[u8]>)>>,
}

impl Nodes {
    pub(super) fn new(reader: Reader, geometry: Geometry) -> Nodes {
        Nodes { reader, geometry, kept: RefCell::default() }
    }

    /// Where the blocks of a file from `block` on are, as many as lie in a row.
    ///
    /// # Errors
    ///
    /// [`FsError::Corrupt`] if it leads outside the image or contradicts itself; what reading says.
    pub(super) fn stretch(&self, root: &Root, block: u64) -> Result<Stretch, FsError> {
        let stretch = match root {
            Root::Extents(root, seed) => self.in_tree(root, *seed, block)?,
            Root::Map(root) => self.in_map(root, block)?,
        };
        let end = stretch.start.map_or(Some(0), |start| start.checked_add(stretch.blocks));
        match (stretch.start, end) {
            (Some(0), _) | (_, None) => Err(corrupt("a file lies in block 0, or beyond all blocks")),
            (_, Some(end)) if end > self.geometry.blocks => {
                Err(corrupt("a file lies beyond the end of the image"))
            }
            _ => Ok(stretch),
        }
    }

    fn node(&self, block: u64) -> Result<Rc<[u8]>, FsError> {
        let kept = &mut *self.kept.borrow_mut();
        if let Some(at) = kept.iter().position(|(number, _)| *number == block) {
            kept[..=at].rotate_right(1);
            return Ok(Rc::clone(&kept[0].1));
        }
        let start = block.checked_mul(self.geometry.block_bytes);
        let Some(start) = start.filter(|_| block != 0 && block < self.geometry.blocks) else {
            return Err(corrupt("where a file lies is told beyond the end of the image"));
        };
        let mut bytes = vec![0; self.geometry.block_bytes as usize];
        self.reader.metadata(start, &mut bytes)?;
        let bytes: Rc<[u8]> = bytes.into();
        kept.truncate(KEPT - 1);
        kept.insert(0, (block, Rc::clone(&bytes)));
        Ok(bytes)
    }

    fn in_map(&self, root: &[u8], block: u64) -> Result<Stretch, FsError> {
        let first = self.number(root, block)?;
        let mut blocks = 1;
        while blocks < MOST_STRETCH {
            let follows = match self.number(root, block + blocks) {
                Ok(next) if first == 0 => next == 0,
                Ok(next) => u64::from(next) == u64::from(first) + blocks,
                // It is reported when it is asked for.
                Err(_) => false,
            };
            if !follows {
                break;
            }
            blocks += 1;
        }
        Ok(Stretch { start: (first != 0).then_some(u64::from(first)), blocks })
    }

    /// The number of one block of a file, 0 for a hole.
    fn number(&self, root: &[u8], block: u64) -> Result<u32, FsError> {
        let number = |node: &[u8], at: u64| word(node, at as usize * NUMBER_BYTES);
        let Some(mut rest) = block.checked_sub(DIRECT) else { return Ok(number(root, block)) };
        let per_block = self.geometry.block_bytes / NUMBER_BYTES as u64;
        for level in 0..3 {
            let covered = per_block.pow(level + 1);
            if rest >= covered {
                rest -= covered;
                continue;
            }
            let mut found = number(root, DIRECT + u64::from(level));
            for below in (0..=level).rev() {
                if found == 0 {
                    return Ok(0);
                }
                let step = per_block.pow(below);
                found = number(&self.node(u64::from(found))?, rest / step);
                rest %= step;
            }
            return Ok(found);
        }
        Err(corrupt("a file is longer than its map"))
    }

    fn in_tree(&self, root: &[u8], seed: Option<u32>, block: u64) -> Result<Stretch, FsError> {
        let mut node: Rc<[u8]> = root.into();
        let mut depth = None;
        // Where what is below the node ends, in blocks of the file.
        let mut limit = u64::MAX;
        loop {
            let found = Node::of(&node)?;
            if depth.is_some_and(|depth| found.depth != depth) || found.depth > MOST_DEPTH {
                return Err(corrupt("a tree of extents has nodes of the wrong depth"));
            }
            let (entry, next) = found.entry_for(block)?;
            limit = next.map_or(limit, |next| limit.min(next));
            let Some(entry) = entry else { return Ok(hole(block, limit)) };
            if found.depth == 0 {
                return Ok(in_extent(entry, block, limit));
            }
            depth = Some(found.depth - 1);
            let child = u64::from(word(entry, 4)) | u64::from(half(entry, 8)) << 32;
            node = self.node(child)?;
            if let Some(seed) = seed {
                let room = Node::of(&node)?.room;
                let sum = node.get(room..room + 4).ok_or_else(|| corrupt("a node of extents is too long"))?;
                if checksum(seed, &node[..room]) != word(sum, 0) {
                    return Err(corrupt("the checksum of a node of extents is wrong"));
                }
            }
        }
    }
}

/// A node of a tree of extents.
struct Node<'a> {
    depth: u16,
    /// Bytes of header and room for entries.
    room: usize,
    entries: &'a [u8],
}

impl Node<'_> {
    fn of(bytes: &[u8]) -> Result<Node<'_>, FsError> {
        let [magic, count, most, depth] = [0, 2, 4, 6].map(|at| half(bytes, at));
        let entries = bytes.get(ENTRY_BYTES..ENTRY_BYTES * (1 + usize::from(count)));
        match entries {
            Some(entries) if magic == NODE_MAGIC && count <= most => {
                Ok(Node { depth, room: ENTRY_BYTES * (1 + usize::from(most)), entries })
            }
            _ => Err(corrupt("a node of extents has a wrong header")),
        }
    }

    /// The entry that covers a block of the file, and where the next one begins.
    fn entry_for(&self, block: u64) -> Result<(Option<&[u8]>, Option<u64>), FsError> {
        let starts = self.entries.chunks_exact(ENTRY_BYTES).map(|entry| u64::from(word(entry, 0)));
        if !starts.clone().is_sorted_by(|one, next| one < next) {
            return Err(corrupt("a node of extents is not in order"));
        }
        let before = starts.clone().take_while(|start| *start <= block).count();
        let entry = before.checked_sub(1).map(|at| &self.entries[at * ENTRY_BYTES..][..ENTRY_BYTES]);
        Ok((entry, starts.clone().nth(before)))
    }
}

/// Zeros from `block` to `limit`.
fn hole(block: u64, limit: u64) -> Stretch {
    Stretch { start: None, blocks: limit.saturating_sub(block).max(1) }
}

/// What an entry of a leaf, the last that begins at `block` or before, says about it.
fn in_extent(entry: &[u8], block: u64, limit: u64) -> Stretch {
    let within = block - u64::from(word(entry, 0));
    let (count, written) = match u64::from(half(entry, 4)) {
        count if count > MOST_WRITTEN => (count - MOST_WRITTEN, false),
        count => (count, true),
    };
    match count.checked_sub(within) {
        None | Some(0) => hole(block, limit),
        Some(blocks) => {
            let start = u64::from(word(entry, 8)) | u64::from(half(entry, 6)) << 32;
            // Where the next begins, this one ends.
            let blocks = blocks.min(limit.saturating_sub(block).max(1));
            Stretch { start: written.then_some(start.saturating_add(within)), blocks }
        }
    }
}

/// Two bytes as a number.
fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}
