//! Making a tree of sorted records at once. Host side.

use super::page::{Header, Leaf, NO_PAGE, Node, new_page};
use alloc::vec::Vec;

/// The contents of the two files of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The index file.
    pub index: Vec<u8>,
    /// The leaves file.
    pub leaves: Vec<u8>,
}

/// A tree of these records, whose keys ascend and whose values have the same length. `fill` is how many
/// records and how many keys a page gets, in hundredths of what it has room for.
///
/// # Panics
///
/// If there are no records, or if a page has no room for one.
pub fn build(records: &[(u64, Vec<u8>)], fill: usize) -> Image {
    let value_bytes = records[0].1.len();
    let share = |most: usize, least: usize| (most * fill / 100).max(least);
    let per_leaf = share(Leaf::new(value_bytes, NO_PAGE).most(), 1);
    let leaf_pages = records.len().div_ceil(per_leaf) as u32;
    let mut leaves = Vec::new();
    let mut level: Vec<(u64, u32)> = Vec::new();
    for (number, group) in (0u32..).zip(records.chunks(per_leaf)) {
        let next = if number + 1 < leaf_pages { number + 1 } else { NO_PAGE };
        let mut leaf = Leaf::new(value_bytes, next);
        for (at, (key, value)) in group.iter().enumerate() {
            leaf.insert(at, *key, value);
        }
        leaves.extend_from_slice(leaf.page());
        level.push((group[0].0, number));
    }
    let mut nodes: Vec<Node> = Vec::new();
    let mut height = 1;
    while level.len() > 1 {
        // Page 0 is the header. No node is left with a single child.
        let per_node = share(super::page::NODE_KEYS + 1, 2);
        let groups = level.len().div_ceil(per_node);
        let mut above = Vec::new();
        for group in level.chunks(level.len().div_ceil(groups)) {
            above.push((group[0].0, 1 + nodes.len() as u32));
            nodes.push(Node::of(group));
        }
        level = above;
        height += 1;
    }
    let header = Header {
        value_bytes: value_bytes as u32,
        root: level[0].1,
        height,
        index_pages: 1 + nodes.len() as u32,
        leaf_pages,
    };
    let mut first = new_page();
    header.write(&mut first);
    let mut index = first.to_vec();
    nodes.iter().for_each(|node| index.extend_from_slice(node.page()));
    Image { index, leaves }
}
