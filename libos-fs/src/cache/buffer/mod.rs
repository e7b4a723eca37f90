//! What moves blocks: buffers, requests, and what they wait for.
//!
//! ```text
//!   cache, manager                  what applications and file systems ask
//!     fetch, prefetch, metadata     what comes in
//!       room                        a buffer for it
//!         write_back                what goes out
//!           transfer                requests on their way
//!             state                 what is known; made of slots, dirty, disclosures, record
//! ```

mod cache;
mod contents;
mod dirty;
mod disclosure;
mod disclosures;
mod fetch;
mod manager;
mod metadata;
mod options;
mod prefetch;
mod record;
mod room;
mod slots;
mod state;
mod statistics;
mod transfer;
mod write_back;
mod write_order;

pub(crate) use fetch::{Locate, Run};
pub use manager::Manager;
pub use options::CacheOptions;
pub use record::{Event, Observer};
pub use statistics::CacheStatistics;
pub use transfer::BufferCache;
