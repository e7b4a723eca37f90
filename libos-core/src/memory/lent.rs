//! Pages of the heap in the hands of a device or of the kernel.

use alloc::boxed::Box;
use hyperexo_abi::Page;

/// A page, or a run of them, that a device or the kernel may be using. Nobody holds a reference to it.
///
/// A value that is dropped instead of taken back leaves the page in use for ever.
///
/// Invariant: the pointer comes from a box, and only this value leads to it on this side.
#[derive(Debug)]
pub(crate) struct Lent<T: ?Sized = Page>(*mut T);

// SAFETY: the page is owned, like that of a box.
unsafe impl<T: ?Sized + Send> Send for Lent<T> {}

impl<T: ?Sized> Lent<T> {
    /// Lends a page.
    pub fn new(page: Box<T>) -> Lent<T> {
        Lent(Box::into_raw(page))
    }

    /// Where it is.
    pub fn address(&self) -> u64 {
        self.0 as u64
    }

    /// Takes the page back.
    ///
    /// # Safety
    ///
    /// Neither a device nor the kernel uses it any more.
    pub unsafe fn back(self) -> Box<T> {
        // SAFETY: by the invariant the pointer comes from a box, and by the caller's promise nobody else uses
        // the page.
        unsafe { Box::from_raw(self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyperexo_abi::FRAME_BYTES;

    #[test]
    fn what_is_lent_comes_back() {
        let page = Box::new(Page([7; FRAME_BYTES]));
        let address = &raw const *page;
        let lent = Lent::new(page);
        // SAFETY: nobody else knows of the page.
        let page = unsafe { lent.back() };
        assert_eq!((&raw const *page, page.0[FRAME_BYTES - 1]), (address, 7));
    }
}
