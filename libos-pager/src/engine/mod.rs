//! Which pages are in memory: faults bring them in, a replacement policy says what makes room.
//!
//! Invariant: a page has a slot exactly if it is in the page map; at most `frames` pages are.

mod cluster;
mod evict;
mod pin;
mod snapshot;

use crate::marks::{HardwareMarks, PageOf, Used};
use crate::page_map::PageMap;
use crate::pager::{PageFailure, Pager, PagerError};
use crate::recorder::Recorder;
use crate::translation::{Translation, TranslationKind};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering};
use hyperexo_abi::{FRAME_BYTES, Page};
use libos_core::window::Protection;
use libos_fs::PolicyKind;
use libos_fs::cache::{Advice, Cached, Clock, ReplacementPolicy, S3Fifo, Sieve};
use snapshot::Snap;

/// How a policy learns of uses of pages that are in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum References {
    /// It looks at the processor's bits itself: [`HardwareMarks`](crate::HardwareMarks).
    Marks,
    /// Before each victim, the bits of all pages in memory are told to it, in the order of slots, and
    /// cleared.
    Sampled,
    /// It hears of faults only.
    Faults,
}

/// What was done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Page faults taken.
    pub faults: u64,
    /// Pages that came into memory: `zeroed + read`. The misses of the policy.
    pub brought: u64,
    /// Pages among them that came as zeros, without a pager.
    pub zeroed: u64,
    /// Pages that pagers filled.
    pub read: u64,
    /// Calls of pagers in which they did.
    pub read_requests: u64,
    /// Pages among `read` that came before they were touched.
    pub read_ahead: u64,
    /// Pages that pagers took.
    pub written: u64,
    /// Calls of pagers in which they did.
    pub write_requests: u64,
    /// Pages that made room.
    pub evicted: u64,
    /// Victims of the policy that could not be taken: no page in its care, or one that could not go out.
    pub rejected_victims: u64,
}

/// A region's pages.
pub struct Area {
    /// Which they are. Areas do not overlap.
    pub pages: Range<u64>,
    /// Where those are that are not in memory.
    pub pager: Box<dyn Pager>,
    /// What is allowed on pages that come in.
    pub protection: Protection,
}

/// The engine of a [`PagedMemory`](crate::PagedMemory), over any page map: see the module's text.
pub struct Engine<M> {
    map: M,
    areas: Vec<Area>,
    policy: Box<dyn ReplacementPolicy>,
    references: References,
    frames: usize,
    /// Most pages that a request moves.
    cluster: usize,
    /// Pages of the window.
    pages: u64,
    /// Slot of each page in memory.
    translation: Box<dyn Translation>,
    /// Page in each slot.
    page_of: PageOf,
    taken: Vec<bool>,
    free: Vec<usize>,
    /// Frames without a page.
    spare: Vec<Box<Page>>,
    statistics: Statistics,
    recorder: Option<Recorder>,
    /// Pages that are used in order, once.
    sequences: Vec<Range<u64>>,
    /// Where the search for a victim goes on that the policy does not name.
    hand: usize,
    snaps: Vec<Snap>,
    /// How often each slot is pinned.
    pins: Vec<u32>,
}

impl<M: PageMap> Engine<M> {
    /// An engine without regions, for a window of so many pages.
    pub fn new(
        map: M,
        pages: u64,
        frames: usize,
        cluster: usize,
        policy: Box<dyn ReplacementPolicy>,
        references: References,
    ) -> Engine<M> {
        let page_of = (0..frames).map(|_| AtomicU32::new(0)).collect();
        let mut engine = Engine {
            map,
            areas: Vec::new(),
            policy,
            references,
            frames,
            cluster: cluster.max(1),
            pages,
            translation: TranslationKind::default().build(frames),
            page_of,
            taken: vec![false; frames],
            free: (0..frames).rev().collect(),
            spare: Vec::new(),
            statistics: Statistics::default(),
            recorder: None,
            sequences: Vec::new(),
            hand: 0,
            snaps: Vec::new(),
            pins: vec![0; frames],
        };
        engine.policy.resized(frames);
        engine
    }

    /// Puts another policy in charge. It is told of the pages in memory as if they came in now.
    pub fn set_policy(&mut self, mut policy: Box<dyn ReplacementPolicy>, references: References) {
        policy.resized(self.frames);
        for slot in self.slots().into_iter().filter(|slot| self.pins[*slot] == 0) {
            policy.inserted(self.cached(slot));
        }
        (self.policy, self.references) = (policy, references);
    }

    /// Puts a policy of the library in charge. CLOCK, SIEVE and S3-FIFO look at the processor's bits page by
    /// page; the others are told of them before each victim.
    pub fn use_policy(&mut self, kind: PolicyKind, bits: impl Used + 'static) {
        let marks = HardwareMarks::new(bits, self.page_of.clone());
        let frames = self.frames;
        let (policy, references): (Box<dyn ReplacementPolicy>, References) = match kind {
            PolicyKind::Clock => (Box::new(Clock::with_marks(marks)), References::Marks),
            PolicyKind::Sieve => (Box::new(Sieve::with_marks(marks)), References::Marks),
            PolicyKind::S3Fifo => (Box::new(S3Fifo::with_marks(marks)), References::Marks),
            PolicyKind::Fifo => (kind.build(frames), References::Faults),
            _ => (kind.build(frames), References::Sampled),
        };
        self.set_policy(policy, references);
    }

    /// Whether a page is in memory.
    pub fn is_in_memory(&self, page: u64) -> bool {
        self.slot(page).is_some()
    }

    /// Puts another page-table structure in place.
    pub fn use_translation(&mut self, kind: TranslationKind) {
        let mut translation = kind.build(self.frames);
        self.translation.each(0..self.pages, &mut |page, slot| translation.insert(page, slot));
        self.translation = translation;
    }

    /// Bytes of the page-table structure now.
    pub fn translation_bytes(&self) -> usize {
        self.translation.bytes()
    }

    /// Most pages in memory.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Name of the policy.
    pub fn policy_name(&self) -> &'static str {
        self.policy.name()
    }

    /// Adds a region.
    pub fn add(&mut self, area: Area) {
        self.areas.push(area);
    }

    /// What was done so far.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// Pages in memory.
    pub fn resident(&self) -> usize {
        self.frames - self.free.len()
    }

    /// Records references from now on: see [`Recorder`].
    pub fn record(&mut self) {
        for slot in self.slots() {
            self.map.protect(self.cached(slot).block, Protection::None);
        }
        self.recorder = Some(Recorder::default());
    }

    /// What was recorded.
    pub fn recorder(&self) -> Option<&Recorder> {
        self.recorder.as_ref()
    }

    fn slots(&self) -> Vec<usize> {
        (0..self.frames).filter(|slot| self.taken[*slot]).collect()
    }

    fn cached(&self, slot: usize) -> Cached {
        Cached { slot, block: u64::from(self.page_of[slot].load(Ordering::Relaxed)) }
    }

    fn slot(&self, page: u64) -> Option<usize> {
        self.translation.get(page).map(|slot| slot as usize)
    }

    /// Number of the region of a page.
    fn area_of(&self, page: u64) -> Option<usize> {
        self.areas.iter().position(|area| area.pages.contains(&page))
    }

    /// Answers a page fault.
    ///
    /// # Errors
    ///
    /// [`PagerError`]: the page can't come in, or the access is not allowed.
    pub fn fault(&mut self, page: u64, write: bool) -> Result<(), PagerError> {
        self.statistics.faults += 1;
        let area =
            self.area_of(page).ok_or_else(|| PagerError::Other("no region has this page: a guard".into()))?;
        let protection = self.areas[area].protection;
        let allowed = match protection {
            Protection::None => false,
            Protection::Read => !write,
            Protection::Write => true,
        };
        if !allowed {
            let access = if write { "written" } else { "read" };
            return Err(PagerError::Other(alloc::format!("the region may not be {access}")));
        }
        if self.slot(page).is_none() {
            self.bring_in(page, 1)?;
        }
        if write {
            self.keep(page)?;
        }
        if let Some(recorder) = &mut self.recorder {
            if let Some(last) = recorder.push(page).filter(|last| *last != page) {
                self.map.protect(last, Protection::None);
            }
            self.map.protect(page, protection);
        }
        Ok(())
    }

    /// Brings a page in if it is outside.
    ///
    /// # Errors
    ///
    /// [`PagerError`]: it can't come in.
    pub fn need(&mut self, page: u64) -> Result<(), PagerError> {
        if self.slot(page).is_some() { Ok(()) } else { self.bring_in(page, 1) }
    }

    /// Changes what is allowed in the region of a page.
    pub fn protect(&mut self, page: u64, protection: Protection) {
        let Some(area) = self.area_of(page) else { return };
        self.areas[area].protection = protection;
        let pages = self.areas[area].pages.clone();
        self.each_there(pages, |engine, page| engine.map.protect(page, engine.allowed(area, page)));
    }

    /// Calls `each` with all pages of a range that are in memory.
    fn each_there(&mut self, pages: Range<u64>, mut each: impl FnMut(&mut Self, u64)) {
        let mut there = Vec::new();
        self.translation.each(pages, &mut |page, _| there.push(page));
        there.into_iter().for_each(|page| each(self, page));
    }

    /// Brings adjacent pages in, none of which is in memory, all of one region.
    fn bring_in(&mut self, first: u64, count: usize) -> Result<(), PagerError> {
        let area = self.area_of(first).ok_or(PagerError::Full)?;
        while self.free.len() < count {
            self.evict(Some(first))?;
        }
        // Pages in memory and spare frames are at most as many as there may be, with those made here.
        let frame = || self.spare.pop().unwrap_or_else(|| Box::new(Page([0; FRAME_BYTES])));
        let mut pages: Vec<Box<Page>> = core::iter::repeat_with(frame).take(count).collect();
        let Area { pages: range, pager, .. } = &mut self.areas[area];
        let relative = first - range.start;
        let held = pager.holds(relative);
        if held {
            match pager.page_in(relative, pages) {
                Ok(filled) => pages = filled,
                Err(PageFailure { pages, error }) => {
                    self.spare.extend(pages);
                    return Err(error);
                }
            }
            self.statistics.read += count as u64;
            self.statistics.read_requests += 1;
        } else {
            pages.iter_mut().for_each(|page| page.0.fill(0));
            self.statistics.zeroed += count as u64;
        }
        self.statistics.brought += count as u64;
        for (page, contents) in (first..).zip(pages) {
            let slot = self.free.pop().ok_or(PagerError::Full)?;
            self.taken[slot] = true;
            self.translation.insert(page, slot as u32);
            self.page_of[slot].store(page as u32, Ordering::Relaxed);
            self.map.insert(page, contents, self.allowed(area, page));
            self.policy.inserted(Cached { slot, block: page });
        }
        self.end_of_sequence_before(first);
        Ok(())
    }

    /// If a page is one of a sequence, the one before it is done with. Not earlier: a page is used many times
    /// before the next one is.
    fn end_of_sequence_before(&mut self, page: u64) {
        let goes_on = |sequence: &Range<u64>| sequence.contains(&page) && sequence.start < page;
        if self.sequences.iter().any(goes_on) {
            self.done_with(page - 1..page);
        }
    }

    fn done_with(&mut self, pages: Range<u64>) {
        // What was used before is no sign that it will be used again.
        self.each_there(pages.clone(), |engine, page| engine.map.clear_used(page));
        self.policy.advised(pages, Advice::DoneWith);
    }

    /// Passes on what the application says of pages.
    ///
    /// # Errors
    ///
    /// [`PagerError`]: a page that was to come ahead can't come in.
    pub fn advise(&mut self, pages: Range<u64>, advice: Advice) -> Result<(), PagerError> {
        match advice {
            Advice::DoneWith => self.done_with(pages),
            Advice::Sequential => {
                self.policy.advised(pages.clone(), Advice::Normal);
                self.sequences.retain(|known| known.end <= pages.start || pages.end <= known.start);
                self.sequences.push(pages);
            }
            Advice::WillNeed => {
                self.read_ahead(pages.clone())?;
                self.policy.advised(pages, advice);
            }
            Advice::Normal | Advice::Loop | Advice::Random => {
                self.sequences.retain(|known| known.end <= pages.start || pages.end <= known.start);
                self.policy.advised(pages, advice);
            }
        }
        Ok(())
    }

    /// Forgets pages, in memory and outside, but those that are pinned. What a snapshot can't keep stays.
    pub fn discard(&mut self, pages: Range<u64>) {
        if !self.snaps.is_empty() && pages.clone().any(|page| self.keep(page).is_err()) {
            return;
        }
        self.each_there(pages.clone(), |engine, page| {
            if let Some(slot) = engine.slot(page).filter(|slot| engine.pins[*slot] == 0) {
                engine.policy.removed(engine.cached(slot));
                engine.release(slot);
            }
        });
        if let Some(area) = self.area_of(pages.start) {
            let Area { pages: range, pager, .. } = &mut self.areas[area];
            pager.discard(pages.start - range.start..pages.end - range.start);
        }
    }

    /// Takes a page out of memory; its frame is spare then.
    fn release(&mut self, slot: usize) {
        let page = self.cached(slot).block;
        if let Some(contents) = self.map.remove(page) {
            self.spare.push(contents);
        }
        self.translation.remove(page);
        self.taken[slot] = false;
        self.free.push(slot);
    }
}

#[cfg(test)]
mod mapped;
#[cfg(test)]
mod tests;
