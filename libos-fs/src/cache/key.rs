//! What a block is called.

use crate::file_id::FileId;
use alloc::vec::Vec;
use core::ops::Range;
use hashbrown::HashMap;

/// A block of a file.
pub(crate) type Key = (FileId, u64);

/// The number by which policies and recorded references know a block of a file: file number × 2³² + block.
/// Adjacent blocks have adjacent numbers.
pub fn reference(file: FileId, block: u64) -> u64 {
    file.0 << 32 | block & 0xffff_ffff
}

/// The block that [`reference()`] has named.
pub fn block_of(reference: u64) -> (FileId, u64) {
    (FileId(reference >> 32), reference & 0xffff_ffff)
}

/// Slots of the blocks of a range that are in an index, in the order of the blocks. Looks at no more blocks
/// than there are in the index.
pub(super) fn known_slots(index: &HashMap<Key, usize>, file: FileId, blocks: Range<u64>) -> Vec<usize> {
    let count = blocks.end.saturating_sub(blocks.start);
    if count <= index.len() as u64 {
        return blocks.filter_map(|block| index.get(&(file, block)).copied()).collect();
    }
    let mut known: Vec<(u64, usize)> = index
        .iter()
        .filter(|((of, block), _)| *of == file && blocks.contains(block))
        .map(|((_, block), slot)| (*block, *slot))
        .collect();
    known.sort_unstable();
    known.into_iter().map(|(_, slot)| slot).collect()
}
