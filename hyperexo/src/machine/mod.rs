//! The machine below all resources: names, time, locks, memory, console, interrupts, descriptor tables.
//!
//! The lowest row of the kernel: nothing here knows what a resource or an environment is.

pub mod clock;
pub mod console;
pub mod id;
pub mod interrupt;
pub mod map;
pub mod memory;
pub mod spin;
pub mod tables;
