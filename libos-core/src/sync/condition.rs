//! A condition variable.

use super::base::{Short, block_on};
use super::mutex::MutexGuard;
use super::waiters::{Waiters, wake_all};
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

/// Waits until somebody says that what a mutex guards has changed: Hoare's condition variable with the rules
/// of Mesa (Lampson and Redell, CACM 1980). Who is woken looks again.
#[derive(Debug)]
pub struct Condition {
    waiting: Short<Waiters>,
}

impl Condition {
    /// One that nobody waits for.
    pub const fn new() -> Condition {
        Condition { waiting: Short::new(Waiters::new()) }
    }

    /// Lets the mutex go, waits to be notified, and locks again. Nothing that was said after the mutex was
    /// let go is missed.
    ///
    /// # Panics
    ///
    /// As [`super::Semaphore::acquire`].
    pub fn wait<'m, T>(&self, guard: MutexGuard<'m, T>) -> MutexGuard<'m, T> {
        let mutex = guard.mutex;
        block_on(self.notified(guard));
        mutex.lock()
    }

    /// The same for a task.
    pub async fn wait_async<'m, T>(&self, guard: MutexGuard<'m, T>) -> MutexGuard<'m, T> {
        let mutex = guard.mutex;
        self.notified(guard).await;
        mutex.lock_async().await
    }

    /// Waits as long as `condition` holds.
    ///
    /// # Panics
    ///
    /// As [`Condition::wait`].
    pub fn wait_while<'m, T>(
        &self,
        mut guard: MutexGuard<'m, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> MutexGuard<'m, T> {
        while condition(&mut guard) {
            guard = self.wait(guard);
        }
        guard
    }

    fn notified<'m, T>(&self, guard: MutexGuard<'m, T>) -> Notified<'_, 'm, T> {
        Notified { condition: self, guard: Some(guard), own: None }
    }

    /// Wakes who waits longest.
    pub fn notify_one(&self) {
        let first = self.waiting.lock().pop();
        first.into_iter().for_each(Waker::wake);
    }

    /// Wakes all that wait.
    pub fn notify_all(&self) {
        let all = self.waiting.lock().take();
        wake_all(all);
    }
}

impl Default for Condition {
    fn default() -> Condition {
        Condition::new()
    }
}

/// Waits until it was taken out of the list.
struct Notified<'c, 'm, T> {
    condition: &'c Condition,
    /// The mutex, until the wait is in the list.
    guard: Option<MutexGuard<'m, T>>,
    own: Option<u64>,
}

impl<T> Unpin for Notified<'_, '_, T> {}

impl<T> Future for Notified<'_, '_, T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Notified { condition, guard, own } = &mut *self;
        {
            let waiting = &mut *condition.waiting.lock();
            if own.is_some_and(|number| !waiting.has(number)) {
                *own = None;
                return Poll::Ready(());
            }
            waiting.wait(own, context.waker());
        }
        // Only now: whoever notifies locks first.
        drop(guard.take());
        Poll::Pending
    }
}

/// Passes a notification on that came when nobody looked any more.
impl<T> Drop for Notified<'_, '_, T> {
    fn drop(&mut self) {
        if self.own.is_some() && !self.condition.waiting.lock().leave(&mut self.own) {
            self.condition.notify_one();
        }
    }
}
