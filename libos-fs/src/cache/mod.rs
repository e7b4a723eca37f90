//! The buffer cache: a strict budget of blocks, and policies that decide how it is spent.
//!
//! The design is that of application-controlled file caching (P. Cao, E. W. Felten, K. Li, OSDI 1994), on two
//! levels. *Managers* (an application, a set of files, a tenant) share the blocks; [`Allocation`] decides
//! which of them gives one up. In a manager every file has a *priority*, blocks of the same priority form a
//! pool with a replacement policy of its own, and the pool of the lowest priority is asked for a victim
//! first. A single block can have a *temporary priority* until it is next referenced or replaced. Policies
//! and priorities can be changed at any time. An application that makes no [`Manager`] uses the default one.
//!
//! * **Budget.** Resident blocks, blocks in staging and blocks on their way never exceed
//!   [`CacheOptions::blocks`].
//! * **Misses are clustered.** What a [`ReadAhead`] policy fetches along with a missing block waits in
//!   *staging*. The replacement policy hears of a block only when it is first referenced. So it sees the same
//!   references as without read-ahead, and it does not throw away what was just fetched.
//! * **Write-back.** Written blocks stay until they are replaced, until the [`WriteBack`] policy sends them,
//!   or until the file system commits; then adjacent ones are written together. Blocks of removed files are
//!   dropped without being written.
//! * **Nothing is borrowed while waiting** but the device; several requests are in flight at a time.
//! * **Checksums** are verified when a block arrives and computed when it leaves, if the format has them.
//!
//! The parts, each of which imports only those above it:
//!
//! ```text
//!   key, order, chains, references    names, lists, tables, text
//!   policies                          decide what leaves, what comes early, what is written early
//!   allocation                        decides which manager pays
//!   buffer                            moves blocks: BufferCache
//!   managed, model, shared            priorities as a policy; caches without contents, for several cores
//!   replay                            the whole cache on recorded references
//! ```

mod allocation;
mod buffer;
mod chains;
mod key;
mod managed;
mod model;
mod order;
mod policies;
pub mod references;
mod replay;
mod shared;

pub use crate::lent_page::LentPage;
pub use allocation::{Allocation, ManagerId, ManagerStatistics, UnknownAllocation};
pub use buffer::{BufferCache, CacheOptions, CacheStatistics, Event, Manager, Observer};
pub(crate) use buffer::{Locate, Run};
pub use key::{block_of, reference};
pub use managed::Managed;
pub use model::{
    LruStack, ManagedSimulation, Numbering, Opt, OptStack, ReferenceString, Referenced, Sample, SampleLimit,
    Sampler, Simulation, TooLong, criteria, fixed_set_misses, optimal_misses, simulate,
};
pub use order::{Lists, Order};
pub use policies::*;
pub use replay::Replay;
pub use shared::SharedCache;
