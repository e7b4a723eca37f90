//! Pages on raw blocks of a device.

use crate::pager::{PageFailure, Pager, PagerError};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use core::ops::Range;
use hyperexo_abi::Page;
use libos_fs::{BlockDevice, DeviceError, Operation, Rejection, Request};

/// A device that has too few blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwapError {
    /// Blocks wanted.
    pub wanted: u64,
    /// Blocks that are left.
    pub left: u64,
}

impl fmt::Display for SwapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} blocks to page to, but {} are left on the device", self.wanted, self.left)
    }
}

impl core::error::Error for SwapError {}

/// The device, for several [`Swap`]s.
struct Device {
    device: Box<dyn BlockDevice>,
    /// First block that no [`Swap`] has.
    next: u64,
}

/// Anonymous memory: a page is zeros until it has been paged out to its block. Page n has block n of its
/// part of the device, so adjacent pages move in one request.
pub struct Swap {
    device: Rc<RefCell<Device>>,
    first: u64,
    /// Whether the block of each page holds something.
    held: Vec<bool>,
}

impl Swap {
    /// For a region of so many pages, on the first blocks of a device.
    ///
    /// # Errors
    ///
    /// [`SwapError`] if it has fewer blocks.
    pub fn new(device: Box<dyn BlockDevice>, pages: u64) -> Result<Swap, SwapError> {
        Swap::take(Rc::new(RefCell::new(Device { device, next: 0 })), pages)
    }

    /// For another region, on the blocks that follow those taken so far.
    ///
    /// # Errors
    ///
    /// As [`Swap::new`].
    pub fn another(&self, pages: u64) -> Result<Swap, SwapError> {
        Swap::take(Rc::clone(&self.device), pages)
    }

    /// Whether the device has so many blocks left.
    ///
    /// # Errors
    ///
    /// As [`Swap::new`].
    pub fn check(&self, pages: u64) -> Result<(), SwapError> {
        let device = self.device.borrow();
        let left = device.device.blocks().saturating_sub(device.next);
        if pages > left { Err(SwapError { wanted: pages, left }) } else { Ok(()) }
    }

    fn take(device: Rc<RefCell<Device>>, pages: u64) -> Result<Swap, SwapError> {
        let first = device.borrow().next;
        let swap = Swap { device, first, held: vec![false; pages as usize] };
        swap.check(pages)?;
        swap.device.borrow_mut().next += pages;
        Ok(swap)
    }

    /// One request, to its end.
    fn transfer(
        &self,
        operation: Operation,
        page: u64,
        pages: Vec<Box<Page>>,
    ) -> Result<Vec<Box<Page>>, PageFailure> {
        let what = if operation == Operation::Read { "reading" } else { "writing" };
        let block = self.first + page;
        let failure = |pages, error| PageFailure { pages, error: PagerError::Device { what, block, error } };
        let device = &mut self.device.borrow_mut().device;
        let request = Request { tag: 0, operation, block, buffers: pages };
        device.submit(request).map_err(|rejected| {
            let error = match rejected.reason {
                // Nothing else is in flight.
                Rejection::QueueFull => DeviceError::Io,
                Rejection::Refused(error) => error,
            };
            failure(rejected.request.buffers, error)
        })?;
        loop {
            if let Some(completion) = device.poll() {
                return match completion.result {
                    Ok(()) => Ok(completion.buffers),
                    Err(error) => Err(failure(completion.buffers, error)),
                };
            }
            device.wait();
        }
    }
}

impl Pager for Swap {
    fn name(&self) -> &'static str {
        "swap"
    }

    fn holds(&self, page: u64) -> bool {
        self.held.get(page as usize).is_some_and(|held| *held)
    }

    fn most_pages(&self) -> usize {
        self.device.borrow().device.max_request_blocks()
    }

    fn page_in(&mut self, first: u64, pages: Vec<Box<Page>>) -> Result<Vec<Box<Page>>, PageFailure> {
        self.transfer(Operation::Read, first, pages)
    }

    fn page_out(&mut self, first: u64, pages: Vec<Box<Page>>) -> Result<Vec<Box<Page>>, PageFailure> {
        let pages = self.transfer(Operation::Write, first, pages)?;
        self.held[first as usize..][..pages.len()].fill(true);
        Ok(pages)
    }

    fn discard(&mut self, pages: Range<u64>) {
        self.held[pages.start as usize..pages.end as usize].fill(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libos_fs::RamDisk;

    fn page(byte: u8) -> Box<Page> {
        Box::new(Page([byte; 4096]))
    }

    #[test]
    fn parts_of_a_device_do_not_overlap() {
        let mut first = Swap::new(Box::new(RamDisk::new(10)), 6).unwrap();
        let mut second = first.another(4).unwrap();
        assert_eq!(first.another(1).err(), Some(SwapError { wanted: 1, left: 0 }));
        first.page_out(4, vec![page(1), page(2)]).unwrap();
        second.page_out(0, vec![page(3)]).unwrap();
        assert!(first.holds(5) && !first.holds(3) && second.holds(0));
        let pages = first.page_in(4, vec![page(0), page(0)]).unwrap();
        assert_eq!((pages[0].0[0], pages[1].0[4095]), (1, 2));
        assert_eq!(second.page_in(0, vec![page(0)]).unwrap()[0].0[7], 3);
        first.discard(4..5);
        assert!(!first.holds(4) && first.holds(5));
    }
}
