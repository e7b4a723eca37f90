//! Bindings made and ended, and the proof that nobody uses those that are no more.
//!
//! A processor may go on using translations that it has cached. So what takes a binding away returns a
//! [`Stale`]. Only [`crate::kernel::Kernel::settle`] turns it into [`Settled`]: it takes the guests concerned
//! out, and they flush their translations before they go in again. A frame can only be freed with a
//! [`Settled`].
#![forbid(unsafe_code)]

use super::account::Account;
use super::nested::{Counted, NestedTable};
use super::table::Owner;
use super::views::ViewId;
use super::{Pages, Place};
use crate::machine::id::{EnvironmentId, EnvironmentSet};
use crate::resource::capability::{Current, Verified};
use core::ops::Range;
use hyperexo_abi::accounting::MAX_ENVIRONMENTS;
use hyperexo_abi::capability::Rights;
use hyperexo_abi::hypercall::Status;

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

/// How far the bindings of some frames have been ended, in all nested tables there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Everywhere {
    /// Number of the next nested table: environments first, then views.
    next: usize,
}

impl Pages {
    /// Tables that binding a part of a run would take, besides those counted already.
    pub fn tables_needed(
        &self,
        place: Place,
        part: Range<u64>,
        rights: Rights,
        counted: &mut Counted,
    ) -> u64 {
        self.table_of(place).map_or(0, |nested| {
            nested.tables_needed(&self.memory, part.start, part.end - part.start, rights, counted)
        })
    }

    /// Frames that a table may still take.
    pub fn table_room(&mut self, place: Place) -> u64 {
        self.nested_at(place, Account::Environment).map_or(0, |(_, memory)| memory.room)
    }

    fn table_of(&self, place: Place) -> Option<&NestedTable> {
        match place {
            Place::Own(id) => self.holding(id)?.nested.as_ref(),
            Place::View(view) => Some(&self.views.get(view)?.nested),
        }
    }

    /// Whether all frames of a run within one region are bound in a place.
    pub fn all_bound(&self, place: Place, run: Range<u64>) -> bool {
        let entries = |table| self.frames.entries_of(table);
        self.table_of(place).is_some_and(|nested| nested.all_bound(&self.memory, run, entries))
    }

    /// Entries for single frames that a place has in a frame's region.
    pub fn small_entries(&self, place: Place, frame: u64) -> u64 {
        let entries = |table| self.frames.entries_of(table);
        self.table_of(place).map_or(0, |nested| nested.small_entries(&self.memory, frame, entries))
    }

    /// Whether a place is an environment's own table, or a view that it has made.
    pub fn is_own(&self, id: EnvironmentId, place: Place) -> bool {
        match place {
            Place::Own(owner) => owner == id,
            Place::View(view) => self.views.get(view).is_some_and(|view| view.owner == id),
        }
    }

    /// Whether an environment may change what is bound of these frames in a place, where something is: all in
    /// what is its own, elsewhere only the bindings of its own frames.
    pub fn may_change(&self, id: EnvironmentId, place: Place, mut frames: Range<u64>) -> bool {
        if self.is_own(id, place) {
            return true;
        }
        let Place::View(view) = place else { return false };
        let Some(view) = self.views.get(view) else { return false };
        let vacant = |frame| view.nested.lookup(&self.memory, frame).is_none();
        frames.all(|frame| self.frames.owner(frame) == Owner::Environment(id) || vacant(frame))
    }

    /// Binds a part of a run, within one region.
    ///
    /// # Errors
    ///
    /// [`Status::NotBound`] if the place is no more; [`Status::QuotaExceeded`] without room for tables.
    pub fn bind(&mut self, place: Place, part: Current, rights: Rights) -> Result<Stale, Status> {
        let frames = part.range();
        let (nested, mut memory) = self.nested_at(place, Account::Environment).ok_or(Status::NotBound)?;
        let mapped = nested.map(&mut memory, frames.start, frames.end - frames.start, rights);
        let stale = self.take_stale(place);
        mapped.map(|()| stale).map_err(|_| Status::QuotaExceeded)
    }

    /// Binds one frame in an environment's own table, if that takes no other table. `None`: it is not as
    /// simple as that.
    ///
    /// # Errors
    ///
    /// [`Status::StaleCapability`].
    pub fn bind_one(
        &mut self,
        id: EnvironmentId,
        claim: &Verified,
        rights: Rights,
    ) -> Option<Result<Stale, Status>> {
        let frame = claim.first();
        if !self.frames.is_current(frame, claim.generation()) {
            return Some(Err(Status::StaleCapability));
        }
        let (nested, mut memory) = self.nested_at(Place::Own(id), Account::Kernel)?;
        if !nested.bind_in_place(&mut memory, frame, rights) {
            return None;
        }
        let stale = nested.take_flush();
        Some(Ok(if stale { Stale::flush(EnvironmentSet::of(id)) } else { Stale::none() }))
    }

    /// Ends the binding of one frame in an environment's own table, if no table is split for it. `None`: it
    /// is not as simple as that.
    ///
    /// # Errors
    ///
    /// [`Status::Busy`] if a device uses it.
    pub fn unbind_one(&mut self, id: EnvironmentId, frame: u64) -> Option<Result<Stale, Status>> {
        if self.frames.is_pinned(frame) {
            return Some(Err(Status::Busy));
        }
        let (nested, mut memory) = self.nested_at(Place::Own(id), Account::Kernel)?;
        if !nested.unbind_in_place(&mut memory, frame) {
            return None;
        }
        let stale = nested.take_flush();
        Some(Ok(if stale { Stale::flush(EnvironmentSet::of(id)) } else { Stale::none() }))
    }

    /// Binds what the kernel shows an environment, on the environment's account.
    ///
    /// # Errors
    ///
    /// [`Status::QuotaExceeded`] without room for tables.
    pub fn show(
        &mut self,
        id: EnvironmentId,
        frames: Range<u64>,
        rights: Rights,
        account: Account,
    ) -> Result<Stale, Status> {
        let place = Place::Own(id);
        let (nested, mut memory) = self.nested_at(place, account).ok_or(Status::NotBound)?;
        let mapped = nested.map(&mut memory, frames.start, frames.end - frames.start, rights);
        let stale = self.take_stale(place);
        mapped.map(|()| stale).map_err(|_| Status::QuotaExceeded)
    }

    /// Whether the bindings of a run in one place can be ended without losing others: large entries at its
    /// ends may have to be split, for which there must be frames.
    ///
    /// # Errors
    ///
    /// [`Status::QuotaExceeded`], [`Status::Exhausted`].
    pub fn require_split_room(
        &mut self,
        place: Place,
        run: Range<u64>,
        account: Account,
    ) -> Result<(), Status> {
        /// One for each end of the run.
        const TABLES: u64 = 2;
        let Some((nested, memory)) = self.nested_at(place, account) else { return Ok(()) };
        if !nested.needs_split(&memory, run.start, run.end - run.start) {
            return Ok(());
        }
        if memory.frames.free_frames() < TABLES {
            return Err(Status::Exhausted);
        }
        if memory.room < TABLES { Err(Status::QuotaExceeded) } else { Ok(()) }
    }
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
