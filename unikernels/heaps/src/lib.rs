//! Users of the primitives of Appel and Li (ASPLOS'91): a generational collector, whose write barrier is
//! code, page protection, or the processor's dirty bits; and a store of objects that outlive the program.
//!
//! | module | what |
//! |---|---|
//! | [`memory`] | words whose pages can be guarded; a model of it for tests on the host |
//! | [`collector`] | the heap and its collector |
//! | [`programs`] | what makes garbage |
//! | [`store`] | objects on a disk, faulted in, committed atomically |
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod collector;
pub mod memory;
pub mod programs;
pub mod store;
