//! The disk as environments see it: rings in, requests to the device, completions back.
//!
//! The kernel checks each request against what its sender has bound, blocks and frames, and pins the frames.
//! The device moves the data straight between disk and frames. A request whose time is up is answered with
//! [`Outcome::Timeout`]. Its frames stay pinned until the device gives them back: it may still write to them.

#[cfg(test)]
mod audit;
pub mod extents;
mod requests;

use crate::device::block::BlockDevice;
use crate::machine::id::EnvironmentId;
use crate::resource::capability::{Current, Verified};
use crate::resource::frame::Pages;
use crate::resource::frame::account::Account;
use crate::resource::ring::KernelRing;
use crate::resource::{Calls, Resource, Work, count, holding_of, resize};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;
use extents::{Binding, ExtentTable, MAX_BINDINGS, WrittenMap};
use hyperexo_abi::accounting::{Accounting, MAX_ENVIRONMENTS};
use hyperexo_abi::capability::{Claim, Rights};
use hyperexo_abi::hypercall::{MAP_FRAME_BLOCKS, MAX_ALLOCATION_BLOCKS, MAX_EXTENT_MAP_FRAMES, Status};
use hyperexo_abi::ring::{
    COMPLETIONS, Completion, CompletionSlot, DiskRing, Outcome, RING_FRAMES, SUBMISSIONS, Submission,
    SubmissionSlot,
};
use hyperexo_abi::upcall::Cause;
use hyperexo_hw::virtio::block::SLOTS;
use requests::{InFlight, touches, touches_one};

/// How much is done for one environment before others get the lock, in pieces of some hundred instructions.
const BUDGET: u32 = 64;
/// What a request costs of that, besides its blocks.
const REQUEST_COST: u32 = 4;
/// What each block costs that is read as zeros: its frame is cleared.
const ZEROS_COST: u32 = 4;
/// Completions taken before others get the lock.
const COMPLETIONS_AT_ONCE: usize = 4;

/// The kernel's side of an environment's ring.
struct Ring {
    ring: KernelRing<SubmissionSlot, CompletionSlot, SUBMISSIONS, COMPLETIONS>,
    /// First frame of the ring.
    first_frame: u64,
    /// Index of the virtual CPU that bound it, and that is called.
    vcpu: usize,
    /// Requests taken whose completions have not been posted.
    outstanding: u32,
}

impl Ring {
    /// Whether one more completion is sure to find a place.
    fn has_room(&self) -> bool {
        // No more than half of the device for one environment: others find room.
        self.ring.has_room(self.outstanding) && self.outstanding < SLOTS as u32 / 2
    }

    fn take(&mut self) -> Submission {
        self.outstanding += 1;
        self.ring.take()
    }

    /// Posts a completion. Returns whether the environment wants to be called.
    fn post(&mut self, tag: u64, outcome: Outcome) -> bool {
        self.outstanding = self.outstanding.saturating_sub(1);
        self.ring.post(&Completion { tag, outcome })
    }

    fn frames(&self) -> Range<u64> {
        self.first_frame..self.first_frame + RING_FRAMES
    }
}

/// What the disk keeps for an environment.
struct Holding {
    id: EnvironmentId,
    /// Blocks that it may allocate.
    quota: u64,
    /// Extents that it has bound.
    bindings: Vec<Binding>,
    ring: Option<Ring>,
    accounting: &'static Accounting,
}

/// The disk.
pub struct Disk {
    device: Box<dyn BlockDevice>,
    extents: ExtentTable,
    /// By number of the environment.
    holdings: Vec<Option<Holding>>,
    /// Indexed by the device's number of the request.
    in_flight: Box<[Option<InFlight>]>,
    /// Where the device may put blocks that nobody may see.
    scrap_frame: u64,
    /// Ticks that the device has for a request.
    patience: u64,
    /// Number of the environment whose ring is looked at first when the device has room.
    first_served: usize,
    /// Environments whose rings are still to be looked at, from `first_served` on.
    to_serve: usize,
    /// Requests have been submitted that the device has not been told of.
    untold: bool,
    /// The device is done with something, and no interrupt says so.
    done_already: bool,
}

impl Disk {
    /// A disk on this device; `scrap_frame` is a frame of the kernel, `patience` in ticks of the TSC.
    pub fn new(device: Box<dyn BlockDevice>, scrap_frame: u64, patience: u64) -> Disk {
        let extents = ExtentTable::new(device.blocks());
        let in_flight = (0..SLOTS).map(|_| None).collect();
        Disk {
            device,
            extents,
            holdings: Vec::new(),
            in_flight,
            scrap_frame,
            patience,
            first_served: 0,
            to_serve: 0,
            untold: false,
            done_already: false,
        }
    }

    /// Makes room for what this many environments may have.
    ///
    /// # Errors
    ///
    /// [`Status::Exhausted`] without memory.
    pub fn expect(&mut self, environments: usize) -> Result<(), Status> {
        resize(&mut self.holdings, environments)?;
        self.extents.admit(environments)
    }

    /// Lets an environment use the disk, and allocate `quota` blocks.
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
        let mut bindings = Vec::new();
        bindings.try_reserve_exact(MAX_BINDINGS).map_err(|_| Status::Exhausted)?;
        self.holdings[id.index()] = Some(Holding { id, quota, bindings, ring: None, accounting });
        Ok(())
    }

    fn holding(&mut self, id: EnvironmentId) -> Result<&mut Holding, Status> {
        holding_of(&mut self.holdings, id, |holding| holding.id).ok_or(Status::NotBound)
    }

    /// Blocks of the disk.
    pub fn blocks(&self) -> u64 {
        self.extents.blocks()
    }

    /// Blocks owned by an environment.
    pub fn owned_by(&self, id: EnvironmentId) -> u64 {
        self.extents.owned_by(id)
    }

    /// Whether the device refuses writes.
    pub fn read_only(&self) -> bool {
        self.device.read_only()
    }

    /// Gives an environment the extent of its manifest.
    ///
    /// # Errors
    ///
    /// Those of [`ExtentTable::grant`].
    pub fn grant(
        &mut self,
        id: EnvironmentId,
        first: u64,
        count: u64,
        rights: Rights,
    ) -> Result<Claim, Status> {
        self.extents.grant(id, first, count, rights)
    }

    /// Gives an environment free blocks. The frames that say which of them have been written are on its
    /// account.
    ///
    /// # Errors
    ///
    /// [`Status::BadArgument`] for more than [`MAX_ALLOCATION_BLOCKS`]; [`Status::QuotaExceeded`];
    /// [`Status::Exhausted`]; those of [`ExtentTable::require_free`].
    pub fn allocate(
        &mut self,
        id: EnvironmentId,
        first: u64,
        blocks: u64,
        pages: &mut Pages,
    ) -> Result<Claim, Status> {
        let first = self.extents.require_free(id, first, blocks)?;
        let allocated = self.extents.allocated_by(id);
        if self.holding(id)?.quota.saturating_sub(allocated) < blocks {
            return Err(Status::QuotaExceeded);
        }
        if blocks > MAX_ALLOCATION_BLOCKS {
            return Err(Status::BadArgument);
        }
        let frames = blocks.div_ceil(MAP_FRAME_BLOCKS) as usize;
        let mut map: WrittenMap = [None; MAX_EXTENT_MAP_FRAMES];
        for index in 0..frames {
            match pages.charge(id, Account::Environment) {
                Ok(frame) => map[index] = Some(frame),
                Err(status) => {
                    map.iter().flatten().for_each(|frame| pages.discharge(id, *frame));
                    return Err(status);
                }
            }
        }
        Ok(self.extents.allocate(id, first, blocks, map))
    }

    /// Frees an extent; returns whose it was.
    ///
    /// # Errors
    ///
    /// [`Status::Busy`] while a request in flight touches it; those of [`ExtentTable::free`].
    pub fn free(&mut self, current: Current, pages: &mut Pages) -> Result<EnvironmentId, Status> {
        let blocks = current.range();
        if touches(&self.in_flight, blocks.start, blocks.end - blocks.start) {
            return Err(Status::Busy);
        }
        let (owner, map) = self.extents.free(current)?;
        give_back(owner, map, pages);
        Ok(owner)
    }

    /// Binds an extent.
    ///
    /// # Errors
    ///
    /// [`Status::Busy`] while requests from before its revocation are in flight; those of
    /// [`ExtentTable::bind`].
    pub fn bind(&mut self, id: EnvironmentId, current: Current, rights: Rights) -> Result<(), Status> {
        let (blocks, generation) = (current.range(), current.verified().generation());
        let older = |request: &&InFlight| request.generation < generation;
        if self.in_flight.iter().flatten().filter(older).any(|request| touches_one(request, &blocks)) {
            return Err(Status::Busy);
        }
        let Disk { holdings, extents, .. } = self;
        let bindings = &mut holding_of(holdings, id, |holding| holding.id).ok_or(Status::NotBound)?.bindings;
        // Bindings that a revocation has made void only take room.
        bindings.retain(|binding| extents.is_current(binding));
        extents.bind(bindings, current, rights)
    }

    /// Ends an environment's binding of the extent that has exactly these blocks.
    ///
    /// # Errors
    ///
    /// [`Status::NotBound`].
    pub fn unbind(&mut self, id: EnvironmentId, first: u64, count: u64) -> Result<(), Status> {
        let bindings = &mut self.holding(id)?.bindings;
        let place = bindings.iter().position(|binding| binding.first == first && binding.count == count);
        bindings.remove(place.ok_or(Status::NotBound)?);
        Ok(())
    }

    /// Takes a ring, in [`RING_FRAMES`] frames from `first` on, which are pinned; virtual CPU number `vcpu`
    /// will be called.
    ///
    /// # Errors
    ///
    /// [`Status::InUse`] if the environment has one; those of [`Pages::pin_own`].
    pub fn bind_ring(
        &mut self,
        id: EnvironmentId,
        vcpu: usize,
        first: u64,
        pages: &mut Pages,
    ) -> Result<(), Status> {
        if self.holding(id)?.ring.is_some() {
            return Err(Status::InUse);
        }
        let end = first.checked_add(RING_FRAMES).ok_or(Status::BadArgument)?;
        pages.pin_own(id, first..end)?;
        // SAFETY: a `DiskRing` is atomics only; the frames are the environment's and pinned until it ends.
        let shared = unsafe { pages.memory.shared::<DiskRing>(first) };
        let ring = Ring { ring: KernelRing::new(shared), first_frame: first, vcpu, outstanding: 0 };
        self.holding(id)?.ring = Some(ring);
        Ok(())
    }

    /// Whether the device holds nothing but requests whose time was up: it has stopped answering.
    fn is_dead(&self) -> bool {
        self.device.in_flight() == SLOTS && self.in_flight.iter().flatten().all(|request| request.abandoned)
    }

    /// Takes what is in an environment's ring, as far as device and ring have room, or until others should
    /// have the lock.
    ///
    /// # Errors
    ///
    /// [`Status::NotBound`] without a ring; [`Status::BadArgument`] when the ring's index makes no sense.
    pub fn serve(
        &mut self,
        id: EnvironmentId,
        pages: &mut Pages,
        now: u64,
        calls: &mut Calls,
    ) -> Result<Work, Status> {
        let mut spent = 0;
        while spent < BUDGET {
            let dead = self.is_dead();
            let full = self.device.in_flight() == SLOTS;
            let ring = self.holding(id)?.ring.as_mut().ok_or(Status::NotBound)?;
            let waiting = ring.ring.waiting().ok_or(Status::BadArgument);
            if waiting != Ok(0) && waiting.is_ok() && ring.has_room() && (dead || !full) {
                let submission = ring.take();
                let (outcome, cost) = match dead {
                    true => (Some(Outcome::Timeout), REQUEST_COST),
                    false => self.start(id, pages, submission, now),
                };
                spent += cost;
                if let Some(outcome) = outcome {
                    self.answer(id, &submission, outcome, calls);
                }
                continue;
            }
            self.tell_device();
            return waiting.map(|_| Work::Done);
        }
        Ok(Work::More)
    }

    /// Answers a request that never got to the device.
    fn answer(&mut self, id: EnvironmentId, submission: &Submission, outcome: Outcome, calls: &mut Calls) {
        let Ok(holding) = self.holding(id) else { return };
        if outcome != Outcome::Ok {
            count(&holding.accounting.disk_errors, 1);
        }
        if let Some(ring) = &mut holding.ring
            && ring.post(submission.tag, outcome)
        {
            calls.add(id, ring.vcpu);
        }
    }

    /// Tells the device of what was submitted.
    fn tell_device(&mut self) {
        if core::mem::take(&mut self.untold) {
            self.done_already |= self.device.notify();
        }
    }

    /// Serves rings that had to wait for room, one environment after the other, another one first each time.
    fn serve_waiting(&mut self, pages: &mut Pages, now: u64, calls: &mut Calls) -> Work {
        while self.to_serve > 0 {
            let number = (self.first_served + self.to_serve) % MAX_ENVIRONMENTS;
            let with_ring =
                self.holdings.get(number).and_then(Option::as_ref).filter(|holding| holding.ring.is_some());
            if let Some(id) = with_ring.map(|holding| holding.id) {
                // An index that makes no sense is the business of its owner's next kick.
                if self.serve(id, pages, now, calls) == Ok(Work::More) {
                    return Work::More;
                }
                self.to_serve -= 1;
                return Work::More;
            }
            self.to_serve -= 1;
        }
        Work::Done
    }

    /// Whether completions wait of which no interrupt tells.
    pub fn take_done_already(&mut self) -> bool {
        core::mem::take(&mut self.done_already)
    }

    /// Brings the readable count of an environment's blocks up to date.
    pub fn publish(&self, id: EnvironmentId, pages: &Pages) {
        pages.public.owners.blocks[id.index()].store(self.extents.owned_by(id), Ordering::Relaxed);
    }
}

impl Resource for Disk {
    fn check(&self, claim: &Verified) -> Result<Current, Status> {
        self.extents.check(claim)
    }

    fn revoke(&mut self, current: Current, _keeper: EnvironmentId) -> Result<u64, Status> {
        self.extents.revoke(current)
    }

    fn end(&mut self, id: EnvironmentId, pages: &mut Pages) -> bool {
        if let Ok(holding) = self.holding(id) {
            holding.bindings.clear();
            if let Some(ring) = holding.ring.take() {
                pages.unpin(ring.frames());
            }
        }
        for request in self.in_flight.iter_mut().flatten().filter(|request| request.environment == id) {
            request.abandoned = true;
        }
        let in_flight = &self.in_flight;
        let released = self.extents.release_one(id, |first, count| touches(in_flight, first, count));
        match released {
            Some(map) => {
                give_back(id, map, pages);
                self.publish(id, pages);
                false
            }
            None => true,
        }
    }

    fn attend(&mut self, pages: &mut Pages, now: u64) -> (Calls, Work) {
        let mut calls = Calls::new(Cause::Disk);
        if self.to_serve == 0 {
            if self.collect(pages, &mut calls) == Work::More {
                return (calls, Work::More);
            }
            let in_flight = &self.in_flight;
            let over = self.extents.release_orphan(|first, count| touches(in_flight, first, count));
            if let Some((owner, map)) = over {
                give_back(owner, map, pages);
                self.publish(owner, pages);
                pages.publish(owner);
                return (calls, Work::More);
            }
            self.give_up(now, &mut calls);
            // Completions made room: rings that had to wait go on.
            self.first_served = (self.first_served + 1) % MAX_ENVIRONMENTS;
            self.to_serve = MAX_ENVIRONMENTS;
        }
        let work = self.serve_waiting(pages, now, &mut calls);
        self.tell_device();
        (calls, work)
    }

    fn next_deadline(&self) -> Option<u64> {
        let requests = self.in_flight.iter().flatten().filter(|request| !request.abandoned);
        let request = requests.map(|request| request.deadline).min();
        let again = (self.done_already || self.untold || self.to_serve > 0).then_some(0);
        request.into_iter().chain(again).min()
    }
}

/// Gives the frames of a map back that says which blocks were written.
fn give_back(owner: EnvironmentId, map: Option<WrittenMap>, pages: &mut Pages) {
    map.iter().flatten().flatten().for_each(|frame| pages.discharge(owner, *frame));
}
