//! What decides: which block leaves ([`ReplacementPolicy`] and one file for each policy that comes with the
//! library), what is fetched early ([`ReadAhead`]), what is written early ([`WriteBack`]).

mod arc;
mod clock;
mod clock_pro;
mod fifo;
mod ghost_ring;
mod ghosts;
mod hinted;
mod kind;
mod lfu;
mod lirs;
mod lru;
mod lru_2;
mod marks;
mod mru;
mod per_slot;
mod read_ahead;
mod replacement;
mod s3_fifo;
mod share;
mod sieve;
mod sketch;
mod two_q;
mod ubm;
mod w_tinylfu;
mod write_back;

pub use arc::Arc;
pub use clock::Clock;
pub use clock_pro::ClockPro;
pub use fifo::Fifo;
pub use hinted::Hinted;
pub use kind::{MakePolicy, Parameter, PolicyKind, TakePolicy, UnknownPolicy};
pub use lfu::Lfu;
pub use lirs::Lirs;
pub use lru::Lru;
pub use lru_2::Lru2;
pub use marks::{Marks, OwnMarks, SharedMarks};
pub use mru::Mru;
pub use read_ahead::{
    Aggressive, Cluster, Directed, Disclosed, NoReadAhead, OneBlock, ReadAhead, ReadAheadKind, Reference,
    Sequential, UnknownReadAhead,
};
pub use replacement::{Advice, Cached, ReplacementPolicy};
pub use s3_fifo::S3Fifo;
pub use share::{NoShare, Share};
pub use sieve::Sieve;
pub use two_q::TwoQ;
pub use ubm::Ubm;
pub use w_tinylfu::WTinyLfu;
pub use write_back::{
    ByAge, ByRatio, DirtyBlocks, OnReplacement, UnknownWriteBack, WriteBack, WriteBackKind,
};
