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
use super::share::Share;
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

/// Something that can be set of a policy: a share of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it is unless it is set: mostly the choice of the paper.
    pub default: Share,
    /// The most that makes sense.
    pub most: Share,
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

    /// What can be set of it.
    pub fn parameters(self) -> &'static [Parameter] {
        const fn parameter(name: &'static str, default_percent: u32, most: Share) -> Parameter {
            Parameter { name, default: Share::percent(default_percent), most }
        }
        const ALL: Share = Share::percent(100);
        const HISTORY: [Parameter; 1] = [parameter("history", 100, Share::UNLIMITED)];
        const TWO_Q: [Parameter; 2] = [parameter("in", 25, ALL), parameter("out", 50, Share::UNLIMITED)];
        const LIRS: [Parameter; 2] = [parameter("hir", 1, ALL), parameter("stack", 200, Share::UNLIMITED)];
        const S3_FIFO: [Parameter; 2] =
            [parameter("small", 10, ALL), parameter("ghosts", 90, Share::UNLIMITED)];
        const TINY_LFU: [Parameter; 2] = [parameter("window", 1, ALL), parameter("protected", 80, ALL)];
        match self {
            PolicyKind::Lru2 => &HISTORY,
            PolicyKind::TwoQ => &TWO_Q,
            PolicyKind::Lirs => &LIRS,
            PolicyKind::S3Fifo => &S3_FIFO,
            PolicyKind::WTinyLfu => &TINY_LFU,
            _ => &[],
        }
    }

    /// A policy of this kind for so many blocks, with nothing in its care.
    pub fn build(self, blocks: usize) -> Box<dyn ReplacementPolicy> {
        self.build_with(&[], blocks)
    }

    /// A policy of this kind for so many blocks, with nothing in its care. `values` are those of
    /// [`parameters`](PolicyKind::parameters), in the same order; what is missing or `None` is as by default.
    pub fn build_with(self, values: &[Option<Share>], blocks: usize) -> Box<dyn ReplacementPolicy> {
        self.build_for(values, blocks, Boxed)
    }

    /// Hands the policy that [`build_with`](PolicyKind::build_with) would make to somebody who takes its very
    /// type. So a loop over its methods is compiled for each policy, and calls none of them by a table.
    pub fn build_for<T: TakePolicy>(self, values: &[Option<Share>], blocks: usize, taker: T) -> T::Output {
        let value = |number: usize| {
            let default =
                self.parameters().get(number).map_or(Share::UNLIMITED, |parameter| parameter.default);
            values.get(number).copied().flatten().unwrap_or(default)
        };
        match self {
            PolicyKind::Lru => hand(Lru::default(), blocks, taker),
            PolicyKind::Mru => hand(Mru::default(), blocks, taker),
            PolicyKind::Fifo => hand(Fifo::default(), blocks, taker),
            PolicyKind::Clock => hand(<Clock>::default(), blocks, taker),
            PolicyKind::Lfu => hand(Lfu::default(), blocks, taker),
            PolicyKind::Lru2 => hand(Lru2::with(value(0)), blocks, taker),
            PolicyKind::TwoQ => hand(TwoQ::with(value(0), value(1)), blocks, taker),
            PolicyKind::Lirs => hand(Lirs::with(value(0), value(1)), blocks, taker),
            PolicyKind::Arc => hand(Arc::default(), blocks, taker),
            PolicyKind::ClockPro => hand(ClockPro::default(), blocks, taker),
            PolicyKind::S3Fifo => hand(S3Fifo::default().with_shares(value(0), value(1)), blocks, taker),
            PolicyKind::Sieve => hand(<Sieve>::default(), blocks, taker),
            PolicyKind::WTinyLfu => hand(WTinyLfu::with(value(0), value(1)), blocks, taker),
            PolicyKind::Ubm => hand(Ubm::default(), blocks, taker),
            PolicyKind::Hinted => hand(Hinted::default(), blocks, taker),
        }
    }
}

/// Somebody who takes a policy whose type is known when it is compiled: see [`PolicyKind::build_for`].
pub trait TakePolicy {
    /// What comes of it.
    type Output;

    /// Takes a policy that knows its size and has nothing in its care.
    fn take<P: ReplacementPolicy + 'static>(self, policy: P) -> Self::Output;
}

/// Tells a policy its size, and hands it over.
fn hand<T: TakePolicy>(mut policy: impl ReplacementPolicy + 'static, blocks: usize, taker: T) -> T::Output {
    policy.resized(blocks);
    taker.take(policy)
}

/// Puts policies of all types into the same kind of box.
struct Boxed;

impl TakePolicy for Boxed {
    type Output = Box<dyn ReplacementPolicy>;

    fn take<P: ReplacementPolicy + 'static>(self, policy: P) -> Box<dyn ReplacementPolicy> {
        Box::new(policy)
    }
}

/// For [`BufferCache::set_policy`](crate::cache::BufferCache::set_policy), which tells it how many blocks
/// there are.
impl From<PolicyKind> for Box<dyn ReplacementPolicy> {
    fn from(kind: PolicyKind) -> Box<dyn ReplacementPolicy> {
        kind.build(0)
    }
}

/// How a cache makes the policy of blocks that nobody gave another.
///
/// [`PolicyKind`] names all policies, so an image that gives one of these has them all. One that names a
/// single type has only that: [`MakePolicy::of`].
///
/// ```
/// use libos_fs::cache::{CacheOptions, Clock, MakePolicy, PolicyKind};
///
/// let one = CacheOptions { policy: MakePolicy::of::<Clock>(), ..CacheOptions::default() };
/// let named = CacheOptions { policy: PolicyKind::Sieve.into(), ..CacheOptions::default() };
/// assert_eq!((one.policy.name(), named.policy.name()), ("clock", "sieve"));
/// ```
#[derive(Clone, Copy)]
pub struct MakePolicy {
    make: fn(PolicyKind) -> Box<dyn ReplacementPolicy>,
    kind: PolicyKind,
}

impl MakePolicy {
    /// Makes this one.
    pub fn of<P: ReplacementPolicy + Default + 'static>() -> MakePolicy {
        MakePolicy { make: |_| Box::new(P::default()), kind: PolicyKind::default() }
    }

    /// A policy for so many blocks, with nothing in its care.
    pub fn build(self, blocks: usize) -> Box<dyn ReplacementPolicy> {
        let mut policy = (self.make)(self.kind);
        policy.resized(blocks);
        policy
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        (self.make)(self.kind).name()
    }
}

/// [`Lru`].
impl Default for MakePolicy {
    fn default() -> MakePolicy {
        MakePolicy::of::<Lru>()
    }
}

impl From<PolicyKind> for MakePolicy {
    fn from(kind: PolicyKind) -> MakePolicy {
        MakePolicy { make: PolicyKind::into, kind }
    }
}

impl fmt::Debug for MakePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
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
