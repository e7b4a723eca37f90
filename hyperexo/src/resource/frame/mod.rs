//! Pages: frames, who has bound them where, and who pays for the tables.
//!
//! | module | what |
//! |---|---|
//! | [`table`] | who owns which frame |
//! | [`nested`] | nested page tables: the secure bindings themselves |
//! | [`views`] | nested tables besides an environment's own, and who may change to them |
//! | [`account`] | who pays |
//! | [`binding`] | bindings taken away: [`Stale`], [`Settled`] |
#![forbid(unsafe_code)]

pub mod account;
#[cfg(test)]
pub mod audit;
pub mod binding;
pub mod nested;
pub mod table;
pub mod views;

use crate::machine::id::{EnvironmentId, EnvironmentSet};
use crate::machine::memory::PhysicalMemory;
use crate::resource::capability::{Current, Verified};
use crate::resource::resize;
use account::{Account, Charged, Holding, NestedMemory};
use alloc::vec::Vec;
use binding::{Settled, Stale};
use core::ops::Range;
use core::sync::atomic::Ordering;
use hyperexo_abi::accounting::{Accounting, Owners};
use hyperexo_abi::capability::Rights;
use hyperexo_abi::hypercall::{Status, VIEWS};
use nested::{Counted, EntryFormat, NestedTable};
use table::{FrameTable, Owner};
use views::{Left, List, View, ViewId, ViewTable};

/// Frames of the free-frame bitmap.
#[derive(Clone, Copy)]
pub struct FreeMap {
    /// First frame.
    pub first_frame: u64,
    /// Frames.
    pub frames: u64,
}

/// Pages that every environment can read.
#[derive(Clone, Copy)]
pub struct Public {
    /// The free-frame bitmap.
    pub free_map: FreeMap,
    /// What each environment owns.
    pub owners: &'static Owners,
    /// Frame of that page.
    pub owners_frame: u64,
}

/// Where a binding is made or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In an environment's own nested table.
    Own(EnvironmentId),
    /// In a view.
    View(ViewId),
}

/// The proof that a nested page table confines the guests of an environment. Only [`Pages`] makes one.
#[derive(Clone, Copy, Debug)]
pub struct Confinement {
    root: u64,
    id: EnvironmentId,
}

impl Confinement {
    /// Top frame of the table.
    pub fn root(&self) -> u64 {
        self.root
    }

    /// Whose guests.
    pub fn id(&self) -> EnvironmentId {
        self.id
    }
}

/// All pages.
pub struct Pages {
    /// Physical memory.
    pub memory: PhysicalMemory,
    /// Who owns which frame.
    pub frames: FrameTable,
    /// What everybody can read.
    pub public: Public,
    views: ViewTable,
    /// By number of the environment.
    holdings: Vec<Option<Holding>>,
    /// How entries of nested tables look.
    format: EntryFormat,
}

impl Pages {
    /// Pages of a machine with these frames.
    pub fn new(memory: PhysicalMemory, frames: FrameTable, public: Public, format: EntryFormat) -> Pages {
        Pages { memory, frames, public, views: ViewTable::default(), holdings: Vec::new(), format }
    }

    /// Makes room for what this many environments may have.
    ///
    /// # Errors
    ///
    /// [`Status::Exhausted`] without memory.
    pub fn expect(&mut self, environments: usize) -> Result<(), Status> {
        self.views.expect(environments)?;
        resize(&mut self.holdings, environments)
    }

    /// Lets an environment have pages: at most `quota`. It gets a nested page table without bindings.
    ///
    /// # Errors
    ///
    /// [`Status::Exhausted`] without memory.
    pub fn admit(
        &mut self,
        id: EnvironmentId,
        quota: u64,
        accounting: &'static Accounting,
    ) -> Result<(), Status> {
        let quota = quota.min(self.frames.len());
        let peak_frames = 0;
        let holding =
            Holding { id, nested: None, quota, charged: 0, view_list: None, peak_frames, accounting };
        self.holdings[id.index()] = Some(holding);
        let format = self.format;
        let (nested, mut memory) = self.own_table(id, Account::Kernel).ok_or(Status::NoSuch)?;
        *nested = Some(NestedTable::new(format, &mut memory).map_err(|_| Status::Exhausted)?);
        Ok(())
    }

    /// What an environment has of memory; `None`: it was never admitted.
    pub fn holding(&self, id: EnvironmentId) -> Option<&Holding> {
        self.holdings.get(id.index())?.as_ref().filter(|holding| holding.id == id)
    }

    fn holding_mut(&mut self, id: EnvironmentId) -> Option<&mut Holding> {
        self.holdings.get_mut(id.index())?.as_mut().filter(|holding| holding.id == id)
    }

    /// Frames that an environment may still take.
    pub fn room(&self, id: EnvironmentId) -> u64 {
        let used = |holding: &Holding| self.frames.owned_by(id) + holding.charged;
        self.holding(id).map_or(0, |holding| holding.quota.saturating_sub(used(holding)))
    }

    /// Sees to it that who pays for a place has room for `frames` frames, if need be without the table that
    /// is kept for the next binding: it goes only if that is enough.
    ///
    /// # Errors
    ///
    /// [`Status::QuotaExceeded`]: nothing has changed.
    pub fn require_room(&mut self, place: Place, frames: u64) -> Result<Stale, Status> {
        let full = Status::QuotaExceeded;
        let (nested, mut memory) = self.nested_at(place, Account::Environment).ok_or(full)?;
        if memory.room >= frames {
            return Ok(Stale::none());
        }
        if !nested.has_spare() || memory.room + 1 < frames {
            return Err(full);
        }
        nested.drop_spare(&mut memory);
        // Nothing that was bound is gone, but the way to the table may be cached.
        Ok(self.take_stale(place))
    }

    /// A frame of zeros for the kernel's use, on an environment's account.
    ///
    /// # Errors
    ///
    /// [`Status::QuotaExceeded`], [`Status::Exhausted`].
    pub fn charge(&mut self, id: EnvironmentId, account: Account) -> Result<u64, Status> {
        if account == Account::Environment && self.room(id) == 0 {
            return Err(Status::QuotaExceeded);
        }
        let frame = self.frames.take_any().ok_or(Status::Exhausted)?;
        self.memory.clear(frame);
        if let Some(holding) = self.holding_mut(id) {
            holding.charged += 1;
        }
        Ok(frame)
    }

    /// The same, several of them, or none.
    ///
    /// # Errors
    ///
    /// As [`Pages::charge`].
    pub fn charge_many<const FRAMES: usize>(
        &mut self,
        id: EnvironmentId,
        account: Account,
    ) -> Result<Charged<FRAMES>, Status> {
        let mut frames = [0; FRAMES];
        for index in 0..FRAMES {
            match self.charge(id, account) {
                Ok(frame) => frames[index] = frame,
                Err(status) => {
                    frames[..index].iter().for_each(|frame| self.discharge(id, *frame));
                    return Err(status);
                }
            }
        }
        Ok(Charged::new(frames))
    }

    /// Takes back a frame of [`Pages::charge`] that nobody has bound.
    pub fn discharge(&mut self, id: EnvironmentId, frame: u64) {
        self.frames.release_kernel(frame..frame + 1);
        if let Some(holding) = self.holding_mut(id) {
            holding.charged -= 1;
        }
    }

    /// Who owns the frames of a claim, if it is current. Looks at all of them.
    ///
    /// # Errors
    ///
    /// [`Status::StaleCapability`].
    pub fn check(&self, claim: &Verified) -> Result<Current, Status> {
        Ok(Current::new(*claim, self.frames.check(claim)?))
    }

    /// Makes frames nobody's. Their bindings have been ended, which `_settled` shows.
    ///
    /// # Panics
    ///
    /// If one is bound all the same.
    pub fn free(&mut self, frames: Range<u64>, _settled: &Settled) {
        self.frames.free(frames);
    }

    /// The place of an environment's own table, with memory to make or change it.
    fn own_table(
        &mut self,
        id: EnvironmentId,
        account: Account,
    ) -> Option<(&mut Option<NestedTable>, NestedMemory<'_>)> {
        let room = match account {
            Account::Environment => self.room(id),
            Account::Kernel => u64::MAX,
        };
        let holding = self.holdings.get_mut(id.index())?.as_mut().filter(|holding| holding.id == id)?;
        let Holding { nested, charged, .. } = holding;
        Some((nested, NestedMemory { frames: &mut self.frames, memory: self.memory, room, charged }))
    }

    /// The nested table of a place with the memory to change it, within the means of who pays for it unless the
    /// account is the kernel's. `None` if it is no more.
    pub fn nested_at(
        &mut self,
        place: Place,
        account: Account,
    ) -> Option<(&mut NestedTable, NestedMemory<'_>)> {
        let view = match place {
            Place::Own(id) => {
                let (nested, memory) = self.own_table(id, account)?;
                return Some((nested.as_mut()?, memory));
            }
            Place::View(view) => self.views.get_mut(view)?,
        };
        let room = match account {
            Account::Environment => view.budget.saturating_sub(view.tables),
            Account::Kernel => u64::MAX,
        };
        let View { nested, tables, .. } = view;
        Some((nested, NestedMemory { frames: &mut self.frames, memory: self.memory, room, charged: tables }))
    }

    /// Whether a place is an environment's own table, or a view in its list.
    pub fn has_place(&self, id: EnvironmentId, place: Place) -> bool {
        match place {
            Place::Own(owner) => owner == id,
            Place::View(view) => self.views_of(id).any(|entry| self.views.at(id, entry) == Some(view)),
        }
    }

    /// What an environment means by a number in its list of views.
    ///
    /// # Errors
    ///
    /// [`Status::NoSuch`].
    pub fn place(&self, id: EnvironmentId, entry: u64) -> Result<Place, Status> {
        match entry {
            0 => Ok(Place::Own(id)),
            _ => self.views.at(id, entry).map(Place::View).ok_or(Status::NoSuch),
        }
    }

    /// Top frame of an environment's own nested table; `None` once it has been taken apart.
    pub fn root(&self, id: EnvironmentId) -> Option<u64> {
        Some(self.holding(id)?.nested.as_ref()?.root())
    }

    /// The same, for a virtual CPU of the environment: it confines the guest to what the environment has bound, and is
    /// there until the environment's virtual CPUs are gone.
    pub fn confinement(&self, id: EnvironmentId) -> Option<Confinement> {
        Some(Confinement { root: self.root(id)?, id })
    }

    /// Rights with which an environment has bound a frame in its own table.
    pub fn lookup(&self, id: EnvironmentId, frame: u64) -> Option<Rights> {
        self.holding(id)?.nested.as_ref()?.lookup(&self.memory, frame)
    }

    /// Whether an environment has bound a frame in its own table with at least these rights.
    pub fn has_bound(&self, id: EnvironmentId, frame: u64, rights: Rights) -> bool {
        self.lookup(id, frame).is_some_and(|bound| bound.contains(rights))
    }

    /// Tables that binding a part of a run would take, besides those counted already.
    pub fn tables_needed(&self, place: Place, part: Range<u64>, counted: &mut Counted) -> u64 {
        self.table_of(place).map_or(0, |nested| {
            nested.tables_needed(&self.memory, part.start, part.end - part.start, counted)
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

    /// Whether an environment may change what is bound of these frames in a place, where something is: all in what is
    /// its own, elsewhere only the bindings of its own frames.
    pub fn may_change(&self, id: EnvironmentId, place: Place, mut frames: Range<u64>) -> bool {
        match place {
            Place::Own(owner) => owner == id,
            Place::View(view) => {
                let Some(view) = self.views.get(view) else { return false };
                let vacant = |frame| view.nested.lookup(&self.memory, frame).is_none();
                view.owner == id
                    || frames.all(|frame| self.frames.owner(frame) == Owner::Environment(id) || vacant(frame))
            }
        }
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

    /// Whether the bindings of a run in one place can be ended without losing others: large entries at its ends may have
    /// to be split, for which there must be frames.
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

    /// Pins frames that an environment owns and has bound read-write, all or none.
    ///
    /// # Errors
    ///
    /// [`Status::NotBound`], [`Status::Busy`] if one is pinned too often.
    pub fn pin_own(&mut self, id: EnvironmentId, frames: Range<u64>) -> Result<(), Status> {
        for frame in frames.clone() {
            // Its own, not just shared with it: pinned for as long as it lives, it must not hold somebody else's.
            let own = self.frames.owner(frame) == Owner::Environment(id);
            if !own || !self.has_bound(id, frame, Rights::READ_WRITE) {
                return Err(Status::NotBound);
            }
        }
        self.pin(frames.clone()).then_some(()).ok_or(Status::Busy)
    }

    /// Pins frames, all or none; returns whether it could.
    #[must_use]
    pub fn pin(&mut self, frames: impl Iterator<Item = u64> + Clone) -> bool {
        for (done, frame) in frames.clone().enumerate() {
            if !self.frames.pin(frame) {
                frames.take(done).for_each(|frame| self.frames.unpin(frame));
                return false;
            }
        }
        true
    }

    /// Undoes [`Pages::pin`].
    pub fn unpin(&mut self, frames: impl Iterator<Item = u64>) {
        frames.for_each(|frame| self.frames.unpin(frame));
        // Some may have waited for that to be nobody's.
        self.public.owners.free_frames.store(self.frames.free_frames(), Ordering::Relaxed);
    }

    /// Brings the readable counts of an environment's frames and the kernel's up to date.
    pub fn publish(&mut self, id: EnvironmentId) {
        let owned = self.frames.owned_by(id);
        let owners = self.public.owners;
        owners.frames[id.index()].store(owned, Ordering::Relaxed);
        owners.frames[0].store(self.frames.kernel_frames(), Ordering::Relaxed);
        owners.free_frames.store(self.frames.free_frames(), Ordering::Relaxed);
        if let Some(holding) = self.holding_mut(id) {
            holding.accounting.frames.store(owned, Ordering::Relaxed);
            holding.peak_frames = holding.peak_frames.max(owned + holding.charged);
        }
    }
}

/// Views.
impl Pages {
    /// The views behind an environment's list, by identity.
    pub fn view_identities(&self, id: EnvironmentId) -> List {
        self.views.identities(id)
    }

    /// The top frames behind an environment's list; entry 0 is that of its own table.
    pub fn view_roots(&self, id: EnvironmentId) -> List {
        let mut roots = self.views.roots(id);
        roots[0] = self.root(id).unwrap_or(0);
        roots
    }

    /// Frame with an environment's list of views, once it has one.
    pub fn view_list(&self, id: EnvironmentId) -> Option<u64> {
        self.holding(id)?.view_list
    }

    /// Puts a view into an environment's list, for which it gets a frame at its expense if it has none yet.
    /// The frame goes again if nothing comes of it.
    fn add_to_list(
        &mut self,
        id: EnvironmentId,
        add: impl FnOnce(&mut Pages) -> Result<usize, Status>,
    ) -> Result<(usize, Stale), Status> {
        let is_first = self.view_list(id).is_none();
        if is_first {
            let frame = self.charge(id, Account::Environment)?;
            if let Some(holding) = self.holding_mut(id) {
                holding.view_list = Some(frame);
            }
        }
        let added = add(self);
        if is_first && added.is_err() {
            self.end_view_list(id);
        }
        Ok((added?, Stale::lists(EnvironmentSet::of(id))))
    }

    /// A new view without bindings, with `budget` frames for its tables, all of which its maker pays for at once;
    /// returns its number in the maker's list.
    ///
    /// # Errors
    ///
    /// [`Status::BadArgument`] for no frames, [`Status::QuotaExceeded`], [`Status::Exhausted`] if the list is full or
    /// no frames are left.
    pub fn create_view(&mut self, id: EnvironmentId, budget: u64) -> Result<(usize, Stale), Status> {
        if budget == 0 {
            return Err(Status::BadArgument);
        }
        self.views.free_entry(id)?;
        self.add_to_list(id, |pages| pages.make_view(id, budget))
    }

    fn make_view(&mut self, id: EnvironmentId, budget: u64) -> Result<usize, Status> {
        if budget > self.room(id) {
            return Err(Status::QuotaExceeded);
        }
        let mut tables = 0;
        let (frames, charged) = (&mut self.frames, &mut tables);
        let mut memory = NestedMemory { frames, memory: self.memory, room: budget, charged };
        let nested = NestedTable::new(self.format, &mut memory).map_err(|_| Status::Exhausted)?;
        match self.views.add(id, nested, tables, budget) {
            Ok(entry) => {
                if let Some(holding) = self.holding_mut(id) {
                    holding.charged += budget;
                }
                Ok(entry)
            }
            Err(nested) => {
                self.frames.release_kernel(nested.root()..nested.root() + 1);
                Err(Status::Exhausted)
            }
        }
    }

    /// Offers a view to another environment.
    ///
    /// # Errors
    ///
    /// Those of [`ViewTable::offer`].
    pub fn offer_view(&mut self, id: EnvironmentId, entry: u64, to: u64) -> Result<(), Status> {
        self.views.offer(id, entry, to)
    }

    /// Takes an offer of a view; returns its number in the taker's list.
    ///
    /// # Errors
    ///
    /// Those of [`ViewTable::accept`]; [`Status::NoSuch`] without such an environment; [`Status::QuotaExceeded`].
    pub fn accept_view(
        &mut self,
        id: EnvironmentId,
        owner: u64,
        entry: u64,
    ) -> Result<(usize, Stale), Status> {
        let number = usize::try_from(owner).map_err(|_| Status::NoSuch)?;
        let owner = self.holdings.get(number).and_then(Option::as_ref).ok_or(Status::NoSuch)?.id;
        self.add_to_list(id, |pages| pages.views.accept(id, owner, entry))
    }

    /// Takes a view out of an environment's list; if it is its own, out of everybody's: what is left then is to be
    /// [taken apart](Pages::take_view_apart).
    ///
    /// # Errors
    ///
    /// [`Status::NoSuch`].
    pub fn leave_view(&mut self, id: EnvironmentId, entry: u64) -> Result<(Left, Stale), Status> {
        let left = self.views.leave(id, entry)?;
        let users = match left {
            Left::Remains(_) => EnvironmentSet::of(id),
            Left::Ended(_, users) => users,
        };
        Ok((left, Stale::lists(users)))
    }

    /// Takes a piece of a view apart that is in nobody's list any more; returns whether that was the last.
    pub fn take_view_apart(&mut self, view: ViewId, cursor: &mut u64) -> bool {
        let Some((nested, mut memory)) = self.nested_at(Place::View(view), Account::Kernel) else {
            return true;
        };
        match nested.take_apart(&mut memory, *cursor) {
            Some(next) => {
                *cursor = next;
                false
            }
            None => {
                let ended = self.views.get(view).map(|view| (view.owner, view.budget));
                self.views.forget(view);
                if let Some((owner, budget)) = ended
                    && let Some(holding) = self.holding_mut(owner)
                {
                    holding.charged -= budget;
                }
                true
            }
        }
    }

    /// The entries of an environment's list in which there is a view.
    pub fn views_of(&self, id: EnvironmentId) -> impl Iterator<Item = u64> + '_ {
        (1..VIEWS as u64).filter(move |entry| self.views.at(id, *entry).is_some())
    }

    /// A view that an environment has begun to end and not taken apart.
    pub fn ended_view_of(&self, id: EnvironmentId) -> Option<ViewId> {
        self.views.ended_of(id)
    }

    /// Gives back the frame of an environment's list of views. None of its guests runs, and none will.
    pub fn end_view_list(&mut self, id: EnvironmentId) {
        if let Some(list) = self.holding_mut(id).and_then(|holding| holding.view_list.take()) {
            self.discharge(id, list);
        }
    }
}

/// The end of an environment.
impl Pages {
    /// Takes a piece of an environment's own table apart; returns whether that was the last. None of its guests runs,
    /// and none will.
    pub fn take_own_apart(&mut self, id: EnvironmentId, cursor: &mut u64) -> bool {
        let Some((nested, mut memory)) = self.nested_at(Place::Own(id), Account::Kernel) else { return true };
        match nested.take_apart(&mut memory, *cursor) {
            Some(next) => {
                *cursor = next;
                false
            }
            None => {
                if let Some(holding) = self.holding_mut(id) {
                    holding.nested = None;
                }
                true
            }
        }
    }
}
