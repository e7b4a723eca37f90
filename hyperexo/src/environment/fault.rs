//! Nested faults that an environment takes itself: the kernel does what a processor with #VE does (SDM vol. 3
//! §26.5.7), where the processor does not.

use crate::resource::frame::Pages;
use crate::virt::{Access, Exception, NestedFault, Vcpu};
use core::sync::atomic::Ordering;
use hyperexo_abi::fault::{BUSY, EXECUTE, FaultPage, LINEAR_KNOWN, READ, REASON, WRITE};

/// Where a virtual CPU is told of its faults.
#[derive(Clone, Copy)]
pub struct FaultTarget {
    /// The frame, the environment's own and pinned.
    pub frame: u64,
    /// The page in it.
    pub page: &'static FaultPage,
}

impl FaultTarget {
    /// The page in a frame, which is the environment's own and stays pinned until it has this use no more.
    pub fn new(frame: u64, pages: &Pages) -> FaultTarget {
        // SAFETY: a `FaultPage` is atomics only; the frame stays the environment's as it is pinned.
        FaultTarget { frame, page: unsafe { pages.memory.shared(frame) } }
    }
}

/// Delivers a fault as an exception. Returns whether it could be: the page is free, and no other event is
/// lost by it.
pub fn deliver(target: &FaultTarget, fault: &NestedFault, vcpu: &mut dyn Vcpu) -> bool {
    let page = target.page;
    if fault.in_delivery || page.busy.load(Ordering::Acquire) != 0 {
        return false;
    }
    write(page, fault);
    vcpu.raise(Exception::Virtualization);
    true
}

fn write(page: &FaultPage, fault: &NestedFault) {
    let access = match fault.access {
        Access::Read => READ,
        Access::Write => WRITE,
        Access::Execute => EXECUTE,
    };
    let known = if fault.linear.is_some() { LINEAR_KNOWN } else { 0 };
    page.reason.store(REASON, Ordering::Relaxed);
    page.qualification.store(access | known, Ordering::Relaxed);
    page.linear.store(fault.linear.unwrap_or(0), Ordering::Relaxed);
    page.physical.store(fault.address, Ordering::Relaxed);
    page.view.store(fault.view, Ordering::Relaxed);
    page.busy.store(BUSY, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_tells_what_the_processor_would() {
        let page = FaultPage::default();
        let fault = NestedFault {
            address: 0x1234_5678,
            access: Access::Write,
            linear: Some(0xffff_8000_1234_5678),
            in_delivery: false,
            view: 3,
        };
        write(&page, &fault);
        let words =
            [&page.qualification, &page.linear, &page.physical].map(|word| word.load(Ordering::Relaxed));
        assert_eq!(words, [WRITE | LINEAR_KNOWN, 0xffff_8000_1234_5678, 0x1234_5678]);
        assert_eq!((page.reason.load(Ordering::Relaxed), page.busy.load(Ordering::Relaxed)), (48, u32::MAX));
        assert_eq!(page.view.load(Ordering::Relaxed), 3);
        write(&page, &NestedFault { linear: None, access: Access::Execute, ..fault });
        assert_eq!(page.qualification.load(Ordering::Relaxed), EXECUTE);
    }
}
