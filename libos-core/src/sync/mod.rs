//! What threads and tasks wait for one another with: mutex, condition variable, semaphore, channel, barrier,
//! once.
//!
//! Each call that may wait comes twice: `lock` has a thread wait, `lock_async` a task. A thread and a task
//! can wait for the same thing, on the same core or on different ones; where there are no threads, the core
//! waits. All of them work as the value of a static.
//!
//! Who waits first is woken first. It may still be overtaken by somebody who comes just then and does not
//! have to wait: then it stays first. A future that is dropped while it waits passes on what was meant for
//! it.
//!
//! Nothing is poisoned: a thread that panics ends the unikernel. Nothing here may be used in a trap handler.
//!
//! # How they are built
//!
//! The state of each is plain data with a list of wakers (`waiters`) behind a lock that is held for some
//! instructions (`base::Short`). The tests compile the same files a second time over the locks of `shuttle`,
//! which tries the orders in which threads can run.
#![forbid(unsafe_code)]

mod barrier;
mod base;
mod channel;
mod condition;
mod mutex;
mod once;
mod semaphore;
mod waiters;

pub use barrier::Barrier;
pub use channel::{Closed, Receiver, Sender, TryReceive, TrySend, channel};
pub use condition::Condition;
pub use mutex::{Mutex, MutexGuard};
pub use once::Once;
pub use semaphore::{Permit, Semaphore};

#[cfg(test)]
mod model;
