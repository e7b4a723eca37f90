//! Physical frames: who owns which.
//!
//! One entry a frame. An allocation stamps its frames with a fresh *generation*; a capability is current as
//! long as every frame it names still carries the generation it was sealed with. Freeing or revoking changes
//! the stamp, and every older capability for the frame is worthless, wherever its copies are.
//!
//! Two counters protect what is in use: *pins* (a device or the kernel is using the frame: it can't be freed)
//! and *bindings* (nested page tables that have an entry for it: the kernel must end them before it frees).
//!
//! Invariant: bit `n` of the free map is set exactly if entry `n` is [`Owner::Free`].
#![forbid(unsafe_code)]

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use hyperexo_abi::ANY;
use hyperexo_abi::accounting::MAX_ENVIRONMENTS;
use hyperexo_abi::capability::{Claim, Resource, Rights};
use hyperexo_abi::hypercall::Status;

/// Number of an environment, from 1; below [`MAX_ENVIRONMENTS`].
pub type EnvironmentId = u16;

/// Whose a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// There is no RAM there.
    Absent,
    /// Nobody's.
    Free,
    /// The kernel's.
    Kernel,
    /// An environment's.
    Environment(EnvironmentId),
}

const ABSENT: u16 = u16::MAX;
const FREE: u16 = u16::MAX - 1;
const KERNEL: u16 = 0;

/// What is known of one frame.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FrameEntry {
    generation: u64,
    owner: u16,
    pins: u16,
    bindings: u16,
    /// Its owner has ended while a device was using it: it becomes free with its last pin.
    orphan: bool,
}

impl FrameEntry {
    /// The entry of a frame that does not exist.
    pub const ABSENT: FrameEntry =
        FrameEntry { generation: 0, owner: ABSENT, pins: 0, bindings: 0, orphan: false };
}

/// The table of all frames.
pub struct FrameTable {
    entries: &'static mut [FrameEntry],
    free_map: &'static [AtomicU64],
    free: u64,
    owned: [u64; MAX_ENVIRONMENTS],
    next_generation: u64,
    /// Where the last search for any frame ended.
    hint: u64,
}

impl FrameTable {
    /// A table in which no frame exists yet. `free_map` must have a bit for every entry, all zero.
    pub fn new(entries: &'static mut [FrameEntry], free_map: &'static [AtomicU64]) -> FrameTable {
        assert!(free_map.len() * 64 >= entries.len(), "free map has a bit for every frame");
        entries.fill(FrameEntry::ABSENT);
        FrameTable { entries, free_map, free: 0, owned: [0; MAX_ENVIRONMENTS], next_generation: 1, hint: 0 }
    }

    /// Frames in the table, those that do not exist included.
    pub fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Whether the table has no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Frames that are nobody's.
    pub fn free_frames(&self) -> u64 {
        self.free
    }

    /// Frames owned by an environment (0: by the kernel).
    pub fn owned_by(&self, environment: EnvironmentId) -> u64 {
        self.owned[usize::from(environment)]
    }

    /// Whose a frame is.
    pub fn owner(&self, frame: u64) -> Owner {
        match self.entry(frame).map_or(ABSENT, |entry| entry.owner) {
            ABSENT => Owner::Absent,
            FREE => Owner::Free,
            KERNEL => Owner::Kernel,
            id => Owner::Environment(id),
        }
    }

    /// Declares frames to be free RAM. Frames outside the table, or already known, are left alone.
    pub fn add_free(&mut self, frames: Range<u64>) {
        for frame in frames.start..frames.end.min(self.len()) {
            if self.entries[frame as usize].owner == ABSENT {
                self.set_owner(frame, FREE);
            }
        }
    }

    /// Takes frames for the kernel, whatever they were.
    pub fn reserve(&mut self, frames: Range<u64>) {
        for frame in frames.start..frames.end.min(self.len()) {
            self.set_owner(frame, KERNEL);
        }
    }

    /// Makes frames of the kernel nobody's; others are left alone.
    pub fn release_kernel(&mut self, frames: Range<u64>) {
        for frame in frames.start..frames.end.min(self.len()) {
            if self.owner(frame) == Owner::Kernel {
                self.set_owner(frame, FREE);
            }
        }
    }

    /// Takes `count` adjacent frames that are free, starting at `first` or ([`ANY`]) wherever they are found,
    /// at a multiple of `align`.
    ///
    /// # Errors
    ///
    /// [`Status::BadArgument`] for no frames or an alignment that is not a power of two; [`Status::NoSuch`]
    /// and [`Status::InUse`] when the named frames can't be had; [`Status::Exhausted`] when there is no such
    /// run.
    pub fn allocate(&mut self, owner: Owner, first: u64, count: u64, align: u64) -> Result<Claim, Status> {
        if count == 0 || !align.is_power_of_two() {
            return Err(Status::BadArgument);
        }
        let owner = match owner {
            Owner::Kernel => KERNEL,
            Owner::Environment(id) => id,
            Owner::Absent | Owner::Free => return Err(Status::BadArgument),
        };
        let first = if first == ANY {
            self.find(count, align).ok_or(Status::Exhausted)?
        } else {
            self.require_free(first, count, align)?
        };
        let generation = self.fresh_generation();
        for frame in first..first + count {
            self.set_owner(frame, owner);
            self.entries[frame as usize].generation = generation;
        }
        Ok(Claim { resource: Resource::Page, rights: Rights::ALL, generation, first, count })
    }

    fn require_free(&self, first: u64, count: u64, align: u64) -> Result<u64, Status> {
        let end = first.checked_add(count).filter(|end| *end <= self.len()).ok_or(Status::NoSuch)?;
        if !first.is_multiple_of(align) {
            return Err(Status::BadArgument);
        }
        for frame in first..end {
            match self.owner(frame) {
                Owner::Free => {}
                Owner::Absent => return Err(Status::NoSuch),
                _ => return Err(Status::InUse),
            }
        }
        Ok(first)
    }

    /// First fit, starting where the last search ended, then from the bottom.
    fn find(&mut self, count: u64, align: u64) -> Option<u64> {
        let found = self
            .find_from(self.hint, self.len(), count, align)
            .or_else(|| self.find_from(0, self.len().min(self.hint + count), count, align))?;
        self.hint = found + count;
        Some(found)
    }

    fn find_from(&self, start: u64, end: u64, count: u64, align: u64) -> Option<u64> {
        let mut first = start.checked_next_multiple_of(align)?;
        while first.checked_add(count)? <= end {
            // Skip whole words of the map in which nothing is free.
            if align <= 64 && first.is_multiple_of(64) && self.free_word(first / 64) == 0 {
                first += 64;
                continue;
            }
            match (first..first + count).rev().find(|frame| !self.is_free(*frame)) {
                None => return Some(first),
                Some(taken) => first = (taken + 1).checked_next_multiple_of(align)?,
            }
        }
        None
    }

    fn free_word(&self, index: u64) -> u64 {
        self.free_map[index as usize].load(Ordering::Relaxed)
    }

    fn is_free(&self, frame: u64) -> bool {
        self.free_word(frame / 64) >> (frame % 64) & 1 != 0
    }

    /// The owner of a claim's frames, if the claim is current.
    ///
    /// # Errors
    ///
    /// [`Status::StaleCapability`] if any of its frames has been freed or revoked since.
    pub fn check(&self, claim: &Claim) -> Result<Owner, Status> {
        let range = claim.first as usize..claim.end() as usize;
        let entries = self.entries.get(range).ok_or(Status::StaleCapability)?;
        let current = |entry: &FrameEntry| {
            entry.generation == claim.generation && entry.owner != FREE && entry.owner != ABSENT
        };
        if claim.resource != Resource::Page || entries.is_empty() || !entries.iter().all(current) {
            return Err(Status::StaleCapability);
        }
        Ok(self.owner(claim.first))
    }

    /// Whether any of the frames is pinned.
    pub fn any_pinned(&self, frames: Range<u64>) -> bool {
        frames.into_iter().any(|frame| self.entry(frame).is_some_and(|entry| entry.pins != 0))
    }

    /// Whether any of the frames is bound by somebody.
    pub fn any_bound(&self, frames: Range<u64>) -> bool {
        frames.into_iter().any(|frame| self.entry(frame).is_some_and(|entry| entry.bindings != 0))
    }

    /// Makes the frames of a current claim nobody's. The caller has ended their bindings.
    ///
    /// # Errors
    ///
    /// [`Status::StaleCapability`]; [`Status::Busy`] if one is pinned.
    pub fn free(&mut self, claim: &Claim) -> Result<(), Status> {
        self.check(claim)?;
        if self.any_pinned(claim.first..claim.end()) {
            return Err(Status::Busy);
        }
        (claim.first..claim.end()).for_each(|frame| self.set_owner(frame, FREE));
        Ok(())
    }

    /// Gives the frames of a current claim a new generation: all capabilities for them are worthless but the
    /// result.
    ///
    /// # Errors
    ///
    /// [`Status::StaleCapability`].
    pub fn revoke(&mut self, claim: &Claim) -> Result<Claim, Status> {
        self.check(claim)?;
        let generation = self.fresh_generation();
        for entry in &mut self.entries[claim.first as usize..claim.end() as usize] {
            entry.generation = generation;
        }
        Ok(Claim { generation, ..*claim })
    }

    /// The next run of frames from `from` on that an environment owns.
    pub fn next_owned(&self, environment: EnvironmentId, from: u64) -> Option<Range<u64>> {
        let is_its = |frame: &u64| self.owner(*frame) == Owner::Environment(environment);
        let start = (from..self.len()).find(is_its)?;
        let end = (start..self.len()).find(|frame| !is_its(frame)).unwrap_or(self.len());
        Some(start..end)
    }

    /// Makes all frames of an environment nobody's; those that a device still uses follow when it is done.
    /// The caller has ended the bindings.
    pub fn release_all(&mut self, environment: EnvironmentId) {
        for frame in 0..self.len() {
            let entry = &mut self.entries[frame as usize];
            if entry.owner != environment {
                continue;
            }
            if entry.pins == 0 {
                self.set_owner(frame, FREE);
            } else {
                entry.orphan = true;
                entry.generation = 0;
            }
        }
    }

    /// Keeps a frame from being freed until [`FrameTable::unpin`]. Returns whether it could: there is such a
    /// frame, and it has not been pinned too often.
    #[must_use]
    pub fn pin(&mut self, frame: u64) -> bool {
        let Some(entry) = self.entries.get_mut(frame as usize) else { return false };
        match entry.pins.checked_add(1) {
            Some(pins) => {
                entry.pins = pins;
                true
            }
            None => false,
        }
    }

    /// Undoes one [`FrameTable::pin`].
    pub fn unpin(&mut self, frame: u64) {
        let entry = &mut self.entries[frame as usize];
        debug_assert!(entry.pins > 0, "unpin without pin");
        entry.pins = entry.pins.saturating_sub(1);
        if entry.pins == 0 && entry.orphan {
            entry.orphan = false;
            self.set_owner(frame, FREE);
        }
    }

    /// Counts a nested page table that got an entry for the frame.
    pub fn bound(&mut self, frame: u64) {
        let entry = &mut self.entries[frame as usize];
        entry.bindings = entry.bindings.saturating_add(1);
    }

    /// Counts a nested page table that lost its entry for the frame.
    pub fn unbound(&mut self, frame: u64) {
        let entry = &mut self.entries[frame as usize];
        entry.bindings = entry.bindings.saturating_sub(1);
    }

    fn entry(&self, frame: u64) -> Option<&FrameEntry> {
        self.entries.get(usize::try_from(frame).ok()?)
    }

    fn fresh_generation(&mut self) -> u64 {
        let generation = self.next_generation;
        self.next_generation += 1;
        generation
    }

    /// The only place where a frame changes hands: keeps map and counts in step.
    fn set_owner(&mut self, frame: u64, owner: u16) {
        let entry = &mut self.entries[frame as usize];
        let word = &self.free_map[frame as usize / 64];
        let bit = 1 << (frame % 64);
        match entry.owner {
            FREE => {
                word.fetch_and(!bit, Ordering::Relaxed);
                self.free -= 1;
            }
            ABSENT => {}
            old => self.owned[usize::from(old)] -= 1,
        }
        entry.owner = owner;
        match owner {
            FREE => {
                entry.generation = 0;
                word.fetch_or(bit, Ordering::Relaxed);
                self.free += 1;
            }
            ABSENT => {}
            new => self.owned[usize::from(new)] += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ONE: Owner = Owner::Environment(1);
    const TWO: Owner = Owner::Environment(2);

    fn table(frames: usize) -> FrameTable {
        let entries = Box::leak(vec![FrameEntry::ABSENT; frames].into_boxed_slice());
        let map: Vec<AtomicU64> = (0..frames.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        FrameTable::new(entries, Box::leak(map.into_boxed_slice()))
    }

    #[test]
    fn specific_frames_are_given_or_refused_explicitly() {
        let mut table = table(100);
        table.add_free(10..90);
        table.reserve(10..12);
        assert_eq!(table.allocate(ONE, 11, 1, 1), Err(Status::InUse));
        assert_eq!(table.allocate(ONE, 89, 2, 1), Err(Status::NoSuch));
        assert_eq!(table.allocate(ONE, 99, 2, 1), Err(Status::NoSuch));
        assert_eq!(table.allocate(ONE, 101, 1, 1), Err(Status::NoSuch));
        assert_eq!(table.allocate(ONE, u64::MAX - 1, 5, 1), Err(Status::NoSuch));
        assert_eq!(table.allocate(ONE, 13, 1, 2), Err(Status::BadArgument));
        assert_eq!(table.allocate(ONE, ANY, 0, 1), Err(Status::BadArgument));
        assert_eq!(table.allocate(ONE, ANY, 79, 1), Err(Status::Exhausted));
        let claim = table.allocate(ONE, 20, 3, 1).unwrap();
        assert_eq!((claim.first, claim.count), (20, 3));
        assert_eq!(table.allocate(TWO, 22, 1, 1), Err(Status::InUse));
        assert_eq!(table.check(&claim), Ok(ONE));
    }

    #[test]
    fn capabilities_die_with_free_and_revoke() {
        let mut table = table(64);
        table.add_free(0..64);
        let old = table.allocate(ONE, ANY, 4, 4).unwrap();
        let new = table.revoke(&old).unwrap();
        assert_eq!(table.check(&old), Err(Status::StaleCapability));
        assert_eq!(table.free(&old), Err(Status::StaleCapability));
        assert_eq!(table.free(&new), Ok(()));
        let again = table.allocate(TWO, new.first, 4, 1).unwrap();
        assert_eq!(table.check(&new), Err(Status::StaleCapability));
        assert_eq!(table.check(&again), Ok(TWO));
    }

    #[test]
    fn part_of_an_allocation_can_be_freed() {
        let mut table = table(64);
        table.add_free(0..64);
        let whole = table.allocate(ONE, 8, 8, 1).unwrap();
        table.free(&Claim { first: 10, count: 2, ..whole }).unwrap();
        assert_eq!(table.check(&whole), Err(Status::StaleCapability));
        assert_eq!(table.check(&Claim { first: 12, count: 4, ..whole }), Ok(ONE));
        assert_eq!(table.owned_by(1), 6);
    }

    #[test]
    fn pinned_frames_outlive_their_owner_and_no_longer() {
        let mut table = table(64);
        table.add_free(0..64);
        let claim = table.allocate(ONE, 5, 2, 1).unwrap();
        assert!(table.pin(5));
        assert_eq!(table.free(&claim), Err(Status::Busy));
        table.release_all(1);
        assert_eq!((table.owner(5), table.owner(6)), (ONE, Owner::Free));
        assert_eq!(table.check(&Claim { count: 1, ..claim }), Err(Status::StaleCapability));
        table.unpin(5);
        assert_eq!(table.owner(5), Owner::Free);
        assert_eq!(table.free_frames(), 64);
    }

    proptest! {
        /// Against a model that is a plain list of owners.
        #[test]
        fn agrees_with_a_list_of_owners(steps in prop::collection::vec((0u64..3, 0u64..70, 1u64..9, 0u32..4), 1..200)) {
            let mut table = table(64);
            table.add_free(0..64);
            let mut model = [0u16; 64];
            let mut claims: Vec<Claim> = Vec::new();
            for (kind, place, count, align) in steps {
                let align = 1 << align;
                match kind {
                    0 => {
                        if let Ok(claim) = table.allocate(ONE, ANY, count, align) {
                            prop_assert_eq!(claim.first % align, 0);
                            for owner in &mut model[claim.first as usize..claim.end() as usize] {
                                prop_assert_eq!(*owner, 0);
                                *owner = 1;
                            }
                            claims.push(claim);
                        } else {
                            let fits = (0..=64 - count as usize)
                                .any(|at| (at as u64).is_multiple_of(align) && model[at..at + count as usize].iter().all(|o| *o == 0));
                            prop_assert!(!fits, "a run was there but not found");
                        }
                    }
                    1 => {
                        let free = (place..place + count).all(|at| model.get(at as usize) == Some(&0));
                        let claim = table.allocate(TWO, place, count, 1);
                        prop_assert_eq!(claim.is_ok(), free);
                        if let Ok(claim) = claim {
                            model[claim.first as usize..claim.end() as usize].fill(2);
                            claims.push(claim);
                        }
                    }
                    _ if claims.is_empty() => {}
                    _ => {
                        let claim = claims.swap_remove(place as usize % claims.len());
                        table.free(&claim).unwrap();
                        model[claim.first as usize..claim.end() as usize].fill(0);
                    }
                }
                prop_assert_eq!(table.free_frames(), model.iter().filter(|o| **o == 0).count() as u64);
                prop_assert_eq!(table.owned_by(2), model.iter().filter(|o| **o == 2).count() as u64);
            }
        }
    }
}
