//! Locks that are held for some instructions, by whoever of several cores or threads comes first.
//!
//! In a unikernel the holder keeps its core: another thread of the core would wait for it in a loop, perhaps
//! with interrupts disabled, and never let it go on.

#[cfg(feature = "unikernel")]
pub use libos_core::lock::{Deferred as Mutex, DeferredGuard as MutexGuard, DeferredRw as RwLock};
#[cfg(not(feature = "unikernel"))]
pub use spin::{Mutex, MutexGuard, RwLock};
