//! Pages: frames, who has bound them where, and who pays for the tables.
//!
//! | module | what |
//! |---|---|
//! | [`table`] | who owns which frame |
//! | [`nested`] | nested page tables: the secure bindings themselves |
//! | [`views`] | nested tables besides an environment's own, and who may change to them |
//! | [`account`] | who pays |
//! | [`binding`] | bindings made and ended; who has to forget them: [`Stale`], [`Settled`] |
#![forbid(unsafe_code)]

pub mod account;
#[cfg(test)]
pub mod audit;
pub mod binding;
pub mod nested;
pub mod table;
pub mod views;

use crate::machine::id::EnvironmentId;
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
use hyperexo_abi::hypercall::Status;
use nested::{EntryFormat, NestedTable};
use table::{FrameTable, Owner};
use views::{View, ViewId, ViewTable};

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

    /// Makes room for `frames` frames on the account that pays for a place. If need be, the empty table goes
    /// that is kept for the next binding, but only if that is enough.
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

    /// Frees frames. Their bindings have been ended, which `_settled` shows.
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

    /// The nested table of a place, and memory to change it: as much as the account that pays for the place
    /// has left, or any amount on the kernel's account. `None` if the place is no more.
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

    /// The same, for a virtual CPU of the environment: it confines the guest to what the environment has
    /// bound, and is there until the environment's virtual CPUs are gone.
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

    /// Pins frames that an environment owns and has bound read-write, all or none.
    ///
    /// # Errors
    ///
    /// [`Status::NotBound`], [`Status::Busy`] if one is pinned too often.
    pub fn pin_own(&mut self, id: EnvironmentId, frames: Range<u64>) -> Result<(), Status> {
        for frame in frames.clone() {
            // Its own, not just shared with it: pinned for as long as it lives, it must not hold somebody
            // else's.
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
        // Frames whose owner has left become free with their last pin.
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

/// The end of an environment.
impl Pages {
    /// Takes a piece of an environment's own table apart; returns whether that was the last. None of its
    /// guests runs, and none will.
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
