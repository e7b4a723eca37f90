//! Threads that wait for futures, and parking.

use super::queue::{self, Quiet};
use crate::cpu::upcall;
use crate::platform;
use crate::task::Executor;
use crate::time;
use alloc::sync::Arc;
use alloc::task::Wake;
use core::pin::pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use hyperexo_hw::descriptor::{MAX_NUMBERS, core_number};

/// Where there are no threads, the core waits as if it were one. It has its number.
struct Core(usize);

/// Whether a core was woken while it did not wait, by number.
static TOKENS: [AtomicBool; MAX_NUMBERS] = [const { AtomicBool::new(false) }; MAX_NUMBERS];

impl Wake for Core {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        TOKENS[self.0].store(true, Ordering::Release);
        // In a test program of the host nobody sleeps.
        if let Some(platform) = platform::known() {
            platform.call_core(self.0);
        }
    }
}

/// Ends the [`park`] of the caller, or its next one. Where there are no threads, of the calling core.
pub fn waker() -> Waker {
    match queue::current() {
        Some(thread) => Waker::from(thread),
        None => Waker::from(Arc::new(Core(core_number()))),
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

/// Waits until a condition holds, as [`upcall::wait_until`] does, or somebody wakes the caller, as [`park`]
/// does.
///
/// # Panics
///
/// As [`upcall::wait_until`].
pub fn park_until(mut condition: impl FnMut() -> bool) {
    if !queue::wait(&mut condition, true) {
        let token = &TOKENS[core_number()];
        upcall::wait_until(|| token.swap(false, Ordering::Acquire) || condition());
    }
}

/// Runs the tasks of an executor until `main` has ended. While there is nothing to do, the thread waits,
/// until a timer is due or a task is woken, be it by another thread. A program with a network has
/// `Net::run` of `libos-net`.
///
/// # Panics
///
/// As [`park`].
pub fn run<T: 'static>(executor: &Executor, main: impl Future<Output = T> + 'static) -> T {
    let (mut main, waker) = (executor.spawn(main), waker());
    loop {
        executor.run_ready();
        if let Some(Ok(value)) = executor.now_or_never(&mut main) {
            return value;
        }
        if executor.wake_before(&waker) {
            let due = executor.next_timer_ns().map(|due| due.saturating_sub(executor.now_ns()));
            let deadline = due.map(|ns| time::deadline_after(Duration::from_nanos(ns)));
            park_until(|| deadline.is_some_and(|deadline| !time::wake_at(deadline)));
        }
    }
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
