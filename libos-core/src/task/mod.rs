//! Asynchronous tasks on one core: an executor, timers, channels.
//!
//! An [`Executor`] runs futures that were [spawned](Executor::spawn) on it, each when its waker says so,
//! in the order of the wakes, or in that of a [scheduler](Executor::with_scheduler). It never sleeps by
//! itself: [`Executor::run_ready`] runs what can run and returns, and [`Executor::next_timer_ns`] tells
//! until when the caller may sleep. So a protocol stack, a disk or an upcall can be looked at in between.
//!
//! Everything here belongs to one core but the wakers, which any core may call. A waker must not be called
//! in interrupt context: its lock may be held by what was interrupted.
#![forbid(unsafe_code)]

mod channel;
mod executor;
mod timer;

pub use channel::{Closed, Receiver, Sender, channel};
pub use executor::{Cancelled, Executor, JoinHandle};
pub use timer::Sleep;
