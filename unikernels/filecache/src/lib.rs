//! File caching by the application: real programs over real files, under the default cache policy and under
//! their own.
//!
//! | workload | what | its own policy |
//! |---|---|---|
//! | [`cs`] | symbol and text search through a source tree | [`cs::policy`]: MRU |
//! | [`din`] | cache simulations over a memory-reference trace | [`din::policy`]: MRU on the trace |
//! | [`sort`] | external merge sort | [`sort::policy`]: done with, free behind |
//! | [`gli`] | text searches by a two-level index | [`gli::policy`]: the plan, as far as the next query |
//! | [`ldk`] | a link of archives | [`ldk::policy`]: MRU, done with |
//! | [`pjn`] | a join by an index | [`pjn::policy`]: the index before all, the plan |
//! | [`ycsb`] | a key-value store | [`ycsb::policy`]: least often used, in earlier runs too |
//!
//! Each folder has a `policy.rs`: the few calls by which an application tells the cache what it knows (the
//! interface is that of P. Cao, E. W. Felten and K. Li, "Application-controlled file caching", OSDI 1994).
//! Everything else in the folder is the program, and does not know about caching.
//!
//! ```text
//!  main.rs         the unikernel: command line in, result line out
//!     │
//!  run, cores      mount, set cache size and policy, take the time, count
//!     │
//!  cs din sort     the programs; each compares its result with the one that was computed without any cache
//!     │
//!  lines, digest   a file as batches of lines
//!     │
//!  libos_fs        files, cache, disk
//! ```
//!
//! The feature `data` adds the host side: where the files come from and what the programs must find in them.
//! The feature `linux` has the same programs run over files of Linux.
#![cfg_attr(not(any(test, feature = "data", feature = "linux")), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod btree;
mod cache_size;
mod catalogue;
pub mod cores;
pub mod cs;
#[cfg(feature = "data")]
pub mod data;
pub mod digest;
pub mod din;
pub mod files;
pub mod gli;
pub mod ldk;
pub mod lines;
#[cfg(feature = "linux")]
pub mod linux;
pub mod pjn;
mod policy;
mod recorded_reads;
mod run;
pub mod sort;
pub mod workload;
pub mod ycsb;

pub use cache_size::{BadCacheSize, CacheSize};
pub use catalogue::{DataFamily, UnknownWorkload, Workload};
pub use policy::{Policy, UnknownPolicy};
pub use run::{Options, Outcome, run, run_observed, run_program};
pub use workload::RunError;
