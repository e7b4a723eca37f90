//! The search for frames that are nobody's, by the free map.
#![forbid(unsafe_code)]

use super::{FrameTable, Owner};
use crate::machine::memory::touched;
use core::ops::Range;
use core::sync::atomic::Ordering;
use hyperexo_abi::hypercall::Status;

/// What a part of a search for free frames has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// A run of the size that was asked for starts here.
    Found(u64),
    /// Nothing up to here.
    GoOn(u64),
    /// Nothing at all.
    Nowhere,
}

impl FrameTable {
    /// Whether frames exist and are free.
    ///
    /// # Errors
    ///
    /// [`Status::NoSuch`], [`Status::InUse`].
    pub fn require_free(&self, first: u64, count: u64) -> Result<(), Status> {
        let end = first.checked_add(count).filter(|end| *end <= self.len()).ok_or(Status::NoSuch)?;
        match self.first_taken(first..end) {
            None => Ok(()),
            Some(taken) if self.owner(taken) == Owner::Absent => Err(Status::NoSuch),
            Some(_) => Err(Status::InUse),
        }
    }

    /// A run of free frames at a multiple of `align`: first fit, starting where the last search ended, then
    /// from the bottom. Looks at all of memory: only for one frame, or at the start.
    pub fn find(&mut self, count: u64, align: u64) -> Option<u64> {
        let hint = self.hint;
        let mut search = self.search(hint, self.len(), count, align, u64::MAX);
        if search == Search::Nowhere {
            search = self.search(0, self.len().min(hint.saturating_add(count)), count, align, u64::MAX);
        }
        let Search::Found(found) = search else { return None };
        self.hint = found + count;
        Some(found)
    }

    /// Where a search for any frames starts.
    pub fn hint(&self) -> u64 {
        self.hint
    }

    /// Notes where the next search for any frames starts.
    pub fn set_hint(&mut self, frame: u64) {
        self.hint = frame;
    }

    /// Looks for a run of `count` free frames at a multiple of `align` (a power of two) between `start` and
    /// `end`, but at no more than `words` words of the free map.
    pub fn search(&self, start: u64, end: u64, count: u64, align: u64, words: u64) -> Search {
        let mut looked = 0;
        let align_up = |frame: u64| frame.checked_next_multiple_of(align);
        let Some(mut first) = align_up(start) else { return Search::Nowhere };
        let mut at = first;
        loop {
            if first.checked_add(count).is_none_or(|last| last > end) {
                return Search::Nowhere;
            }
            if looked >= words {
                return Search::GoOn(first);
            }
            looked += 1;
            // Free frames from `at` on, in its word.
            let free = (self.free_word(at / 64) >> (at % 64)).trailing_ones();
            let next = at + u64::from(free).min(64 - at % 64);
            if next - first >= count {
                return Search::Found(first);
            }
            if u64::from(free) >= 64 - at % 64 {
                at = next;
                continue;
            }
            // `next` is taken: go on behind it, and behind all of its word that is taken.
            let taken = (!self.free_word(next / 64) >> (next % 64)).trailing_ones();
            let behind = next + u64::from(taken).clamp(1, 64 - next % 64);
            match align_up(behind) {
                Some(aligned) => (first, at) = (aligned, aligned),
                None => return Search::Nowhere,
            }
        }
    }

    /// The first of some frames that is not free.
    fn first_taken(&self, frames: Range<u64>) -> Option<u64> {
        let mut frame = frames.start;
        while frame < frames.end {
            let left_in_word = 64 - frame % 64;
            let free = u64::from((self.free_word(frame / 64) >> (frame % 64)).trailing_ones());
            if free < left_in_word {
                return Some(frame + free).filter(|taken| *taken < frames.end);
            }
            frame += left_in_word;
        }
        None
    }

    pub(super) fn free_word(&self, index: u64) -> u64 {
        touched(1);
        self.free_map[index as usize].load(Ordering::Relaxed)
    }
}
