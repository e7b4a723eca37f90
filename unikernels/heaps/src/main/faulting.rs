//! A window whose pages are brought when they are touched.

use alloc::boxed::Box;
use heaps::memory::PAGE_WORDS;
use heaps::store::frames::{Bring, Frames};
use heaps::store::page::{Words, block_of, words_of};
use libos_core::window::{Protection, Window, WindowError};

/// Such a window.
pub struct Faulting(Window);

impl Faulting {
    /// Of so many pages, none of which is there.
    pub fn new(pages: usize) -> Result<Faulting, WindowError> {
        Window::new(pages as u64).map(Faulting)
    }
}

impl Frames for Faulting {
    fn pages(&self) -> usize {
        self.0.pages().count() as usize
    }

    fn set_bring(&mut self, bring: Box<Bring>) {
        let pages = self.0.pages().clone();
        self.0.set_handler(Box::new(move |fault| {
            let words = bring(fault.page as usize);
            pages.insert(fault.page, Box::new(block_of(&words)), Protection::Write);
            Ok(())
        }));
    }

    fn get(&self, at: usize) -> u64 {
        let page = (at / PAGE_WORDS) as u64;
        self.0.cells::<u64>(page..page + 1).get(at % PAGE_WORDS)
    }

    fn set(&self, at: usize, word: u64) {
        let page = (at / PAGE_WORDS) as u64;
        self.0.cells::<u64>(page..page + 1).set(at % PAGE_WORDS, word);
    }

    fn insert(&self, page: usize, words: &Words) {
        self.0.pages().insert(page as u64, Box::new(block_of(words)), Protection::Write);
        self.0.pages().mark_written(page as u64);
    }

    fn copy(&self, page: usize) -> Words {
        // `take_written` names only pages that are there.
        let page = self.0.pages().copy(page as u64).expect("a page that was written");
        words_of(&page)
    }

    fn take_written(&self, each: &mut dyn FnMut(usize)) {
        let pages = self.0.pages();
        pages.take_written(0..pages.count(), |page| each(page as usize));
    }
}
