//! Snapshots: the pages of a region as they were. A page is kept when it is written for the first time since.

use super::{Area, Engine};
use crate::page_map::PageMap;
use crate::pager::{PageFailure, Pager, PagerError};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use hyperexo_abi::{FRAME_BYTES, Page};
use libos_core::window::Protection;

/// The snapshot of a region.
pub(super) struct Snap {
    area: usize,
    /// Where pages go that have changed since.
    store: Box<dyn Pager>,
    /// Which pages have; relative to the region's first.
    kept: Vec<bool>,
}

impl<M: PageMap> Engine<M> {
    /// Takes a snapshot of the region of a page: writes fault from now on, once a page, and what was there
    /// before goes to `store`. Nothing is copied now.
    ///
    /// # Errors
    ///
    /// [`PagerError`]: no region has the page, or it has a snapshot already.
    pub fn snapshot(&mut self, page: u64, store: Box<dyn Pager>) -> Result<(), PagerError> {
        let area = self.area_of(page).ok_or(PagerError::Full)?;
        if self.snap_of(area).is_some() {
            return Err(PagerError::Other("the region has a snapshot already".into()));
        }
        let pages = self.areas[area].pages.clone();
        let kept = vec![false; (pages.end - pages.start) as usize];
        self.snaps.push(Snap { area, store, kept });
        for page in pages.filter(|page| self.slot(*page).is_some()) {
            self.map.protect(page, self.allowed(area, page));
        }
        Ok(())
    }

    /// Reads a page as it was when the snapshot was taken.
    ///
    /// # Errors
    ///
    /// [`PagerError`]: there is no snapshot, or the page can't come in.
    pub fn read_snapshot(&mut self, page: u64, into: &mut Page) -> Result<(), PagerError> {
        let none = || PagerError::Other("there is no snapshot".into());
        let area = self.area_of(page).ok_or_else(none)?;
        let relative = page - self.areas[area].pages.start;
        let number = self.snap_of(area).ok_or_else(none)?;
        let Snap { store, kept, .. } = &mut self.snaps[number];
        if !kept[relative as usize] {
            self.need(page)?;
            return self.with_contents(page, |contents| into.0 = contents.0);
        }
        if !store.holds(relative) {
            into.0.fill(0);
            return Ok(());
        }
        let frame = Box::new(Page([0; FRAME_BYTES]));
        let pages = store.page_in(relative, vec![frame]).map_err(|failure| failure.error)?;
        into.0 = pages[0].0;
        Ok(())
    }

    /// Ends the snapshot of the region of a page: what was kept is forgotten.
    pub fn end_snapshot(&mut self, page: u64) {
        let Some(area) = self.area_of(page) else { return };
        let Some(number) = self.snap_of(area) else { return };
        let Snap { mut store, kept, .. } = self.snaps.swap_remove(number);
        store.discard(0..kept.len() as u64);
        for page in self.areas[area].pages.clone() {
            if self.slot(page).is_some() {
                self.map.protect(page, self.allowed(area, page));
            }
        }
    }

    fn snap_of(&self, area: usize) -> Option<usize> {
        self.snaps.iter().position(|snap| snap.area == area)
    }

    /// What is allowed on a page of a region that is in memory: nothing while references are recorded, and
    /// no write while a snapshot has yet to keep it.
    pub(super) fn allowed(&self, area: usize, page: u64) -> Protection {
        let Area { pages, protection, .. } = &self.areas[area];
        let waits = |number: usize| !self.snaps[number].kept[(page - pages.start) as usize];
        match protection {
            _ if self.recorder.is_some() => Protection::None,
            Protection::Write if self.snap_of(area).is_some_and(waits) => Protection::Read,
            protection => *protection,
        }
    }

    /// Keeps a page for the snapshot of its region before it changes, if there is one that does not have it.
    pub(super) fn keep(&mut self, page: u64) -> Result<(), PagerError> {
        let Some(area) = self.area_of(page) else { return Ok(()) };
        let Some(number) = self.snap_of(area) else { return Ok(()) };
        let relative = page - self.areas[area].pages.start;
        if self.snaps[number].kept[relative as usize] {
            return Ok(());
        }
        let outside = self.slot(page).is_none();
        // What is nowhere is zeros, which the store need not have.
        if !outside || self.areas[area].pager.holds(relative) {
            self.need(page)?;
            self.move_contents(page, |engine, contents| {
                match engine.snaps[number].store.page_out(relative, vec![contents]) {
                    Ok(mut pages) => (Ok(()), pages.pop()),
                    Err(PageFailure { mut pages, error }) => (Err(error), pages.pop()),
                }
            })?;
        }
        self.snaps[number].kept[relative as usize] = true;
        if self.slot(page).is_some() {
            self.map.protect(page, self.allowed(area, page));
        }
        Ok(())
    }

    /// Shows the contents of a page in memory.
    fn with_contents(&mut self, page: u64, look: impl FnOnce(&Page)) -> Result<(), PagerError> {
        self.move_contents(page, |_, contents| {
            look(&contents);
            (Ok(()), Some(contents))
        })
    }

    /// Takes a page out of the map for a moment; its bits are as they were afterwards.
    fn move_contents(
        &mut self,
        page: u64,
        work: impl FnOnce(&mut Self, Box<Page>) -> (Result<(), PagerError>, Option<Box<Page>>),
    ) -> Result<(), PagerError> {
        let area = self.area_of(page).ok_or(PagerError::Full)?;
        let (used, written) = (self.map.used(page), self.map.written(page));
        let contents = self.map.remove(page).ok_or(PagerError::Full)?;
        let (result, contents) = work(self, contents);
        let Some(contents) = contents else {
            let lost = "a pager kept the page that it was to copy: it is lost";
            return Err(result.err().unwrap_or(PagerError::Other(lost.into())));
        };
        self.map.insert(page, contents, self.allowed(area, page));
        if used {
            self.map.mark_used(page);
        }
        if written {
            self.map.mark_written(page);
        }
        result
    }
}
