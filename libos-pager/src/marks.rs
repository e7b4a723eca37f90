//! The processor's "used" bits as the marks of a policy that looks at them itself.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};
use libos_core::window::PageBits;
use libos_fs::cache::Marks;

/// Pages that tell whether they were used.
pub trait Used: Send {
    /// Whether a page was used since that was cleared.
    fn used(&self, page: u64) -> bool;
    /// Forgets that a page was used.
    fn clear_used(&self, page: u64);
}

impl Used for PageBits {
    fn used(&self, page: u64) -> bool {
        PageBits::used(self, page)
    }

    fn clear_used(&self, page: u64) {
        PageBits::clear_used(self, page);
    }
}

/// The page in each slot, as the engine tells and [`HardwareMarks`] read.
pub(crate) type PageOf = Arc<[AtomicU32]>;

/// The "used" bits as marks: a policy with these looks at the bit of the page in a slot when it comes by, as
/// the hand of CLOCK does, and clears it. Nobody need tell the policy of uses.
pub struct HardwareMarks<U> {
    bits: U,
    page_of: PageOf,
}

impl<U: Used> HardwareMarks<U> {
    pub(crate) fn new(bits: U, page_of: PageOf) -> HardwareMarks<U> {
        HardwareMarks { bits, page_of }
    }

    fn page(&self, slot: usize) -> Option<u64> {
        self.page_of.get(slot).map(|page| u64::from(page.load(Ordering::Relaxed)))
    }
}

impl<U: Used> Marks for HardwareMarks<U> {
    fn get(&self, slot: usize) -> u8 {
        self.page(slot).map_or(0, |page| u8::from(self.bits.used(page)))
    }

    /// A page is marked by using it. What can be done here is to clear the mark.
    fn set(&mut self, slot: usize, mark: u8) {
        if let (0, Some(page)) = (mark, self.page(slot)) {
            self.bits.clear_used(page);
        }
    }
}
