//! Arrays in regions of `libos-pager`.

use core::cell::RefCell;
use core::ops::Range;
use libos_core::window::Cells;
use libos_pager::{Foretelling, PagedMemory, Region, Swap};
use pager::memory::{pages_touched, pages_within};
use pager::{Array, Memory, PAGE_WORDS};

/// Paged memory whose regions page to parts of one disk.
pub struct Paged<'p> {
    memory: &'p PagedMemory,
    /// Who listens to what the program says, if anybody does.
    listener: Option<Foretelling>,
    /// From which each region takes its part.
    disk: RefCell<Swap>,
}

impl<'p> Paged<'p> {
    /// Over paged memory, and a part of the disk from which others are taken.
    pub fn new(memory: &'p PagedMemory, disk: Swap, listener: Option<Foretelling>) -> Paged<'p> {
        Paged { memory, listener, disk: RefCell::new(disk) }
    }
}

/// An array in a region.
pub struct PagedArray<'p> {
    cells: Cells<'p, u64>,
    region: Region<'p>,
    words: usize,
    listener: Option<Foretelling>,
}

impl<'p> Memory for Paged<'p> {
    type Array<'m>
        = PagedArray<'p>
    where
        Self: 'm;

    /// # Panics
    ///
    /// If the memory or the disk is too small, which is tested before.
    fn array(&self, words: usize) -> PagedArray<'p> {
        let pages = words.div_ceil(PAGE_WORDS) as u64;
        let swap = self.disk.borrow().another(pages).unwrap_or_else(|error| panic!("{error}"));
        let region =
            self.memory.region(pages, alloc::boxed::Box::new(swap)).unwrap_or_else(|error| panic!("{error}"));
        PagedArray { cells: region.cells(), region, words, listener: self.listener.clone() }
    }

    fn frames(&self) -> Option<usize> {
        self.listener.is_some().then(|| self.memory.frames())
    }
}

impl PagedArray<'_> {
    /// The page of a word, as policies know it.
    fn page(&self, at: usize) -> u64 {
        self.region.first_page() + (at / PAGE_WORDS) as u64
    }

    /// Passes on what is said of pages, if anybody listens.
    fn say(&self, pages: Range<u64>, what: impl Fn(&Region<'_>, Range<u64>)) {
        if self.listener.is_some() && !pages.is_empty() {
            what(&self.region, pages);
        }
    }
}

impl Array for PagedArray<'_> {
    #[inline(always)]
    fn get(&self, at: usize) -> u64 {
        self.cells.get(at)
    }

    #[inline(always)]
    fn set(&self, at: usize, word: u64) {
        self.cells.set(at, word);
    }

    fn words(&self) -> usize {
        self.words
    }

    fn will_need(&self, words: Range<usize>) {
        self.say(pages_touched(&words), |region, pages| region.will_need(pages));
    }

    fn done_with(&self, words: Range<usize>) {
        self.say(pages_within(&words), |region, pages| region.done_with(pages));
    }

    fn sequential(&self, words: Range<usize>) {
        self.say(pages_touched(&words), |region, pages| region.sequential(pages));
    }

    fn looping(&self, words: Range<usize>) {
        self.say(pages_touched(&words), |region, pages| region.looping(pages));
    }

    fn normal(&self, words: Range<usize>) {
        self.say(pages_touched(&words), |region, pages| region.normal(pages));
    }

    fn discard(&self, words: Range<usize>) {
        self.say(pages_within(&words), |region, pages| region.discard(pages));
    }

    fn tells_all_of(&self, words: Range<usize>) {
        if let (Some(listener), false) = (&self.listener, words.is_empty()) {
            listener.tells_all_of(self.page(words.start)..self.page(words.end - 1) + 1);
        }
    }

    fn will_use(&self, at: usize) {
        if let Some(listener) = &self.listener {
            listener.will_use(self.page(at));
        }
    }

    fn has_used(&self, at: usize) {
        if let Some(listener) = &self.listener {
            listener.has_used(self.page(at));
        }
    }

    fn is_in_memory(&self, at: usize) -> Option<bool> {
        self.listener.is_some().then(|| self.region.is_in_memory((at / PAGE_WORDS) as u64))
    }
}
