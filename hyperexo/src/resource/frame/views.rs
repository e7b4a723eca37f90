//! Views: nested page tables besides an environment's own, and who may change to them.
//!
//! ```text
//! environment 1   0: its own table   1: ──── view A (made by 1, offered to 2)
//! environment 2   0: its own table   1: view B (made by 2)   2: ──── view A (accepted)
//! ```
//!
//! Each environment has a list of [`VIEWS`] entries, numbered from 0, which stands for its own table. A
//! virtual CPU changes from entry to entry by itself; the table that it names decides alone what it reaches.
//! A view is made by one environment, which pays for its tables in advance, and is another's only if the
//! maker offers it *and* the other accepts. Either can leave; when the maker leaves, or ends, the view is no
//! more.
//!
//! A view's identity is never used again, so that nobody who was in a view that is gone is taken for one in
//! its successor, which may have the same frames and the same number.
#![forbid(unsafe_code)]

use super::account::{Account, NestedMemory};
use super::binding::Stale;
use super::nested::NestedTable;
use super::{Pages, Place};
use crate::machine::id::{EnvironmentId, EnvironmentSet};
use alloc::vec::Vec;
use hyperexo_abi::accounting::MAX_ENVIRONMENTS;
use hyperexo_abi::hypercall::{Status, VIEWS};

/// Identity of a view, never used twice; not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ViewId(u64);

/// The identities, or top frames, behind the entries of a list; 0: none.
pub type List = [u64; VIEWS];

/// A view.
pub struct View {
    id: ViewId,
    /// Who made it and pays for it.
    pub owner: EnvironmentId,
    /// What it shows.
    pub nested: NestedTable,
    /// Frames that `nested` takes.
    pub tables: u64,
    /// Frames that it may take: what the owner has paid for.
    pub budget: u64,
    offered: EnvironmentSet,
    users: EnvironmentSet,
}

impl View {
    /// Those who have it in their lists, the owner included.
    pub fn users(&self) -> EnvironmentSet {
        self.users
    }

    /// Whether nobody has it but this environment.
    pub fn is_private_to(&self, id: EnvironmentId) -> bool {
        self.users == EnvironmentSet::of(id)
    }
}

/// What is left of a view after somebody has left it.
pub enum Left {
    /// The view goes on.
    Remains(ViewId),
    /// Its owner left: it is in no list any more, and is to be taken apart. These had it in their lists.
    Ended(ViewId, EnvironmentSet),
}

/// All views.
///
/// A view stays at its place in the table, so that a walk in several pieces misses none.
#[derive(Default)]
pub struct ViewTable {
    views: Vec<Option<View>>,
    /// By environment.
    lists: Vec<[Option<ViewId>; VIEWS]>,
    /// The last identity given.
    last: u64,
}

impl ViewTable {
    /// Makes room for the views and the lists of this many environments.
    ///
    /// # Errors
    ///
    /// [`Status::Exhausted`] without memory.
    pub fn expect(&mut self, environments: usize) -> Result<(), Status> {
        // Views that are being taken apart are in no list: as many again.
        let reserved = self.views.try_reserve_exact(2 * VIEWS * environments);
        reserved.map_err(|_| Status::Exhausted)?;
        self.lists.try_reserve_exact(environments + 1).map_err(|_| Status::Exhausted)?;
        self.lists.resize(environments + 1, [None; VIEWS]);
        Ok(())
    }

    fn list(&mut self, id: EnvironmentId) -> &mut [Option<ViewId>; VIEWS] {
        &mut self.lists[id.index()]
    }

    /// The first entry of an environment's list that is free.
    ///
    /// # Errors
    ///
    /// [`Status::Exhausted`].
    pub fn free_entry(&self, id: EnvironmentId) -> Result<usize, Status> {
        let entries = self.lists[id.index()].iter().skip(1);
        entries.into_iter().position(Option::is_none).map(|place| place + 1).ok_or(Status::Exhausted)
    }

    /// A place for one more view.
    fn vacant(&mut self) -> Result<usize, Status> {
        if let Some(place) = self.views.iter().position(Option::is_none) {
            return Ok(place);
        }
        if self.views.len() == self.views.capacity() {
            return Err(Status::Exhausted);
        }
        self.views.push(None);
        Ok(self.views.len() - 1)
    }

    /// Adds a view to its owner's list; returns its number there.
    ///
    /// # Errors
    ///
    /// [`Status::Exhausted`] if the list is full; the table comes back.
    pub fn add(
        &mut self,
        owner: EnvironmentId,
        nested: NestedTable,
        tables: u64,
        budget: u64,
    ) -> Result<usize, NestedTable> {
        let (Ok(entry), Ok(place)) = (self.free_entry(owner), self.vacant()) else { return Err(nested) };
        self.last += 1;
        let id = ViewId(self.last);
        let users = EnvironmentSet::of(owner);
        let offered = EnvironmentSet::EMPTY;
        self.views[place] = Some(View { id, owner, nested, tables, budget, offered, users });
        self.list(owner)[entry] = Some(id);
        Ok(entry)
    }

    /// View number `number` of all places: `None` beyond the last, `Some(None)` where there is none.
    pub fn nth(&self, number: usize) -> Option<Option<ViewId>> {
        Some(self.views.get(number)?.as_ref().map(|view| view.id))
    }

    /// The view behind an entry of an environment's list; entry 0 is none.
    pub fn at(&self, id: EnvironmentId, entry: u64) -> Option<ViewId> {
        *self.lists.get(id.index())?.get(usize::try_from(entry).ok()?)?
    }

    /// A view.
    pub fn get(&self, id: ViewId) -> Option<&View> {
        self.views.iter().flatten().find(|view| view.id == id)
    }

    /// A view, to be changed.
    pub fn get_mut(&mut self, id: ViewId) -> Option<&mut View> {
        self.views.iter_mut().flatten().find(|view| view.id == id)
    }

    /// A view that an environment has made and that is in no list any more.
    pub fn ended_of(&self, owner: EnvironmentId) -> Option<ViewId> {
        let ended = |view: &&View| view.owner == owner && view.users.is_empty();
        self.views.iter().flatten().find(ended).map(|view| view.id)
    }

    /// The view that an environment has made and has at this entry.
    fn own(&mut self, owner: EnvironmentId, entry: u64) -> Result<&mut View, Status> {
        let id = self.at(owner, entry).ok_or(Status::NoSuch)?;
        self.get_mut(id).filter(|view| view.owner == owner).ok_or(Status::NoRight)
    }

    /// Offers a view to another environment, which may exist or not.
    ///
    /// # Errors
    ///
    /// [`Status::NoSuch`] without such a view or with an impossible number, [`Status::NoRight`] if it is
    /// somebody else's.
    pub fn offer(&mut self, owner: EnvironmentId, entry: u64, to: u64) -> Result<(), Status> {
        let exists = |to: &u64| *to != 0 && *to < MAX_ENVIRONMENTS as u64 && *to != owner.number().into();
        let to = Some(to).filter(exists).ok_or(Status::NoSuch)?;
        // The environment that has, or will have, that number.
        self.own(owner, entry)?.offered.insert(EnvironmentId::new(to as u16, 0));
        Ok(())
    }

    /// Takes an offer; returns the view's number in the taker's list. The offer is gone then.
    ///
    /// # Errors
    ///
    /// [`Status::NoSuch`] without such a view, [`Status::NoRight`] without an offer, [`Status::InUse`] if the
    /// taker has it already, [`Status::Exhausted`] if its list is full.
    pub fn accept(
        &mut self,
        taker: EnvironmentId,
        owner: EnvironmentId,
        entry: u64,
    ) -> Result<usize, Status> {
        let view = self.own(owner, entry).map_err(|_| Status::NoSuch)?;
        if view.users.contains(taker) {
            return Err(Status::InUse);
        }
        if !view.offered.contains(taker) {
            return Err(Status::NoRight);
        }
        let id = view.id;
        let free = self.free_entry(taker)?;
        let view = self.own(owner, entry)?;
        view.offered.remove(taker);
        view.users.insert(taker);
        self.list(taker)[free] = Some(id);
        Ok(free)
    }

    /// Takes a view out of an environment's list; if the environment made it, out of all lists.
    ///
    /// # Errors
    ///
    /// [`Status::NoSuch`].
    pub fn leave(&mut self, leaver: EnvironmentId, entry: u64) -> Result<Left, Status> {
        let id = self.at(leaver, entry).ok_or(Status::NoSuch)?;
        let view = self.get_mut(id).ok_or(Status::NoSuch)?;
        if view.owner != leaver {
            view.users.remove(leaver);
            self.list(leaver)[entry as usize] = None;
            return Ok(Left::Remains(id));
        }
        let users = core::mem::take(&mut view.users);
        view.offered = EnvironmentSet::EMPTY;
        for list in &mut self.lists {
            list.iter_mut().filter(|listed| **listed == Some(id)).for_each(|listed| *listed = None);
        }
        Ok(Left::Ended(id, users))
    }

    /// Forgets a view that has been taken apart.
    pub fn forget(&mut self, id: ViewId) {
        let gone = |view: &Option<View>| view.as_ref().is_some_and(|view| view.id == id);
        if let Some(place) = self.views.iter_mut().find(|view| gone(view)) {
            *place = None;
        }
    }

    /// The identities behind an environment's list.
    pub fn identities(&self, id: EnvironmentId) -> List {
        core::array::from_fn(|entry| self.at(id, entry as u64).map_or(0, |view| view.0))
    }

    /// The top frames behind an environment's list; entry 0 stays 0.
    pub fn roots(&self, id: EnvironmentId) -> List {
        let root = |view| self.get(view).map_or(0, |view: &View| view.nested.root());
        core::array::from_fn(|entry| self.at(id, entry as u64).map_or(0, root))
    }
}

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

    /// A new view without bindings, with `budget` frames for its tables, all of which its maker pays for at
    /// once; returns its number in the maker's list.
    ///
    /// # Errors
    ///
    /// [`Status::BadArgument`] for no frames, [`Status::QuotaExceeded`], [`Status::Exhausted`] if the list is
    /// full or no frames are left.
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
    /// Those of [`ViewTable::accept`]; [`Status::NoSuch`] without such an environment;
    /// [`Status::QuotaExceeded`].
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

    /// Takes a view out of an environment's list; if it is its own, out of everybody's: what is left then is
    /// to be [taken apart](Pages::take_view_apart).
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

#[cfg(test)]
mod tests;
