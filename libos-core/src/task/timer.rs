//! Timers of an executor.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use core::cell::RefCell;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

/// Who is to be woken when, by time and a number that no two have.
#[derive(Default)]
pub(super) struct Timers {
    waiting: BTreeMap<(u64, u64), Waker>,
    next_number: u64,
}

impl Timers {
    /// When the first is due.
    pub(super) fn next(&self) -> Option<u64> {
        self.waiting.keys().next().map(|(due_ns, _)| *due_ns)
    }

    /// Wakes all that are due.
    pub(super) fn wake_due(&mut self, now_ns: u64) {
        while let Some(first) = self.waiting.first_entry()
            && first.key().0 <= now_ns
        {
            first.remove().wake();
        }
    }
}

/// A future that ends at a time. It must be awaited by a task of the executor that made it.
pub struct Sleep {
    timers: Rc<RefCell<Timers>>,
    due_ns: u64,
    now_ns: fn() -> u64,
    number: Option<u64>,
}

impl Sleep {
    pub(super) fn new(timers: Rc<RefCell<Timers>>, due_ns: u64, now_ns: fn() -> u64) -> Sleep {
        Sleep { timers, due_ns, now_ns, number: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if (self.now_ns)() >= self.due_ns {
            return Poll::Ready(());
        }
        let timers = Rc::clone(&self.timers);
        let timers = &mut *timers.borrow_mut();
        let number = *self.number.get_or_insert_with(|| {
            timers.next_number += 1;
            timers.next_number
        });
        timers.waiting.insert((self.due_ns, number), context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.timers.borrow_mut().waiting.remove(&(self.due_ns, number));
        }
    }
}
