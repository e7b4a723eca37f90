//! The kernel's lock: fair, and patient under emulation.
//!
//! A core that comes lets those cores go first that wait already. So a core that waits gets the lock before
//! any other gets it twice.
//!
//! The order is not strict, as that of a ticket or MCS lock is. Such a lock stands still while the host does
//! not run the thread of the core whose turn it is, and on a busy host that happens all the time: two cores
//! that hardly made calls kept 1 % of their time. Here a core is let go first only for a while; one that does
//! not run holds the others up no longer than that.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU32, Ordering};
use spin::mutex::{SpinMutex, SpinMutexGuard};
use spin::relax::RelaxStrategy;

/// How a core waits for another: it looks often and executes `PAUSE` rarely.
///
/// `PAUSE` makes QEMU's TCG yield the host's processor, so that other cores run. But it also ends the run of
/// translated code, which is slow: once in a while is enough.
pub struct Patience;

impl RelaxStrategy for Patience {
    fn relax() {
        /// Turns of all cores.
        static TURNS: AtomicU32 = AtomicU32::new(0);
        /// Turns between two `PAUSE`s: some 4,000 instructions.
        const PAUSE_AFTER: u32 = 256;
        for _ in 0..16 {
            core::hint::black_box(());
        }
        if TURNS.fetch_add(1, Ordering::Relaxed).is_multiple_of(PAUSE_AFTER) {
            core::hint::spin_loop();
        }
    }
}

/// Turns for which a newcomer lets others first: some ten thousand instructions.
const COURTESY: u32 = 512;

/// A lock that no core can keep from the others by asking again and again.
pub struct Fair<T> {
    lock: SpinMutex<T, Patience>,
    /// Cores that wait, and have priority over those that come.
    waiting: AtomicU32,
}

/// The right to use what a [`Fair`] lock guards.
pub type FairGuard<'a, T> = SpinMutexGuard<'a, T, Patience>;

impl<T> Fair<T> {
    /// A lock that guards this.
    pub const fn new(value: T) -> Fair<T> {
        Fair { lock: SpinMutex::new(value), waiting: AtomicU32::new(0) }
    }

    /// Waits for the lock.
    pub fn lock(&self) -> FairGuard<'_, T> {
        for _ in 0..COURTESY {
            if self.waiting.load(Ordering::Acquire) == 0 {
                break;
            }
            Patience::relax();
        }
        if let Some(guard) = self.lock.try_lock() {
            return guard;
        }
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let guard = self.lock.lock();
        self.waiting.fetch_sub(1, Ordering::AcqRel);
        guard
    }

    /// What the lock guards, once nobody shares it.
    pub fn into_inner(self) -> T {
        self.lock.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicBool, AtomicU64};

    /// A core that takes the lock again the moment it has let it go must let a waiting one in between. With
    /// an unfair lock the hog gets thousands of turns for one of the victim.
    #[test]
    fn a_core_that_hogs_the_lock_does_not_starve_another() {
        let lock = Fair::<u64>::new(0);
        let (start, over, waiting) = (Barrier::new(2), AtomicBool::new(false), AtomicBool::new(false));
        let overtaken = AtomicU64::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                while !over.load(Ordering::Acquire) {
                    let mut guard = lock.lock();
                    *guard += 1;
                    if waiting.load(Ordering::Acquire) {
                        overtaken.fetch_add(1, Ordering::AcqRel);
                    }
                }
            });
            start.wait();
            for _ in 0..200 {
                waiting.store(true, Ordering::Release);
                let mut guard = lock.lock();
                waiting.store(false, Ordering::Release);
                *guard += 1;
                drop(guard);
                std::thread::yield_now();
            }
            over.store(true, Ordering::Release);
        });
        // The flag is up before the victim waits: the hog may have a few turns in between, not thousands.
        assert!(overtaken.into_inner() < 200 * 200, "the lock is not fair");
    }
}
