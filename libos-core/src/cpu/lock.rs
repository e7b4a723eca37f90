//! Mutual exclusion between cores, and between a program and its own trap handlers: interrupts stay disabled
//! while a lock is held.
//!
//! If another core holds a lock, locking spins. If the own core holds it, code further down the same stack
//! took it and was interrupted by an exception: waiting would never end, so locking panics.
//!
//! [`Deferred`] is for what no trap handler uses: interrupts come in, but no other thread of the core runs.

use super::section;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use hyperexo_hw::descriptor::{MAX_NUMBERS, core_number};
use hyperexo_hw::trap;
use talc::lock_api;

/// What a core has to remember about its locks.
struct Nesting {
    /// Locks held at the moment.
    depth: AtomicUsize,
    /// Whether interrupts were enabled when the first of them was taken.
    were_enabled: AtomicBool,
}

static NESTING: [Nesting; MAX_NUMBERS] =
    [const { Nesting { depth: AtomicUsize::new(0), were_enabled: AtomicBool::new(false) } }; MAX_NUMBERS];

/// A value that one core at a time uses, and there either the program or one of its handlers.
pub type Masked<T> = lock_api::Mutex<MaskedRaw, T>;

/// A [`Masked`] value, locked.
pub(crate) type MaskedGuard<'a, T> = lock_api::MutexGuard<'a, MaskedRaw, T>;

/// The lock of [`Masked`].
#[derive(Debug)]
pub struct MaskedRaw {
    holder: Holder,
}

/// Turns that [`lock_within`] waits for a holder that may never let go, because it failed while it held the
/// lock.
pub(crate) const PATIENCE_TURNS: usize = 1 << 16;

/// Locks, for what must go on even if it can't. `None` if the calling core holds the lock already, in code
/// that a trap has interrupted, or if another core keeps it for `turns` turns of [`relax`].
pub(crate) fn lock_within<T>(mutex: &Masked<T>, turns: usize) -> Option<MaskedGuard<'_, T>> {
    for _ in 0..turns {
        if let Some(guard) = mutex.try_lock() {
            return Some(guard);
        }
        // SAFETY: the raw lock is only looked at.
        if unsafe { mutex.raw() }.holder.is(core_number()) {
            return None;
        }
        relax();
    }
    None
}

/// The core that has something which one core can have at a time.
#[derive(Debug)]
pub(crate) struct Holder(AtomicUsize);

/// How an attempt to become the holder ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claimed {
    /// The caller has it now.
    Now,
    /// The caller had it already.
    Before,
    /// Another core has it.
    ByAnother,
}

impl Holder {
    const NOBODY: usize = 0;

    pub(crate) const fn nobody() -> Holder {
        Holder(AtomicUsize::new(Holder::NOBODY))
    }

    /// Makes the core with this number the holder if nobody is.
    pub(crate) fn claim(&self, number: usize) -> Claimed {
        let own = number + 1;
        // The look before the exchange leaves the cache line to the holder while others wait.
        match self.0.load(Ordering::Relaxed) {
            Holder::NOBODY => {
                match self.0.compare_exchange(Holder::NOBODY, own, Ordering::Acquire, Ordering::Relaxed) {
                    Ok(_) => Claimed::Now,
                    Err(_) => Claimed::ByAnother,
                }
            }
            holder if holder == own => Claimed::Before,
            _ => Claimed::ByAnother,
        }
    }

    /// Whether the core with this number is the holder.
    fn is(&self, number: usize) -> bool {
        self.0.load(Ordering::Relaxed) == number + 1
    }

    /// Makes nobody the holder. Only for the holder.
    pub(crate) fn release(&self) {
        self.0.store(Holder::NOBODY, Ordering::Release);
    }
}

/// Lets time pass while the caller waits for another core: 4,096 empty turns, then one `PAUSE`.
///
/// Under QEMU's emulator each `PAUSE` takes a lock that all cores share, so one that pauses often slows the
/// core that it waits for. One that never pauses can keep the others from running.
pub(crate) fn relax() {
    for _ in 0..4096 {
        core::hint::black_box(());
    }
    core::hint::spin_loop();
}

/// Disables interrupts until this core has called [`unmask`] as often as this function.
fn mask() {
    let were_enabled = trap::disable_interrupts();
    let nesting = &NESTING[core_number()];
    if nesting.depth.fetch_add(1, Ordering::Relaxed) == 0 {
        nesting.were_enabled.store(were_enabled, Ordering::Relaxed);
    }
}

/// Takes back one [`mask`].
fn unmask() {
    let nesting = &NESTING[core_number()];
    if nesting.depth.fetch_sub(1, Ordering::Relaxed) == 1 && nesting.were_enabled.load(Ordering::Relaxed) {
        // SAFETY: interrupts were enabled before the first `mask`, and no lock is held any more.
        unsafe { trap::enable_interrupts() };
    }
}

// SAFETY: one core at a time is the holder. Its interrupts are disabled meanwhile, so none of its handlers
// runs.
unsafe impl lock_api::RawMutex for MaskedRaw {
    const INIT: MaskedRaw = MaskedRaw { holder: Holder::nobody() };

    // The lock belongs to the core that masked its interrupts.
    type GuardMarker = lock_api::GuardNoSend;

    fn lock(&self) {
        mask();
        loop {
            match self.holder.claim(core_number()) {
                Claimed::Now => return,
                Claimed::ByAnother => relax(),
                Claimed::Before => {
                    unmask();
                    panic!("a lock was taken twice: by interrupted code and by the handler of its trap");
                }
            }
        }
    }

    fn try_lock(&self) -> bool {
        mask();
        let free = self.holder.claim(core_number()) == Claimed::Now;
        if !free {
            unmask();
        }
        free
    }

    unsafe fn unlock(&self) {
        self.holder.release();
        unmask();
    }
}

/// A value that one thread at a time uses, for a few instructions and never in a trap handler: whoever has it
/// keeps its core until it lets go. Others wait in a loop, so they wait for cores, not for threads.
pub type Deferred<T> = lock_api::Mutex<DeferredRaw, T>;

/// The lock of [`Deferred`].
#[derive(Debug)]
pub struct DeferredRaw(AtomicBool);

// SAFETY: one at a time changes the word from false to true, until it changes it back.
unsafe impl lock_api::RawMutex for DeferredRaw {
    const INIT: DeferredRaw = DeferredRaw(AtomicBool::new(false));

    // The critical section is the thread's that opened it.
    type GuardMarker = lock_api::GuardNoSend;

    #[inline]
    fn lock(&self) {
        section::open();
        while self.0.swap(true, Ordering::Acquire) {
            relax();
        }
    }

    fn try_lock(&self) -> bool {
        section::open();
        let free = !self.0.swap(true, Ordering::Acquire);
        if !free {
            section::close();
        }
        free
    }

    #[inline]
    unsafe fn unlock(&self) {
        self.0.store(false, Ordering::Release);
        section::close();
    }
}

/// A [`Deferred`] value, locked.
pub type DeferredGuard<'a, T> = lock_api::MutexGuard<'a, DeferredRaw, T>;

/// As [`Deferred`], for one who writes or many who read.
pub type DeferredRw<T> = lock_api::RwLock<DeferredRawRw, T>;

/// The lock of [`DeferredRw`].
pub struct DeferredRawRw(spin::RwLock<()>);

// SAFETY: the lock inside keeps who writes alone.
unsafe impl lock_api::RawRwLock for DeferredRawRw {
    #[allow(clippy::declare_interior_mutable_const)]
    const INIT: DeferredRawRw = DeferredRawRw(spin::RwLock::new(()));

    // As for `DeferredRaw`.
    type GuardMarker = lock_api::GuardNoSend;

    fn lock_shared(&self) {
        while !self.try_lock_shared() {
            relax();
        }
    }

    fn try_lock_shared(&self) -> bool {
        section::open();
        let free = lock_api::RawRwLock::try_lock_shared(&self.0);
        if !free {
            section::close();
        }
        free
    }

    unsafe fn unlock_shared(&self) {
        // SAFETY: the caller has it.
        unsafe { lock_api::RawRwLock::unlock_shared(&self.0) };
        section::close();
    }

    fn lock_exclusive(&self) {
        while !self.try_lock_exclusive() {
            relax();
        }
    }

    fn try_lock_exclusive(&self) -> bool {
        section::open();
        let free = lock_api::RawRwLock::try_lock_exclusive(&self.0);
        if !free {
            section::close();
        }
        free
    }

    unsafe fn unlock_exclusive(&self) {
        // SAFETY: as above.
        unsafe { lock_api::RawRwLock::unlock_exclusive(&self.0) };
        section::close();
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use core::cell::UnsafeCell;

    #[test]
    fn one_holder_at_a_time() {
        let holder = Holder::nobody();
        assert_eq!(holder.claim(0), Claimed::Now);
        assert_eq!(holder.claim(0), Claimed::Before);
        assert_eq!(holder.claim(1), Claimed::ByAnother);
        assert!(holder.is(0) && !holder.is(1));
        holder.release();
        assert_eq!(holder.claim(1), Claimed::Now);
        assert_eq!(holder.claim(0), Claimed::ByAnother);
    }

    #[test]
    fn holders_exclude_each_other() {
        const TURNS: u64 = 20_000;
        struct Shared(Holder, UnsafeCell<u64>);
        // SAFETY: the cell is used by the holder only.
        unsafe impl Sync for Shared {}
        let shared = Shared(Holder::nobody(), UnsafeCell::new(0));
        std::thread::scope(|scope| {
            for number in 0..2 {
                let shared = &shared;
                scope.spawn(move || {
                    for _ in 0..TURNS {
                        while shared.0.claim(number) != Claimed::Now {
                            std::thread::yield_now();
                        }
                        // SAFETY: we are the holder.
                        unsafe { *shared.1.get() += 1 };
                        shared.0.release();
                    }
                });
            }
        });
        assert_eq!(shared.1.into_inner(), 2 * TURNS);
    }

    /// Who reads may look at the word while who writes lets go.
    #[test]
    fn readers_who_try_disturb_no_writer() {
        let value = DeferredRw::<u64>::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..20_000).for_each(|_| *value.write() += 1));
                scope.spawn(|| (0..20_000).for_each(|_| assert!(*value.read() <= 40_000)));
            }
        });
        assert_eq!(*value.read(), 40_000);
    }
}
