//! Bindings taken away: the proof that nobody uses them any more.
//!
//! A processor may go on with translations that it has cached. So whoever takes a binding away gets a
//! [`Stale`], which only [`crate::kernel::Kernel::settle`] turns into [`Settled`], by taking the guests
//! concerned out and having them flushed; and only with that a frame can be freed.
#![forbid(unsafe_code)]

use super::account::Account;
use super::nested::NestedTable;
use super::views::ViewId;
use super::{Pages, Place};
use crate::machine::id::{EnvironmentId, EnvironmentSet};
use core::ops::Range;
use hyperexo_abi::accounting::MAX_ENVIRONMENTS;

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

/// Whoever remembered a binding that has been taken away has forgotten it.
#[derive(Debug)]
pub struct Settled(());

impl Settled {
    /// For [`crate::kernel::Kernel::settle`] alone.
    pub(crate) fn new(_done: Stale) -> Settled {
        Settled(())
    }
}

/// How far the bindings of some frames have been ended, in all nested tables there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Everywhere {
    /// Number of the next nested table: environments first, then views.
    next: usize,
}

impl Pages {
    /// Ends bindings of frames within one region, in all nested tables but those that only `except` uses;
    /// looks at no more than `tables` tables, fewer if large entries have to be split. Returns whether that
    /// was all.
    pub fn unbind_everywhere(
        &mut self,
        frames: Range<u64>,
        except: Option<EnvironmentId>,
        progress: &mut Everywhere,
        tables: usize,
    ) -> (Stale, bool) {
        /// What splitting an entry counts, in tables.
        const SPLIT: usize = 4;
        let (mut stale, mut looked) = (Stale::none(), 0);
        while looked < tables {
            if progress.next == 0 && !self.frames.any_bound(frames.clone()) {
                return (stale, true);
            }
            let Some(place) = self.nth_place(progress.next) else {
                *progress = Everywhere::default();
                return (stale, true);
            };
            progress.next += 1;
            looked += 1;
            if let Some(place) = place
                && !except.is_some_and(|id| self.is_private(place, id))
            {
                looked += if self.needs_split(place, frames.clone()) { SPLIT } else { 0 };
                stale = stale.and(self.unmap(place, frames.clone(), Account::Kernel));
            }
        }
        (stale, false)
    }

    /// Nested table number `number`: `None` beyond the last, `Some(None)` where there is none.
    fn nth_place(&self, number: usize) -> Option<Option<Place>> {
        match number.checked_sub(MAX_ENVIRONMENTS) {
            None => {
                let holding = self.holdings.get(number).and_then(Option::as_ref);
                Some(holding.map(|holding| Place::Own(holding.id)))
            }
            Some(view) => self.views.nth(view).map(|view| view.map(Place::View)),
        }
    }

    /// Whether nobody but this environment uses a table.
    fn is_private(&self, place: Place, id: EnvironmentId) -> bool {
        match place {
            Place::Own(owner) => owner == id,
            Place::View(view) => self.views.get(view).is_some_and(|view| view.is_private_to(id)),
        }
    }

    /// Whether ending the bindings of a run in a place takes entries apart.
    fn needs_split(&self, place: Place, frames: Range<u64>) -> bool {
        self.table_of(place)
            .is_some_and(|nested| nested.needs_split(&self.memory, frames.start, frames.end - frames.start))
    }

    /// Ends the bindings of a run in one place.
    pub fn unmap(&mut self, place: Place, frames: Range<u64>, account: Account) -> Stale {
        if let Some((nested, mut memory)) = self.nested_at(place, account) {
            nested.unmap(&mut memory, frames.start, frames.end - frames.start);
        }
        self.take_stale(place)
    }

    /// Who must forget what, after changes of a place's table.
    pub(super) fn take_stale(&mut self, place: Place) -> Stale {
        match place {
            Place::Own(id) => {
                let nested = self.holding_mut(id).and_then(|holding| holding.nested.as_mut());
                let stale = nested.is_some_and(NestedTable::take_flush);
                if stale { Stale::flush(EnvironmentSet::of(id)) } else { Stale::none() }
            }
            Place::View(view) => self.take_stale_of_view(view),
        }
    }

    fn take_stale_of_view(&mut self, id: ViewId) -> Stale {
        let Some(view) = self.views.get_mut(id) else { return Stale::none() };
        if view.nested.take_flush() { Stale::flush(view.users()) } else { Stale::none() }
    }
}
