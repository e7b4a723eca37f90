//! The tree that holds all metadata: a copy-on-write B-tree (O. Rodeh, "B-trees, shadowing, and clones", ACM
//! Transactions on Storage 3(4), 2008).
//!
//! It is in memory as a whole. A node knows where on the disk it was last committed; when it is changed it
//! loses that place, and so do all nodes above it, and a commit writes it to another one.

use super::format::{Item, Key, NODE_CAPACITY, Pointer, encode_inner, encode_leaf};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem;
use hyperexo_abi::Page;

/// Nodes are merged when they would fill no more than this together.
const MERGED_BYTES: usize = NODE_CAPACITY * 3 / 4;

pub(super) enum Body {
    Leaf(Vec<(Key, Item)>),
    /// Each child with a key that is not above any key in it and above all keys of the child before it.
    Inner(Vec<(Key, Box<Node>)>),
}

pub(super) struct Node {
    /// Where the node was committed as it is. `None`: it has changed since.
    place: Option<Pointer>,
    level: u8,
    body: Body,
}

/// Pages and the blocks they are written to.
pub(super) type Written = Vec<(u64, Box<Page>)>;

/// A node that came to be by splitting, and its key.
type Split = Option<(Key, Box<Node>)>;

pub(super) struct Tree {
    root: Box<Node>,
    /// Nodes, those without a place included.
    nodes: u64,
    /// Places that nodes of the last commit had, and the tree of the next one does not need.
    released: Vec<u64>,
}

/// What an operation changes beside the nodes themselves.
#[derive(Default)]
struct Changes {
    released: Vec<u64>,
    born: u64,
    gone: u64,
}

impl Node {
    pub(super) fn new(place: Option<Pointer>, level: u8, body: Body) -> Node {
        Node { place, level, body }
    }

    fn touch(&mut self, changes: &mut Changes) {
        changes.released.extend(self.place.take().map(|place| place.block));
    }

    fn bytes(&self) -> usize {
        match &self.body {
            Body::Leaf(items) => items.iter().map(|(key, item)| key.leaf_bytes(item)).sum(),
            Body::Inner(children) => children.iter().map(|(key, _)| key.inner_bytes()).sum(),
        }
    }

    fn is_empty(&self) -> bool {
        match &self.body {
            Body::Leaf(items) => items.is_empty(),
            Body::Inner(children) => children.is_empty(),
        }
    }

    /// The child that would hold a key.
    fn child_for(children: &[(Key, Box<Node>)], key: &Key) -> usize {
        children.partition_point(|(low, _)| low <= key).saturating_sub(1)
    }

    fn floor(&self, key: &Key) -> Option<(&Key, &Item)> {
        match &self.body {
            Body::Leaf(items) => {
                let after = items.partition_point(|(other, _)| other <= key);
                items[..after].last().map(|(key, item)| (key, item))
            }
            Body::Inner(children) => {
                let last = Node::child_for(children, key);
                children.get(..=last)?.iter().rev().find_map(|(_, child)| child.floor(key))
            }
        }
    }

    fn ceiling(&self, key: &Key) -> Option<(&Key, &Item)> {
        match &self.body {
            Body::Leaf(items) => {
                let first = items.partition_point(|(other, _)| other < key);
                items.get(first).map(|(key, item)| (key, item))
            }
            Body::Inner(children) => {
                let first = Node::child_for(children, key);
                children.get(first..)?.iter().find_map(|(_, child)| child.ceiling(key))
            }
        }
    }

    /// Applies a change to an item. Returns its result, if there is such an item, and the node split off if
    /// it no longer fits.
    fn update<R>(
        &mut self,
        key: &Key,
        change: impl FnOnce(&mut Item) -> R,
        changes: &mut Changes,
    ) -> (Option<R>, Split) {
        let result = match &mut self.body {
            Body::Leaf(items) => match items.binary_search_by(|(other, _)| other.cmp(key)) {
                Ok(position) => Some(change(&mut items[position].1)),
                Err(_) => return (None, None),
            },
            Body::Inner(children) => {
                let position = Node::child_for(children, key);
                let Some((_, child)) = children.get_mut(position) else { return (None, None) };
                let (result, split) = child.update(key, change, changes);
                if result.is_none() {
                    return (None, None);
                }
                if let Some(split) = split {
                    children.insert(position + 1, split);
                }
                result
            }
        };
        self.touch(changes);
        (result, self.split(false, changes))
    }

    fn insert(&mut self, key: Key, item: Item, changes: &mut Changes) -> (Option<Item>, Split) {
        let (old, at_end) = match &mut self.body {
            Body::Leaf(items) => match items.binary_search_by(|(other, _)| other.cmp(&key)) {
                Ok(position) => (Some(mem::replace(&mut items[position].1, item)), false),
                Err(position) => {
                    let at_end = position == items.len();
                    items.insert(position, (key, item));
                    (None, at_end)
                }
            },
            Body::Inner(children) => {
                let position = Node::child_for(children, &key);
                let at_end = position + 1 == children.len();
                let (low, child) = &mut children[position];
                if key < *low {
                    *low = key.clone();
                }
                let (old, split) = child.insert(key, item, changes);
                if let Some(split) = split {
                    children.insert(position + 1, split);
                }
                (old, at_end)
            }
        };
        self.touch(changes);
        (old, self.split(at_end, changes))
    }

    /// Splits off the upper part if the node is too large. What was filled at its end is left full.
    fn split(&mut self, at_end: bool, changes: &mut Changes) -> Split {
        if self.bytes() <= NODE_CAPACITY {
            return None;
        }
        changes.born += 1;
        let target = if at_end { NODE_CAPACITY } else { self.bytes() / 2 };
        let level = self.level;
        let (key, body) = match &mut self.body {
            Body::Leaf(items) => {
                let upper = items.split_off(split_position(
                    items.iter().map(|(key, item)| key.leaf_bytes(item)),
                    items.len(),
                    target,
                ));
                (upper[0].0.clone(), Body::Leaf(upper))
            }
            Body::Inner(children) => {
                let upper = children.split_off(split_position(
                    children.iter().map(|(key, _)| key.inner_bytes()),
                    children.len(),
                    target,
                ));
                (upper[0].0.clone(), Body::Inner(upper))
            }
        };
        Some((key, Box::new(Node::new(None, level, body))))
    }

    fn remove(&mut self, key: &Key, changes: &mut Changes) -> Option<Item> {
        let removed = match &mut self.body {
            Body::Leaf(items) => {
                let position = items.binary_search_by(|(other, _)| other.cmp(key)).ok()?;
                items.remove(position).1
            }
            Body::Inner(children) => {
                let position = Node::child_for(children, key);
                let removed = children.get_mut(position)?.1.remove(key, changes)?;
                Node::tidy(children, position, changes);
                removed
            }
        };
        self.touch(changes);
        Some(removed)
    }

    /// Drops a child that has become empty, or merges it with a neighbour if both are small.
    fn tidy(children: &mut Vec<(Key, Box<Node>)>, position: usize, changes: &mut Changes) {
        if children[position].1.is_empty() && children.len() > 1 {
            children.remove(position);
            changes.gone += 1;
            return;
        }
        let left = if position + 1 < children.len() { position } else { position.saturating_sub(1) };
        if left + 1 >= children.len()
            || children[left].1.bytes() + children[left + 1].1.bytes() > MERGED_BYTES
        {
            return;
        }
        let (_, mut upper) = children.remove(left + 1);
        let lower = &mut children[left].1;
        upper.touch(changes);
        lower.touch(changes);
        match (&mut lower.body, &mut upper.body) {
            (Body::Leaf(into), Body::Leaf(from)) => into.append(from),
            (Body::Inner(into), Body::Inner(from)) => into.append(from),
            // Neighbours are on the same level: both are leaves or neither is.
            _ => {}
        }
        changes.gone += 1;
    }

    fn changed(&self) -> u64 {
        if self.place.is_some() {
            return 0;
        }
        1 + match &self.body {
            Body::Leaf(_) => 0,
            Body::Inner(children) => children.iter().map(|(_, child)| child.changed()).sum(),
        }
    }

    /// Encodes the changed nodes, children first, to the blocks given.
    fn encode(&self, blocks: &mut dyn Iterator<Item = u64>, pages: &mut Written) -> Option<Pointer> {
        if let Some(place) = self.place {
            return Some(place);
        }
        let (block, page) = match &self.body {
            Body::Leaf(items) => {
                let block = blocks.next()?;
                (block, encode_leaf(items, block))
            }
            Body::Inner(children) => {
                let mut pointers = Vec::with_capacity(children.len());
                for (key, child) in children {
                    pointers.push((key, child.encode(blocks, pages)?));
                }
                let block = blocks.next()?;
                (block, encode_inner(self.level, pointers.into_iter(), block))
            }
        };
        let checksum = crc32fast::hash(&page.0);
        pages.push((block, page));
        Some(Pointer { block, checksum })
    }

    /// Gives the changed nodes their places, in the order of [`Node::encode`].
    fn adopt(&mut self, places: &mut dyn Iterator<Item = Pointer>) {
        if self.place.is_some() {
            return;
        }
        if let Body::Inner(children) = &mut self.body {
            for (_, child) in children {
                child.adopt(places);
            }
        }
        self.place = places.next();
    }

    /// Whether every key is found where the keys above it say, between `low` and below `high`.
    fn is_routed(&self, low: Option<&Key>, high: Option<&Key>) -> bool {
        let within = |key: &Key| low.is_none_or(|low| low <= key) && high.is_none_or(|high| key < high);
        match &self.body {
            Body::Leaf(items) => items.iter().all(|(key, _)| within(key)),
            Body::Inner(children) => children.iter().enumerate().all(|(position, (key, child))| {
                let next = children.get(position + 1).map(|(next, _)| next).or(high);
                within(key) && child.is_routed(Some(key), next)
            }),
        }
    }

    fn visit(&self, visitor: &mut dyn FnMut(&Key, &Item)) {
        match &self.body {
            Body::Leaf(items) => items.iter().for_each(|(key, item)| visitor(key, item)),
            Body::Inner(children) => children.iter().for_each(|(_, child)| child.visit(visitor)),
        }
    }
}

/// How many items stay: as many as fill `target` bytes, but at least one and not all.
fn split_position(sizes: impl Iterator<Item = usize>, count: usize, target: usize) -> usize {
    let mut bytes = 0;
    let fitting = sizes
        .take_while(|size| {
            bytes += size;
            bytes <= target
        })
        .count();
    fitting.clamp(1, count.saturating_sub(1).max(1))
}

impl Tree {
    /// A tree without items.
    pub(super) fn empty() -> Tree {
        let root = Box::new(Node::new(None, 0, Body::Leaf(Vec::new())));
        Tree { root, nodes: 1, released: Vec::new() }
    }

    /// A tree as it was committed.
    pub(super) fn loaded(root: Box<Node>, nodes: u64) -> Tree {
        Tree { root, nodes, released: Vec::new() }
    }

    pub(super) fn nodes(&self) -> u64 {
        self.nodes
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Item> {
        self.root.floor(key).filter(|(found, _)| *found == key).map(|(_, item)| item)
    }

    /// The last item whose key is not above `key`.
    pub(super) fn floor(&self, key: &Key) -> Option<(&Key, &Item)> {
        self.root.floor(key)
    }

    /// The first item whose key is not below `key`.
    pub(super) fn ceiling(&self, key: &Key) -> Option<(&Key, &Item)> {
        self.root.ceiling(key)
    }

    /// Inserts an item; returns the one that it replaces.
    pub(super) fn insert(&mut self, key: Key, item: Item) -> Option<Item> {
        let mut changes = Changes::default();
        let (old, split) = self.root.insert(key, item, &mut changes);
        self.grow(split, &mut changes);
        self.note(changes);
        old
    }

    /// Applies a change to an item, if it exists.
    pub(super) fn update<R>(&mut self, key: &Key, change: impl FnOnce(&mut Item) -> R) -> Option<R> {
        let mut changes = Changes::default();
        let (result, split) = self.root.update(key, change, &mut changes);
        self.grow(split, &mut changes);
        self.note(changes);
        result
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<Item> {
        let mut changes = Changes::default();
        let removed = self.root.remove(key, &mut changes);
        loop {
            match &mut self.root.body {
                Body::Inner(children) if children.len() == 1 => {
                    let (_, only) = children.remove(0);
                    self.root.touch(&mut changes);
                    self.root = only;
                    changes.gone += 1;
                }
                _ => break,
            }
        }
        self.note(changes);
        removed
    }

    fn grow(&mut self, split: Split, changes: &mut Changes) {
        let Some(upper) = split else { return };
        let level = self.root.level + 1;
        let lowest = Key::inode(0);
        let lower = mem::replace(&mut self.root, Box::new(Node::new(None, level, Body::Inner(Vec::new()))));
        self.root.body = Body::Inner(Vec::from([(lowest, lower), upper]));
        changes.born += 1;
    }

    fn note(&mut self, changes: Changes) {
        self.released.extend(changes.released);
        self.nodes = (self.nodes + changes.born).saturating_sub(changes.gone);
    }

    /// Nodes that a commit has to write.
    pub(super) fn changed(&self) -> u64 {
        self.root.changed()
    }

    /// The changed nodes as they are written to `blocks`, of which there must be [`Tree::changed`], and the
    /// pointer to the root. The tree itself stays as it is. `None` if there are too few blocks.
    pub(super) fn encode(&self, blocks: &[u64]) -> Option<(Pointer, Written)> {
        let mut pages = Vec::with_capacity(blocks.len());
        let root = self.root.encode(&mut blocks.iter().copied(), &mut pages)?;
        Some((root, pages))
    }

    /// Takes note that the nodes have been committed to these places, in the order of [`Tree::encode`].
    /// Returns the places that are no longer needed.
    pub(super) fn adopt(&mut self, places: &[Pointer]) -> Vec<u64> {
        self.root.adopt(&mut places.iter().copied());
        mem::take(&mut self.released)
    }

    /// Whether the keys of inner nodes lead to all items: true of every tree that was not forged.
    pub(super) fn is_routed(&self) -> bool {
        self.root.is_routed(None, None)
    }

    pub(super) fn visit(&self, mut visitor: impl FnMut(&Key, &Item)) {
        self.root.visit(&mut visitor);
    }
}
