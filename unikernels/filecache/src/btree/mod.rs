//! A B+ tree on two files: what `pjn` and `ycsb` keep their records in.
//!
//! ```text
//!  index file    0 header │ 1 node │ 2 node │ ...     keys and the pages below, levels from the leaves up
//!  leaves file   0 leaf   │ 1 leaf │ 2 leaf │ ...     keys with their values, each leaf knows the next
//! ```
//!
//! Pages are blocks of the cache, read and written whole; nothing is kept in memory between two calls but the
//! header. So what the tree touches is what the cache sees. Nodes and leaves are in files of their own
//! because an application can then tell the cache that the index is worth more than what it leads to.
//!
//! Keys are 64-bit numbers, values have one length, set when the tree is made. There is no removal: nobody
//! here needs it. (R. Bayer and E. McCreight, "Organization and maintenance of large ordered indices", Acta
//! Informatica 1, 1972; the variant with all values in linked leaves: D. Comer, "The ubiquitous B-tree", ACM
//! Computing Surveys 11(2), 1979.)

#[cfg(any(test, feature = "data"))]
mod bulk;
mod page;

#[cfg(any(test, feature = "data"))]
pub use bulk::{Image, build};

use crate::files::{FileError, WorkFile};
use crate::lines::BLOCK_BYTES;
use alloc::vec::Vec;
use core::fmt;
use page::{Header, Leaf, NO_PAGE, Node, Page, new_page};

/// Why a tree can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeError {
    /// A file could not be read or written.
    File(FileError),
    /// A page holds what no page can hold.
    Corrupt {
        /// What is wrong.
        what: &'static str,
        /// Number of the page in its file.
        page: u32,
    },
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TreeError::File(error) => error.fmt(f),
            TreeError::Corrupt { what, page } => write!(f, "page {page}: {what}"),
        }
    }
}

impl core::error::Error for TreeError {}

impl From<FileError> for TreeError {
    fn from(error: FileError) -> TreeError {
        TreeError::File(error)
    }
}

/// A tree, open.
pub struct Tree {
    index: WorkFile,
    leaves: WorkFile,
    header: Header,
}

/// Where a key belongs: the nodes on the way, each with the child taken, and the leaf.
struct Way {
    nodes: Vec<(u32, usize)>,
    leaf: u32,
}

impl Tree {
    /// Opens the tree in two files.
    ///
    /// # Errors
    ///
    /// If the first page of the index is no header.
    pub fn open(index: WorkFile, leaves: WorkFile) -> Result<Tree, TreeError> {
        let header = Header::read(&*read_page(&index, 0)?)?;
        Ok(Tree { index, leaves, header })
    }

    /// The file with the nodes.
    pub fn index(&self) -> &WorkFile {
        &self.index
    }

    /// The file with the values.
    pub fn leaves(&self) -> &WorkFile {
        &self.leaves
    }

    /// Bytes of a value.
    pub fn value_bytes(&self) -> usize {
        self.header.value_bytes as usize
    }

    /// Shows the value of a key; `None` if there is none.
    ///
    /// # Errors
    ///
    /// If a page can't be read or makes no sense.
    pub fn get<T>(&self, key: u64, show: impl FnOnce(&[u8]) -> T) -> Result<Option<T>, TreeError> {
        let leaf = self.read_leaf(self.find(key)?.leaf)?;
        Ok(leaf.find(key).ok().map(|at| show(leaf.value(at))))
    }

    /// Changes the value of a key; `false` if there is none.
    ///
    /// # Errors
    ///
    /// If a page can't be read or written, or makes no sense.
    pub fn update(&self, key: u64, change: impl FnOnce(&mut [u8])) -> Result<bool, TreeError> {
        let number = self.find(key)?.leaf;
        let mut leaf = self.read_leaf(number)?;
        let Ok(at) = leaf.find(key) else { return Ok(false) };
        change(leaf.value_mut(at));
        self.write(&self.leaves, number, leaf.page())?;
        Ok(true)
    }

    /// Shows up to `count` records from the first whose key is at least `from`, in order; returns how many
    /// there were.
    ///
    /// # Errors
    ///
    /// If a page can't be read or makes no sense.
    pub fn scan(
        &self,
        from: u64,
        count: usize,
        mut show: impl FnMut(u64, &[u8]),
    ) -> Result<usize, TreeError> {
        let mut number = self.find(from)?.leaf;
        let mut shown = 0;
        while shown < count && number != NO_PAGE {
            let leaf = self.read_leaf(number)?;
            let start = if shown == 0 { leaf.find(from).unwrap_or_else(|at| at) } else { 0 };
            for at in (start..leaf.len()).take(count - shown) {
                show(leaf.key(at), leaf.value(at));
                shown += 1;
            }
            number = leaf.next();
        }
        Ok(shown)
    }

    /// Adds a record, or changes it if its key is there. `value` has the length of the tree's values.
    ///
    /// # Errors
    ///
    /// If a page can't be read or written, or makes no sense.
    pub fn insert(&mut self, key: u64, value: &[u8]) -> Result<(), TreeError> {
        let way = self.find(key)?;
        let mut leaf = self.read_leaf(way.leaf)?;
        match leaf.find(key) {
            Ok(at) => leaf.value_mut(at).copy_from_slice(value),
            Err(at) if leaf.has_room() => leaf.insert(at, key, value),
            Err(_) => return self.split_leaf(&way, leaf, key, value),
        }
        self.write(&self.leaves, way.leaf, leaf.page())
    }

    /// Goes down from the root.
    fn find(&self, key: u64) -> Result<Way, TreeError> {
        let mut nodes = Vec::new();
        let mut page = self.header.root;
        for _ in 1..self.header.height {
            let node = self.read_node(page)?;
            let child = node.child_for(key);
            nodes.push((page, child));
            page = node.child(child);
        }
        Ok(Way { nodes, leaf: page })
    }

    /// Divides a full leaf in two, of which one takes the new record.
    fn split_leaf(&mut self, way: &Way, mut left: Leaf, key: u64, value: &[u8]) -> Result<(), TreeError> {
        let number = self.header.leaf_pages;
        let mut right = left.split(number);
        let target = if key < right.key(0) { &mut left } else { &mut right };
        let at = target.find(key).unwrap_or_else(|at| at);
        target.insert(at, key, value);
        self.header.leaf_pages += 1;
        self.write(&self.leaves, number, right.page())?;
        self.write(&self.leaves, way.leaf, left.page())?;
        self.add_child(&way.nodes, right.key(0), number)
    }

    /// Tells the nodes on the way, from the lowest up, of a new page to the right of the one that was taken.
    fn add_child(&mut self, nodes: &[(u32, usize)], key: u64, child: u32) -> Result<(), TreeError> {
        let (mut key, mut child) = (key, child);
        for (number, taken) in nodes.iter().rev() {
            let mut node = self.read_node(*number)?;
            if node.has_room() {
                node.insert(*taken, key, child);
                self.write(&self.index, *number, node.page())?;
                return self.write_header();
            }
            let (middle, mut right) = node.split();
            if *taken < node.len() + 1 {
                node.insert(*taken, key, child);
            } else {
                right.insert(*taken - node.len() - 1, key, child);
            }
            let new = self.header.index_pages;
            self.header.index_pages += 1;
            self.write(&self.index, new, right.page())?;
            self.write(&self.index, *number, node.page())?;
            (key, child) = (middle, new);
        }
        let root = Node::new(self.header.root, key, child);
        self.header.root = self.header.index_pages;
        self.header.index_pages += 1;
        self.header.height += 1;
        self.write(&self.index, self.header.root, root.page())?;
        self.write_header()
    }

    fn write_header(&self) -> Result<(), TreeError> {
        let mut page = new_page();
        self.header.write(&mut page);
        self.write(&self.index, 0, &page)
    }

    fn read_node(&self, number: u32) -> Result<Node, TreeError> {
        Node::from_page(read_page(&self.index, number)?)
            .ok_or(TreeError::Corrupt { what: "no node", page: number })
    }

    fn read_leaf(&self, number: u32) -> Result<Leaf, TreeError> {
        Leaf::from_page(read_page(&self.leaves, number)?, self.value_bytes())
            .ok_or(TreeError::Corrupt { what: "no leaf", page: number })
    }

    fn write(&self, file: &WorkFile, number: u32, page: &Page) -> Result<(), TreeError> {
        Ok(file.write_at(u64::from(number) * BLOCK_BYTES as u64, page)?)
    }
}

fn read_page(file: &WorkFile, number: u32) -> Result<alloc::boxed::Box<Page>, TreeError> {
    let mut page = new_page();
    let count = file.read_at(u64::from(number) * BLOCK_BYTES as u64, &mut *page)?;
    if count == BLOCK_BYTES { Ok(page) } else { Err(TreeError::Corrupt { what: "not there", page: number }) }
}

#[cfg(test)]
mod tests;
