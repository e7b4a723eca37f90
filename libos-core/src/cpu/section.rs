//! Critical sections: while one is open, whoever opened it keeps the core. Interrupts come in, but no other
//! thread runs there before the section is closed.
//!
//! A section says nothing about other cores: see [`super::lock::Deferred`], a lock that is one, too. It must
//! be short, and must not wait for anybody of the same core.
//!
//! What there is to know of who runs lies in its [`Here`], and that is found by the stack pointer: a thread
//! may be moved to another core between any two instructions, but not to another stack.
//!
//! ```text
//! THREAD_STACKS ─┬─ slot 0 ─┬─ slot 1 ─┬─ ...          each SLOT_BYTES
//!                           │
//!                  nothing (guard) │ stack, grows down ← │ Here │
//! elsewhere: the start-up stack, stacks of further virtual CPUs, trap stacks: one Here for each core
//! ```

use core::arch::asm;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering, compiler_fence};
use hyperexo_hw::descriptor::{MAX_NUMBERS, core_number};
use spin::Once;

/// Where the stacks of threads lie: an entry of the top page table.
pub(crate) const THREAD_STACKS: u64 = 0x0000_7000_0000_0000;
/// Bytes from the stack of one thread to that of the next.
pub(crate) const SLOT_BYTES: u64 = 1 << 20;
/// Bytes that an entry of the top page table maps, as a shift.
const ENTRY_SHIFT: u32 = 39;
/// Bytes at the top of a stack that hold its [`Here`].
pub(crate) const HERE_BYTES: u64 = 64;

/// What is known of who runs on a stack.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Here {
    /// The thread, as its module knows it; null if it is none.
    pub owner: AtomicPtr<()>,
    /// Open sections.
    depth: AtomicU32,
    /// Reasons to stay on this core.
    pins: AtomicU32,
    /// Whether others should have run while a section was open.
    pending: AtomicBool,
}

const _: () = assert!(size_of::<Here>() as u64 == HERE_BYTES);

impl Here {
    const fn new() -> Here {
        Here {
            owner: AtomicPtr::new(core::ptr::null_mut()),
            depth: AtomicU32::new(0),
            pins: AtomicU32::new(0),
            pending: AtomicBool::new(false),
        }
    }

    /// Whether a section is open.
    pub(crate) fn is_open(&self) -> bool {
        self.depth.load(Ordering::Relaxed) > 0
    }

    /// Has others run as soon as the section is closed.
    pub(crate) fn put_off(&self) {
        self.pending.store(true, Ordering::Relaxed);
    }

    /// Whether somebody has to stay on this core.
    pub(crate) fn is_pinned(&self) -> bool {
        self.pins.load(Ordering::Relaxed) > 0
    }
}

/// Those of stacks that are no thread's, by the number of the core.
static CORES: [Here; MAX_NUMBERS] = [const { Here::new() }; MAX_NUMBERS];

/// That of a core.
pub(crate) fn of_core(number: usize) -> &'static Here {
    &CORES[number]
}

/// The slot of a thread's stack in which an address lies.
pub(crate) fn slot_of(address: u64) -> Option<Range<u64>> {
    let start = address & !(SLOT_BYTES - 1);
    (address >> ENTRY_SHIFT == THREAD_STACKS >> ENTRY_SHIFT).then_some(start..start + SLOT_BYTES)
}

/// That of a thread's stack.
///
/// # Safety
///
/// The slot's top page is mapped for good.
pub(crate) unsafe fn of_slot(slot: &Range<u64>) -> &'static Here {
    // SAFETY: by the caller's promise; the words are atomics, and frames come with zeros.
    unsafe { &*((slot.end - HERE_BYTES) as *const Here) }
}

/// That of the caller.
#[inline]
pub(crate) fn here() -> &'static Here {
    let stack: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) stack, options(nomem, nostack, preserves_flags)) };
    if stack >> ENTRY_SHIFT != THREAD_STACKS >> ENTRY_SHIFT {
        return &CORES[core_number()];
    }
    // SAFETY: the stack in use is mapped, and ends with its `Here`.
    unsafe { &*(((stack | (SLOT_BYTES - 1)) + 1 - HERE_BYTES) as *const Here) }
}

/// Has the caller stay on this core until [`unpin`] was called as often.
pub(crate) fn pin() {
    here().pins.fetch_add(1, Ordering::Relaxed);
}

/// Takes back one [`pin`].
pub(crate) fn unpin() {
    here().pins.fetch_sub(1, Ordering::Relaxed);
}

/// Lets others run, if that is possible and they should.
static RUN_OTHERS: Once<fn()> = Once::new();

/// Sets who is asked when a section is closed in which others should have run. Only the first call counts.
pub(crate) fn at_the_end(run_others: fn()) {
    RUN_OTHERS.call_once(|| run_others);
}

/// Opens a section. They can be open in one another.
#[inline]
pub(crate) fn open() {
    // In a unikernel nobody else changes it. Test programs of the host have one for all their threads.
    here().depth.fetch_add(1, Ordering::Relaxed);
    compiler_fence(Ordering::SeqCst);
}

/// Closes a section that the caller opened.
#[inline]
pub(crate) fn close() {
    compiler_fence(Ordering::SeqCst);
    let here = here();
    let last = here.depth.fetch_sub(1, Ordering::Relaxed) == 1;
    compiler_fence(Ordering::SeqCst);
    if last && here.pending.load(Ordering::Relaxed) {
        catch_up(here);
    }
}

/// What was put off is done. Not in a handler: whoever it interrupted goes on first, and the end of the trap
/// sees to it.
#[cold]
fn catch_up(here: &Here) {
    let flags: u64;
    // SAFETY: reads the flags.
    unsafe { asm!("pushfq", "pop {}", out(reg) flags, options(preserves_flags)) };
    if flags & 1 << 9 != 0 {
        here.pending.store(false, Ordering::Relaxed);
        RUN_OTHERS.get().iter().for_each(|run_others| run_others());
    }
}

/// A critical section, until it is dropped: the caller keeps the core, and interrupts still come.
///
/// To be dropped by who opened it, so it is not `Send`.
#[derive(Debug)]
pub struct Section(core::marker::PhantomData<*const ()>);

impl Section {
    /// Opens one. They can be open in one another.
    #[allow(clippy::new_without_default)]
    pub fn open() -> Section {
        open();
        Section(core::marker::PhantomData)
    }
}

impl Drop for Section {
    fn drop(&mut self) {
        close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_found_by_any_address_in_them() {
        let second = THREAD_STACKS + SLOT_BYTES;
        assert_eq!(slot_of(second), Some(second..second + SLOT_BYTES));
        assert_eq!(slot_of(second + SLOT_BYTES - 1), Some(second..second + SLOT_BYTES));
        assert_eq!(slot_of(THREAD_STACKS - 1), None);
        assert_eq!(slot_of(THREAD_STACKS + (1 << ENTRY_SHIFT)), None);
    }

    #[test]
    fn sections_nest() {
        let here = Here::new();
        assert!(!here.is_open() && !here.is_pinned());
        // On a stack of the host the caller's is one of `CORES`.
        assert!(CORES.iter().any(|core| core::ptr::eq(core, super::here())));
    }
}
