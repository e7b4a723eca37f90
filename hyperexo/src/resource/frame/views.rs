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

use super::nested::NestedTable;
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
    /// Its owner left: it is in nobody's list any more, and waits to be taken apart. These had it in their
    /// lists.
    Ended(ViewId, EnvironmentSet),
}

/// All views.
///
/// A view stays at its place in the table as long as it is there, so that somebody who looks at one after the
/// other misses none.
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

    /// A view that an environment has made and that is in nobody's list any more.
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
        // Whoever has, or will have, that number.
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

    /// Takes a view out of an environment's list; if it is the owner's, out of everybody's.
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

#[cfg(test)]
mod tests;
