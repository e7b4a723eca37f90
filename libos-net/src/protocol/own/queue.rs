//! Bytes that were written and are not acknowledged: what is sent, and sent again.

use crate::protocol::SharedBytes;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::Range;

/// Written bytes that are collected in one part.
const PART_BYTES: usize = 4096;

/// A part of the stream.
enum Part {
    /// Copied when they were written.
    Copied(Vec<u8>),
    /// Shared with others.
    Shared(SharedBytes),
}

impl Part {
    fn len(&self) -> usize {
        match self {
            Part::Copied(bytes) => bytes.len(),
            Part::Shared(piece) => piece.len(),
        }
    }
}

/// A part of a range, as it is stored.
pub(super) enum Stored<'q> {
    /// Bytes that are this connection's own.
    Copied(&'q [u8]),
    /// A part of shared ones: the bytes and the range in them.
    Shared(&'q SharedBytes, Range<usize>),
}

/// The queue. Places are bytes from the beginning of the stream.
#[derive(Default)]
pub(super) struct Queue {
    parts: VecDeque<(i64, Part)>,
    start: i64,
    end: i64,
}

impl Queue {
    /// The empty queue of a stream that begins at this place.
    pub(super) fn new(start: i64) -> Queue {
        Queue { parts: VecDeque::new(), start, end: start }
    }

    /// Where it ends.
    pub(super) fn end(&self) -> i64 {
        self.end
    }

    /// Bytes in it.
    pub(super) fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Appends a copy.
    pub(super) fn push_bytes(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if !matches!(self.parts.back(), Some((_, Part::Copied(last))) if last.len() < PART_BYTES) {
                self.parts.push_back((self.end, Part::Copied(Vec::new())));
            }
            let Some((_, Part::Copied(last))) = self.parts.back_mut() else { return };
            let count = bytes.len().min(PART_BYTES - last.len());
            last.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            self.end += count as i64;
        }
    }

    /// Appends shared bytes.
    pub(super) fn push_shared(&mut self, shared: SharedBytes) {
        if !shared.is_empty() {
            let bytes = shared.len() as i64;
            self.parts.push_back((self.end, Part::Shared(shared)));
            self.end += bytes;
        }
    }

    /// All before this place is not needed any more.
    pub(super) fn release(&mut self, to: i64) {
        self.start = to.clamp(self.start, self.end);
        while let Some((start, part)) = self.parts.front() {
            if start + part.len() as i64 > self.start {
                return;
            }
            self.parts.pop_front();
        }
        // An idle connection has nothing.
        self.parts = VecDeque::new();
    }

    /// Where, from a place on, bytes that are this connection's own follow shared ones: up to there a frame
    /// can gather.
    pub(super) fn gathers_to(&self, from: i64) -> i64 {
        let first = self.parts.partition_point(|(start, part)| start + part.len() as i64 <= from);
        let mut shared = false;
        for (start, part) in self.parts.range(first..) {
            match part {
                Part::Copied(_) if shared => return *start,
                Part::Copied(_) => {}
                Part::Shared(_) => shared = true,
            }
        }
        self.end
    }

    /// What a range consists of, in its order.
    pub(super) fn range(&self, range: Range<i64>) -> impl Iterator<Item = Stored<'_>> + Clone {
        let first = self.parts.partition_point(|(start, part)| start + part.len() as i64 <= range.start);
        let within = move |(start, _): &&(i64, Part)| *start < range.end;
        self.parts.range(first..).take_while(within).map(move |(start, part)| {
            let from = (range.start - start).max(0) as usize;
            let to = ((range.end - start) as usize).min(part.len());
            match part {
                Part::Copied(bytes) => Stored::Copied(&bytes[from..to]),
                Part::Shared(piece) => Stored::Shared(piece, from..to),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(queue: &Queue, range: Range<i64>) -> Vec<u8> {
        let mut all = Vec::new();
        for stored in queue.range(range) {
            match stored {
                Stored::Copied(bytes) => all.extend_from_slice(bytes),
                Stored::Shared(piece, range) => all.extend_from_slice(&piece[range]),
            }
        }
        all
    }

    #[test]
    fn every_range_is_found_wherever_its_bytes_lie() {
        let model: Vec<u8> = (0..20_000_u32).map(|at| (at * 7 % 251) as u8).collect();
        let mut queue = Queue::new(1);
        queue.push_bytes(&model[..100]);
        queue.push_shared(SharedBytes::from_bytes(&model[100..5000]));
        queue.push_bytes(&model[5000..5001]);
        queue.push_bytes(&model[5001..15_000]);
        queue.push_shared(SharedBytes::from_bytes(&[]));
        queue.push_shared(SharedBytes::from_bytes(&model[15_000..]));
        assert_eq!((queue.end(), queue.len()), (20_001, 20_000));
        for start in [0, 1, 99, 100, 101, 4999, 5000, 5001, 9000, 15_000, 19_999] {
            queue.release(start as i64 + 1);
            for end in [start, start + 1, start + 1460, 20_000] {
                let end = end.min(20_000);
                assert!(
                    bytes(&queue, start as i64 + 1..end as i64 + 1) == model[start..end],
                    "{start} {end}"
                );
            }
        }
        queue.release(20_001);
        assert_eq!((queue.len(), queue.parts.capacity()), (0, 0));
    }
}
