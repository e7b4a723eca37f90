//! How a core sleeps while a block is on its way.

use core::task::Waker;

/// Puts the calling core to sleep. What there is: [`Threads`] of the host (feature `std`), `Cores` of a
/// unikernel (feature `unikernel`).
pub trait Sleep: Send + Sync {
    /// Ends a sleep of the calling core, or the next one: a wake is never lost.
    fn waker(&self) -> Waker;

    /// Sleeps until `condition` holds. It is looked at first of all and after every wake, and may be at other
    /// times.
    fn sleep_until(&self, condition: &mut dyn FnMut() -> bool);
}

#[cfg(feature = "std")]
mod threads {
    use super::{Sleep, Waker};
    use std::sync::Arc;
    use std::task::Wake;
    use std::thread::{self, Thread};

    /// Threads of the host.
    #[derive(Clone, Copy, Debug, Default)]
    pub struct Threads;

    struct ThreadWaker(Thread);

    impl Wake for ThreadWaker {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    impl Sleep for Threads {
        fn waker(&self) -> Waker {
            Waker::from(Arc::new(ThreadWaker(thread::current())))
        }

        fn sleep_until(&self, condition: &mut dyn FnMut() -> bool) {
            while !condition() {
                thread::park();
            }
        }
    }
}

#[cfg(feature = "unikernel")]
mod cores {
    use super::{Sleep, Waker};
    use alloc::sync::Arc;
    use alloc::task::Wake;
    use libos_core::{cores, upcall};

    /// Cores of a unikernel: they halt in [`upcall::wait_until`].
    #[derive(Clone, Copy, Debug, Default)]
    pub struct Cores;

    struct CoreWaker(u64);

    impl Wake for CoreWaker {
        fn wake(self: Arc<Self>) {
            // The core that made the waker keeps its virtual CPU for ever.
            let _ = cores::wake(self.0);
        }
    }

    impl Sleep for Cores {
        fn waker(&self) -> Waker {
            Waker::from(Arc::new(CoreWaker(cores::current())))
        }

        fn sleep_until(&self, condition: &mut dyn FnMut() -> bool) {
            upcall::wait_until(condition);
        }
    }
}

#[cfg(feature = "unikernel")]
pub use cores::Cores;
#[cfg(feature = "std")]
pub use threads::Threads;
