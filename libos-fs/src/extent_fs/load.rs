//! From the blocks of a device to a tree. Nothing on the device is trusted.

use super::format::{
    FIRST_BLOCK, Inode, Item, ItemKey, Key, MAX_LEVEL, MAX_NUMBER, ObjectKind, Pointer, ROOT, RawNode,
    SUPERBLOCKS, Superblock, claimed_level, decode_node,
};
use super::space::SpaceMap;
use super::tree::{Body, Node, Tree};
use crate::cache::BufferCache;
use crate::device::BLOCK_BYTES;
use crate::error::FsError;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Copies of the superblock that a device holds.
pub(super) struct Superblocks {
    /// The one that counts.
    pub(super) current: Superblock,
    /// Which copy it is.
    pub(super) copy: usize,
    /// The other copy.
    pub(super) other: Other,
}

/// State of the copy of the superblock that does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Other {
    /// The same as the one that counts.
    Same,
    /// Of an earlier commit: the last one was cut short after it had become valid.
    Older,
    /// Unusable, and why.
    Damaged(&'static str),
}

/// A volume in memory.
pub(super) struct Loaded {
    pub(super) superblocks: Superblocks,
    pub(super) tree: Tree,
    pub(super) space: SpaceMap,
}

/// Reads both copies of the superblock.
pub(super) fn superblocks(cache: &BufferCache) -> Result<Superblocks, FsError> {
    if cache.device_blocks() <= FIRST_BLOCK {
        return Err(FsError::UnknownFormat);
    }
    // One by one, so that a bad sector under one copy does not hide the other.
    let copies = SUPERBLOCKS.map(|block| match cache.read_metadata(&[block]) {
        Ok(pages) if Superblock::detect(&pages[0]) => {
            Ok(Superblock::decode(&pages[0], cache.device_blocks()))
        }
        Ok(_) => Ok(Err("not a superblock")),
        Err(error) => Err(error),
    });
    let judged = copies.each_ref().map(|copy| match copy {
        Ok(Ok(superblock)) => Ok(*superblock),
        Ok(Err(why)) => Err(*why),
        Err(_) => Err("can't be read"),
    });
    let (copy, current, other) = match judged {
        [Ok(first), Ok(second)] if first == second => (0, first, Other::Same),
        [Ok(first), Ok(second)] if second.generation > first.generation => (1, second, Other::Older),
        [Ok(first), Ok(_)] => (0, first, Other::Older),
        [Ok(first), Err(why)] => (0, first, Other::Damaged(why)),
        [Err(why), Ok(second)] => (1, second, Other::Damaged(why)),
        [Err(first), Err(second)] => {
            let [one, two] = copies;
            let _ = (one?, two?);
            let unknown = first == "not a superblock" && second == first;
            return Err(if unknown {
                FsError::UnknownFormat
            } else {
                FsError::Corrupt(format!("superblock: first copy {first}; second copy {second}"))
            });
        }
    };
    Ok(Superblocks { current, copy, other })
}

/// Reads the tree level by level, and builds the map of the blocks in use.
pub(super) fn load(cache: &BufferCache, superblocks: Superblocks) -> Result<Loaded, FsError> {
    let superblock = superblocks.current;
    let mut space = SpaceMap::new(superblock.blocks);
    let claim = |space: &mut SpaceMap, block: u64| {
        if space.claim(block) {
            Ok(block)
        } else {
            Err(FsError::Corrupt(format!("block {block} is used twice, or outside the volume")))
        }
    };
    let root_block = claim(&mut space, superblock.root.block)?;
    let top = claimed_level(&cache.read_metadata(&[root_block])?[0]);
    if top > MAX_LEVEL {
        return Err(FsError::Corrupt(format!("tree has {top} levels")));
    }
    let mut levels: Vec<Vec<(Pointer, RawNode)>> = Vec::new();
    let mut pointers = Vec::from([superblock.root]);
    let mut nodes = 0;
    for level in (0..=top).rev() {
        let blocks: Vec<u64> = pointers.iter().map(|pointer| pointer.block).collect();
        let pages = cache.read_metadata(&blocks)?;
        let mut decoded = Vec::with_capacity(pages.len());
        let mut next = Vec::new();
        for (pointer, page) in pointers.iter().zip(&pages) {
            let node = decode_node(page, *pointer, level)?;
            if let RawNode::Inner(children) = &node {
                for (_, child) in children {
                    claim(&mut space, child.block)?;
                    next.push(*child);
                }
            }
            decoded.push((*pointer, node));
        }
        nodes += decoded.len() as u64;
        levels.push(decoded);
        pointers = next;
    }
    let root = assemble(levels).ok_or_else(|| FsError::Corrupt("tree without root".into()))?;
    let tree = Tree::loaded(root, nodes);
    if let Some(problem) = audit(&tree, &superblock, &mut space).into_iter().next() {
        return Err(FsError::Corrupt(problem));
    }
    Ok(Loaded { superblocks, tree, space })
}

/// Puts the nodes of all levels, top first, together.
fn assemble(levels: Vec<Vec<(Pointer, RawNode)>>) -> Option<Box<Node>> {
    let mut below: Vec<Box<Node>> = Vec::new();
    for (level, nodes) in levels.into_iter().rev().enumerate() {
        let mut children = below.into_iter();
        below = nodes
            .into_iter()
            .map(|(pointer, raw)| {
                let body = match raw {
                    RawNode::Leaf(items) => Body::Leaf(items),
                    RawNode::Inner(keys) => {
                        Body::Inner(keys.into_iter().map(|(key, _)| key).zip(&mut children).collect())
                    }
                };
                Box::new(Node::new(Some(pointer), level as u8, body))
            })
            .collect();
    }
    below.into_iter().next()
}

/// What the items of the tree say about each other.
#[derive(Default)]
struct Facts {
    inodes: BTreeMap<u64, Inode>,
    /// By object: the directory it is in.
    parents: BTreeMap<u64, u64>,
    last_key: Option<Key>,
    /// By file: first block that the next extent may map.
    mapped_to: BTreeMap<u64, u64>,
    problems: Vec<String>,
}

/// Judges the items against each other and claims the blocks of all extents. Returns what is wrong.
pub(super) fn audit(tree: &Tree, superblock: &Superblock, space: &mut SpaceMap) -> Vec<String> {
    let mut facts = Facts::default();
    if !tree.is_routed() {
        facts.problems.push("keys of the tree lead astray".into());
    }
    tree.visit(|key, item| facts.look_at(key, item, superblock, space));
    facts.look_at_tree();
    facts.problems
}

impl Facts {
    fn look_at(&mut self, key: &Key, item: &Item, superblock: &Superblock, space: &mut SpaceMap) {
        let object = key.object;
        if self.last_key.as_ref().is_some_and(|last| last >= key) {
            self.problems.push(format!("object {object}: items out of order"));
        }
        self.last_key = Some(key.clone());
        if object >= superblock.next_object {
            self.problems.push(format!("object {object}: number was never given out"));
        }
        match (&key.item, item) {
            (ItemKey::Inode, Item::Inode(inode)) => {
                let limit = MAX_NUMBER * BLOCK_BYTES as u64;
                if inode.bytes > limit || (inode.kind == ObjectKind::Directory && inode.bytes != 0) {
                    self.problems.push(format!("object {object}: length {} is impossible", inode.bytes));
                }
                self.inodes.insert(object, *inode);
            }
            (ItemKey::Entry(name), Item::Entry(target)) => {
                if name.contains(['/', '\0']) || name == "." || name == ".." {
                    self.problems.push(format!("directory {object}: bad name {name:?}"));
                }
                if self.parents.insert(*target, object).is_some() || *target == ROOT {
                    self.problems.push(format!("directory {object}: {name:?} has another name elsewhere"));
                }
                self.expect_kind(object, ObjectKind::Directory);
            }
            (ItemKey::Extent(first), Item::Extent(extent)) => {
                self.look_at_extent(object, *first, extent.disk, extent.checksums.len() as u64, space);
            }
            _ => self.problems.push(format!("object {object}: key and item do not match")),
        }
    }

    fn expect_kind(&mut self, object: u64, kind: ObjectKind) {
        if self.inodes.get(&object).is_none_or(|inode| inode.kind != kind) {
            self.problems.push(format!("object {object}: is no {kind:?}"));
        }
    }

    fn look_at_extent(&mut self, file: u64, first: u64, disk: u64, count: u64, space: &mut SpaceMap) {
        self.expect_kind(file, ObjectKind::File);
        let bytes = self.inodes.get(&file).map_or(0, |inode| inode.bytes);
        let end = first.saturating_add(count);
        if first < self.mapped_to.get(&file).copied().unwrap_or(0) {
            self.problems.push(format!("file {file}: extents overlap at block {first}"));
        }
        if end > bytes.div_ceil(BLOCK_BYTES as u64) {
            self.problems.push(format!("file {file}: block {first} is beyond its end"));
        }
        self.mapped_to.insert(file, end);
        for block in disk..disk.saturating_add(count) {
            if !space.claim(block) {
                self.problems
                    .push(format!("file {file}: block {block} is used twice, or outside the volume"));
                return;
            }
        }
    }

    /// Every object but the root must hang below the root by exactly one name.
    fn look_at_tree(&mut self) {
        self.expect_kind(ROOT, ObjectKind::Directory);
        let mut reachable = BTreeMap::from([(ROOT, true)]);
        let objects: Vec<u64> = self.inodes.keys().copied().collect();
        for object in objects {
            let mut way = Vec::new();
            let mut at = object;
            let found = loop {
                if let Some(known) = reachable.get(&at) {
                    break *known;
                }
                // Marked as lost while we are on the way, so that a circle ends.
                reachable.insert(at, false);
                way.push(at);
                match self.parents.get(&at) {
                    Some(parent) => at = *parent,
                    None => break false,
                }
            };
            way.into_iter().for_each(|step| {
                reachable.insert(step, found);
            });
            if !found {
                self.problems.push(format!("object {object}: no name leads to it"));
            }
        }
        for (target, directory) in &self.parents {
            if !self.inodes.contains_key(target) {
                self.problems.push(format!(
                    "directory {directory}: a name leads to object {target}, which is missing"
                ));
            }
        }
    }
}
