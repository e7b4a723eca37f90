//! What is on the disk, byte by byte. Nothing read from the disk is trusted: every length, number and pointer
//! is checked here or in [`super::load`], and damage is an error, never a panic.

use crate::device::{BLOCK_BYTES, zeroed_page};
use crate::error::FsError;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use hyperexo_abi::Page;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First bytes of a superblock.
pub(super) const MAGIC: [u8; 8] = *b"HXEXTENT";
/// Version of the format.
pub(super) const VERSION: u32 = 1;
/// Blocks of the two copies of the superblock.
pub(super) const SUPERBLOCKS: [u64; 2] = [0, 1];
/// First block that can be allocated.
pub(super) const FIRST_BLOCK: u64 = 2;
/// Object number of the root directory.
pub(super) const ROOT: u64 = 1;
/// Blocks that one extent item maps at most, so that items stay small against a node.
pub(super) const MAX_EXTENT_BLOCKS: usize = 256;
/// Levels of a tree at most: more than 2⁶⁴ blocks could fill.
pub(super) const MAX_LEVEL: u8 = 12;
/// Object numbers and blocks of a file stay below this, so that both fit into one reference number.
pub(crate) const MAX_NUMBER: u64 = 1 << 32;

const NODE_MAGIC: [u8; 4] = *b"HXND";

/// A block of metadata and the CRC-32 of its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pointer {
    pub(super) block: u64,
    pub(super) checksum: u32,
}

/// What a superblock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    /// Commits so far.
    pub(super) generation: u64,
    /// Blocks of the volume.
    pub(super) blocks: u64,
    /// Root of the tree.
    pub(super) root: Pointer,
    /// Number of the next object; numbers are never used again.
    pub(super) next_object: u64,
}

/// Name of an item. The order of the variants is the order on the disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ItemKey {
    Inode,
    /// A name in a directory.
    Entry(String),
    /// The block of the file at which an extent starts.
    Extent(u64),
}

/// Key of an item: first the object (file or directory), then what it is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) object: u64,
    pub(super) item: ItemKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ObjectKind {
    File,
    Directory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inode {
    pub(super) kind: ObjectKind,
    /// Length; 0 for a directory.
    pub(super) bytes: u64,
}

/// Adjacent blocks on the disk that hold adjacent blocks of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) disk: u64,
    /// CRC-32 of each block: its length is that of the extent.
    pub(super) checksums: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Inode(Inode),
    /// The object that a name stands for.
    Entry(u64),
    Extent(Extent),
}

/// A node as read from the disk.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RawNode {
    Leaf(Vec<(Key, Item)>),
    Inner(Vec<(Key, Pointer)>),
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawPointer {
    block: U64,
    checksum: U32,
    reserved: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawSuperblock {
    magic: [u8; 8],
    version: U32,
    /// CRC-32 of the whole block with this field zero.
    checksum: U32,
    generation: U64,
    blocks: U64,
    root: RawPointer,
    next_object: U64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct NodeHeader {
    magic: [u8; 4],
    /// 0: a leaf.
    level: u8,
    reserved: u8,
    items: U16,
    /// The block that this node was written to.
    block: U64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct ItemHeader {
    object: U64,
    /// Of an extent: its first block of the file. Otherwise zero.
    offset: U64,
    kind: u8,
    name_bytes: u8,
    value_bytes: U16,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawInode {
    kind: U64,
    bytes: U64,
}

const KIND_INODE: u8 = 1;
const KIND_ENTRY: u8 = 2;
const KIND_EXTENT: u8 = 3;

/// Bytes of a node that items can fill.
pub(super) const NODE_CAPACITY: usize = BLOCK_BYTES - size_of::<NodeHeader>();
const _: () = assert!(4 * (size_of::<ItemHeader>() + 8 + 4 * MAX_EXTENT_BLOCKS) > NODE_CAPACITY);
const _: () = assert!(2 * (size_of::<ItemHeader>() + 8 + 4 * MAX_EXTENT_BLOCKS) < NODE_CAPACITY);

impl Key {
    pub(super) fn inode(object: u64) -> Key {
        Key { object, item: ItemKey::Inode }
    }

    pub(super) fn entry(directory: u64, name: &str) -> Key {
        Key { object: directory, item: ItemKey::Entry(name.into()) }
    }

    pub(super) fn extent(file: u64, block: u64) -> Key {
        Key { object: file, item: ItemKey::Extent(block) }
    }

    fn name(&self) -> &[u8] {
        match &self.item {
            ItemKey::Entry(name) => name.as_bytes(),
            _ => &[],
        }
    }

    /// Bytes of this key and a value in a node.
    fn bytes_with(&self, value_bytes: usize) -> usize {
        size_of::<ItemHeader>() + self.name().len() + value_bytes
    }

    /// Bytes that an item with this key takes in a leaf.
    pub(super) fn leaf_bytes(&self, item: &Item) -> usize {
        self.bytes_with(match item {
            Item::Inode(_) => size_of::<RawInode>(),
            Item::Entry(_) => size_of::<U64>(),
            Item::Extent(extent) => size_of::<U64>() + 4 * extent.checksums.len(),
        })
    }

    /// Bytes that a pointer with this key takes in an inner node.
    pub(super) fn inner_bytes(&self) -> usize {
        self.bytes_with(size_of::<RawPointer>())
    }

    fn encode(&self, value_bytes: usize, into: &mut Vec<u8>) {
        let (kind, offset) = match self.item {
            ItemKey::Inode => (KIND_INODE, 0),
            ItemKey::Entry(_) => (KIND_ENTRY, 0),
            ItemKey::Extent(block) => (KIND_EXTENT, block),
        };
        let header = ItemHeader {
            object: self.object.into(),
            offset: offset.into(),
            kind,
            name_bytes: self.name().len() as u8,
            value_bytes: (value_bytes as u16).into(),
        };
        into.extend_from_slice(header.as_bytes());
        into.extend_from_slice(self.name());
    }

    /// Takes a key and the bytes of its value off the front of `bytes`.
    fn decode<'a>(bytes: &mut &'a [u8]) -> Option<(Key, &'a [u8])> {
        let (header, rest) = ItemHeader::ref_from_prefix(bytes).ok()?;
        let (name, rest) = rest.split_at_checked(header.name_bytes as usize)?;
        let (value, rest) = rest.split_at_checked(header.value_bytes.get() as usize)?;
        *bytes = rest;
        let object = header.object.get();
        let named = header.kind == KIND_ENTRY;
        if object >= MAX_NUMBER || named == name.is_empty() {
            return None;
        }
        let item = match header.kind {
            KIND_INODE => ItemKey::Inode,
            KIND_ENTRY => ItemKey::Entry(core::str::from_utf8(name).ok()?.into()),
            KIND_EXTENT => ItemKey::Extent(header.offset.get()),
            _ => return None,
        };
        Some((Key { object, item }, value))
    }
}

impl Item {
    fn encode(&self, into: &mut Vec<u8>) {
        match self {
            Item::Inode(inode) => {
                let kind: u64 = match inode.kind {
                    ObjectKind::File => 1,
                    ObjectKind::Directory => 2,
                };
                let raw = RawInode { kind: kind.into(), bytes: inode.bytes.into() };
                into.extend_from_slice(raw.as_bytes());
            }
            Item::Entry(object) => into.extend_from_slice(&object.to_le_bytes()),
            Item::Extent(extent) => {
                into.extend_from_slice(&extent.disk.to_le_bytes());
                for checksum in &extent.checksums {
                    into.extend_from_slice(&checksum.to_le_bytes());
                }
            }
        }
    }

    fn decode(key: &ItemKey, value: &[u8]) -> Option<Item> {
        match key {
            ItemKey::Inode => {
                let raw = RawInode::ref_from_bytes(value).ok()?;
                let kind = match raw.kind.get() {
                    1 => ObjectKind::File,
                    2 => ObjectKind::Directory,
                    _ => return None,
                };
                Some(Item::Inode(Inode { kind, bytes: raw.bytes.get() }))
            }
            ItemKey::Entry(_) => Some(Item::Entry(U64::ref_from_bytes(value).ok()?.get())),
            ItemKey::Extent(_) => {
                let (disk, sums) = U64::ref_from_prefix(value).ok()?;
                let sums = <[U32]>::ref_from_bytes(sums).ok()?;
                if sums.is_empty() || sums.len() > MAX_EXTENT_BLOCKS {
                    return None;
                }
                let checksums = sums.iter().map(|sum| sum.get()).collect();
                Some(Item::Extent(Extent { disk: disk.get(), checksums }))
            }
        }
    }
}

fn node_page(level: u8, items: usize, block: u64, body: &[u8]) -> Box<Page> {
    let mut page = zeroed_page();
    let header = NodeHeader {
        magic: NODE_MAGIC,
        level,
        reserved: 0,
        items: (items as u16).into(),
        block: block.into(),
    };
    let header = header.as_bytes();
    page.0[..header.len()].copy_from_slice(header);
    page.0[header.len()..header.len() + body.len()].copy_from_slice(body);
    page
}

/// A leaf as it is written to `block`. The items must fit: see [`Key::leaf_bytes`] and [`NODE_CAPACITY`].
pub(super) fn encode_leaf(items: &[(Key, Item)], block: u64) -> Box<Page> {
    let mut body = Vec::with_capacity(NODE_CAPACITY);
    let mut value = Vec::new();
    for (key, item) in items {
        value.clear();
        item.encode(&mut value);
        key.encode(value.len(), &mut body);
        body.extend_from_slice(&value);
    }
    node_page(0, items.len(), block, &body)
}

/// An inner node as it is written to `block`. The pointers must fit: see [`Key::inner_bytes`] and
/// [`NODE_CAPACITY`].
pub(super) fn encode_inner<'a>(
    level: u8,
    children: impl Iterator<Item = (&'a Key, Pointer)>,
    block: u64,
) -> Box<Page> {
    let mut body = Vec::with_capacity(NODE_CAPACITY);
    let mut count = 0;
    for (key, pointer) in children {
        key.encode(size_of::<RawPointer>(), &mut body);
        body.extend_from_slice(RawPointer::from(pointer).as_bytes());
        count += 1;
    }
    node_page(level, count, block, &body)
}

/// Reads a node that should be at `pointer`, on `level`. Keys are strictly ascending in what it returns.
pub(super) fn decode_node(page: &Page, pointer: Pointer, level: u8) -> Result<RawNode, FsError> {
    if crc32fast::hash(&page.0) != pointer.checksum {
        return Err(FsError::Checksum { block: pointer.block });
    }
    let bad = || FsError::Corrupt(format!("block {} is no tree node of level {level}", pointer.block));
    let (header, mut rest) = NodeHeader::ref_from_prefix(&page.0).map_err(|_| bad())?;
    if header.magic != NODE_MAGIC || header.level != level || header.block.get() != pointer.block {
        return Err(bad());
    }
    let count = header.items.get() as usize;
    let mut leaf = Vec::new();
    let mut inner = Vec::new();
    for _ in 0..count {
        let (key, value) = Key::decode(&mut rest).ok_or_else(bad)?;
        if level == 0 {
            // Object 0 occurs only as the lowest key of an inner node.
            let item = Item::decode(&key.item, value).filter(|_| key.object >= ROOT).ok_or_else(bad)?;
            leaf.push((key, item));
        } else {
            let raw = RawPointer::ref_from_bytes(value).map_err(|_| bad())?;
            inner.push((key, Pointer { block: raw.block.get(), checksum: raw.checksum.get() }));
        }
    }
    let ascending = leaf.is_sorted_by(|a, b| a.0 < b.0) && inner.is_sorted_by(|a, b| a.0 < b.0);
    if !ascending || (level > 0 && inner.is_empty()) {
        return Err(bad());
    }
    Ok(if level == 0 { RawNode::Leaf(leaf) } else { RawNode::Inner(inner) })
}

/// The level that a node claims, without believing anything else of it.
pub(super) fn claimed_level(page: &Page) -> u8 {
    NodeHeader::ref_from_prefix(&page.0).map_or(0, |(header, _)| header.level)
}

impl From<Pointer> for RawPointer {
    fn from(pointer: Pointer) -> RawPointer {
        RawPointer { block: pointer.block.into(), checksum: pointer.checksum.into(), reserved: 0.into() }
    }
}

impl Superblock {
    /// The block as it is written.
    pub(super) fn encode(&self) -> Box<Page> {
        let mut page = zeroed_page();
        let mut raw = RawSuperblock {
            magic: MAGIC,
            version: VERSION.into(),
            checksum: 0.into(),
            generation: self.generation.into(),
            blocks: self.blocks.into(),
            root: self.root.into(),
            next_object: self.next_object.into(),
        };
        let bytes = size_of::<RawSuperblock>();
        page.0[..bytes].copy_from_slice(raw.as_bytes());
        raw.checksum = crc32fast::hash(&page.0).into();
        page.0[..bytes].copy_from_slice(raw.as_bytes());
        page
    }

    /// Whether a block looks like a superblock, be it damaged or not.
    pub(super) fn detect(page: &Page) -> bool {
        page.0.starts_with(&MAGIC)
    }

    /// Reads a superblock of a device of `device_blocks` blocks.
    pub(super) fn decode(page: &Page, device_blocks: u64) -> Result<Superblock, &'static str> {
        let (raw, _) = RawSuperblock::ref_from_prefix(&page.0).map_err(|_| "too short")?;
        if raw.magic != MAGIC {
            return Err("not a superblock");
        }
        let mut zeroed = page.0;
        zeroed[12..16].fill(0);
        if crc32fast::hash(&zeroed) != raw.checksum.get() {
            return Err("checksum is wrong");
        }
        if raw.version.get() != VERSION {
            return Err("unknown version");
        }
        if raw.blocks.get() > device_blocks {
            return Err("the device is smaller than the volume");
        }
        let next_object = raw.next_object.get();
        if next_object <= ROOT || next_object > MAX_NUMBER {
            return Err("next object number is out of range");
        }
        Ok(Superblock {
            generation: raw.generation.get(),
            blocks: raw.blocks.get(),
            root: Pointer { block: raw.root.block.get(), checksum: raw.root.checksum.get() },
            next_object,
        })
    }
}
