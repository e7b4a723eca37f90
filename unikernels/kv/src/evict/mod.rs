//! Which keys leave when memory runs out: `maxmemory` and `maxmemory-policy`.
//!
//! | name | what |
//! |---|---|
//! | `noeviction` | none: commands that need memory are refused |
//! | `allkeys-lru`, `allkeys-lfu` | exactly the least recently, or least often, used key, where Redis looks at a few by chance |
//! | `allkeys-random`, `volatile-ttl` | as in Redis |
//! | `allkeys-s3-fifo`, `allkeys-w-tinylfu`, … | every policy of [`libos_fs::PolicyKind`], over keys instead of blocks |
//! | `allkeys-own` | [`Worth`]: uses lately for each byte, and for the time that a key has left; how long "lately" is, it tries |
//! | `volatile-…` | any of those, among keys that expire some time |

mod blocks;
mod keeper;
mod level;
mod plain;
mod policy;
mod trial;
mod worth;

pub use blocks::OfBlocks;
pub use keeper::Keeper;
pub use plain::{AtRandom, Expiring, Soonest};
pub use policy::{Eviction, Held};
pub use worth::Worth;

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;
use libos_fs::PolicyKind;

/// The value of `maxmemory-policy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PolicyName {
    /// No key leaves.
    #[default]
    NoEviction,
    /// Keys of all kinds.
    AllKeys(Choice),
    /// Keys that expire some time.
    Volatile(Choice),
    /// The key that expires soonest.
    VolatileTtl,
}

/// How one of several keys is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// As a policy of the library chooses among blocks.
    Library(PolicyKind),
    /// At random.
    Random,
    /// By [`Worth`].
    Own,
}

impl FromStr for Choice {
    type Err = ();

    fn from_str(text: &str) -> Result<Choice, ()> {
        match text {
            "random" => Ok(Choice::Random),
            "own" => Ok(Choice::Own),
            _ => text.parse().map(Choice::Library).map_err(|_| ()),
        }
    }
}

impl Choice {
    fn build(self, seed: u64) -> Box<dyn Eviction> {
        match self {
            Choice::Library(kind) => Box::new(OfBlocks::new(kind)),
            Choice::Random => Box::new(AtRandom::new(seed)),
            Choice::Own => Box::new(Worth::default()),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Choice::Library(kind) => kind.name(),
            Choice::Random => "random",
            Choice::Own => "own",
        })
    }
}

/// No policy has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownPolicy(pub String);

impl fmt::Display for UnknownPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is no policy: noeviction, volatile-ttl, or allkeys- or volatile- and one of random, own",
            self.0
        )?;
        PolicyKind::ALL.iter().try_for_each(|kind| write!(f, ", {}", kind.name()))
    }
}

impl core::error::Error for UnknownPolicy {}

impl FromStr for PolicyName {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<PolicyName, UnknownPolicy> {
        let lower = text.to_ascii_lowercase();
        let unknown = |()| UnknownPolicy(text.into());
        match &*lower {
            "noeviction" => return Ok(PolicyName::NoEviction),
            "volatile-ttl" => return Ok(PolicyName::VolatileTtl),
            _ => {}
        }
        match lower.split_once('-') {
            Some(("allkeys", choice)) => choice.parse().map(PolicyName::AllKeys).map_err(unknown),
            Some(("volatile", choice)) => choice.parse().map(PolicyName::Volatile).map_err(unknown),
            _ => Err(unknown(())),
        }
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PolicyName::NoEviction => f.write_str("noeviction"),
            PolicyName::AllKeys(choice) => write!(f, "allkeys-{choice}"),
            PolicyName::Volatile(choice) => write!(f, "volatile-{choice}"),
            PolicyName::VolatileTtl => f.write_str("volatile-ttl"),
        }
    }
}

impl PolicyName {
    /// A policy of this name, with nothing in its care; `None` if no key leaves. `seed` is for those that
    /// choose at random.
    pub fn build(self, seed: u64) -> Option<Box<dyn Eviction>> {
        match self {
            PolicyName::NoEviction => None,
            PolicyName::AllKeys(choice) => Some(choice.build(seed)),
            PolicyName::Volatile(choice) => Some(Box::new(Expiring::new(choice.build(seed)))),
            PolicyName::VolatileTtl => Some(Box::new(Soonest::default())),
        }
    }
}
