//! Memory that an application pages itself: which pages are in memory, where the others are, and what makes
//! room, are its own choice, and a fault costs no exit.
//!
//! ```text
//!  Region               words of virtual memory            memory.rs
//!      │ page fault, in the image
//!  Engine               which pages are in memory          engine/
//!      │    └── ReplacementPolicy (of libos-fs): yours to write
//!  Pager                where the others are: yours to write
//!      └── Swap, MappedFile, Compressed, Remote
//! ```
//!
//! The way in is [`PagedMemory`]: so many frames for a set of regions, under one replacement policy. Each
//! [`Region`] has a [`Pager`]. A program reads and writes the region's words, and says what it knows:
//! [`Region::will_need`], [`Region::done_with`], [`Region::sequential`], [`Region::looping`],
//! [`Region::discard`]. Or it ranks pages itself, by a policy of its own: four methods, see
//! [`libos_fs::cache::ReplacementPolicy`].
//!
//! # What a policy hears of references
//!
//! [`References`] says how. Clock, Sieve and S3-FIFO look at the processor's "used" bits themselves, page by
//! page, when they look for a victim ([`HardwareMarks`]). For the others the bits of all pages in memory are
//! gone through, and cleared, before each victim. Or a policy hears of faults only. So a policy sees a page
//! used once between two victims, however often that was.
//!
//! A module uses only what is in rows above its own (`scripts/exo/src/rows` checks it):
//!
//! ```text
//! rows: pager page_map translation · swap file · compressed remote checkpoint · marks recorder foretold
//! rows: model · engine · memory
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod checkpoint;
mod compressed;
mod engine;
mod file;
mod foretold;
mod marks;
mod memory;
pub mod model;
mod page_map;
mod pager;
mod recorder;
mod remote;
mod swap;
mod translation;

pub use checkpoint::Checkpoints;
pub use compressed::Compressed;
pub use engine::{Area, Engine, References, Statistics};
pub use file::MappedFile;
pub use foretold::{Foretelling, Foretold};
pub use marks::{HardwareMarks, Used};
pub use memory::{MemoryError, PagedMemory, PagedOptions, Pinned, Region, Snapshot};
pub use page_map::PageMap;
pub use pager::{PageFailure, Pager, PagerError};
pub use recorder::Recorder;
pub use remote::Remote;
pub use swap::{Swap, SwapError};
pub use translation::{Hashed, Radix, Ranges, Translation, TranslationKind, UnknownTranslation};
