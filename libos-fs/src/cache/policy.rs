//! What decides which block leaves the cache.

use super::{Clock, Fifo, Lru, Mru};
use alloc::boxed::Box;
use core::fmt;
use core::str::FromStr;

/// A block as a policy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cached {
    /// Number of the buffer it is in: small, dense from 0, unique among the blocks in the cache. Good as an index into
    /// a `Vec`, so that every operation can be O(1) without a hash table.
    pub slot: usize,
    /// What block it is, the same number every time it comes back: for policies that remember blocks which have left.
    /// See [`super::reference()`].
    pub block: u64,
}

/// A replacement policy: it is told what happens to the blocks in its care, and asked for a victim.
///
/// To write one, keep whatever order you like over slot numbers:
///
/// * [`inserted`](ReplacementPolicy::inserted): a block came in (and has thereby been used once);
/// * [`accessed`](ReplacementPolicy::accessed): a block in your care was used again;
/// * [`removed`](ReplacementPolicy::removed): a block has gone, whether you named it as a victim or the file was deleted,
///   or the block got another priority;
/// * [`victim`](ReplacementPolicy::victim): name the slot that should make room.
///
/// Naming a victim removes nothing; if the cache follows, `removed` comes next. The cache checks every answer: a slot
/// that is not in your care or that a device is using is not taken, nor is `None`; then the cache takes the block
/// that was used longest ago, and counts it in
/// [`CacheStatistics::rejected_victims`](super::CacheStatistics::rejected_victims). So a wrong policy costs time, never data.
///
/// All four should take constant time: they run on every access.
///
/// ```
/// use libos_fs::cache::{Cached, ReplacementPolicy, simulate};
///
/// /// Replaces the block in the highest slot, for no good reason.
/// #[derive(Default)]
/// struct Highest(Vec<usize>);
///
/// impl ReplacementPolicy for Highest {
///     fn name(&self) -> &'static str { "highest" }
///     fn inserted(&mut self, block: Cached) { self.0.push(block.slot) }
///     fn accessed(&mut self, _: Cached) {}
///     fn removed(&mut self, block: Cached) { self.0.retain(|slot| *slot != block.slot) }
///     fn victim(&mut self) -> Option<usize> { self.0.iter().max().copied() }
/// }
///
/// assert_eq!(simulate(&mut Highest::default(), 2, &[1, 2, 3, 1, 2, 3]), 5);
/// ```
pub trait ReplacementPolicy {
    /// Name in reports: lower case, one word.
    fn name(&self) -> &'static str;
    /// A block has come into the policy's care.
    fn inserted(&mut self, block: Cached);
    /// A block in the policy's care has been used again.
    fn accessed(&mut self, block: Cached);
    /// A block has left the policy's care.
    fn removed(&mut self, block: Cached);
    /// The slot whose block should be replaced.
    fn victim(&mut self) -> Option<usize>;
}

/// The policies that come with the library.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PolicyKind {
    /// Least recently used: [`Lru`].
    #[default]
    Lru,
    /// Most recently used: [`Mru`].
    Mru,
    /// First in, first out: [`Fifo`].
    Fifo,
    /// Second chance: [`Clock`].
    Clock,
}

impl PolicyKind {
    /// All of them.
    pub const ALL: [PolicyKind; 4] = [PolicyKind::Lru, PolicyKind::Mru, PolicyKind::Fifo, PolicyKind::Clock];

    /// Its name, which [`PolicyKind::from_str`] understands.
    pub fn name(self) -> &'static str {
        match self {
            PolicyKind::Lru => "lru",
            PolicyKind::Mru => "mru",
            PolicyKind::Fifo => "fifo",
            PolicyKind::Clock => "clock",
        }
    }

    /// A policy of this kind, with nothing in its care.
    pub fn build(self) -> Box<dyn ReplacementPolicy> {
        match self {
            PolicyKind::Lru => Box::new(Lru::default()),
            PolicyKind::Mru => Box::new(Mru::default()),
            PolicyKind::Fifo => Box::new(Fifo::default()),
            PolicyKind::Clock => Box::new(Clock::default()),
        }
    }
}

impl From<PolicyKind> for Box<dyn ReplacementPolicy> {
    fn from(kind: PolicyKind) -> Box<dyn ReplacementPolicy> {
        kind.build()
    }
}

/// No policy has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownPolicy;

impl fmt::Display for UnknownPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown policy, there are: lru, mru, fifo, clock")
    }
}

impl core::error::Error for UnknownPolicy {}

impl FromStr for PolicyKind {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<PolicyKind, UnknownPolicy> {
        PolicyKind::ALL.into_iter().find(|kind| kind.name() == name).ok_or(UnknownPolicy)
    }
}
