//! Views in use: the calls that make, share and end them, and what virtual CPUs must know of it.
//!
//! Invariant: whoever changes an environment's list of views, or takes a binding out of a view, calls
//! `Kernel::settle_list` or `Kernel::settle_view` before the lock is released and before frames of tables are
//! given back. Both take the guests out that could be in the view; these see the new list, and lose their old
//! translations, before they go in again.
#![forbid(unsafe_code)]

use crate::env::NestedMemory;
use crate::interrupt;
use crate::kernel::Kernel;
use crate::resource::page::{EnvironmentId, Owner};
use crate::resource::view::{Left, List, View, ViewId};
use crate::virt::nested::{NestedTable, TableMemory};
use hyperexo_abi::hypercall::{Status, VIEWS};

/// Which entries of two lists of identities are the same view.
pub fn kept(old: &List, new: &List) -> u64 {
    (0..VIEWS).filter(|entry| old[*entry] == new[*entry]).fold(0, |bits, entry| bits | 1 << entry)
}

/// Where a binding is made or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In an environment's own nested table.
    Own(EnvironmentId),
    /// In a view.
    View(ViewId),
}

impl Kernel {
    /// What an environment means by a number in its list.
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

    /// The nested table of a place with the memory to change it, within the means of who pays for it unless
    /// `forced`. `None` if it is no more.
    pub fn nested_at(&mut self, place: Place, forced: bool) -> Option<(&mut NestedTable, NestedMemory<'_>)> {
        let view = match place {
            Place::Own(id) => return self.nested(id, forced),
            Place::View(view) => self.views.get_mut(view)?,
        };
        let room = if forced { u64::MAX } else { view.budget.saturating_sub(view.tables) };
        let View { nested, tables, .. } = view;
        Some((nested, NestedMemory { frames: &mut self.frames, memory: self.memory, room, tables }))
    }

    /// Makes a change of a place's nested table final: no core uses it, or will, with old translations.
    pub fn settle_at(&mut self, place: Place) {
        match place {
            Place::Own(id) => self.settle(id),
            Place::View(view) => self.settle_view(view),
        }
    }

    fn settle_view(&mut self, id: ViewId) {
        let Some(view) = self.views.get_mut(id) else { return };
        if view.nested.take_flush() {
            for user in view.users() {
                self.environment(user).vcpus.iter_mut().for_each(|slot| slot.flush = true);
                interrupt::fetch_back(user);
            }
        }
    }

    /// Makes a change of an environment's list final.
    fn settle_list(&mut self, id: EnvironmentId) {
        let roots = self.views.roots(id);
        let (backend, memory) = (self.backend, self.memory);
        let environment = self.environment(id);
        let own = environment.nested.as_ref().map_or(0, NestedTable::root);
        if let Some(list) = environment.view_list {
            for (entry, root) in [own].iter().chain(&roots[1..]).enumerate() {
                memory.set_word(list, entry, if *root == 0 { 0 } else { backend.view_entry(*root) });
            }
        }
        environment.vcpus.iter_mut().for_each(|slot| slot.views_changed = true);
        interrupt::fetch_back(id);
    }

    /// Sees to it that an environment has a frame for its list, at its expense.
    fn ensure_list(&mut self, id: EnvironmentId) -> Result<(), Status> {
        if self.environment(id).view_list.is_none() {
            let (_, mut memory) = self.tables(id, false);
            let frame = memory.allocate().ok_or(Status::QuotaExceeded)?;
            self.environment(id).view_list = Some(frame);
        }
        Ok(())
    }

    /// A new view without bindings, with `budget` frames for its tables; returns its number in the maker's
    /// list.
    ///
    /// # Errors
    ///
    /// [`Status::BadArgument`] for no frames, [`Status::QuotaExceeded`], [`Status::Exhausted`] if the list is
    /// full or no frames are left.
    pub fn view_create(&mut self, id: EnvironmentId, budget: u64) -> Result<usize, Status> {
        if budget == 0 {
            return Err(Status::BadArgument);
        }
        self.views.free_entry(id)?;
        self.ensure_list(id)?;
        let format = self.backend.entry_format();
        let (_, memory) = self.tables(id, false);
        if budget > memory.room {
            return Err(Status::QuotaExceeded);
        }
        let mut tables = 0;
        let mut memory = NestedMemory { room: budget, tables: &mut tables, ..memory };
        let nested = NestedTable::new(format, &mut memory).map_err(|_| Status::Exhausted)?;
        let entry = self.views.add(id, nested, tables, budget)?;
        self.environment(id).tables += budget;
        self.settle_list(id);
        self.update_frames(id);
        Ok(entry)
    }

    /// Takes an offer of a view; returns its number in the taker's list.
    ///
    /// # Errors
    ///
    /// Those of [`crate::resource::view::ViewTable::accept`]; [`Status::QuotaExceeded`].
    pub fn view_accept(&mut self, id: EnvironmentId, owner: u64, entry: u64) -> Result<usize, Status> {
        self.ensure_list(id)?;
        let entry = self.views.accept(id, owner, entry)?;
        self.settle_list(id);
        Ok(entry)
    }

    /// Ends what an environment has of a view: all of it if it is its own, else its own frames in it.
    ///
    /// # Errors
    ///
    /// [`Status::NoSuch`].
    pub fn view_end(&mut self, id: EnvironmentId, entry: u64) -> Result<(), Status> {
        match self.views.leave(id, entry)? {
            Left::Remains(view) => {
                self.settle_list(id);
                let mut frame = 0;
                while let Some(owned) = self.frames.next_owned(id, frame) {
                    if let Some((nested, mut memory)) = self.nested_at(Place::View(view), true) {
                        nested.unmap(&mut memory, owned.start, owned.end - owned.start);
                    }
                    frame = owned.end;
                }
                self.settle_view(view);
            }
            Left::Ended(view) => {
                view.users().for_each(|user| self.settle_list(user));
                let View { owner, nested, mut tables, budget, .. } = view;
                let mut memory = NestedMemory {
                    frames: &mut self.frames,
                    memory: self.memory,
                    room: u64::MAX,
                    tables: &mut tables,
                };
                nested.destroy(&mut memory);
                self.environment(owner).tables -= budget;
            }
        }
        Ok(())
    }

    /// Ends all that an environment has of views. None of its guests runs, and none will.
    pub fn end_views(&mut self, id: EnvironmentId) {
        for entry in 1..VIEWS as u64 {
            // Most entries are vacant.
            let _ = self.view_end(id, entry);
        }
        if let Some(list) = self.environment(id).view_list.take() {
            self.tables(id, true).1.release(list);
        }
    }

    /// Whether an environment may end bindings of these frames in a place: any in what is its own, elsewhere
    /// those of its own frames.
    pub fn may_unbind(&self, id: EnvironmentId, place: Place, mut frames: core::ops::Range<u64>) -> bool {
        match place {
            Place::Own(owner) => owner == id,
            Place::View(view) => {
                self.views.get(view).is_some_and(|view| view.owner == id)
                    || frames.all(|frame| self.frames.owner(frame) == Owner::Environment(id))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_kept_if_it_is_the_same_view() {
        let mut old = [0; VIEWS];
        (old[1], old[2], old[3]) = (7, 8, 9);
        let mut new = old;
        (new[2], new[3]) = (10, 0);
        assert_eq!(kept(&old, &new) & 0b1111, 0b0011);
    }
}
