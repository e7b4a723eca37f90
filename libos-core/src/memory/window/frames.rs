//! Frames in windows: of this unikernel's choice, of other environments, and 512 at a time as a large page.

use super::{Content, Entry, Pages, Protection, Taken, end_translation};
use crate::memory::frames::SharedFrames;
use alloc::rc::Rc;
use core::fmt;
use core::sync::atomic::Ordering;
use hyperexo_abi::{FRAME_SHIFT, LARGE_FRAMES};

/// Why frames do not come into a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// There are fewer frames.
    NoSuchFrame {
        /// The one wanted, counted from their first.
        number: u64,
        /// How many there are.
        count: u64,
    },
    /// They may not be written, and the page is to be.
    ReadOnly,
    /// A large page begins at a multiple of 512, in the window and among the machine's frames.
    Misaligned {
        /// Page of the window.
        page: u64,
        /// Frame of the machine.
        frame: u64,
    },
    /// A place is taken, or there is no such place.
    Taken {
        /// The first such page.
        page: u64,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::NoSuchFrame { number, count } => write!(f, "frame {number} of {count}"),
            FrameError::ReadOnly => write!(f, "the frames may be read only, and the page is to be written"),
            FrameError::Misaligned { page, frame } => write!(
                f,
                "a large page at page {page}, from frame {frame} on: both must be multiples of {LARGE_FRAMES}"
            ),
            FrameError::Taken { page } => write!(f, "page {page} of the window is taken, or there is none"),
        }
    }
}

impl core::error::Error for FrameError {}

impl Pages {
    /// Puts in a frame of a run that others may show, too: the one with this number, counted from the run's
    /// first.
    ///
    /// # Errors
    ///
    /// [`FrameError`].
    pub fn insert_frame(
        &self,
        page: u64,
        frames: &Rc<SharedFrames>,
        number: u64,
        protection: Protection,
    ) -> Result<(), FrameError> {
        self.judge(page..page + 1, frames, number, protection)?;
        let content = Content::Frame(Rc::clone(frames), number);
        self.place_physical(page, (frames.first() + number) << FRAME_SHIFT, content, protection);
        Ok(())
    }

    /// Puts in 512 frames of a run, from the one with this number on, as a page of 2 MiB: one entry of the
    /// tables and one of the TLB. Its bits and its protection are those of all 512 pages.
    ///
    /// # Errors
    ///
    /// [`FrameError`].
    pub fn insert_large(
        &self,
        page: u64,
        frames: &Rc<SharedFrames>,
        number: u64,
        protection: Protection,
    ) -> Result<(), FrameError> {
        let last = number.saturating_add(LARGE_FRAMES - 1);
        self.judge(page..page.saturating_add(LARGE_FRAMES), frames, last, protection)?;
        let frame = frames.first() + number;
        if !(page | frame).is_multiple_of(LARGE_FRAMES) {
            return Err(FrameError::Misaligned { page, frame });
        }
        let entry = self.slot.directory_entry(page).ok_or(FrameError::Taken { page })?;
        let contents = &mut self.contents.borrow_mut()[page as usize..][..LARGE_FRAMES as usize];
        contents.fill_with(|| Content::Within);
        contents[0] = Content::Large(Rc::clone(frames), number);
        entry.store(Entry::large(frame << FRAME_SHIFT, protection).0, Ordering::Release);
        // The processor may have kept that the table stands there, though nothing is in it.
        end_translation(self.slot.address(page));
        Ok(())
    }

    fn judge(
        &self,
        pages: core::ops::Range<u64>,
        frames: &SharedFrames,
        last: u64,
        protection: Protection,
    ) -> Result<(), FrameError> {
        if last >= frames.count() {
            return Err(FrameError::NoSuchFrame { number: last, count: frames.count() });
        }
        if protection == Protection::Write && !frames.writable() {
            return Err(FrameError::ReadOnly);
        }
        match pages.clone().find(|page| *page >= self.count() || self.is_there(*page)) {
            Some(page) => Err(FrameError::Taken { page }),
            None => Ok(()),
        }
    }

    /// Takes a large page out, if that is its first page.
    pub(super) fn remove_large(&self, page: u64) -> Option<Taken> {
        let mut contents = self.contents.borrow_mut();
        let Content::Large(frames, _) = &contents[page as usize] else { return None };
        let frames = Rc::clone(frames);
        contents[page as usize..][..LARGE_FRAMES as usize].fill_with(|| Content::Nothing);
        let entry = self.slot.directory_entry(page)?;
        entry.store(self.slot.table_entry(page).0, Ordering::Release);
        end_translation(self.slot.address(page));
        Some(Taken::Frames(frames))
    }
}
