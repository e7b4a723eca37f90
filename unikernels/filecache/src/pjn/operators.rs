//! The operators of the query: each gives one tuple after the other.

use super::relation::{Heap, PER_BLOCK, TUPLE_BYTES, Tuple};
use crate::btree::{Tree, TreeError};
use crate::files::FileError;
use crate::lines::{BLOCK_BYTES, READ_BYTES};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

/// A relation from its first tuple to its last.
pub(super) struct Scan<'h> {
    heap: &'h Heap,
    /// Bytes of the file from `offset` on.
    buffer: Vec<u8>,
    filled: usize,
    offset: u64,
    /// Next tuple in the buffer.
    next: usize,
    /// Blocks whose last tuple has been given and of which nobody has asked yet.
    finished: Option<Range<u64>>,
}

impl<'h> Scan<'h> {
    pub(super) fn new(heap: &'h Heap) -> Scan<'h> {
        Scan { heap, buffer: vec![0; READ_BYTES], filled: 0, offset: 0, next: 0, finished: None }
    }

    fn next(&mut self) -> Result<Option<Tuple>, FileError> {
        loop {
            let start = self.next / PER_BLOCK * BLOCK_BYTES + self.next % PER_BLOCK * TUPLE_BYTES;
            if let Some(bytes) = self.buffer[..self.filled].get(start..start + TUPLE_BYTES) {
                self.next += 1;
                return Ok(Some(Tuple::from_bytes(bytes)));
            }
            let first = self.offset / BLOCK_BYTES as u64;
            self.offset += self.filled as u64;
            if self.filled > 0 {
                self.finished = Some(first..self.offset.div_ceil(BLOCK_BYTES as u64));
            }
            self.next = 0;
            self.filled = self.heap.file().read_at(self.offset, &mut self.buffer)?;
            if self.filled == 0 {
                return Ok(None);
            }
        }
    }
}

/// The tuples of a scan, each with the inner tuple that the index finds for its key.
pub(super) struct Join<'t> {
    outer: Scan<'t>,
    index: &'t Tree,
    inner: &'t Heap,
}

impl<'t> Join<'t> {
    pub(super) fn new(outer: Scan<'t>, index: &'t Tree, inner: &'t Heap) -> Join<'t> {
        Join { outer, index, inner }
    }

    /// The next tuple of the outer relation, and its partner if it has one.
    pub(super) fn next(&mut self) -> Result<Option<(Tuple, Option<Tuple>)>, TreeError> {
        let Some(outer) = self.outer.next()? else { return Ok(None) };
        let number = self.index.get(outer.unique1(), |entry| {
            entry.iter().take(8).rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
        })?;
        let inner = match number {
            Some(number) => self.inner.get(number)?,
            None => None,
        };
        Ok(Some((outer, inner)))
    }

    /// Blocks of the outer relation that have been read for the last time since this was last asked.
    pub(super) fn finished_blocks(&mut self) -> Option<Range<u64>> {
        self.outer.finished.take()
    }
}
