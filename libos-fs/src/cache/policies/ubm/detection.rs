//! What kind of reference each one is.

use crate::cache::order::Order;
use crate::cache::policies::per_slot::PerSlot;
use alloc::vec::Vec;
use hashbrown::HashMap;

/// Blocks in a row from which on they count as sequential.
const SEQUENTIAL: u64 = 8;

/// References between two to the same block that are one use of it, in small pieces.
const PIECES: u64 = 2;

/// Kind of a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Part of a long run of adjacent blocks that has not been seen before.
    Sequential,
    /// Part of a run that has come again, after so many references.
    Looping(u64),
    /// Anything else.
    Other,
}

/// Adjacent blocks used one after the other.
#[derive(Clone, Copy, Default)]
struct Run {
    start: u64,
    /// The block that would continue it.
    next: u64,
    /// Blocks in its longest pass.
    length: u64,
    /// When the present pass began, in references.
    began: u64,
    /// When it was last continued.
    touched: u64,
    /// References from one pass to the next; 0: there was but one.
    period: u64,
}

/// Follows runs. It finds them by what would continue them and by where they start, so streams may be
/// interleaved, files need not be known, and a reference takes constant time.
#[derive(Default)]
pub(super) struct Detection {
    now: u64,
    runs: PerSlot<Run>,
    by_next: HashMap<u64, usize>,
    by_start: HashMap<u64, usize>,
    /// Front: continued longest ago.
    recency: Order,
    free: Vec<usize>,
    known: usize,
    /// Runs to remember.
    most: usize,
}

impl Detection {
    /// Remembers so many runs.
    pub(super) fn resized(&mut self, most: usize) {
        self.most = most;
        while self.recency.len() > most {
            self.forget_oldest();
        }
    }

    /// References so far.
    pub(super) fn now(&self) -> u64 {
        self.now
    }

    /// A reference to a block.
    pub(super) fn reference(&mut self, block: u64) -> Kind {
        self.now += 1;
        let next = block.wrapping_add(1);
        let repeated = |run: &usize| self.now - self.runs.get(*run).touched <= PIECES;
        let number = if let Some(number) = self.by_next.get(&block).copied() {
            self.go_on(number, next);
            number
        } else if let Some(number) = self.by_next.get(&next).copied().filter(repeated) {
            number
        } else if let Some(number) = self.by_start.get(&block).copied() {
            let run = self.runs.get(number);
            self.runs.set(number, Run { period: self.now - run.began, began: self.now, ..run });
            self.go_on(number, next);
            number
        } else {
            self.begin(block)
        };
        self.recency.push_back(number);
        let run = Run { touched: self.now, ..self.runs.get(number) };
        self.runs.set(number, run);
        match run {
            Run { period: 1.., .. } => Kind::Looping(run.period),
            Run { length: SEQUENTIAL.., .. } => Kind::Sequential,
            _ => Kind::Other,
        }
    }

    fn go_on(&mut self, number: usize, next: u64) {
        let run = self.runs.get(number);
        if self.by_next.get(&run.next) == Some(&number) {
            self.by_next.remove(&run.next);
        }
        self.by_next.insert(next, number);
        let length = run.length.max(next.wrapping_sub(run.start));
        self.runs.set(number, Run { next, length, ..run });
    }

    fn begin(&mut self, block: u64) -> usize {
        while self.recency.len() >= self.most.max(1) {
            self.forget_oldest();
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.known += 1;
            self.known - 1
        });
        let next = block.wrapping_add(1);
        let run = Run { start: block, next, length: 1, began: self.now, touched: self.now, period: 0 };
        self.runs.set(number, run);
        self.by_next.insert(next, number);
        self.by_start.insert(block, number);
        number
    }

    fn forget_oldest(&mut self) {
        let Some(number) = self.recency.front() else { return };
        self.recency.remove(number);
        let run = self.runs.get(number);
        for (map, key) in [(&mut self.by_next, run.next), (&mut self.by_start, run.start)] {
            if map.get(&key) == Some(&number) {
                map.remove(&key);
            }
        }
        self.free.push(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(references: impl IntoIterator<Item = u64>) -> Vec<Kind> {
        let mut detection = Detection::default();
        detection.resized(100);
        references.into_iter().map(|block| detection.reference(block)).collect()
    }

    #[test]
    fn a_first_pass_is_sequential_and_later_ones_loop() {
        let seen = kinds((0..30).chain(0..30).chain(0..30));
        assert!(seen[..7].iter().all(|kind| *kind == Kind::Other));
        assert!(seen[7..30].iter().all(|kind| *kind == Kind::Sequential));
        assert!(seen[30..].iter().all(|kind| *kind == Kind::Looping(30)));
    }

    #[test]
    fn streams_may_be_interleaved_and_read_in_pieces() {
        let seen = kinds((0..30).flat_map(|step| [step, step, 1000 + step]));
        assert!(seen[24..].iter().all(|kind| *kind == Kind::Sequential));
    }

    #[test]
    fn scattered_references_are_neither() {
        let seen = kinds((0..300).map(|step: u64| step * 7919 % 1009));
        assert!(seen.iter().all(|kind| *kind == Kind::Other));
    }
}
