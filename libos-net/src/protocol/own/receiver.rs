//! What comes: put in order, offered as a window, acknowledged.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::ops::Range;

/// Parts out of order that are kept at most: more of them would cost more than they are worth.
const MOST_PARTS: usize = 256;
/// Memory that a connection keeps though nothing waits to be read.
const IDLE_BYTES: usize = 512;

/// The receiving half. Places are counted from the peer's SYN, which is 0.
pub(super) struct Receiver {
    /// What is in order and not read.
    ready: VecDeque<u8>,
    /// What is not in order, by place. No two of them touch.
    parts: BTreeMap<i64, Vec<u8>>,
    /// Where blocks begin that were reported, the last that grew first (RFC 2018, section 4).
    recent: VecDeque<i64>,
    /// What came twice and was not reported yet (RFC 2883).
    repeated: Option<Range<i64>>,
    /// The next place that is wanted.
    next: i64,
    /// Where the window that was offered ends.
    edge: i64,
    /// Where the peer's stream ends, when that is known.
    end: Option<i64>,
    capacity: usize,
}

/// What became of data that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is the next, and nothing is missing.
    InOrder,
    /// Something is missing, was filled in, or came again: the peer is to be told at once.
    OutOfOrder,
}

impl Receiver {
    /// For a stream of which at most `capacity` bytes wait.
    pub(super) fn new(capacity: usize) -> Receiver {
        Receiver {
            ready: VecDeque::new(),
            parts: BTreeMap::new(),
            recent: VecDeque::new(),
            repeated: None,
            next: 0,
            edge: 0,
            end: None,
            capacity: capacity.clamp(1, 1 << 30),
        }
    }

    /// Bytes of memory that it holds.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.ready.capacity()
            + self.parts.values().map(Vec::capacity).sum::<usize>()
            + 8 * self.recent.capacity()
    }

    /// By how much windows are shifted (RFC 7323, section 2.2).
    pub(super) fn shift(&self) -> u8 {
        (0..14).find(|shift| self.capacity >> shift <= 0xffff).unwrap_or(14)
    }

    /// The next place that is wanted.
    pub(super) fn next(&self) -> i64 {
        self.next
    }

    /// Where the window that was offered ends.
    pub(super) fn edge(&self) -> i64 {
        self.edge
    }

    /// The peer's SYN has come: the first byte is wanted.
    pub(super) fn begin(&mut self) {
        (self.next, self.edge) = (1, 1);
    }

    /// Whether all that the peer will send was taken.
    pub(super) fn is_over(&self) -> bool {
        self.end.is_some_and(|end| self.next > end)
    }

    /// Whether something can be read.
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The window to offer: it never shrinks, and it grows by a segment at least, or half of all
    /// (RFC 9293, section 3.8.6.2.2).
    pub(super) fn offer(&mut self, segment: usize, shift: u8) -> i64 {
        self.edge = self.edge.max(self.wanted_edge(segment)).max(self.next);
        // What the field can't say is not offered.
        ((self.edge - self.next) >> shift).min(0xffff) << shift
    }

    /// Whether reading has made so much room that the peer is to be told.
    pub(super) fn has_room_to_tell(&self, segment: usize) -> bool {
        !self.is_over()
            && self.wanted_edge(segment) > self.edge
            && self.edge - self.next < self.capacity as i64 / 2
    }

    fn wanted_edge(&self, segment: usize) -> i64 {
        let edge = self.next + (self.capacity - self.ready.len().min(self.capacity)) as i64;
        let step = segment.min(self.capacity / 2).max(1) as i64;
        if edge - self.edge >= step { edge } else { self.edge }
    }

    /// Takes data that begins at this place, as far as it is in the window, and the end behind it.
    pub(super) fn take(&mut self, at: i64, data: &[u8], is_last: bool) -> Taken {
        let after = at + data.len() as i64;
        if is_last && after <= self.edge && self.end.is_none() {
            self.end = Some(after);
            // What was kept beyond it was made up.
            self.parts.retain(|start, part| {
                part.truncate((after - start).max(0) as usize);
                !part.is_empty()
            });
        }
        let limit = self.end.map_or(self.edge, |end| end.min(self.edge));
        let (from, to) = (at.max(self.next), after.min(limit));
        if at < self.next && !data.is_empty() {
            self.repeated = Some(at..after.min(self.next));
        }
        let mut taken = Taken::InOrder;
        if from < to {
            let data = &data[(from - at) as usize..(to - at) as usize];
            if from == self.next && self.parts.is_empty() {
                self.ready.extend(data);
                self.next = to;
            } else {
                taken = Taken::OutOfOrder;
                self.keep(from, data);
                self.join();
            }
        } else if !data.is_empty() {
            taken = Taken::OutOfOrder;
        }
        if self.end == Some(self.next) {
            self.next += 1;
            self.parts.clear();
            self.recent.clear();
        } else if is_last && !self.is_over() {
            taken = Taken::OutOfOrder;
        }
        taken
    }

    /// Keeps data beyond the next place, and joins what touches.
    fn keep(&mut self, from: i64, data: &[u8]) {
        let (mut from, mut data) = (from, data.to_vec());
        // What comes before it, and reaches up to it.
        if let Some((&start, part)) = self.parts.range_mut(..=from).next_back() {
            let end = start + part.len() as i64;
            if end >= from + data.len() as i64 {
                self.repeated = Some(from..from + data.len() as i64);
                return self.was_touched(start);
            }
            if end >= from {
                part.extend_from_slice(&data[(end - from) as usize..]);
                data = core::mem::take(part);
                self.parts.remove(&start);
                from = start;
            }
        }
        let mut end = from + data.len() as i64;
        while let Some((&start, part)) = self.parts.range(from..=end).next() {
            let part_end = start + part.len() as i64;
            if part_end > end {
                data.extend_from_slice(&part[(end - start) as usize..]);
                end = part_end;
            }
            self.parts.remove(&start);
            self.recent.retain(|known| *known != start);
        }
        if self.parts.len() < MOST_PARTS || from == self.next {
            self.parts.insert(from, data);
            self.was_touched(from);
        }
    }

    fn was_touched(&mut self, start: i64) {
        self.recent.retain(|known| *known != start);
        self.recent.push_front(start);
    }

    /// Moves what is in order now.
    fn join(&mut self) {
        if let Some(part) = self.parts.remove(&self.next) {
            self.recent.retain(|known| *known != self.next);
            self.next += part.len() as i64;
            self.ready.extend(part);
        }
    }

    /// Blocks to report: what came again first, once; then the latest.
    pub(super) fn blocks(&mut self, most: usize) -> [Option<Range<i64>>; 3] {
        let mut blocks = [None, None, None];
        let known = self.recent.iter().filter_map(|start| {
            let part = self.parts.get(start)?;
            Some(*start..*start + part.len() as i64)
        });
        for (block, range) in
            blocks[..most.min(3)].iter_mut().zip(self.repeated.take().into_iter().chain(known))
        {
            *block = Some(range);
        }
        blocks
    }

    /// Whether there is something to report.
    pub(super) fn has_blocks(&self) -> bool {
        !self.parts.is_empty() || self.repeated.is_some()
    }

    /// Reads what is in order.
    pub(super) fn read(&mut self, into: &mut [u8]) -> usize {
        let (one, two) = self.ready.as_slices();
        let first = one.len().min(into.len());
        into[..first].copy_from_slice(&one[..first]);
        let second = two.len().min(into.len() - first);
        into[first..first + second].copy_from_slice(&two[..second]);
        self.ready.drain(..first + second);
        if self.ready.is_empty() && self.ready.capacity() > IDLE_BYTES {
            self.ready = VecDeque::new();
        }
        first + second
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn blocks_are_reported_latest_first_and_repeats_once() {
        let mut receiver = Receiver::new(10_000);
        receiver.begin();
        assert_eq!(receiver.offer(1000, 0), 10_000);
        assert_eq!(receiver.take(2001, &[2; 1000], false), Taken::OutOfOrder);
        assert_eq!(receiver.take(4001, &[4; 1000], false), Taken::OutOfOrder);
        assert_eq!(receiver.blocks(3), [Some(4001..5001), Some(2001..3001), None]);
        assert_eq!(receiver.take(2001, &[2; 1000], false), Taken::OutOfOrder);
        assert_eq!(receiver.blocks(3), [Some(2001..3001), Some(2001..3001), Some(4001..5001)]);
        assert_eq!(receiver.take(1, &[1; 2000], false), Taken::OutOfOrder);
        assert_eq!((receiver.next(), receiver.blocks(3)), (3001, [Some(4001..5001), None, None]));
        receiver.take(3001, &[3; 1000], true);
        assert_eq!(receiver.next(), 4002, "an end, and nothing behind it");
        assert!(receiver.is_over());
    }

    #[test]
    fn the_window_never_shrinks_and_opens_by_segments() {
        let mut receiver = Receiver::new(4000);
        receiver.begin();
        assert_eq!(receiver.offer(1000, 0), 4000);
        receiver.take(1, &[0; 4000], false);
        assert_eq!(receiver.offer(1000, 0), 0);
        receiver.read(&mut [0; 500]);
        assert!(!receiver.has_room_to_tell(1000));
        assert_eq!(receiver.offer(1000, 0), 0);
        receiver.read(&mut [0; 500]);
        assert!(receiver.has_room_to_tell(1000));
        assert_eq!(receiver.offer(1000, 0), 1000);
        assert_eq!(Receiver::new(65_535).shift(), 0);
        assert_eq!(Receiver::new(65_536).shift(), 1);
        assert_eq!(Receiver::new(1 << 30).shift(), 14 + 1 - 1);
    }

    proptest! {
        #[test]
        fn what_is_read_is_the_stream_whatever_comes(
            segments in proptest::collection::vec((0_usize..3000, 1_usize..400), 1..200),
            capacity in 100_usize..4000,
        ) {
            let stream: Vec<u8> = (0..3400_usize).map(|at| (at * 31 + (at >> 8)) as u8).collect();
            let mut receiver = Receiver::new(capacity);
            receiver.begin();
            let mut read = Vec::new();
            let mut part = [0; 97];
            for (at, bytes) in segments {
                receiver.offer(536, 0);
                receiver.take(1 + at as i64, &stream[at..at + bytes], false);
                prop_assert!(receiver.ready.len() <= capacity);
                let ends = receiver.parts.iter().map(|(start, part)| (*start, start + part.len() as i64));
                let ends: Vec<(i64, i64)> = ends.collect();
                prop_assert!(ends.windows(2).all(|two| two[0].1 < two[1].0), "{ends:?}");
                prop_assert!(ends.iter().all(|(start, end)| *start > receiver.next && *end <= receiver.edge));
                let count = receiver.read(&mut part);
                read.extend_from_slice(&part[..count]);
            }
            while receiver.is_ready() {
                let count = receiver.read(&mut part);
                read.extend_from_slice(&part[..count]);
            }
            prop_assert_eq!(read.len() as i64 + 1, receiver.next());
            prop_assert!(read[..] == stream[..read.len()]);
        }
    }
}
