//! What an application has disclosed about its future: the blocks it will refer to, in their order.

use crate::cache::key::Key;
use alloc::collections::{BinaryHeap, VecDeque};
use core::cmp::Reverse;
use hashbrown::HashMap;

/// A reference that was disclosed at most so many places further on still counts as the disclosed one, and
/// the references between were left out. One from further on is a surprise: perhaps the application looks a
/// second time at a block it has just used.
const SKIPPED: u64 = 64;

/// So many surprises without a disclosed reference between them, and the application has left its plan.
const SURPRISES: u64 = 256;

/// Most references that are kept. What is disclosed beyond them is ignored.
const MOST: usize = 1 << 20;

/// No use has been disclosed.
pub(super) const NEVER: u64 = u64::MAX;

/// A block in the cache: when it will be used, its priority, when it was used, and its slot. The greatest
/// goes first.
type Ranked = (u64, Reverse<i32>, Reverse<u64>, usize);

/// The references that one manager's applications have disclosed. Positions count from the first one ever
/// disclosed.
#[derive(Default)]
pub(super) struct Disclosure {
    upcoming: VecDeque<Key>,
    /// Position of the first of `upcoming`.
    passed: u64,
    /// By block: the positions at which it is used, in order; those before `passed` are void.
    uses: HashMap<Key, VecDeque<u64>>,
    /// The last block that was used as disclosed.
    last: Option<Key>,
    /// References since then that were not disclosed.
    surprises: u64,
    /// Everything before this position was in memory or on its way when it was last looked at.
    fetched: u64,
    /// Until this position there is nothing to plan, if no more buffers are vacant by then.
    idle_until: u64,
    /// Vacant buffers when that was found.
    idle_vacant: usize,
    /// Blocks in the cache. Entries that are no longer true are dropped when they come up.
    farthest: BinaryHeap<Ranked>,
    /// Whether all of them are in there: from when it is first asked which is needed last.
    ranking: bool,
}

impl Disclosure {
    /// Whether nothing is known of the future.
    pub(super) fn is_over(&self) -> bool {
        self.upcoming.is_empty()
    }

    /// These blocks will be used, in this order, after all that was disclosed before.
    pub(super) fn disclose(&mut self, keys: impl Iterator<Item = Key>) {
        for key in keys.take(MOST - self.upcoming.len().min(MOST)) {
            self.idle_until = 0;
            let position = self.passed + self.upcoming.len() as u64;
            self.upcoming.push_back(key);
            self.uses.entry(key).or_default().push_back(position);
        }
    }

    /// A block was used.
    pub(super) fn referred(&mut self, key: Key) {
        let next = self.next_use(key);
        if next > self.passed.saturating_add(SKIPPED) {
            if self.last != Some(key) {
                self.surprises += 1;
            }
            if self.surprises > SURPRISES {
                *self = Disclosure::default();
            }
            return;
        }
        (self.last, self.surprises) = (Some(key), 0);
        while self.passed <= next {
            let Some(key) = self.upcoming.pop_front() else { return };
            if let Some(uses) = self.uses.get_mut(&key) {
                uses.pop_front();
                if uses.is_empty() {
                    self.uses.remove(&key);
                }
            }
            self.passed += 1;
        }
        self.fetched = self.fetched.max(self.passed);
    }

    /// The position of the next use of a block; [`NEVER`] if none has been disclosed.
    pub(super) fn next_use(&self, key: Key) -> u64 {
        self.uses.get(&key).and_then(|uses| uses.front()).copied().unwrap_or(NEVER)
    }

    /// How many references come before a position.
    pub(super) fn distance(&self, position: u64) -> u64 {
        position.saturating_sub(self.passed)
    }

    /// The first block that is not `at_hand`, from where it was last looked on, and its position. The look
    /// goes on behind it after [`Disclosure::take_note`].
    pub(super) fn next_missing(&mut self, at_hand: impl Fn(Key) -> bool) -> Option<(u64, Key)> {
        loop {
            let key = *self.upcoming.get(usize::try_from(self.fetched - self.passed).ok()?)?;
            if !at_hand(key) {
                return Some((self.fetched, key));
            }
            self.fetched += 1;
        }
    }

    /// The block at the position last looked at is on its way, or never will be.
    pub(super) fn take_note(&mut self) {
        self.fetched += 1;
    }

    /// There is nothing to plan before a position has been passed, unless more is disclosed, or more than
    /// these `vacant` buffers are.
    pub(super) fn idle_until(&mut self, position: u64, vacant: usize) {
        (self.idle_until, self.idle_vacant) = (position, vacant);
    }

    /// The same for so many references.
    pub(super) fn idle_for(&mut self, references: u64, vacant: usize) {
        self.idle_until(self.passed + references, vacant);
    }

    /// Whether there is nothing to plan while so many buffers are vacant.
    pub(super) fn is_idle(&self, vacant: usize) -> bool {
        self.passed < self.idle_until && vacant <= self.idle_vacant
    }

    /// Looks again from a position on.
    pub(super) fn look_again(&mut self, position: u64) {
        self.fetched = position.max(self.passed);
    }

    /// Forgets which blocks are in the cache; the caller ranks all of them, and from here on each that is
    /// used.
    pub(super) fn start_ranking(&mut self) {
        self.ranking = true;
        self.farthest.clear();
    }

    /// Whether blocks are being ranked.
    pub(super) fn is_ranking(&self) -> bool {
        self.ranking
    }

    /// A block of this priority is in the cache, and was used just now or at `last_used`.
    pub(super) fn rank(&mut self, key: Key, priority: i32, last_used: u64, slot: usize) {
        self.farthest.push((self.next_use(key), Reverse(priority), Reverse(last_used), slot));
    }

    /// How many ranks there are, true or not.
    pub(super) fn ranks(&self) -> usize {
        self.farthest.len()
    }

    /// Takes out the slot of the block whose next use is the farthest, if that is after `position`. `is_true`
    /// says whether a slot still holds, ready to go, a block that was last used then, and which. Blocks of no
    /// disclosed use go in the order of their last use.
    pub(super) fn take_farthest(
        &mut self,
        position: u64,
        is_true: impl Fn(usize, u64) -> Option<Key>,
    ) -> Option<usize> {
        loop {
            let (next, _, Reverse(last_used), slot) = *self.farthest.peek()?;
            let current = is_true(slot, last_used).is_some_and(|key| self.next_use(key) == next);
            if current && next <= position {
                return None;
            }
            self.farthest.pop();
            if current {
                return Some(slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_id::FileId;
    use alloc::vec::Vec;

    fn keys(blocks: &[u64]) -> impl Iterator<Item = Key> + '_ {
        blocks.iter().map(|block| (FileId(1), *block))
    }

    #[test]
    fn the_list_follows_the_references() {
        let mut list = Disclosure::default();
        let key = |block| (FileId(1), block);
        list.disclose(keys(&[1, 2, 3, 1, 2, 3]));
        assert_eq!((list.next_use(key(2)), list.next_use(key(9))), (1, NEVER));
        list.referred(key(1));
        list.referred(key(9));
        assert_eq!((list.next_use(key(1)), list.distance(3)), (3, 2));
        // 2 was left out.
        list.referred(key(3));
        assert_eq!((list.next_use(key(2)), list.next_use(key(3))), (4, 5));
        list.referred(key(3));
        assert!(list.is_over());
        // A second look at a block whose disclosed use is far away is no leap.
        let loops: Vec<u64> = (0..100).chain(0..100).collect();
        list.disclose(keys(&loops));
        list.referred(key(0));
        list.referred(key(0));
        assert_eq!(list.distance(list.next_use(key(1))), 0);
        // Second looks are no surprise. Blocks that were not disclosed are, and in the end the list is
        // dropped.
        (0..=SURPRISES).for_each(|_| list.referred(key(0)));
        assert!(!list.is_over());
        (0..=SURPRISES).for_each(|block| list.referred(key(1000 + block)));
        assert!(list.is_over());
    }

    #[test]
    fn what_is_missing_comes_in_order_and_the_farthest_goes_first() {
        let mut list = Disclosure::default();
        list.disclose(keys(&[1, 2, 3, 4, 2, 1]));
        let at_hand = |(_, block): Key| block == 1 || block == 3;
        assert_eq!(list.next_missing(at_hand), Some((1, (FileId(1), 2))));
        list.take_note();
        assert_eq!(list.next_missing(at_hand), Some((3, (FileId(1), 4))));
        list.look_again(0);
        assert_eq!(list.next_missing(at_hand), Some((1, (FileId(1), 2))));
        // Slots 0 to 3 hold blocks 1, 3, 8 and 9; of the last two nothing is known.
        let held = [1, 3, 8, 9];
        let is_true = |slot: usize, _| held.get(slot).map(|block| (FileId(1), *block));
        list.start_ranking();
        (0..4).for_each(|slot| list.rank((FileId(1), held[slot]), 0, 10 - slot as u64, slot));
        list.rank((FileId(1), 77), 0, 0, 4);
        assert_eq!([1, 1].map(|at| list.take_farthest(at, is_true)), [Some(3), Some(2)]);
        assert_eq!(list.take_farthest(1, is_true), Some(1));
        assert_eq!(list.take_farthest(1, is_true), None, "block 1 is used before block 2 is missing");
        assert_eq!(list.take_farthest(0, is_true), None);
    }
}
