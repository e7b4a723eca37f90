//! Words whose pages can be guarded.

use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::ops::Range;

/// Words of a page.
pub const PAGE_WORDS: usize = 512;

/// Words, and what the virtual memory below them can tell of writes.
pub trait Memory {
    /// Reads a word.
    fn get(&self, at: usize) -> u64;
    /// Writes a word.
    fn set(&self, at: usize, word: u64);
    /// Protects pages against writes, all at once. The first write to each is noted, and allowed.
    fn guard(&self, pages: Range<usize>);
    /// Allows writes to pages, all at once, without a note.
    fn release(&self, pages: Range<usize>);
    /// Takes the notes: calls `each` with the pages written since they were guarded, each once.
    fn take_noted(&self, each: &mut dyn FnMut(usize));
    /// Calls `each` with those of the pages that were written since this was asked last, by the processor's
    /// bits.
    fn take_written(&self, pages: Range<usize>, each: &mut dyn FnMut(usize));
    /// Traps so far.
    fn traps(&self) -> u64;
}

/// Memory that keeps account of writes itself, for tests on the host.
pub struct Model {
    words: Vec<Cell<u64>>,
    /// By page.
    guarded: Vec<Cell<bool>>,
    written: Vec<Cell<bool>>,
    noted: RefCell<Vec<usize>>,
    traps: Cell<u64>,
}

impl Model {
    /// So many pages of zeros.
    pub fn new(pages: usize) -> Model {
        Model {
            words: vec![Cell::new(0); pages * PAGE_WORDS],
            guarded: vec![Cell::new(false); pages],
            written: vec![Cell::new(false); pages],
            noted: RefCell::default(),
            traps: Cell::new(0),
        }
    }
}

impl Memory for Model {
    fn get(&self, at: usize) -> u64 {
        self.words[at].get()
    }

    fn set(&self, at: usize, word: u64) {
        let page = at / PAGE_WORDS;
        if self.guarded[page].take() {
            self.noted.borrow_mut().push(page);
            self.traps.set(self.traps.get() + 1);
        }
        self.written[page].set(true);
        self.words[at].set(word);
    }

    fn guard(&self, pages: Range<usize>) {
        self.guarded[pages].iter().for_each(|guarded| guarded.set(true));
    }

    fn release(&self, pages: Range<usize>) {
        self.guarded[pages].iter().for_each(|guarded| guarded.set(false));
    }

    fn take_noted(&self, each: &mut dyn FnMut(usize)) {
        self.noted.take().into_iter().for_each(each);
    }

    fn take_written(&self, pages: Range<usize>, each: &mut dyn FnMut(usize)) {
        pages.filter(|page| self.written[*page].take()).for_each(each);
    }

    fn traps(&self) -> u64 {
        self.traps.get()
    }
}
