//! Upcalls: interrupts from the kernel or from devices, each with one or several causes; and sleeping until
//! one comes.
//!
//! An upcall goes to one virtual CPU, and its handlers run there:
//!
//! | cause | virtual CPU |
//! |---|---|
//! | timer | the one that set it |
//! | disk, network | the one that opened it first |
//! | wake | the one that was named |
//! | power | the first ([`crate::power`]) |
//!
//! The program's handlers ([`set_handler`]) are common to all virtual CPUs. Modules of this library that an
//! upcall concerns register as listeners (`listen`); this module knows none of them.

use super::timer;
use crate::platform;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use hyperexo_abi::upcall::Cause;
use hyperexo_hw::descriptor::core_number;
use hyperexo_hw::trap;
use spin::Once;

/// Called once for each upcall with its cause, in interrupt context: interrupts are disabled.
pub type Handler = fn();

/// Number of causes there can be: each is a bit of a word.
const CAUSES: usize = u64::BITS as usize;

/// The program's handlers, by the number of the cause's bit.
static HANDLERS: [AtomicPtr<()>; CAUSES] = [const { AtomicPtr::new(core::ptr::null_mut()) }; CAUSES];

/// The library's listeners, by the number of the cause's bit.
static LISTENERS: [Once<Handler>; CAUSES] = [const { Once::new() }; CAUSES];

/// Makes `handler` the function that is called for upcalls with this cause. It replaces the one before.
///
/// Nobody needs a handler to be woken: [`wait_until`] looks at its condition after every upcall.
pub fn set_handler(cause: Cause, handler: Handler) {
    HANDLERS[bit(cause)].store(handler as *mut (), Ordering::Release);
}

/// Has `listener` called for upcalls with this cause, before the program's handler. Each cause has one
/// listener for good; only the first call counts.
pub(crate) fn listen(cause: Cause, listener: Handler) {
    LISTENERS[bit(cause)].call_once(|| listener);
}

fn bit(cause: Cause) -> usize {
    (cause as u64).trailing_zeros() as usize
}

/// Calls the listeners and the handlers of these causes.
pub(crate) fn dispatch(mut causes: u64) {
    if causes & Cause::Timer as u64 != 0 {
        timer::fired();
    }
    while causes != 0 {
        let cause = causes.trailing_zeros() as usize;
        causes &= causes - 1;
        if let Some(listener) = LISTENERS[cause].get() {
            listener();
        }
        let handler = HANDLERS[cause].load(Ordering::Acquire);
        if !handler.is_null() {
            // SAFETY: only `set_handler` stores a value that is not null, and stores a `Handler`.
            let handler = unsafe { core::mem::transmute::<*mut (), Handler>(handler) };
            handler();
        }
    }
}

/// Has the calling thread, not the core, wait until a condition holds. `false` if the caller is none.
pub(crate) type Block = fn(&mut dyn FnMut() -> bool) -> bool;

/// Lets another thread run at the end of an interrupt, if that is due; told whether the handlers ran on a
/// trap stack, which the next trap needs.
pub(crate) type AtEnd = fn(on_trap_stack: bool);

/// Set as soon as there are threads.
static THREADS: Once<(Block, AtEnd)> = Once::new();

/// Sets who has threads wait, and who lets others run. Only the first call counts.
pub(crate) fn set_threads(block: Block, at_end: AtEnd) {
    THREADS.call_once(|| (block, at_end));
}

/// Ends the handling of an interrupt.
pub(super) fn end(on_trap_stack: bool) {
    if let Some((_, at_end)) = THREADS.get() {
        at_end(on_trap_stack);
    }
}

/// Halts until `condition` holds. Where there are threads ([`crate::thread`]), the calling one waits and
/// others run meanwhile.
///
/// The condition is called with interrupts disabled, before the first halt and after every upcall. So no
/// upcall is lost between the look and the halt. It is called on this core, perhaps while another thread runs
/// there, but never while that has a critical section open.
///
/// # Panics
///
/// If interrupts are disabled: in a handler, or while a [`crate::lock::Masked`] is held. Nothing would ever
/// wake us.
pub fn wait_until(mut condition: impl FnMut() -> bool) {
    if THREADS.get().is_some_and(|(block, _)| block(&mut condition)) {
        return;
    }
    assert!(trap::disable_interrupts(), "sleeping with interrupts disabled");
    while !condition() {
        // SAFETY: interrupts were enabled, so the tables are loaded and no lock is held.
        unsafe { trap::wait_for_interrupt() };
    }
    // SAFETY: as above.
    unsafe { trap::enable_interrupts() };
}

/// The virtual CPU that waits for a device, or was the last to do so.
///
/// The kernel calls the virtual CPU that opened the device. If another one waits, the call is passed on.
pub(crate) struct Waiter(AtomicUsize);

impl Waiter {
    /// The first virtual CPU.
    pub(crate) const fn new() -> Waiter {
        Waiter(AtomicUsize::new(0))
    }

    /// Makes the calling virtual CPU the one that waits.
    pub(crate) fn wait_here(&self) {
        self.0.store(core_number(), Ordering::Release);
    }

    /// Wakes the one that waits, unless it is the caller.
    pub(crate) fn pass_on(&self) {
        let waiter = self.0.load(Ordering::Acquire);
        if waiter != core_number() {
            platform::current().call_core(waiter);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_come_first_and_each_hears_its_own_cause_only() {
        /// What was called: a digit for each call, the last call lowest.
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        fn called(digit: usize) {
            CALLS.store(CALLS.load(Ordering::Relaxed) * 10 + digit, Ordering::Relaxed);
        }
        let dispatched = |causes: u64| {
            CALLS.store(0, Ordering::Relaxed);
            dispatch(causes);
            CALLS.load(Ordering::Relaxed)
        };
        let (disk, net) = (Cause::Disk as u64, Cause::Net as u64);
        assert_eq!(dispatched(disk | net), 0, "nobody listens");
        listen(Cause::Disk, || called(1));
        listen(Cause::Disk, || called(9));
        set_handler(Cause::Disk, || called(2));
        set_handler(Cause::Net, || called(3));
        assert_eq!(dispatched(disk), 12);
        assert_eq!(dispatched(net), 3);
        // The order of causes is that of their bits.
        let both = if disk < net { 123 } else { 312 };
        assert_eq!(dispatched(disk | net), both);
        set_handler(Cause::Disk, || called(4));
        assert_eq!(dispatched(disk), 14, "a new handler replaces the old one");
    }
}
