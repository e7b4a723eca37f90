//! Relations: tuples of one length, in the order in which they were added.

use crate::files::{FileError, WorkFile};
use crate::lines::BLOCK_BYTES;

/// Bytes of a tuple.
pub const TUPLE_BYTES: usize = 160;
/// Tuples in a block; none straddles two.
pub(super) const PER_BLOCK: usize = BLOCK_BYTES / TUPLE_BYTES;

/// A tuple: its key, further numbers derived from it, a string.
///
/// ```text
///  unique1 u64 │ unique2 u64 │ two u8 │ four u8 │ ten u8 │ twenty u8 │ zero u32 │ stringu1, 136 letters
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple([u8; TUPLE_BYTES]);

impl Tuple {
    /// The tuple with this key, in this place of its relation.
    pub fn new(unique1: u64, unique2: u64) -> Tuple {
        let mut bytes = [0; TUPLE_BYTES];
        bytes[..8].copy_from_slice(&unique1.to_le_bytes());
        bytes[8..16].copy_from_slice(&unique2.to_le_bytes());
        for (at, modulus) in [2, 4, 10, 20].into_iter().enumerate() {
            bytes[16 + at] = (unique1 % modulus) as u8;
        }
        let mut rest = unique1;
        for letter in &mut bytes[24..] {
            *letter = b'A' + (rest % 26) as u8;
            rest = (rest / 26).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) ^ unique1;
        }
        Tuple(bytes)
    }

    /// The tuple in these bytes, [`TUPLE_BYTES`] of them.
    pub(super) fn from_bytes(bytes: &[u8]) -> Tuple {
        let mut tuple = [0; TUPLE_BYTES];
        tuple.copy_from_slice(bytes);
        Tuple(tuple)
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8; TUPLE_BYTES] {
        &self.0
    }

    /// Its key.
    pub fn unique1(&self) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[..8]);
        u64::from_le_bytes(bytes)
    }
}

/// A relation in a file.
pub struct Heap {
    file: WorkFile,
}

impl Heap {
    /// The relation in this file.
    pub fn new(file: WorkFile) -> Heap {
        Heap { file }
    }

    /// Its file.
    pub fn file(&self) -> &WorkFile {
        &self.file
    }

    /// The block that holds tuple number `number`.
    pub(super) fn block_of(number: u64) -> u64 {
        place(number) / BLOCK_BYTES as u64
    }

    /// Tuple number `number`; `None` behind the last.
    ///
    /// # Errors
    ///
    /// If the file can't be read.
    pub(super) fn get(&self, number: u64) -> Result<Option<Tuple>, FileError> {
        let mut bytes = [0; TUPLE_BYTES];
        let count = self.file.read_at(place(number), &mut bytes)?;
        Ok((count == TUPLE_BYTES).then_some(Tuple(bytes)))
    }
}

/// Where a tuple starts in its file.
fn place(number: u64) -> u64 {
    let (block, at) = (number / PER_BLOCK as u64, number as usize % PER_BLOCK);
    block * BLOCK_BYTES as u64 + (at * TUPLE_BYTES) as u64
}

/// The file of a relation with these tuples.
#[cfg(feature = "data")]
pub(crate) fn file_of(tuples: &[Tuple]) -> alloc::vec::Vec<u8> {
    let mut bytes = alloc::vec![0; tuples.len().div_ceil(PER_BLOCK) * BLOCK_BYTES];
    for (number, tuple) in (0..).zip(tuples) {
        let start = place(number) as usize;
        bytes[start..start + TUPLE_BYTES].copy_from_slice(tuple.bytes());
    }
    // The file ends with its last tuple, so that nothing behind it can be taken for one.
    bytes.truncate(tuples.len().checked_sub(1).map_or(0, |last| place(last as u64) as usize + TUPLE_BYTES));
    bytes
}
