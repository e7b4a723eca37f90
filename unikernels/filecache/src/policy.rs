//! Which cache policy a workload runs under.

use core::fmt;
use core::str::FromStr;
use libos_fs::PolicyKind;
use results::Role;

/// Which cache policy a workload runs under.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The library operating system's, which is told nothing: LRU.
    #[default]
    Default,
    /// What the workload chooses for itself in its `policy.rs`.
    Own,
    /// One policy for everything, forced from outside; the workload says nothing.
    Forced(PolicyKind),
}

impl Policy {
    /// Where it comes from.
    pub fn role(self) -> Role {
        match self {
            Policy::Default => Role::Default,
            Policy::Own => Role::Own,
            Policy::Forced(_) => Role::Other,
        }
    }

    /// Its name, which [`Policy::from_str`] understands.
    pub fn name(self) -> &'static str {
        match self {
            Policy::Default => "default",
            Policy::Own => "own",
            Policy::Forced(kind) => kind.name(),
        }
    }

    /// What the cache uses where the workload chooses nothing.
    pub fn kind(self) -> PolicyKind {
        match self {
            Policy::Default | Policy::Own => PolicyKind::default(),
            Policy::Forced(kind) => kind,
        }
    }
}

/// No policy has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownPolicy;

impl fmt::Display for UnknownPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown policy, there are: default, own")?;
        PolicyKind::ALL.iter().try_for_each(|kind| write!(f, ", {}", kind.name()))
    }
}

impl core::error::Error for UnknownPolicy {}

impl FromStr for Policy {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<Policy, UnknownPolicy> {
        match name {
            "default" => Ok(Policy::Default),
            "own" => Ok(Policy::Own),
            name => name.parse().map(Policy::Forced).map_err(|_| UnknownPolicy),
        }
    }
}
