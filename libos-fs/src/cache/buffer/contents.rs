//! What a slot holds: a page of the cache alone, or one that others read too.

use crate::device::zeroed_page;
use crate::lent_page::LentPage;
use alloc::boxed::Box;
use alloc::sync::Arc;
use hyperexo_abi::Page;

/// The page of a slot.
pub(super) enum Contents {
    /// Nobody else has it.
    Own(Box<Page>),
    /// Others may read it.
    Lent(Arc<LentPage>),
}

impl Contents {
    /// To read it.
    pub(super) fn page(&self) -> &Page {
        match self {
            Contents::Own(page) => page,
            Contents::Lent(lent) => &lent.0,
        }
    }

    /// To change it; what somebody reads is copied first.
    pub(super) fn page_mut(&mut self) -> &mut Page {
        if let Contents::Lent(lent) = self
            && Arc::get_mut(lent).is_none()
        {
            let mut copy = zeroed_page();
            copy.0.copy_from_slice(&lent.0.0);
            *self = Contents::Own(copy);
        }
        match self {
            Contents::Own(page) => page,
            Contents::Lent(lent) => &mut Arc::get_mut(lent).expect("what others read was copied").0,
        }
    }

    /// For others to read: the same page, lent from now on.
    pub(super) fn lend(self) -> Arc<LentPage> {
        match self {
            Contents::Own(page) => Arc::new(LentPage(page)),
            Contents::Lent(lent) => lent,
        }
    }

    /// The page itself, to be overwritten; `None` if somebody reads it.
    pub(super) fn into_unread(self) -> Option<Box<Page>> {
        match self {
            Contents::Own(page) => Some(page),
            Contents::Lent(lent) => Arc::try_unwrap(lent).ok().map(|lent| lent.0),
        }
    }

    /// The page itself with what is in it: a copy, if somebody reads it.
    pub(super) fn into_page(self) -> Box<Page> {
        match self {
            Contents::Own(page) => page,
            Contents::Lent(lent) => Arc::try_unwrap(lent).map(|lent| lent.0).unwrap_or_else(|lent| {
                let mut copy = zeroed_page();
                copy.0.copy_from_slice(&lent.0.0);
                copy
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lent_stays_as_it_is() {
        let mut contents = Contents::Own(zeroed_page());
        contents.page_mut().0[0] = 1;
        let address = contents.page().0.as_ptr();
        let lent = contents.lend();
        let mut contents = Contents::Lent(Arc::clone(&lent));
        assert_eq!((lent.bytes()[0], lent.bytes().as_ptr()), (1, address), "nothing was copied");
        contents.page_mut().0[0] = 2;
        assert_eq!((lent.bytes()[0], contents.page().0[0]), (1, 2));
        let second = contents.lend();
        assert!(Contents::Lent(Arc::clone(&second)).into_unread().is_none());
        assert_eq!(Contents::Lent(Arc::clone(&second)).into_page().0[0], 2);
    }

    #[test]
    fn what_came_back_is_the_caches_again() {
        let contents = Contents::Own(zeroed_page());
        let address = contents.page().0.as_ptr();
        let mut contents = Contents::Lent(contents.lend());
        contents.page_mut().0[5] = 5;
        assert_eq!(contents.page().0.as_ptr(), address);
        assert_eq!(contents.into_unread().map(|page| page.0.as_ptr()), Some(address));
    }
}
