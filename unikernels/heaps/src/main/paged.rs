//! Words of a window, whose pages are guarded by the processor.

use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::Cell;
use core::ops::Range;
use heaps::memory::Memory;
use hyperexo_abi::{FRAME_BYTES, Page};
use libos_core::window::{Cells, Pages, Protection, Window, WindowError};

/// Pages that trapped. Its room is there from the beginning: the handler that notes them can't wait for the
/// heap.
struct Notes {
    pages: Box<[Cell<u64>]>,
    count: Cell<usize>,
    traps: Cell<u64>,
}

/// A window full of zeros, whose quick handler notes pages and allows writes.
pub fn window(pages: usize) -> Result<(Window, Rc<NotedPages>), WindowError> {
    let mut window = Window::new(pages as u64)?;
    for page in 0..pages as u64 {
        window.pages().insert(page, Box::new(Page([0; FRAME_BYTES])), Protection::Write);
    }
    let notes =
        Notes { pages: (0..pages).map(|_| Cell::new(0)).collect(), count: Cell::new(0), traps: Cell::new(0) };
    let noted = Rc::new(NotedPages { pages: Rc::clone(window.pages()), notes });
    let noting = Rc::clone(&noted);
    window.set_quick_handler(move |fault| {
        let NotedPages { pages, notes } = &*noting;
        notes.pages[notes.count.get()].set(fault.page);
        notes.count.set(notes.count.get() + 1);
        notes.traps.set(notes.traps.get() + 1);
        pages.protect(fault.page, Protection::Write);
        true
    });
    Ok((window, noted))
}

/// The pages of a window, and which of them trapped.
pub struct NotedPages {
    pages: Rc<Pages>,
    notes: Notes,
}

/// Words of such a window.
pub struct Paged<'w> {
    words: Cells<'w, u64>,
    noted: Rc<NotedPages>,
}

impl<'w> Paged<'w> {
    /// All words of a window made by [`window`].
    pub fn new(window: &'w Window, noted: Rc<NotedPages>) -> Paged<'w> {
        Paged { words: window.cells(0..window.pages().count()), noted }
    }
}

fn numbers(pages: Range<usize>) -> Range<u64> {
    pages.start as u64..pages.end as u64
}

impl Memory for Paged<'_> {
    #[inline(always)]
    fn get(&self, at: usize) -> u64 {
        self.words.get(at)
    }

    #[inline(always)]
    fn set(&self, at: usize, word: u64) {
        self.words.set(at, word);
    }

    fn guard(&self, pages: Range<usize>) {
        self.noted.pages.protect_all(numbers(pages), Protection::Read);
    }

    fn release(&self, pages: Range<usize>) {
        self.noted.pages.protect_all(numbers(pages), Protection::Write);
    }

    fn take_noted(&self, each: &mut dyn FnMut(usize)) {
        let notes = &self.noted.notes;
        notes.pages[..notes.count.take()].iter().for_each(|page| each(page.get() as usize));
    }

    fn take_written(&self, pages: Range<usize>, each: &mut dyn FnMut(usize)) {
        self.noted.pages.take_written(numbers(pages), |page| each(page as usize));
    }

    fn traps(&self) -> u64 {
        self.noted.notes.traps.get()
    }
}
