//! What happens in a cache, for those who want to watch.

use alloc::boxed::Box;

/// Something that happened to a block; its number is that of [`reference()`](super::reference()).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It was referred to and in the cache.
    Hit(u64),
    /// It was referred to and not in the cache, or only in staging.
    Miss(u64),
    /// It left to make room. If a reference made it leave, this comes before that reference's miss.
    Evicted(u64),
}

/// Is told of every event as it happens; see [`BufferCache::observe`](super::BufferCache::observe). It must
/// not use the cache that it observes.
pub type Observer = Box<dyn FnMut(Event)>;
