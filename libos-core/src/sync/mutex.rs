//! A value that one thread or task uses at a time.

use super::base::{Cell, CellGuard};
use super::semaphore::{Permit, Semaphore};
use core::fmt;
use core::ops::{Deref, DerefMut};

/// A value that one thread or task uses at a time; the others wait. The holder may wait for something else
/// meanwhile.
pub struct Mutex<T> {
    turn: Semaphore,
    value: Cell<T>,
}

/// The value of a [`Mutex`], until it is dropped.
pub struct MutexGuard<'m, T> {
    pub(super) mutex: &'m Mutex<T>,
    // Dropped in this order: the value is free before the next one may have it.
    value: CellGuard<'m, T>,
    _turn: Permit<'m>,
}

impl<T> Mutex<T> {
    /// A value that nobody uses yet.
    pub const fn new(value: T) -> Mutex<T> {
        Mutex { turn: Semaphore::new(1), value: Cell::new(value) }
    }

    /// Waits until nobody uses the value.
    ///
    /// # Panics
    ///
    /// As [`Semaphore::acquire`].
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.guard(self.turn.acquire())
    }

    /// The same for a task.
    pub async fn lock_async(&self) -> MutexGuard<'_, T> {
        let turn = self.turn.acquire_async().await;
        self.guard(turn)
    }

    /// The value, if nobody uses it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.turn.try_acquire().map(|turn| self.guard(turn))
    }

    /// The value, for good.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }

    fn guard<'m>(&'m self, turn: Permit<'m>) -> MutexGuard<'m, T> {
        // With the one permit nobody else has it.
        MutexGuard { mutex: self, value: self.value.lock(), _turn: turn }
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
