//! What the primitives stand on.

pub use crate::cpu::lock::Deferred as Short;
pub use crate::thread::block_on;
/// What holds a value that is made once: never contended, as a mutex is before it.
pub use spin::Once as Ready;
/// What holds a mutex's value: never contended, as a semaphore of one permit is before it.
pub use spin::mutex::{SpinMutex as Cell, SpinMutexGuard as CellGuard};
