//! The pages of a tree as bytes, little-endian.
//!
//! ```text
//!  header   magic u64 │ value bytes u32 │ root u32 │ height u32 │ index pages u32 │ leaf pages u32
//!  node     count u32 │ zero u32 │ keys u64 × NODE_KEYS │ children u32 × (NODE_KEYS + 1)
//!  leaf     count u32 │ next u32 │ (key u64 │ value) × count
//! ```

use super::TreeError;
use crate::lines::BLOCK_BYTES;
use alloc::boxed::Box;

/// A page.
pub(super) type Page = [u8; BLOCK_BYTES];

/// Where there is no page.
pub(super) const NO_PAGE: u32 = u32::MAX;

/// "btree", version 1.
const MAGIC: u64 = 0x0001_6565_7274_6200;

/// Bytes before the entries of a node or a leaf.
const START: usize = 8;
/// Most keys in a node, which has one child more.
pub(super) const NODE_KEYS: usize = (BLOCK_BYTES - START - 4) / 12;
/// Where the children of a node start.
const CHILDREN: usize = START + NODE_KEYS * 8;

/// A page of zeros.
pub(super) fn new_page() -> Box<Page> {
    Box::new([0; BLOCK_BYTES])
}

fn u32_at(page: &Page, at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&page[at..at + 4]);
    u32::from_le_bytes(bytes)
}

fn u64_at(page: &Page, at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&page[at..at + 8]);
    u64::from_le_bytes(bytes)
}

fn set_u32(page: &mut Page, at: usize, value: u32) {
    page[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn set_u64(page: &mut Page, at: usize, value: u64) {
    page[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// The first page of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) value_bytes: u32,
    /// A node, or the only leaf if the height is 1.
    pub(super) root: u32,
    /// Levels, leaves included.
    pub(super) height: u32,
    /// Pages of the index, this one included.
    pub(super) index_pages: u32,
    pub(super) leaf_pages: u32,
}

impl Header {
    pub(super) fn read(page: &Page) -> Result<Header, TreeError> {
        let header = Header {
            value_bytes: u32_at(page, 8),
            root: u32_at(page, 12),
            height: u32_at(page, 16),
            index_pages: u32_at(page, 20),
            leaf_pages: u32_at(page, 24),
        };
        let sound = u64_at(page, 0) == MAGIC
            && (1..=32).contains(&header.height)
            && (1..=leaf_room(1)).contains(&(header.value_bytes as usize));
        if sound { Ok(header) } else { Err(TreeError::Corrupt { what: "no header of a tree", page: 0 }) }
    }

    pub(super) fn write(&self, page: &mut Page) {
        set_u64(page, 0, MAGIC);
        let fields = [self.value_bytes, self.root, self.height, self.index_pages, self.leaf_pages];
        for (index, field) in fields.into_iter().enumerate() {
            set_u32(page, 8 + 4 * index, field);
        }
    }
}

/// Bytes of a value for which so many records fit into a leaf.
const fn leaf_room(records: usize) -> usize {
    (BLOCK_BYTES - START) / records - 8
}

/// Keys and the pages below: child `i` has the keys before key `i`, the last child the others.
pub(super) struct Node {
    page: Box<Page>,
}

impl Node {
    /// A root with one key.
    pub(super) fn new(left: u32, key: u64, right: u32) -> Node {
        let mut node = Node { page: new_page() };
        set_u32(&mut node.page, CHILDREN, left);
        node.insert(0, key, right);
        node
    }

    /// A node with these children, of which each has no key before its own.
    #[cfg(any(test, feature = "data"))]
    pub(super) fn of(children: &[(u64, u32)]) -> Node {
        let mut node = Node { page: new_page() };
        set_u32(&mut node.page, CHILDREN, children[0].1);
        for (at, (key, child)) in children[1..].iter().enumerate() {
            node.insert(at, *key, *child);
        }
        node
    }

    pub(super) fn from_page(page: Box<Page>) -> Option<Node> {
        let node = Node { page };
        ((1..=NODE_KEYS).contains(&node.len())).then_some(node)
    }

    pub(super) fn page(&self) -> &Page {
        &self.page
    }

    /// Number of keys.
    pub(super) fn len(&self) -> usize {
        u32_at(&self.page, 0) as usize
    }

    pub(super) fn has_room(&self) -> bool {
        self.len() < NODE_KEYS
    }

    fn key(&self, at: usize) -> u64 {
        u64_at(&self.page, START + 8 * at)
    }

    pub(super) fn child(&self, at: usize) -> u32 {
        u32_at(&self.page, CHILDREN + 4 * at)
    }

    /// The child below which a key belongs.
    pub(super) fn child_for(&self, key: u64) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            if self.key(middle) <= key { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Adds a key at a place, and the child to the right of it.
    pub(super) fn insert(&mut self, at: usize, key: u64, child: u32) {
        let count = self.len();
        let keys = START + 8 * at;
        self.page.copy_within(keys..START + 8 * count, keys + 8);
        let children = CHILDREN + 4 * (at + 1);
        self.page.copy_within(children..CHILDREN + 4 * (count + 1), children + 4);
        set_u64(&mut self.page, keys, key);
        set_u32(&mut self.page, children, child);
        set_u32(&mut self.page, 0, count as u32 + 1);
    }

    /// Moves the upper half to a new node; returns it with the key between the two.
    pub(super) fn split(&mut self) -> (u64, Node) {
        let (count, middle) = (self.len(), self.len() / 2);
        let mut right = Node { page: new_page() };
        set_u32(&mut right.page, CHILDREN, self.child(middle + 1));
        for at in middle + 1..count {
            right.insert(at - middle - 1, self.key(at), self.child(at + 1));
        }
        set_u32(&mut self.page, 0, middle as u32);
        (self.key(middle), right)
    }
}

/// Records in the order of their keys.
pub(super) struct Leaf {
    page: Box<Page>,
    value_bytes: usize,
}

impl Leaf {
    /// An empty leaf.
    #[cfg(any(test, feature = "data"))]
    pub(super) fn new(value_bytes: usize, next: u32) -> Leaf {
        let mut leaf = Leaf { page: new_page(), value_bytes };
        set_u32(&mut leaf.page, 4, next);
        leaf
    }

    pub(super) fn from_page(page: Box<Page>, value_bytes: usize) -> Option<Leaf> {
        let leaf = Leaf { page, value_bytes };
        (leaf.len() <= leaf.most()).then_some(leaf)
    }

    pub(super) fn page(&self) -> &Page {
        &self.page
    }

    /// Number of records.
    pub(super) fn len(&self) -> usize {
        u32_at(&self.page, 0) as usize
    }

    /// Most records there can be.
    pub(super) fn most(&self) -> usize {
        (BLOCK_BYTES - START) / (8 + self.value_bytes)
    }

    pub(super) fn has_room(&self) -> bool {
        self.len() < self.most()
    }

    /// The leaf with the keys that follow.
    pub(super) fn next(&self) -> u32 {
        u32_at(&self.page, 4)
    }

    fn place(&self, at: usize) -> usize {
        START + at * (8 + self.value_bytes)
    }

    pub(super) fn key(&self, at: usize) -> u64 {
        u64_at(&self.page, self.place(at))
    }

    pub(super) fn value(&self, at: usize) -> &[u8] {
        let start = self.place(at) + 8;
        &self.page[start..start + self.value_bytes]
    }

    pub(super) fn value_mut(&mut self, at: usize) -> &mut [u8] {
        let start = self.place(at) + 8;
        &mut self.page[start..start + self.value_bytes]
    }

    /// Where a key is, or, as an error, where it belongs.
    pub(super) fn find(&self, key: u64) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            match self.key(middle).cmp(&key) {
                core::cmp::Ordering::Equal => return Ok(middle),
                core::cmp::Ordering::Less => low = middle + 1,
                core::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// Adds a record at its place.
    pub(super) fn insert(&mut self, at: usize, key: u64, value: &[u8]) {
        let count = self.len();
        let (start, end) = (self.place(at), self.place(count));
        self.page.copy_within(start..end, start + 8 + self.value_bytes);
        set_u64(&mut self.page, start, key);
        self.value_mut(at).copy_from_slice(value);
        set_u32(&mut self.page, 0, count as u32 + 1);
    }

    /// Moves the upper half to a new leaf, which will be page `number` and follows this one.
    pub(super) fn split(&mut self, number: u32) -> Leaf {
        let (count, middle) = (self.len(), self.len().div_ceil(2));
        let mut right = Leaf { page: new_page(), value_bytes: self.value_bytes };
        let (from, to) = (self.place(middle), self.place(count));
        right.page[START..START + (to - from)].copy_from_slice(&self.page[from..to]);
        set_u32(&mut right.page, 0, (count - middle) as u32);
        let next = self.next();
        set_u32(&mut right.page, 4, next);
        set_u32(&mut self.page, 0, middle as u32);
        set_u32(&mut self.page, 4, number);
        right
    }
}
