//! Memory whose pages come when they are touched.

use super::page::Words;
use crate::memory::PAGE_WORDS;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

/// Brings a page.
pub type Bring = dyn Fn(usize) -> Words;

/// Words in pages, each of which is brought when it is touched first.
pub trait Frames {
    /// Number of pages, there or not.
    fn pages(&self) -> usize;
    /// Who brings pages. If a page can't be brought, it ends the program.
    fn set_bring(&mut self, bring: Box<Bring>);
    /// Reads a word.
    fn get(&self, at: usize) -> u64;
    /// Writes a word.
    fn set(&self, at: usize, word: u64);
    /// Puts a new page in, which counts as written.
    fn insert(&self, page: usize, words: &Words);
    /// Copies a page that is there.
    fn copy(&self, page: usize) -> Words;
    /// Calls `each` with the pages written since they were brought, or since this was asked last.
    fn take_written(&self, each: &mut dyn FnMut(usize));
}

/// A page of the model, and whether it was written.
struct Frame {
    words: Box<[Cell<u64>; PAGE_WORDS]>,
    written: Cell<bool>,
}

/// Such memory for tests on the host.
pub struct Model {
    frames: RefCell<Vec<Option<Frame>>>,
    bring: Option<Box<Bring>>,
}

impl Model {
    /// So many pages, none of which is there.
    pub fn new(pages: usize) -> Model {
        Model { frames: RefCell::new((0..pages).map(|_| None).collect()), bring: None }
    }

    /// How many pages are there.
    pub fn there(&self) -> usize {
        self.frames.borrow().iter().flatten().count()
    }

    fn place(&self, page: usize, words: &Words, written: bool) {
        let words = Box::new(words.map(Cell::new));
        let old = self.frames.borrow_mut()[page].replace(Frame { words, written: Cell::new(written) });
        assert!(old.is_none(), "page {page} is there already");
    }

    /// Does something with a page, which is brought if need be.
    fn with<T>(&self, page: usize, work: impl FnOnce(&Frame) -> T) -> T {
        if self.frames.borrow()[page].is_none() {
            let bring = self.bring.as_ref().expect("somebody who brings pages");
            let words = bring(page);
            self.place(page, &words, false);
        }
        work(self.frames.borrow()[page].as_ref().expect("just brought"))
    }
}

impl Frames for Model {
    fn pages(&self) -> usize {
        self.frames.borrow().len()
    }

    fn set_bring(&mut self, bring: Box<Bring>) {
        self.bring = Some(bring);
    }

    fn get(&self, at: usize) -> u64 {
        self.with(at / PAGE_WORDS, |frame| frame.words[at % PAGE_WORDS].get())
    }

    fn set(&self, at: usize, word: u64) {
        self.with(at / PAGE_WORDS, |frame| {
            frame.written.set(true);
            frame.words[at % PAGE_WORDS].set(word);
        });
    }

    fn insert(&self, page: usize, words: &Words) {
        self.place(page, words, true);
    }

    fn copy(&self, page: usize) -> Words {
        self.with(page, |frame| core::array::from_fn(|at| frame.words[at].get()))
    }

    fn take_written(&self, each: &mut dyn FnMut(usize)) {
        for (page, frame) in self.frames.borrow().iter().enumerate() {
            if frame.as_ref().is_some_and(|frame| frame.written.take()) {
                each(page);
            }
        }
    }
}
