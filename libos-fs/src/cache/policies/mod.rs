//! What decides which block leaves the cache: the trait, and the policies that come with the library, one
//! file each.

mod arc;
mod clock;
mod clock_pro;
mod fifo;
mod ghosts;
mod hinted;
mod lfu;
mod lirs;
mod lru;
mod lru_2;
mod marks;
mod mru;
mod per_slot;
mod s3_fifo;
mod sieve;
mod sketch;
mod two_q;
mod ubm;
mod w_tinylfu;

pub use arc::Arc;
pub use clock::Clock;
pub use clock_pro::ClockPro;
pub use fifo::Fifo;
pub use hinted::Hinted;
pub use lfu::Lfu;
pub use lirs::Lirs;
pub use lru::Lru;
pub use lru_2::Lru2;
pub use marks::{Marks, OwnMarks, SharedMarks};
pub use mru::Mru;
pub use s3_fifo::S3Fifo;
pub use sieve::Sieve;
pub use two_q::TwoQ;
pub use ubm::Ubm;
pub use w_tinylfu::WTinyLfu;

use alloc::boxed::Box;
use core::fmt;
use core::ops::Range;
use core::str::FromStr;

/// A block as a policy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cached {
    /// Number of the buffer it is in: small, dense from 0, unique among the blocks in the cache. Good as an
    /// index into a `Vec`, so that every operation can be O(1) without a hash table.
    pub slot: usize,
    /// What block it is, the same number every time it comes back: for policies that remember blocks which
    /// have left. See [`super::reference()`].
    pub block: u64,
}

/// What an application says about blocks of a file, see [`BufferCache::advise`](super::BufferCache::advise).
/// As with `posix_fadvise` it is no order: a policy may ignore it, and wrong advice costs time, never data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Advice {
    /// Nothing is known any more: what was said before about these blocks no longer holds.
    Normal,
    /// They will be used soon.
    WillNeed,
    /// They will not be used soon.
    DoneWith,
    /// They are read in order, once.
    Sequential,
    /// They are read in order, again and again.
    Loop,
    /// They are read in no order.
    Random,
}

/// A replacement policy: it is told what happens to the blocks in its care, and asked for a victim.
///
/// To write one, keep whatever order you like over slot numbers. Four methods must be there:
///
/// * [`inserted`](ReplacementPolicy::inserted): a block came in (and has thereby been used once);
/// * [`accessed`](ReplacementPolicy::accessed): a block in your care was used again;
/// * [`removed`](ReplacementPolicy::removed): a block has gone, whatever the reason;
/// * [`victim`](ReplacementPolicy::victim): name the slot that should make room.
///
/// Three more do nothing unless you write them: [`resized`](ReplacementPolicy::resized) tells how many blocks
/// fit, [`evicted`](ReplacementPolicy::evicted) tells a replaced block from one that was deleted, and
/// [`advised`](ReplacementPolicy::advised) passes on what the application says.
///
/// Naming a victim removes nothing; if the cache follows, `evicted` comes next. The cache checks every
/// answer: a slot that is not in your care or that a device is using is not taken, nor is `None`; then the
/// cache takes the block that was used longest ago, and counts it in
/// [`CacheStatistics::rejected_victims`](super::CacheStatistics::rejected_victims). So a wrong policy costs
/// time, never data.
///
/// All of them should take constant time: they run on every access.
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
///     fn victim(&mut self, _: Option<u64>) -> Option<usize> { self.0.iter().max().copied() }
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

    /// A block has left the policy's care for a reason that says nothing about its worth: the file was
    /// deleted, or the block got another priority.
    fn removed(&mut self, block: Cached);

    /// A block has left the policy's care to make room, mostly because [`victim`](ReplacementPolicy::victim)
    /// named it. For policies that remember such blocks; the others need not write it.
    fn evicted(&mut self, block: Cached) {
        self.removed(block);
    }

    /// The slot whose block should be replaced.
    ///
    /// `missing` is the number of the block that needs the room, if there is one; `None` when the cache
    /// shrinks. It need not come into this policy's care: it may be of another priority, and reading it may
    /// fail. Asked again before anything else has happened, a policy should give the same answer.
    fn victim(&mut self, missing: Option<u64>) -> Option<usize>;

    /// How many blocks there is room for, in all: told before the first block, and whenever it changes. The
    /// blocks in the policy's care can be fewer (others have another priority) and, while a cache shrinks,
    /// more.
    fn resized(&mut self, blocks: usize) {
        let _ = blocks;
    }

    /// The application has said something about blocks, which need not be in the cache.
    fn advised(&mut self, blocks: Range<u64>, advice: Advice) {
        let _ = (blocks, advice);
    }
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
    /// Least often used, with aging: [`Lfu`].
    Lfu,
    /// Last use but one: [`Lru2`].
    Lru2,
    /// Trial queue, main list and ghosts: [`TwoQ`].
    TwoQ,
    /// Inter-reference recency: [`Lirs`].
    Lirs,
    /// Adaptive: [`Arc`].
    Arc,
    /// LIRS by a clock: [`ClockPro`].
    ClockPro,
    /// Three queues: [`S3Fifo`].
    S3Fifo,
    /// A hand that sifts: [`Sieve`].
    Sieve,
    /// Admission by frequency: [`WTinyLfu`].
    WTinyLfu,
    /// Sequences and loops, detected: [`Ubm`].
    Ubm,
    /// What the application says: [`Hinted`].
    Hinted,
}

impl PolicyKind {
    /// All of them.
    pub const ALL: [PolicyKind; 15] = [
        PolicyKind::Fifo,
        PolicyKind::Lru,
        PolicyKind::Mru,
        PolicyKind::Clock,
        PolicyKind::Lfu,
        PolicyKind::Lru2,
        PolicyKind::TwoQ,
        PolicyKind::Lirs,
        PolicyKind::Arc,
        PolicyKind::ClockPro,
        PolicyKind::S3Fifo,
        PolicyKind::Sieve,
        PolicyKind::WTinyLfu,
        PolicyKind::Ubm,
        PolicyKind::Hinted,
    ];

    /// Its name, which [`PolicyKind::from_str`] understands.
    pub fn name(self) -> &'static str {
        match self {
            PolicyKind::Lru => "lru",
            PolicyKind::Mru => "mru",
            PolicyKind::Fifo => "fifo",
            PolicyKind::Clock => "clock",
            PolicyKind::Lfu => "lfu",
            PolicyKind::Lru2 => "lru-2",
            PolicyKind::TwoQ => "2q",
            PolicyKind::Lirs => "lirs",
            PolicyKind::Arc => "arc",
            PolicyKind::ClockPro => "clock-pro",
            PolicyKind::S3Fifo => "s3-fifo",
            PolicyKind::Sieve => "sieve",
            PolicyKind::WTinyLfu => "w-tinylfu",
            PolicyKind::Ubm => "ubm",
            PolicyKind::Hinted => "hinted",
        }
    }

    /// A policy of this kind for so many blocks, with nothing in its care.
    pub fn build(self, blocks: usize) -> Box<dyn ReplacementPolicy> {
        let mut policy: Box<dyn ReplacementPolicy> = match self {
            PolicyKind::Lru => Box::new(Lru::default()),
            PolicyKind::Mru => Box::new(Mru::default()),
            PolicyKind::Fifo => Box::new(Fifo::default()),
            PolicyKind::Clock => Box::new(<Clock>::default()),
            PolicyKind::Lfu => Box::new(Lfu::default()),
            PolicyKind::Lru2 => Box::new(Lru2::default()),
            PolicyKind::TwoQ => Box::new(TwoQ::default()),
            PolicyKind::Lirs => Box::new(Lirs::default()),
            PolicyKind::Arc => Box::new(Arc::default()),
            PolicyKind::ClockPro => Box::new(ClockPro::default()),
            PolicyKind::S3Fifo => Box::new(S3Fifo::default()),
            PolicyKind::Sieve => Box::new(<Sieve>::default()),
            PolicyKind::WTinyLfu => Box::new(WTinyLfu::default()),
            PolicyKind::Ubm => Box::new(Ubm::default()),
            PolicyKind::Hinted => Box::new(Hinted::default()),
        };
        policy.resized(blocks);
        policy
    }
}

/// For [`BufferCache::set_policy`](super::BufferCache::set_policy), which tells it how many blocks there are.
impl From<PolicyKind> for Box<dyn ReplacementPolicy> {
    fn from(kind: PolicyKind) -> Box<dyn ReplacementPolicy> {
        kind.build(0)
    }
}

/// No policy has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownPolicy;

impl fmt::Display for UnknownPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown policy, there are: ")?;
        PolicyKind::ALL.iter().enumerate().try_for_each(|(position, kind)| {
            let comma = if position == 0 { "" } else { ", " };
            write!(f, "{comma}{}", kind.name())
        })
    }
}

impl core::error::Error for UnknownPolicy {}

impl FromStr for PolicyKind {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<PolicyKind, UnknownPolicy> {
        PolicyKind::ALL.into_iter().find(|kind| kind.name() == name).ok_or(UnknownPolicy)
    }
}
