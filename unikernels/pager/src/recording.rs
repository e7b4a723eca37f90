//! A memory that records the page of every access: the reference string of a program, exactly.

use crate::PAGE_WORDS;
use crate::memory::{Array, Memory};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

/// A memory whose pages are numbered as those of `libos-pager`: arrays one after the other, a guard between
/// them.
#[derive(Default)]
pub struct Recording {
    references: Rc<RefCell<Vec<u32>>>,
    next: Cell<u64>,
}

impl Recording {
    /// The pages referred to so far, one after the other equal ones as one.
    pub fn references(&self) -> Vec<u64> {
        self.references.borrow().iter().map(|page| u64::from(*page)).collect()
    }

    /// A digest of them, that of [`libos_pager::Recorder::digest`].
    pub fn digest(&self) -> u64 {
        let mut recorder = libos_pager::Recorder::default();
        self.references.borrow().iter().for_each(|page| {
            recorder.push(u64::from(*page));
        });
        recorder.digest()
    }
}

/// An array of a [`Recording`].
pub struct Recorded {
    first: u64,
    words: Vec<Cell<u64>>,
    references: Rc<RefCell<Vec<u32>>>,
}

impl Recorded {
    fn note(&self, at: usize) {
        let page = self.first as u32 + (at / PAGE_WORDS) as u32;
        let mut references = self.references.borrow_mut();
        if references.last() != Some(&page) {
            references.push(page);
        }
    }
}

impl Memory for Recording {
    type Array<'m> = Recorded;

    fn array(&self, words: usize) -> Recorded {
        let first = self.next.get();
        self.next.set(first + words.div_ceil(PAGE_WORDS) as u64 + 1);
        let words = (0..words).map(|_| Cell::new(0)).collect();
        Recorded { first, words, references: Rc::clone(&self.references) }
    }
}

impl Array for Recorded {
    fn get(&self, at: usize) -> u64 {
        self.note(at);
        self.words[at].get()
    }

    fn set(&self, at: usize, word: u64) {
        self.note(at);
        self.words[at].set(word);
    }

    fn words(&self) -> usize {
        self.words.len()
    }
}
