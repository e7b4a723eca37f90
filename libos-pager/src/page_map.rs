//! What the engine needs of a page table.

use alloc::boxed::Box;
use alloc::rc::Rc;
use hyperexo_abi::Page;
use libos_core::window::{Pages, Protection};

/// Pages of a window: [`libos_core::window::Pages`], or a model of them in tests.
pub trait PageMap {
    /// Puts a page in.
    fn insert(&self, page: u64, contents: Box<Page>, protection: Protection);
    /// Takes a page out. `None` if there is none.
    fn remove(&self, page: u64) -> Option<Box<Page>>;
    /// Changes what is allowed on a page.
    fn protect(&self, page: u64, protection: Protection);
    /// Whether a page was used since that was cleared.
    fn used(&self, page: u64) -> bool;
    /// Forgets that a page was used.
    fn clear_used(&self, page: u64);
    /// Notes that a page was used.
    fn mark_used(&self, page: u64);
    /// Whether a page was written since it was put in.
    fn written(&self, page: u64) -> bool;
    /// Notes that a page was written.
    fn mark_written(&self, page: u64);
}

impl PageMap for Rc<Pages> {
    fn insert(&self, page: u64, contents: Box<Page>, protection: Protection) {
        Pages::insert(self, page, contents, protection);
    }

    fn remove(&self, page: u64) -> Option<Box<Page>> {
        Pages::remove_owned(self, page)
    }

    fn protect(&self, page: u64, protection: Protection) {
        Pages::protect(self, page, protection);
    }

    fn used(&self, page: u64) -> bool {
        Pages::used(self, page)
    }

    fn clear_used(&self, page: u64) {
        Pages::clear_used(self, page);
    }

    fn mark_used(&self, page: u64) {
        Pages::mark_used(self, page);
    }

    fn written(&self, page: u64) -> bool {
        Pages::written(self, page)
    }

    fn mark_written(&self, page: u64) {
        Pages::mark_written(self, page);
    }
}
