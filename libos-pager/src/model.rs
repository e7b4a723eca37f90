//! A page table of the host, whose bits are set as a processor would: for tests and simulations.

use crate::marks::Used;
use crate::page_map::PageMap;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::sync::Arc;
use core::cell::RefCell;
use core::sync::atomic::{AtomicBool, Ordering};
use hyperexo_abi::Page;
use libos_core::window::Protection;

/// A page: contents, what is allowed, whether it was written.
struct Entry {
    contents: Box<Page>,
    protection: Protection,
    written: bool,
}

/// The "used" bit of each page.
#[derive(Clone)]
pub struct Bits(Arc<[AtomicBool]>);

impl Used for Bits {
    fn used(&self, page: u64) -> bool {
        self.0[page as usize].load(Ordering::Relaxed)
    }

    fn clear_used(&self, page: u64) {
        self.0[page as usize].store(false, Ordering::Relaxed);
    }
}

/// The page table. Clones are the same one.
#[derive(Clone)]
pub struct Model {
    entries: Rc<RefCell<Box<[Option<Entry>]>>>,
    bits: Bits,
}

impl Model {
    /// A table for so many pages, none of which is there.
    pub fn new(pages: u64) -> Model {
        let entries = Rc::new(RefCell::new((0..pages).map(|_| None).collect()));
        Model { entries, bits: Bits((0..pages).map(|_| AtomicBool::new(false)).collect()) }
    }

    /// The "used" bits.
    pub fn bits(&self) -> Bits {
        self.bits.clone()
    }

    /// Pages that are there.
    pub fn count(&self) -> usize {
        self.entries.borrow().iter().flatten().count()
    }

    /// Whether a page is there, accessible or not.
    pub fn is_there(&self, page: u64) -> bool {
        self.entries.borrow()[page as usize].is_some()
    }

    /// An access as a processor makes it: `with` gets the contents, and the page is used, and written if that
    /// is said. `None` is a page fault.
    pub fn access<T>(&self, page: u64, write: bool, with: impl FnOnce(&mut Page) -> T) -> Option<T> {
        let mut entries = self.entries.borrow_mut();
        let entry = entries[page as usize].as_mut()?;
        let allowed = match entry.protection {
            Protection::None => false,
            Protection::Read => !write,
            Protection::Write => true,
        };
        if !allowed {
            return None;
        }
        entry.written |= write;
        self.bits.0[page as usize].store(true, Ordering::Relaxed);
        Some(with(&mut entry.contents))
    }

    fn change(&self, page: u64, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = &mut self.entries.borrow_mut()[page as usize] {
            change(entry);
        }
    }
}

impl PageMap for Model {
    /// # Panics
    ///
    /// If the page is there.
    fn insert(&self, page: u64, contents: Box<Page>, protection: Protection) {
        let entry = Entry { contents, protection, written: false };
        let before = self.entries.borrow_mut()[page as usize].replace(entry);
        assert!(before.is_none(), "page {page} twice");
    }

    fn remove(&self, page: u64) -> Option<Box<Page>> {
        self.clear_used(page);
        self.entries.borrow_mut()[page as usize].take().map(|entry| entry.contents)
    }

    fn protect(&self, page: u64, protection: Protection) {
        self.change(page, |entry| entry.protection = protection);
    }

    fn used(&self, page: u64) -> bool {
        self.bits.used(page)
    }

    fn clear_used(&self, page: u64) {
        self.bits.clear_used(page);
    }

    fn mark_used(&self, page: u64) {
        self.bits.0[page as usize].store(true, Ordering::Relaxed);
    }

    fn written(&self, page: u64) -> bool {
        self.entries.borrow()[page as usize].as_ref().is_some_and(|entry| entry.written)
    }

    fn mark_written(&self, page: u64) {
        self.change(page, |entry| entry.written = true);
    }
}
