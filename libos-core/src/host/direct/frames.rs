//! Which frames of the machine are free: a short list of runs.
//!
//! An image takes frames in runs and rarely gives any back, so there are few gaps. If the list has no room
//! for a run, its frames are lost, and counted.
#![forbid(unsafe_code)]

use crate::cpu::lock::Masked;
use core::ops::Range;
use hyperexo_abi::hypercall::Status;

/// Most runs that are kept.
const MOST_RUNS: usize = 128;

/// The free frames of the machine.
pub(super) static FREE: Masked<FreeFrames> = Masked::new(FreeFrames::new());

/// Free frames.
///
/// Invariant: the first `count` runs are not empty, in rising order, and do not touch each other.
pub(super) struct FreeFrames {
    runs: [Range<u64>; MOST_RUNS],
    count: usize,
    lost: u64,
}

impl FreeFrames {
    /// No frames.
    pub const fn new() -> FreeFrames {
        FreeFrames { runs: [const { 0..0 }; MOST_RUNS], count: 0, lost: 0 }
    }

    fn runs(&self) -> &[Range<u64>] {
        &self.runs[..self.count]
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.runs().iter().map(|run| run.end - run.start).sum()
    }

    /// Frames that found no room in the list.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// One past the highest.
    pub fn end(&self) -> u64 {
        self.runs().last().map_or(0, |run| run.end)
    }

    /// Makes frames free. Some of them may be free already.
    pub fn add(&mut self, frames: Range<u64>) {
        if frames.is_empty() {
            return;
        }
        // Runs that overlap or touch the new one become one with it.
        let first = self.runs().iter().take_while(|run| run.end < frames.start).count();
        let merged = self.runs()[first..].iter().take_while(|run| run.start <= frames.end).count();
        if merged == 0 {
            return self.insert(first, frames);
        }
        let start = self.runs[first].start.min(frames.start);
        let end = self.runs[first + merged - 1].end.max(frames.end);
        self.runs[first] = start..end;
        self.runs[first + 1..self.count].rotate_left(merged - 1);
        self.count -= merged - 1;
    }

    /// Takes these frames, as far as they are free.
    pub fn remove(&mut self, frames: Range<u64>) {
        let mut at = 0;
        while at < self.count {
            let run = self.runs[at].clone();
            let (before, after) = (run.start..frames.start.min(run.end), frames.end.max(run.start)..run.end);
            if frames.is_empty() || run.end <= frames.start || frames.end <= run.start {
                at += 1;
                continue;
            }
            match (before.is_empty(), after.is_empty()) {
                (true, true) => {
                    self.runs[at..self.count].rotate_left(1);
                    self.count -= 1;
                }
                (false, true) => self.runs[at] = before,
                (true, false) => self.runs[at] = after,
                (false, false) => {
                    self.runs[at] = before;
                    self.insert(at + 1, after);
                }
            }
        }
    }

    /// Takes the lowest run of `count` free frames whose first is a multiple of `alignment`.
    pub fn take(&mut self, count: u64, alignment: u64) -> Option<u64> {
        let first = self.runs().iter().find_map(|run| {
            let first = run.start.checked_next_multiple_of(alignment)?;
            let fits = first.checked_add(count)? <= run.end && self.leaves_room(run, first, count);
            fits.then_some(first)
        })?;
        self.remove(first..first + count);
        Some(first)
    }

    /// Takes these frames if all are free. Frames below `memory_end` that are not free are in use; from there
    /// on there are none.
    pub fn take_at(&mut self, first: u64, count: u64, memory_end: u64) -> Result<(), Status> {
        let end = first.checked_add(count).filter(|end| *end <= memory_end).ok_or(Status::NoSuch)?;
        let run = self.runs().iter().find(|run| run.start <= first && end <= run.end).ok_or(Status::InUse)?;
        if !self.leaves_room(run, first, count) {
            return Err(Status::Exhausted);
        }
        self.remove(first..end);
        Ok(())
    }

    /// Whether the list has room for what is left of a run without these frames. Taking must lose nothing.
    fn leaves_room(&self, run: &Range<u64>, first: u64, count: u64) -> bool {
        self.count < MOST_RUNS || run.start == first || first + count == run.end
    }

    /// Puts a run at a place of the list.
    fn insert(&mut self, at: usize, run: Range<u64>) {
        if self.count == MOST_RUNS {
            self.lost += run.end - run.start;
            return;
        }
        self.runs[at..=self.count].rotate_right(1);
        self.runs[at] = run;
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn runs(free: &FreeFrames) -> Vec<(u64, u64)> {
        free.runs().iter().map(|run| (run.start, run.end)).collect()
    }

    #[test]
    fn the_lowest_run_that_fits_is_taken() {
        let mut free = FreeFrames::new();
        free.add(1..10);
        free.add(20..600);
        free.add(1024..2048);
        assert_eq!((free.take(4, 4), free.take(5, 1)), (Some(4), Some(20)));
        assert_eq!(free.take(512, 512), Some(1024));
        assert_eq!(free.take(600, 1), None);
        assert_eq!(free.take(u64::MAX, 1), None);
        assert_eq!(runs(&free), [(1, 4), (8, 10), (25, 600), (1536, 2048)]);
    }

    #[test]
    fn particular_frames_are_taken_or_refused() {
        let mut free = FreeFrames::new();
        free.add(10..20);
        free.add(30..40);
        assert_eq!(free.take_at(12, 3, 40), Ok(()));
        assert_eq!(runs(&free), [(10, 12), (15, 20), (30, 40)]);
        for (first, count, refusal) in [
            (12, 1, Status::InUse),
            (11, 2, Status::InUse),
            (19, 12, Status::InUse),
            (39, 2, Status::NoSuch),
            (u64::MAX, 2, Status::NoSuch),
        ] {
            assert_eq!(free.take_at(first, count, 40), Err(refusal), "{count} from {first}");
        }
        free.add(12..15);
        assert_eq!(free.take_at(10, 10, 40), Ok(()));
        assert_eq!(runs(&free), [(30, 40)]);
    }

    #[test]
    fn taking_loses_nothing() {
        let mut free = FreeFrames::new();
        free.add(0..1000);
        let taken = (0..200).filter(|gap| free.take_at(gap * 2 + 1, 1, 1000) == Ok(())).count();
        assert_eq!((taken, runs(&free).len()), (MOST_RUNS - 1, MOST_RUNS));
        assert_eq!(
            free.take_at(501, 1, 1000),
            Err(Status::Exhausted),
            "in the middle of a run, and the list is full"
        );
        assert_eq!(free.take_at(999, 1, 1000), Ok(()), "at the end of one");
        assert_eq!(free.take(2, 512), None, "only in the middle of that run");
        assert_eq!(free.take(1, 1), Some(0));
        assert_eq!((free.count(), free.lost()), (1000 - taken as u64 - 2, 0));
    }

    #[test]
    fn more_gaps_than_the_list_holds_are_counted() {
        let mut free = FreeFrames::new();
        free.add(0..1000);
        (0..200).for_each(|gap| free.remove(gap * 2 + 1..gap * 2 + 2));
        assert_eq!(runs(&free).len(), MOST_RUNS);
        // The first run that no longer fits is lost, and with it all frames above.
        assert_eq!(free.count() + free.lost() + MOST_RUNS as u64, 1000);
    }

    /// Against a list of frames, by steps drawn from a fixed sequence.
    #[test]
    fn agrees_with_a_list_of_frames() {
        const FRAMES: u64 = 160;
        let mut seed = 7u64;
        let mut draw = |below: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % below
        };
        let (mut free, mut list) = (FreeFrames::new(), [false; FRAMES as usize]);
        for _ in 0..20_000 {
            let start = draw(FRAMES);
            let range = start..(start + draw(20)).min(FRAMES);
            match draw(3) {
                0 => {
                    free.add(range.clone());
                    range.for_each(|frame| list[frame as usize] = true);
                }
                1 => {
                    free.remove(range.clone());
                    range.for_each(|frame| list[frame as usize] = false);
                }
                _ => {
                    let (count, alignment) = (1 + draw(9), 1 << draw(4));
                    let fits = |first: &u64| (*first..first + count).all(|frame| list[frame as usize]);
                    let expected = (0..=FRAMES - count).filter(|first| first % alignment == 0).find(fits);
                    assert_eq!(free.take(count, alignment), expected);
                    expected.into_iter().for_each(|first| {
                        (first..first + count).for_each(|frame| list[frame as usize] = false);
                    });
                }
            }
            let expected = list.iter().filter(|free| **free).count() as u64;
            assert_eq!(free.count(), expected);
            assert!(free.runs().windows(2).all(|pair| pair[0].end < pair[1].start), "{:?}", runs(&free));
        }
    }
}
