//! Programs with more data than frames. Each runs over any [`Memory`]: regions of `libos-pager` in a
//! unikernel, anonymous memory on Linux, and on the host a memory that records every page reference.
//!
//! All programs are deterministic: what they compute is the same everywhere, and so are the pages they touch.
//! In between they say what they know of their accesses. Only who runs under its *own* policy listens.
//!
//! | module | what |
//! |---|---|
//! | [`memory`] | what a program needs of memory |
//! | [`recording`] | a memory that records |
//! | [`options`] | words of the command line |
//! | [`modelled`] | paged memory of the host: the engine of `libos-pager` over a page table that is a model |
//! | [`programs`] | matrix products, a sort, walks over a graph, a join, a collector, indices |
#![cfg_attr(not(feature = "linux"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

#[cfg(feature = "linux")]
pub mod linux;
pub mod memory;
pub mod modelled;
pub mod options;
pub mod programs;
pub mod recording;

pub use memory::{Array, Memory};
pub use modelled::Modelled;
pub use programs::{OwnPolicy, Program, UnknownProgram};
pub use recording::Recording;

/// Bytes in a page.
pub const PAGE_BYTES: usize = 4096;
/// Words in a page.
pub const PAGE_WORDS: usize = PAGE_BYTES / 8;
