//! The result lines that unikernels print and the host tool reads: one JSON object a line.
//!
//! A unikernel fills in what it can know and prints the line on its console; the host tool adds what only it
//! can know (the platform, the accelerator, the misses of an optimal cache) and writes the same structure to
//! files. So there is one schema, and it is this crate.
//!
//! | type | `bench` | printed by |
//! |---|---|---|
//! | [`CompareLine`] | `"compare"` | `filecache`: one workload under one cache policy |
//! | [`PagingLine`] | `"paging"` | `pager`: one program under one policy for pages |
//! | [`KvLine`] | `"kv"` | `kv`: one kind of traffic under one policy of eviction |
//!
//! Names and meanings of the fields are an interface for others' scripts: fields may be added, never renamed.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod compare;
mod kv;
mod paging;
mod point_reads;

pub use compare::{BENCH_COMPARE, CompareLine, ParseError, Role};
pub use kv::KvLine;
pub use paging::{BENCH_PAGING, PagingLine};
pub use point_reads::PointReads;
