//! The processor as a unikernel has it: locks, traps, upcalls, and functions on other cores.

pub mod cores;
pub mod lock;
pub mod quick;
pub(crate) mod section;
pub(crate) mod timer;
pub mod trap;
pub mod upcall;
