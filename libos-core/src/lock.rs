//! Mutual exclusion between a program and its own trap handlers: interrupts stay disabled while a lock is held.
//!
//! A unikernel runs on one core. So a lock that is found taken was taken further down the same stack, by code that an
//! exception has interrupted: waiting would never end, and locking panics instead.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use hyperexo_hw::trap;
use talc::lock_api;

/// Locks held at the moment.
static DEPTH: AtomicUsize = AtomicUsize::new(0);
/// Whether interrupts were enabled when the first of them was taken.
static WERE_ENABLED: AtomicBool = AtomicBool::new(false);

/// A value that only one of program and handlers uses at a time.
pub type Masked<T> = lock_api::Mutex<MaskedRaw, T>;

/// The lock of [`Masked`].
#[derive(Debug)]
pub struct MaskedRaw {
    taken: AtomicBool,
}

/// Disables interrupts until the same number of [`unmask`] calls has followed.
fn mask() {
    let were_enabled = trap::disable_interrupts();
    if DEPTH.fetch_add(1, Ordering::Relaxed) == 0 {
        WERE_ENABLED.store(were_enabled, Ordering::Relaxed);
    }
}

/// Takes back one [`mask`].
fn unmask() {
    if DEPTH.fetch_sub(1, Ordering::Relaxed) == 1 && WERE_ENABLED.load(Ordering::Relaxed) {
        // SAFETY: interrupts were enabled before the first `mask`, and no lock is held any more.
        unsafe { trap::enable_interrupts() };
    }
}

// SAFETY: `taken` is set by one `try_lock` at a time, and interrupts are disabled as long as it is, so that no handler
// of this core runs in between.
unsafe impl lock_api::RawMutex for MaskedRaw {
    const INIT: MaskedRaw = MaskedRaw { taken: AtomicBool::new(false) };

    // The lock belongs to the core that masked its interrupts.
    type GuardMarker = lock_api::GuardNoSend;

    fn lock(&self) {
        assert!(
            self.try_lock(),
            "a lock was taken twice: by interrupted code and by the handler of its trap"
        );
    }

    fn try_lock(&self) -> bool {
        mask();
        let free = !self.taken.swap(true, Ordering::Acquire);
        if !free {
            unmask();
        }
        free
    }

    unsafe fn unlock(&self) {
        self.taken.store(false, Ordering::Release);
        unmask();
    }
}
