//! The one stack of a program, as everybody has it who needs it.

use super::Stack;
use alloc::rc::Rc;
use core::cell::{RefCell, RefMut};
use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;

/// A stack and its clock. Clones are the same.
#[derive(Clone)]
pub(crate) struct Handle {
    stack: Rc<RefCell<Stack>>,
    now_ns: fn() -> u64,
}

impl Handle {
    pub(crate) fn new(stack: Stack, now_ns: fn() -> u64) -> Handle {
        Handle { stack: Rc::new(RefCell::new(stack)), now_ns }
    }

    /// The stack; not to be held while something is awaited.
    pub(crate) fn stack(&self) -> RefMut<'_, Stack> {
        self.stack.borrow_mut()
    }

    /// What a future comes to before this time; `None` if it does not.
    pub(crate) async fn until<T>(&self, due_us: i64, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        poll_fn(|context| {
            if let Poll::Ready(value) = future.as_mut().poll(context) {
                return Poll::Ready(Some(value));
            }
            if self.now_us() >= due_us {
                return Poll::Ready(None);
            }
            self.stack().wake_at(due_us, context.waker());
            Poll::Pending
        })
        .await
    }

    pub(crate) fn now_ns(&self) -> u64 {
        (self.now_ns)()
    }

    pub(crate) fn now_us(&self) -> i64 {
        micros(self.now_ns())
    }
}

/// The clock of all sockets, from nanoseconds.
pub(crate) fn micros(ns: u64) -> i64 {
    (ns / 1000) as i64
}
