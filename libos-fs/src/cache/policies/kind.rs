//! The replacement policies that come with the library, by name.

use super::arc::Arc;
use super::clock::Clock;
use super::clock_pro::ClockPro;
use super::fifo::Fifo;
use super::hinted::Hinted;
use super::lfu::Lfu;
use super::lirs::Lirs;
use super::lru::Lru;
use super::lru_2::Lru2;
use super::mru::Mru;
use super::replacement::ReplacementPolicy;
use super::s3_fifo::S3Fifo;
use super::sieve::Sieve;
use super::two_q::TwoQ;
use super::ubm::Ubm;
use super::w_tinylfu::WTinyLfu;
use alloc::boxed::Box;
use core::fmt;
use core::str::FromStr;

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

/// For [`BufferCache::set_policy`](crate::cache::BufferCache::set_policy), which tells it how many blocks
/// there are.
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
