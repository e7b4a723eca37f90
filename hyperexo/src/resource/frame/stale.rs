//! Bindings taken away: the proof that no processor uses them any more.
//!
//! A processor may go on using translations that it has cached. So what takes a binding away returns a
//! [`Stale`]. Only [`crate::kernel::Kernel::settle`] turns it into [`Settled`]: it takes the guests concerned
//! out, and they flush their translations before they go in again. A frame can only be freed with a
//! [`Settled`].
#![forbid(unsafe_code)]

use crate::machine::id::EnvironmentSet;

/// Environments whose processors may remember what is no more.
#[must_use = "guests may go on with translations that are no more: settle"]
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Stale {
    /// Those that have to forget translations.
    pub(crate) flush: EnvironmentSet,
    /// Those whose list of views has changed.
    pub(crate) lists: EnvironmentSet,
}

impl Stale {
    /// Nobody remembers anything.
    pub fn none() -> Stale {
        Stale::default()
    }

    pub(super) fn flush(users: EnvironmentSet) -> Stale {
        Stale { flush: users, lists: EnvironmentSet::EMPTY }
    }

    pub(super) fn lists(users: EnvironmentSet) -> Stale {
        Stale { flush: EnvironmentSet::EMPTY, lists: users }
    }

    /// Both.
    pub fn and(self, other: Stale) -> Stale {
        Stale { flush: self.flush.union(other.flush), lists: self.lists.union(other.lists) }
    }
}

/// No processor uses the bindings any more that were taken away.
#[derive(Debug)]
pub struct Settled(());

impl Settled {
    /// For [`crate::kernel::Kernel::settle`] alone.
    pub(crate) fn new(_done: Stale) -> Settled {
        Settled(())
    }
}
