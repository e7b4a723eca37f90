//! The operators of the query: each gives one tuple after the other.

use super::relation::{Heap, PER_BLOCK, TUPLE_BYTES, Tuple};
use crate::btree::{Tree, TreeError};
use crate::files::{FileError, WorkFile};
use crate::lines::{BLOCK_BYTES, READ_BYTES};
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use core::mem;
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
    /// Whether the buffer has been filled since somebody asked.
    fresh: bool,
    /// Blocks whose last tuple has been given and of which nobody has asked yet.
    finished: Option<Range<u64>>,
}

impl<'h> Scan<'h> {
    pub(super) fn new(heap: &'h Heap) -> Scan<'h> {
        Scan {
            heap,
            buffer: vec![0; READ_BYTES],
            filled: 0,
            offset: 0,
            next: 0,
            fresh: false,
            finished: None,
        }
    }

    fn next(&mut self) -> Result<Option<Tuple>, FileError> {
        loop {
            if let Some(tuple) = self.buffered(self.next) {
                self.next += 1;
                return Ok(Some(tuple));
            }
            let first = self.offset / BLOCK_BYTES as u64;
            self.offset += self.filled as u64;
            if self.filled > 0 {
                self.finished = Some(first..self.offset.div_ceil(BLOCK_BYTES as u64));
            }
            self.next = 0;
            self.filled = self.heap.file().read_at(self.offset, &mut self.buffer)?;
            self.fresh = true;
            if self.filled == 0 {
                return Ok(None);
            }
        }
    }

    /// A tuple of those in the buffer.
    fn buffered(&self, number: usize) -> Option<Tuple> {
        let start = number / PER_BLOCK * BLOCK_BYTES + number % PER_BLOCK * TUPLE_BYTES;
        self.buffer[..self.filled].get(start..start + TUPLE_BYTES).map(Tuple::from_bytes)
    }

    /// The blocks that will be read when all tuples in the buffer have been given.
    fn next_read(&self) -> Range<u64> {
        let start = (self.offset + self.filled as u64) / BLOCK_BYTES as u64;
        start..start + (READ_BYTES / BLOCK_BYTES) as u64
    }
}

/// The tuples of a scan, each with the inner tuple that the index finds for its key.
pub(super) struct Join<'t> {
    outer: Scan<'t>,
    index: &'t Tree,
    inner: &'t Heap,
    /// What is told of reads to come, if anybody wants to know.
    will_read: Option<WillRead>,
    /// Numbers of inner tuples that were looked up for that, for the next outer ones.
    looked_up: VecDeque<Option<u64>>,
}

/// Takes blocks of a file that will be read, after all that it was told before.
pub(super) type WillRead = fn(&WorkFile, Range<u64>) -> Result<(), FileError>;

impl<'t> Join<'t> {
    /// With `will_read`, the index is asked for all outer tuples in memory at once.
    pub(super) fn new(
        outer: Scan<'t>,
        index: &'t Tree,
        inner: &'t Heap,
        will_read: Option<WillRead>,
    ) -> Join<'t> {
        Join { outer, index, inner, will_read, looked_up: VecDeque::new() }
    }

    /// The number of the inner tuple with this key.
    fn look_up(&self, key: u64) -> Result<Option<u64>, TreeError> {
        self.index.get(key, |entry| {
            entry.iter().take(8).rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
        })
    }

    /// Looks up the partners of all outer tuples in memory, and tells what will be read for them and after
    /// them.
    fn look_ahead(&mut self, will_read: WillRead) -> Result<(), TreeError> {
        for outer in (0..).map_while(|number| self.outer.buffered(number)) {
            let number = self.look_up(outer.unique1())?;
            self.looked_up.push_back(number);
        }
        for block in self.looked_up.iter().flatten().map(|number| Heap::block_of(*number)) {
            will_read(self.inner.file(), block..block + 1)?;
        }
        Ok(will_read(self.outer.heap.file(), self.outer.next_read())?)
    }

    /// The next tuple of the outer relation, and its partner if it has one.
    pub(super) fn next(&mut self) -> Result<Option<(Tuple, Option<Tuple>)>, TreeError> {
        let Some(outer) = self.outer.next()? else { return Ok(None) };
        if let Some(will_read) = self.will_read
            && mem::take(&mut self.outer.fresh)
        {
            self.look_ahead(will_read)?;
        }
        let number = match self.looked_up.pop_front() {
            Some(number) => number,
            None => self.look_up(outer.unique1())?,
        };
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
