//! Where pages are that are not in memory.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use hyperexo_abi::Page;
use libos_fs::{DeviceError, FsError};

/// Why a pager could not do what it was asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum PagerError {
    /// A device failed.
    Device {
        /// What was tried: `reading` or `writing`.
        what: &'static str,
        /// The first block.
        block: u64,
        /// What the device said.
        error: DeviceError,
    },
    /// A file failed.
    File(FsError),
    /// There is no room left.
    Full,
    /// The pager's own reason.
    Other(String),
}

impl fmt::Display for PagerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PagerError::Device { what, block, error } => write!(f, "{what} block {block}: {error}"),
            PagerError::File(error) => write!(f, "the mapped file: {error}"),
            PagerError::Full => f.write_str("there is no room for the page outside of memory"),
            PagerError::Other(why) => f.write_str(why),
        }
    }
}

impl core::error::Error for PagerError {}

/// Pages that could not be moved, given back.
#[derive(Debug)]
pub struct PageFailure {
    /// The pages; fewer if a device may still be using them.
    pub pages: Vec<Box<Page>>,
    /// Why not.
    pub error: PagerError,
}

/// What holds the pages of a region that are not in memory. Pages are counted from the region's first.
///
/// To write one, say where a page goes and where it comes from:
///
/// * [`holds`](Pager::holds): whether it has something for a page. If not, the page comes in as zeros;
/// * [`page_in`](Pager::page_in): fill adjacent pages;
/// * [`page_out`](Pager::page_out): keep adjacent pages, which have been written since they came in;
/// * [`discard`](Pager::discard): forget pages.
///
/// It runs in the page fault of the program, on its stack, with interrupts enabled: it may wait for a device.
/// It must not use paged memory of the same [`PagedMemory`](crate::PagedMemory). An error to page in ends the
/// program with a report, unless it was [`Region::try_need`](crate::Region::try_need) that asked. A page that
/// can't go out stays in memory, and another one goes.
pub trait Pager {
    /// Name in reports: lower case, one word.
    fn name(&self) -> &'static str;

    /// Whether there is something for this page.
    fn holds(&self, page: u64) -> bool;

    /// Most pages of one [`page_in`](Pager::page_in) or [`page_out`](Pager::page_out); at least 1.
    fn most_pages(&self) -> usize {
        1
    }

    /// Fills pages, from `first` on, each of which it [`holds`](Pager::holds). What is in them does not
    /// matter.
    ///
    /// # Errors
    ///
    /// [`PageFailure`], with the pages.
    fn page_in(&mut self, first: u64, pages: Vec<Box<Page>>) -> Result<Vec<Box<Page>>, PageFailure>;

    /// Keeps pages, from `first` on, and gives the frames back.
    ///
    /// # Errors
    ///
    /// [`PageFailure`], with the pages as they were.
    fn page_out(&mut self, first: u64, pages: Vec<Box<Page>>) -> Result<Vec<Box<Page>>, PageFailure>;

    /// Forgets pages: nobody wants to see again what was in them.
    fn discard(&mut self, pages: Range<u64>);

    /// Makes permanent what was paged out, if this pager has such a thing.
    ///
    /// # Errors
    ///
    /// [`PagerError`].
    fn sync(&mut self) -> Result<(), PagerError> {
        Ok(())
    }
}
