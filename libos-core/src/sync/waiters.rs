//! Who waits, in the order of coming.

use alloc::collections::VecDeque;
use core::task::Waker;

/// A list of wakers. Whoever waits keeps the number that it got as long as it waits.
#[derive(Debug)]
pub(super) struct Waiters {
    list: VecDeque<(u64, Waker)>,
    next: u64,
}

impl Waiters {
    pub const fn new() -> Waiters {
        Waiters { list: VecDeque::new(), next: 0 }
    }

    /// Has `waker` called when it is its turn. `own` is the number of who waits; `None` puts it at the end.
    pub fn wait(&mut self, own: &mut Option<u64>, waker: &Waker) {
        match own.and_then(|number| self.list.iter_mut().find(|(other, _)| *other == number)) {
            Some((_, before)) => before.clone_from(waker),
            None => {
                self.next += 1;
                *own = Some(self.next);
                self.list.push_back((self.next, waker.clone()));
            }
        }
    }

    /// Takes back that somebody waits. Returns whether it still did.
    pub fn leave(&mut self, own: &mut Option<u64>) -> bool {
        let at = own.take().and_then(|number| self.list.iter().position(|(other, _)| *other == number));
        at.and_then(|at| self.list.remove(at)).is_some()
    }

    /// Whether somebody waits still.
    pub fn has(&self, own: u64) -> bool {
        self.list.iter().any(|(other, _)| *other == own)
    }

    /// Who is to be woken first; it stays in the list.
    pub fn first(&self) -> Option<Waker> {
        self.list.front().map(|(_, waker)| waker.clone())
    }

    /// Takes the first out.
    pub fn pop(&mut self) -> Option<Waker> {
        self.list.pop_front().map(|(_, waker)| waker)
    }

    /// Takes all out.
    pub fn take(&mut self) -> VecDeque<(u64, Waker)> {
        core::mem::take(&mut self.list)
    }
}

/// Calls wakers, with nothing locked.
pub(super) fn wake_all(wakers: VecDeque<(u64, Waker)>) {
    wakers.into_iter().for_each(|(_, waker)| waker.wake());
}
