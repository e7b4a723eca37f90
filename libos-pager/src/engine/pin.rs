//! Pages that stay: a device has them by the number of their frame.

use super::Engine;
use crate::page_map::PageMap;
use crate::pager::PagerError;
use alloc::format;
use core::ops::Range;

impl<M: PageMap> Engine<M> {
    /// Brings pages in and keeps them in memory, in the frames they have then, until each is unpinned as
    /// often. At least one frame has to be left for others.
    ///
    /// # Errors
    ///
    /// [`PagerError`]: a page can't come in, or there would be too few frames. Then none of them is pinned.
    pub fn pin(&mut self, pages: Range<u64>) -> Result<(), PagerError> {
        for page in pages.clone() {
            if let Err(error) = self.pin_page(page) {
                self.unpin(pages.start..page);
                return Err(error);
            }
        }
        Ok(())
    }

    fn pin_page(&mut self, page: u64) -> Result<(), PagerError> {
        let pinned = self.pins.iter().filter(|pins| **pins > 0).count();
        let is_pinned = |engine: &Self| engine.slot(page).is_some_and(|slot| engine.pins[slot] > 0);
        if !is_pinned(self) && pinned + 1 >= self.frames {
            let frames = self.frames;
            return Err(PagerError::Other(format!(
                "{pinned} of {frames} frames are pinned: one must be left"
            )));
        }
        self.need(page)?;
        // A device may write it, which a snapshot would not see.
        self.keep(page)?;
        let slot = self.slot(page).ok_or(PagerError::Full)?;
        if self.pins[slot] == 0 {
            // It is not the policy's to replace.
            self.policy.removed(self.cached(slot));
        }
        self.pins[slot] += 1;
        Ok(())
    }

    /// Ends what [`Engine::pin`] began. The pages count as written: a device's writes set no bit.
    pub fn unpin(&mut self, pages: Range<u64>) {
        for page in pages {
            let Some(slot) = self.slot(page).filter(|slot| self.pins[*slot] > 0) else { continue };
            self.pins[slot] -= 1;
            self.map.mark_written(page);
            if self.pins[slot] == 0 {
                self.policy.inserted(self.cached(slot));
            }
        }
    }
}
