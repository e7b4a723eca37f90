//! The rules by which managers share a cache.

use core::fmt;
use core::str::FromStr;

/// How room is divided between managers. With a single manager all are the same, but for
/// [`Allocation::GlobalLru`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Allocation {
    /// The manager of the block used longest ago pays, with swapping and placeholders. The one to use.
    #[default]
    LruSp,
    /// The same without placeholders: a foolish manager takes from the others.
    LruS,
    /// The same without swapping either: a manager that keeps its oldest blocks pays again and again.
    AllocLru,
    /// The block used longest ago goes, and no manager is asked: what a kernel does that knows no managers.
    GlobalLru,
}

impl Allocation {
    /// All of them.
    pub const ALL: [Allocation; 4] =
        [Allocation::LruSp, Allocation::LruS, Allocation::AllocLru, Allocation::GlobalLru];

    /// Its name, which [`Allocation::from_str`] understands.
    pub fn name(self) -> &'static str {
        match self {
            Allocation::LruSp => "lru-sp",
            Allocation::LruS => "lru-s",
            Allocation::AllocLru => "alloc-lru",
            Allocation::GlobalLru => "global-lru",
        }
    }
}

/// No allocation policy has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownAllocation;

impl fmt::Display for UnknownAllocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown allocation, there are: lru-sp, lru-s, alloc-lru, global-lru")
    }
}

impl core::error::Error for UnknownAllocation {}

impl FromStr for Allocation {
    type Err = UnknownAllocation;

    fn from_str(name: &str) -> Result<Allocation, UnknownAllocation> {
        Allocation::ALL.into_iter().find(|kind| kind.name() == name).ok_or(UnknownAllocation)
    }
}
