//! The operators of the query: each gives one tuple after the other.

use super::relation::{Heap, PER_BLOCK, TUPLE_BYTES, Tuple};
use crate::btree::{Tree, TreeError};
use crate::files::{FileError, WorkFile};
use crate::lines::{BLOCK_BYTES, READ_BYTES};
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

/// Blocks that a scan reads at a time.
const READ_BLOCKS: u64 = (READ_BYTES / BLOCK_BYTES) as u64;

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
    ended: bool,
}

impl<'h> Scan<'h> {
    pub(super) fn new(heap: &'h Heap) -> Scan<'h> {
        Scan {
            heap,
            buffer: vec![0; READ_BYTES],
            filled: 0,
            offset: 0,
            next: 0,
            finished: None,
            ended: false,
        }
    }

    fn next(&mut self) -> Result<Option<Tuple>, FileError> {
        loop {
            if let Some(tuple) = self.buffered(self.next) {
                self.next += 1;
                return Ok(Some(tuple));
            }
            if self.ended {
                return Ok(None);
            }
            let first = self.offset / BLOCK_BYTES as u64;
            self.offset += self.filled as u64;
            if self.filled > 0 {
                self.finished = Some(first..self.offset.div_ceil(BLOCK_BYTES as u64));
            }
            self.next = 0;
            self.filled = self.heap.file().read_at(self.offset, &mut self.buffer)?;
            self.ended = self.filled == 0;
        }
    }

    /// A tuple of those in the buffer.
    fn buffered(&self, number: usize) -> Option<Tuple> {
        let start = number / PER_BLOCK * BLOCK_BYTES + number % PER_BLOCK * TUPLE_BYTES;
        self.buffer[..self.filled].get(start..start + TUPLE_BYTES).map(Tuple::from_bytes)
    }
}

/// What is read when a scan comes to a tuple: nothing, if it is in the buffer.
fn read_for(tuple: u64) -> Range<u64> {
    let (block, blocks) = (tuple / PER_BLOCK as u64, READ_BLOCKS);
    let starts = tuple.is_multiple_of(PER_BLOCK as u64 * blocks);
    block..if starts { block + blocks } else { block }
}

/// Looks ahead in the outer relation, to know which inner tuples will be fetched.
struct LookAhead<'t> {
    outer: Scan<'t>,
    /// How far, in tuples.
    distance: u64,
    /// Tuples looked up so far.
    done: u64,
    /// Of tuples that are still to be joined, the number of the inner one.
    looked_up: VecDeque<Option<u64>>,
    will_read: WillRead<'t>,
}

/// Takes blocks of a file that will be read, after all that it was told before.
pub(super) type WillRead<'t> = &'t dyn Fn(&WorkFile, Range<u64>) -> Result<(), FileError>;

/// The tuples of a scan, each with the inner tuple that the index finds for its key.
pub(super) struct Join<'t> {
    outer: Scan<'t>,
    index: &'t Tree,
    inner: &'t Heap,
    ahead: Option<LookAhead<'t>>,
}

impl<'t> Join<'t> {
    /// The join of two relations, by the index on the inner one.
    pub(super) fn new(outer: &'t Heap, index: &'t Tree, inner: &'t Heap) -> Join<'t> {
        Join { outer: Scan::new(outer), index, inner, ahead: None }
    }

    /// The index is asked for each outer tuple `distance` blocks before its turn, and `will_read` is told
    /// what is going to be read.
    ///
    /// # Errors
    ///
    /// Those of `will_read`.
    pub(super) fn look_ahead(&mut self, distance: u64, will_read: WillRead<'t>) -> Result<(), FileError> {
        let distance = distance.next_multiple_of(READ_BLOCKS);
        will_read(self.outer.heap.file(), 0..distance)?;
        self.ahead = Some(LookAhead {
            outer: Scan::new(self.outer.heap),
            distance: distance * PER_BLOCK as u64,
            done: 0,
            looked_up: VecDeque::new(),
            will_read,
        });
        Ok(())
    }

    /// The next tuple of the outer relation, and its partner if it has one.
    pub(super) fn next(&mut self) -> Result<Option<(Tuple, Option<Tuple>)>, TreeError> {
        if let Some(ahead) = &mut self.ahead {
            ahead.go_on(self.index, self.inner)?;
        }
        let Some(outer) = self.outer.next()? else { return Ok(None) };
        let looked_up = self.ahead.as_mut().and_then(|ahead| ahead.looked_up.pop_front());
        let number = match looked_up {
            Some(number) => number,
            None => look_up(self.index, outer.unique1())?,
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

impl LookAhead<'_> {
    /// Looks up tuples until as many are known as should be. Tells what will be read, in the order in which
    /// it will: a look ahead that comes to the end of its buffer reads the next blocks, the join that comes
    /// to the same place later reads them again, and then the inner tuple.
    fn go_on(&mut self, index: &Tree, inner: &Heap) -> Result<(), TreeError> {
        while self.looked_up.len() as u64 <= self.distance {
            let Some(outer) = self.outer.next()? else { break };
            let number = look_up(index, outer.unique1())?;
            self.looked_up.push_back(number);
            let file = self.outer.heap.file();
            (self.will_read)(file, read_for(self.done + self.distance))?;
            (self.will_read)(file, read_for(self.done))?;
            if let Some(block) = number.map(Heap::block_of) {
                (self.will_read)(inner.file(), block..block + 1)?;
            }
            self.done += 1;
        }
        Ok(())
    }
}

/// The number of the inner tuple with this key.
fn look_up(index: &Tree, key: u64) -> Result<Option<u64>, TreeError> {
    index.get(key, |entry| entry.iter().take(8).rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}
