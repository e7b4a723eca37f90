//! The one stack of a program, as everybody has it who needs it.

use super::Stack;
use alloc::rc::Rc;
use core::cell::{RefCell, RefMut};

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
