//! Threads that wait for futures, and parking.

use super::queue::{self, Quiet};
use crate::cpu::{cores, upcall};
use alloc::sync::Arc;
use alloc::task::Wake;
use core::pin::pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};
use hyperexo_hw::descriptor::{MAX_NUMBERS, core_number};

/// Where there are no threads, the core waits as if it were one.
struct Core {
    /// Its number, as the machine counts.
    core: u64,
    number: usize,
}

/// Whether a core was woken while it did not wait, by number.
static TOKENS: [AtomicBool; MAX_NUMBERS] = [const { AtomicBool::new(false) }; MAX_NUMBERS];

impl Wake for Core {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        TOKENS[self.number].store(true, Ordering::Release);
        // The core that made the waker keeps its virtual CPU for ever.
        let _ = cores::wake(self.core);
    }
}

/// Ends the [`park`] of the caller, or its next one. Where there are no threads, of the calling core.
pub fn waker() -> Waker {
    match queue::current() {
        Some(thread) => Waker::from(thread),
        None => Waker::from(Arc::new(Core { core: cores::current(), number: core_number() })),
    }
}

/// Waits until somebody wakes the caller: [`super::Thread::unpark`], [`waker`]. Returns at once if somebody
/// has since the last time. May return for no reason: look at what is waited for, and park again.
///
/// # Panics
///
/// With interrupts disabled, or a critical section open: whoever would wake the caller might never run.
pub fn park() {
    let Some(thread) = queue::current() else {
        return upcall::wait_until(|| TOKENS[core_number()].swap(false, Ordering::Acquire));
    };
    assert!(!thread.here.is_open(), "a thread waits in a critical section");
    let quiet = Quiet::begin();
    assert!(quiet.were_enabled(), "a thread waits with interrupts disabled");
    queue::park(&thread);
}

/// Waits until a future has ended. So a thread waits for whatever tasks wait for.
///
/// # Panics
///
/// As [`park`].
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = waker();
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        park();
    }
}
