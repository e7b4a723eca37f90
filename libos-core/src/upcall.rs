//! Calls from the kernel, or from devices: an interrupt with one or several causes, and sleeping until one
//! comes.
//!
//! Each virtual CPU is called by itself; handlers are common to all, and run on the one that was called: for
//! the timer the one that set it, for disk and network the one that opened it first, for a wake the one that
//! was named.

use crate::{disk, net, platform};
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use hyperexo_abi::upcall::Cause;
use hyperexo_hw::descriptor::core_number;
use hyperexo_hw::trap;

/// Called once for an upcall with its cause, in interrupt context: interrupts are disabled.
pub type Handler = fn();

/// Handlers by the number of the cause's bit.
static HANDLERS: [AtomicPtr<()>; 64] = [const { AtomicPtr::new(core::ptr::null_mut()) }; 64];

/// Makes `handler` the function that is called for upcalls with this cause; it replaces the one before.
///
/// Nobody needs a handler to be woken: [`wait_until`] looks at its condition after every upcall.
pub fn set_handler(cause: Cause, handler: Handler) {
    HANDLERS[bit(cause)].store(handler as *mut (), Ordering::Release);
}

fn bit(cause: Cause) -> usize {
    (cause as u64).trailing_zeros() as usize
}

/// Calls the handlers of these causes.
pub(crate) fn dispatch(mut causes: u64) {
    while causes != 0 {
        let cause = causes.trailing_zeros() as usize;
        causes &= causes - 1;
        if cause == bit(Cause::Disk) {
            disk::pass_on_upcall();
        } else if cause == bit(Cause::Net) {
            net::pass_on_upcall();
        }
        let handler = HANDLERS[cause].load(Ordering::Acquire);
        if !handler.is_null() {
            // SAFETY: only `set_handler` stores a value that is not null, and stores a `Handler`.
            let handler = unsafe { core::mem::transmute::<*mut (), Handler>(handler) };
            handler();
        }
    }
}

/// Halts until `condition` holds. It is called with interrupts disabled, before the first halt and after
/// every upcall, so that no upcall is lost in between.
///
/// # Panics
/// If interrupts are disabled: in a handler, or while a [`crate::lock::Masked`] is held. Nothing would ever
/// wake us.
pub fn wait_until(mut condition: impl FnMut() -> bool) {
    assert!(trap::disable_interrupts(), "sleeping with interrupts disabled");
    while !condition() {
        // SAFETY: the tables were loaded before interrupts were first enabled, and no lock is held: they were
        // enabled.
        unsafe { trap::wait_for_interrupt() };
    }
    // SAFETY: as above.
    unsafe { trap::enable_interrupts() };
}

/// The virtual CPU that waits for a device, or was the last to do so: the one that opened it is called.
pub(crate) struct Waiter(AtomicUsize);

impl Waiter {
    /// The first virtual CPU.
    pub(crate) const fn new() -> Waiter {
        Waiter(AtomicUsize::new(0))
    }

    /// Makes it the calling one.
    pub(crate) fn wait_here(&self) {
        self.0.store(core_number(), Ordering::Release);
    }

    /// Wakes it, if it is another one than the calling.
    pub(crate) fn pass_on(&self) {
        let waiter = self.0.load(Ordering::Acquire);
        if waiter != core_number() {
            platform::current().call_core(waiter);
        }
    }
}
