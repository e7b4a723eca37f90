//! Adjacent pages move together.

use super::{Area, Engine};
use crate::page_map::PageMap;
use crate::pager::{PageFailure, PagerError};
use alloc::vec::Vec;
use core::ops::Range;

impl<M: PageMap> Engine<M> {
    /// Writes a page, together with those beside it that have to be written, too. They stay in memory.
    pub(super) fn write_around(&mut self, page: u64) -> Result<(), PagerError> {
        let Some(area) = self.area_of(page) else { return Err(PagerError::Full) };
        let (range, most) = (self.areas[area].pages.clone(), self.most(area) as u64);
        // A page that a device has by its frame stays where it is.
        let dirty =
            |page: &u64| self.slot(*page).is_some_and(|slot| self.pins[slot] == 0) && self.map.written(*page);
        let before = (range.start..page).rev().take(most as usize - 1).take_while(dirty).count() as u64;
        let first = page - before;
        let after = (page + 1..range.end.min(first + most)).take_while(dirty).count() as u64;
        self.write(area, first..page + 1 + after)
    }

    /// Writes adjacent pages that are in memory, all of one region.
    pub(super) fn write(&mut self, area: usize, pages: Range<u64>) -> Result<(), PagerError> {
        // The frames go to the pager and come back; nobody touches the pages meanwhile.
        let used: Vec<bool> = pages.clone().map(|page| self.map.used(page)).collect();
        let contents: Vec<_> = pages.clone().filter_map(|page| self.map.remove(page)).collect();
        let Area { pages: range, pager, .. } = &mut self.areas[area];
        let (result, contents) = match pager.page_out(pages.start - range.start, contents) {
            Ok(contents) => (Ok(()), contents),
            Err(PageFailure { pages, error }) => (Err(error), pages),
        };
        let count = pages.end - pages.start;
        if contents.len() as u64 != count {
            let lost = "the device kept pages that it was to write: they are lost";
            return Err(result.err().unwrap_or(PagerError::Other(lost.into())));
        }
        for ((page, contents), used) in pages.zip(contents).zip(used) {
            self.map.insert(page, contents, self.allowed(area, page));
            if used {
                self.map.mark_used(page);
            }
            if result.is_err() {
                self.map.mark_written(page);
            }
        }
        result?;
        self.statistics.written += count;
        self.statistics.write_requests += 1;
        Ok(())
    }

    /// Brings in those pages that are outside and that their pager holds, as many as fit without each other.
    pub(super) fn read_ahead(&mut self, pages: Range<u64>) -> Result<(), PagerError> {
        let mut room = self.frames / 2;
        let mut page = pages.start;
        while page < pages.end && room > 0 {
            let Some(area) = self.area_of(page) else { return Ok(()) };
            let (range, most) = (self.areas[area].pages.clone(), self.most(area).min(room) as u64);
            let end = pages.end.min(range.end).min(page + most);
            let wanted =
                |page: &u64| self.slot(*page).is_none() && self.areas[area].pager.holds(*page - range.start);
            let count = (page..end).take_while(wanted).count();
            if count == 0 {
                page += 1;
                continue;
            }
            self.bring_in(page, count)?;
            self.statistics.read_ahead += count as u64;
            room -= count;
            page += count as u64;
        }
        Ok(())
    }

    /// Has all pages of a region written that have to be, but those that are pinned.
    ///
    /// # Errors
    ///
    /// [`PagerError`]; pages that could not be written are still in memory.
    pub fn sync(&mut self, pages: Range<u64>) -> Result<(), PagerError> {
        for page in pages.clone() {
            if self.slot(page).is_some_and(|slot| self.pins[slot] == 0) && self.map.written(page) {
                self.write_around(page)?;
            }
        }
        let Some(area) = self.area_of(pages.start) else { return Ok(()) };
        self.areas[area].pager.sync()
    }

    /// Most pages of a request of a region.
    fn most(&self, area: usize) -> usize {
        self.areas[area].pager.most_pages().min(self.cluster).max(1)
    }
}
