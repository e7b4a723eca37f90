//! What is known of a thread.

use crate::cpu::section::Here;
use crate::memory::ThreadStack;
use crate::schedule::{Id, Terms};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::any::Any;
use core::cell::{RefCell, UnsafeCell};
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// What a thread runs.
pub(super) type Body = Box<dyn FnOnce() + Send>;

/// A thread's own values, by the address of the static that names them.
pub(super) type Locals = RefCell<Vec<(usize, Rc<dyn Any>)>>;

/// A thread. Fields that change are guarded by the queue of its home, but for those that say otherwise.
pub(super) struct Control {
    pub name: String,
    pub terms: Terms,
    /// Where it runs; without the [`Here`].
    pub stack: Range<u64>,
    pub here: &'static Here,
    /// Whether it never leaves its core: the one that was there before.
    pub stays: bool,
    /// Its stack pointer while it does not run.
    pub saved: AtomicU64,
    /// Number of the core whose queue it is in. Changed by who holds that queue.
    pub home: AtomicUsize,
    /// Its number in that queue.
    pub id: AtomicU32,
    /// Whether it waits until it is unparked.
    pub blocked: AtomicBool,
    /// Whether it was unparked while it did not wait.
    pub token: AtomicBool,
    /// Ticks that it has run.
    pub ran: AtomicU64,
    /// What only the thread itself uses, and whoever ends it after it has stopped.
    own: Own,
}

/// What only a thread itself uses.
struct Own {
    body: UnsafeCell<Option<Body>>,
    stack: UnsafeCell<Option<ThreadStack>>,
    locals: UnsafeCell<Locals>,
}

// SAFETY: `Own` is used by the thread that it belongs to and, before that runs and after it has ended for
// good, by one other: see the `unsafe` functions below. A body is `Send`; locals are made and dropped by the
// thread.
unsafe impl Sync for Own {}
// SAFETY: as above.
unsafe impl Send for Own {}

impl Control {
    /// A thread that has not begun, in the queue of `home`.
    pub fn new(
        name: String,
        terms: Terms,
        stack: ThreadStack,
        here: &'static Here,
        body: Body,
        home: usize,
    ) -> Control {
        let range = stack.range();
        let mut control = Control::of_running(name, terms, range, here, home);
        control.stays = false;
        control.own.body = UnsafeCell::new(Some(body));
        control.own.stack = UnsafeCell::new(Some(stack));
        control
    }

    /// One for a program that runs already, on a stack that is not a thread's.
    pub fn of_running(
        name: String,
        terms: Terms,
        stack: Range<u64>,
        here: &'static Here,
        home: usize,
    ) -> Control {
        Control {
            name,
            terms,
            stack,
            here,
            stays: true,
            saved: AtomicU64::new(0),
            home: AtomicUsize::new(home),
            id: AtomicU32::new(0),
            blocked: AtomicBool::new(false),
            token: AtomicBool::new(false),
            ran: AtomicU64::new(0),
            own: Own {
                body: UnsafeCell::new(None),
                stack: UnsafeCell::new(None),
                locals: UnsafeCell::default(),
            },
        }
    }

    pub fn id(&self) -> Id {
        Id(self.id.load(Ordering::Relaxed))
    }

    /// What it is to run.
    ///
    /// # Safety
    ///
    /// Called by the thread itself.
    pub unsafe fn take_body(&self) -> Option<Body> {
        // SAFETY: nobody else uses it.
        unsafe { (*self.own.body.get()).take() }
    }

    /// Its own values.
    ///
    /// # Safety
    ///
    /// Called by the thread itself, which keeps the reference to itself.
    pub unsafe fn locals(&self) -> &Locals {
        // SAFETY: nobody else uses it.
        unsafe { &*self.own.locals.get() }
    }

    /// Its stack, to be given away.
    ///
    /// # Safety
    ///
    /// It has ended, and nobody runs on the stack any more.
    pub unsafe fn take_stack(&self) -> Option<ThreadStack> {
        // SAFETY: nobody else uses it.
        unsafe { (*self.own.stack.get()).take() }
    }
}
