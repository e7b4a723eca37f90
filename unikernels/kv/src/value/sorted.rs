//! Sorted sets: a table from members to scores, and the members in order.

use super::Compact;
use crate::bytes::Bytes;
use crate::random::Random;
use crate::ranked::Ranked;
use crate::table::{HashKey, Slot, Table};
use core::cmp::Ordering;
use core::ops::Range;

/// Different strings, in the order of their scores; of equal scores, in the order of their bytes.
#[derive(Clone, Debug)]
pub struct SortedSet {
    scores: Table<f64>,
    /// Scores and the members' slots, in order.
    order: Ranked<(f64, Slot)>,
    /// Bytes that members have beside themselves.
    heap: usize,
    /// Whether Redis would still have it in its compact form.
    compact: bool,
}

/// An end of a range of scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreBound {
    /// The score.
    pub score: f64,
    /// Whether the score itself is outside.
    pub exclusive: bool,
}

/// An end of a range of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LexBound<'a> {
    /// Before all members.
    Least,
    /// After all members.
    Greatest,
    /// This one, and it is inside.
    Inclusive(&'a [u8]),
    /// This one, and it is outside.
    Exclusive(&'a [u8]),
}

impl SortedSet {
    /// An empty one.
    pub fn new(key: HashKey) -> Self {
        Self { scores: Table::new(key), order: Ranked::default(), heap: 0, compact: true }
    }

    /// How many members there are.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.scores.len()
    }

    /// The score of a member.
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        self.scores.find(member).map(|slot| *self.scores.value(slot))
    }

    /// Gives a member a score, which is a number. Whether it is a new member.
    pub fn set(&mut self, member: &[u8], score: f64, compact: &Compact) -> bool {
        // A zero has no sign, as in Redis's compact form.
        let score = score + 0.0;
        if let Some(slot) = self.scores.find(member) {
            let before = *self.scores.value(slot);
            if before != score {
                self.order.remove(self.place(before, member));
                *self.scores.value_mut(slot) = score;
                self.order.insert(self.place(score, member), (score, slot));
            }
            return false;
        }
        let name = Bytes::from(member);
        self.heap += name.heap_bytes();
        let slot = self.scores.insert(name, score);
        self.order.insert(self.place(score, member), (score, slot));
        self.compact &= self.len() <= compact.sorted_entries && member.len() <= compact.sorted_bytes;
        true
    }

    /// Removes a member: its score.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let slot = self.scores.find(member)?;
        let score = *self.scores.value(slot);
        self.order.remove(self.place(score, member));
        self.heap -= self.scores.remove(slot).0.heap_bytes();
        Some(score)
    }

    /// Removes the member of a rank: the member and its score.
    pub fn remove_at(&mut self, rank: usize) -> (Bytes, f64) {
        let (_, slot) = self.order.remove(rank);
        let (member, score) = self.scores.remove(slot);
        self.heap -= member.heap_bytes();
        (member, score)
    }

    /// The rank of a member, counted from 0.
    pub fn rank(&self, member: &[u8]) -> Option<usize> {
        self.score(member).map(|score| self.place(score, member))
    }

    /// The member of a rank, and its score.
    pub fn at(&self, rank: usize) -> Option<(&Bytes, f64)> {
        self.order.get(rank).map(|(score, slot)| (self.scores.key(slot), score))
    }

    /// Visits members by rank, the last first if `back`.
    pub fn visit(&self, ranks: Range<usize>, back: bool, mut visit: impl FnMut(&Bytes, f64)) {
        let visit = |(score, slot): &(f64, Slot)| visit(self.scores.key(*slot), *score);
        if back { self.order.visit_back(ranks, visit) } else { self.order.visit(ranks, visit) }
    }

    /// The ranks of the members whose scores are in a range.
    pub fn by_score(&self, least: ScoreBound, greatest: ScoreBound) -> Range<usize> {
        let start = self.order.partition_point(|(score, _)| {
            if least.exclusive { *score <= least.score } else { *score < least.score }
        });
        let end = self.order.partition_point(|(score, _)| {
            if greatest.exclusive { *score < greatest.score } else { *score <= greatest.score }
        });
        start..end.max(start)
    }

    /// The ranks of the members in a range of strings. Of use if all scores are equal.
    pub fn by_lex(&self, least: LexBound<'_>, greatest: LexBound<'_>) -> Range<usize> {
        let start = self.order.partition_point(|(_, slot)| match least {
            LexBound::Least => false,
            LexBound::Greatest => true,
            LexBound::Inclusive(bound) => self.scores.key(*slot).as_slice() < bound,
            LexBound::Exclusive(bound) => self.scores.key(*slot).as_slice() <= bound,
        });
        let end = self.order.partition_point(|(_, slot)| match greatest {
            LexBound::Least => false,
            LexBound::Greatest => true,
            LexBound::Inclusive(bound) => self.scores.key(*slot).as_slice() <= bound,
            LexBound::Exclusive(bound) => self.scores.key(*slot).as_slice() < bound,
        });
        start..end.max(start)
    }

    /// Visits some members from a cursor on, and returns the next one. A small set is visited at once.
    pub fn scan(&self, cursor: u64, mut visit: impl FnMut(&Bytes, f64)) -> u64 {
        if self.compact {
            self.visit(0..self.len(), false, visit);
            return 0;
        }
        self.scores.scan(cursor, |slot| visit(self.scores.key(slot), *self.scores.value(slot)))
    }

    /// Any member and its score; there must be one.
    pub fn random(&self, random: &mut Random) -> (&Bytes, f64) {
        let slot = self.scores.random(random).unwrap_or_default();
        (self.scores.key(slot), *self.scores.value(slot))
    }

    /// The name of the form, as Redis calls it.
    pub fn encoding(&self) -> &'static str {
        if self.compact { "listpack" } else { "skiplist" }
    }

    /// Bytes of memory beside the set itself.
    pub fn heap_bytes(&self) -> usize {
        self.len() * Table::<f64>::entry_bytes() + self.order.heap_bytes() + self.heap
    }

    /// The rank that a member with a score has or would have.
    fn place(&self, score: f64, member: &[u8]) -> usize {
        self.order.partition_point(|(other, slot)| match other.partial_cmp(&score) {
            Some(Ordering::Equal) | None => self.scores.key(*slot).as_slice() < member,
            Some(order) => order == Ordering::Less,
        })
    }
}
