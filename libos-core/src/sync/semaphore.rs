//! A number of permits.

use super::base::{Short, block_on};
use super::waiters::Waiters;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

/// Permits that are taken and given back: Dijkstra's semaphore.
#[derive(Debug)]
pub struct Semaphore {
    state: Short<State>,
}

#[derive(Debug)]
struct State {
    permits: usize,
    waiting: Waiters,
}

impl State {
    /// Who can be woken, as there is a permit. It stays first until it has one.
    fn due(&self) -> Option<Waker> {
        if self.permits > 0 { self.waiting.first() } else { None }
    }
}

impl Semaphore {
    /// A semaphore with so many permits.
    pub const fn new(permits: usize) -> Semaphore {
        Semaphore { state: Short::new(State { permits, waiting: Waiters::new() }) }
    }

    /// Takes a permit, as soon as there is one.
    ///
    /// # Panics
    ///
    /// In a trap handler or with a critical section open, if it has to wait. So do all calls of this module
    /// that make a thread wait.
    pub fn acquire(&self) -> Permit<'_> {
        self.try_acquire().unwrap_or_else(|| block_on(self.acquire_async()))
    }

    /// The same for a task.
    pub fn acquire_async(&self) -> impl Future<Output = Permit<'_>> + Send {
        Acquire { semaphore: self, own: None }
    }

    /// Takes a permit if there is one.
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        let state = &mut *self.state.lock();
        state.permits = state.permits.checked_sub(1)?;
        Some(Permit(self))
    }

    /// Permits that nobody has.
    pub fn available(&self) -> usize {
        self.state.lock().permits
    }

    /// Adds a permit.
    pub fn release(&self) {
        let due = {
            let state = &mut *self.state.lock();
            state.permits += 1;
            state.due()
        };
        due.into_iter().for_each(Waker::wake);
    }
}

/// A permit, given back when it is dropped.
#[derive(Debug)]
pub struct Permit<'s>(&'s Semaphore);

impl Permit<'_> {
    /// Does not give it back: whoever calls [`Semaphore::release`] does.
    pub fn forget(self) {
        core::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// Waits for a permit.
struct Acquire<'s> {
    semaphore: &'s Semaphore,
    own: Option<u64>,
}

impl<'s> Future for Acquire<'s> {
    type Output = Permit<'s>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Permit<'s>> {
        let Acquire { semaphore, own } = self.get_mut();
        let due = {
            let state = &mut *semaphore.state.lock();
            if state.permits == 0 {
                state.waiting.wait(own, context.waker());
                return Poll::Pending;
            }
            state.permits -= 1;
            state.waiting.leave(own);
            state.due()
        };
        due.into_iter().for_each(Waker::wake);
        Poll::Ready(Permit(semaphore))
    }
}

/// Who was to be woken instead is.
impl Drop for Acquire<'_> {
    fn drop(&mut self) {
        if self.own.is_none() {
            return;
        }
        let due = {
            let state = &mut *self.semaphore.state.lock();
            state.waiting.leave(&mut self.own);
            state.due()
        };
        due.into_iter().for_each(Waker::wake);
    }
}
