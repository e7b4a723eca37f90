//! The kernel's lock, held: by whom, and for how long.
#![forbid(unsafe_code)]

use crate::kernel::Kernel;
use crate::machine::spin::{Fair, FairGuard};
use core::ops::{Deref, DerefMut};
use core::sync::atomic::Ordering;
use hyperexo_abi::accounting::Accounting;
use hyperexo_hw::time::ticks;

/// What all cores share.
pub struct SharedKernel(Fair<Kernel>);

impl SharedKernel {
    /// Shares a kernel.
    pub fn new(kernel: Kernel) -> SharedKernel {
        SharedKernel(Fair::new(kernel))
    }

    /// Waits for the lock. Cores that waited before get it before.
    pub fn lock(&self) -> Held<'_> {
        let guard = self.0.lock();
        Held { shared: self, guard: Some(guard), since: ticks(), accounting: None }
    }
}

/// The kernel, and the right to change it.
///
/// How long it is held at once is noted on the accounting page of the environment on whose behalf that is.
pub struct Held<'k> {
    shared: &'k SharedKernel,
    /// Always there but while it is given away.
    guard: Option<FairGuard<'k, Kernel>>,
    since: u64,
    accounting: Option<&'static Accounting>,
}

/// The lock, let go for a while.
pub struct Released<'k> {
    shared: &'k SharedKernel,
    accounting: Option<&'static Accounting>,
}

impl<'k> Held<'k> {
    /// Notes on whose behalf the lock is held from now on.
    pub fn on_behalf_of(&mut self, accounting: &'static Accounting) {
        self.accounting = Some(accounting);
    }

    /// Lets the lock go; returns the time.
    pub fn release(mut self) -> (Released<'k>, u64) {
        let now = self.note();
        self.guard = None;
        (Released { shared: self.shared, accounting: self.accounting }, now)
    }

    /// Lets those have the lock who wait for it.
    #[must_use]
    pub fn let_others(self) -> Held<'k> {
        self.release().0.lock()
    }

    /// Does something without the lock.
    #[must_use]
    pub fn without(self, work: impl FnOnce()) -> Held<'k> {
        let (released, _) = self.release();
        work();
        released.lock()
    }

    /// Notes how long it has been held; returns the time.
    fn note(&self) -> u64 {
        let now = ticks();
        if let Some(accounting) = self.accounting {
            accounting.longest_hold.fetch_max(now.wrapping_sub(self.since), Ordering::Relaxed);
        }
        now
    }
}

impl<'k> Released<'k> {
    /// Takes the lock again, on behalf of the same environment.
    pub fn lock(self) -> Held<'k> {
        let mut held = self.shared.lock();
        held.accounting = self.accounting;
        held
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.guard.is_some() {
            self.note();
        }
    }
}

impl Deref for Held<'_> {
    type Target = Kernel;

    fn deref(&self) -> &Kernel {
        self.guard.as_ref().expect("held until released")
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Kernel {
        self.guard.as_mut().expect("held until released")
    }
}
