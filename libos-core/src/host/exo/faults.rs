//! Nested faults: accesses to memory that is not bound, or not with that right, which a program can handle.
//!
//! A page fault says that the program's own page table has no entry. A nested fault says that the kernel's
//! table has none. The program's handler can bind the frame and go on; without one, the program ends. On a
//! processor with #VE neither fault costs an exit.

use super::hypercall;
use crate::cpu::trap::{self, Handled, TrapFrame};
use crate::memory;
use alloc::boxed::Box;
use core::sync::atomic::Ordering;
use hyperexo_abi::FRAME_SHIFT;
use hyperexo_abi::fault::{EXECUTE, FaultPage, LINEAR_KNOWN, VECTOR, WRITE};
use hyperexo_abi::hypercall::Status;
use hyperexo_hw::descriptor::{MAX_NUMBERS, core_number};
use spin::Once;

/// How memory was accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read.
    Read,
    /// Write.
    Write,
    /// Instruction fetch.
    Execute,
}

/// An access that the program's bindings do not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NestedFault {
    /// Physical address.
    pub physical: u64,
    /// Virtual address, if the processor tells it.
    pub linear: Option<u64>,
    /// What was wanted.
    pub access: Access,
    /// Number of the view that was in use; 0 outside all views.
    pub view: u16,
}

impl NestedFault {
    fn read(page: &FaultPage) -> NestedFault {
        let qualification = page.qualification.load(Ordering::Relaxed);
        let linear = page.linear.load(Ordering::Relaxed);
        NestedFault {
            physical: page.physical.load(Ordering::Relaxed),
            linear: (qualification & LINEAR_KNOWN != 0).then_some(linear),
            access: match (qualification & EXECUTE != 0, qualification & WRITE != 0) {
                (true, _) => Access::Execute,
                (_, true) => Access::Write,
                _ => Access::Read,
            },
            view: page.view.load(Ordering::Relaxed),
        }
    }
}

/// Called for a nested fault, on the interrupted stack. After [`Handled::Yes`] the instruction is executed
/// again, unless the handler has changed the frame's `rip`. A nested fault in the handler ends the program.
pub type Handler = fn(&NestedFault, &mut TrapFrame) -> Handled;

/// The page in which each virtual CPU is told of its faults.
static PAGES: [Once<&'static FaultPage>; MAX_NUMBERS] = [const { Once::new() }; MAX_NUMBERS];

/// Has nested faults of the calling virtual CPU handled by `handler`. All virtual CPUs that call this share
/// one handler, the last.
///
/// # Errors
///
/// The kernel's [`Status`].
pub fn set_handler(handler: Handler) -> Result<(), Status> {
    trap::set_handler(VECTOR, move |frame| match PAGES[core_number()].get() {
        Some(page) => {
            let handled = handler(&NestedFault::read(page), frame);
            page.busy.store(0, Ordering::Release);
            handled
        }
        None => Handled::No,
    });
    let page: &'static FaultPage = PAGES[core_number()].call_once(|| Box::leak(Box::default()));
    let address = memory::physical_address(&raw const *page as u64).ok_or(Status::NotBound)?;
    // SAFETY: the page is leaked, is a `FaultPage`, and has no other use.
    unsafe { hypercall::fault_page(Some(address >> FRAME_SHIFT)) }
}

/// Lets nested faults of the calling virtual CPU end the program again.
///
/// # Errors
///
/// The kernel's [`Status`].
pub fn clear_handler() -> Result<(), Status> {
    // SAFETY: without a page the kernel writes nothing.
    unsafe { hypercall::fault_page(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_as_it_is_written() {
        let page = FaultPage::default();
        page.qualification.store(WRITE | 1, Ordering::Relaxed);
        page.physical.store(0x5000, Ordering::Relaxed);
        page.linear.store(0x6000, Ordering::Relaxed);
        let fault = NestedFault::read(&page);
        assert_eq!((fault.physical, fault.linear, fault.access), (0x5000, None, Access::Write));
        page.qualification.store(EXECUTE | LINEAR_KNOWN, Ordering::Relaxed);
        let fault = NestedFault::read(&page);
        assert_eq!((fault.linear, fault.access), (Some(0x6000), Access::Execute));
    }
}
