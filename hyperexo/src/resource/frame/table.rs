//! Physical frames: who owns which.
//!
//! One entry a frame. An allocation stamps its frames with a fresh *generation*; a capability is current as
//! long as every frame it names still carries the generation it was sealed with. Freeing or revoking changes
//! the stamp, and every older capability for the frame is worthless, wherever its copies are.
//!
//! Two counters protect what is in use: *pins* (a device or the kernel is using the frame: it can't be freed)
//! and *bindings* (nested page tables that have an entry for it: the kernel must end them before it frees).
//!
//! Frames of one environment are in a list, so that giving them all back costs what it has, not what the
//! machine has; so are those that are nobody's, so that one is found at once. 512 frames that could be one 2 MiB
//! entry are a *region*: what is the same for all of them is noted once, so that a run of 512 costs no more than
//! one frame.
//!
//! Invariants: bit `n` of the free map is set exactly if entry `n` is [`Owner::Free`]; a frame is in the list
//! of its owner, if that is an environment or nobody, and in no other; a region's generation, if not 0, is that
//! of all its frames.
#![forbid(unsafe_code)]

mod search;

use crate::machine::id::EnvironmentId;
use crate::machine::memory::touched;
pub use crate::resource::capability::Owner;
use crate::resource::capability::Verified;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use hyperexo_abi::LARGE_FRAMES;
use hyperexo_abi::accounting::MAX_ENVIRONMENTS;
use hyperexo_abi::capability::Resource;
use hyperexo_abi::hypercall::Status;

pub use search::Search;

const ABSENT: u32 = u32::MAX;
const FREE: u32 = u32::MAX - 1;
const LEAVING: u32 = u32::MAX - 2;
const KERNEL: u32 = 0;
/// Place of the list of free frames: the kernel has none.
const FREE_LIST: usize = KERNEL as usize;
/// End of a list of frames.
const NONE: u32 = u32::MAX;
/// Generation of frames that no capability is for, and of regions whose frames differ.
const NO_GENERATION: u64 = 0;

/// What is known of one frame.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FrameEntry {
    generation: u64,
    owner: u32,
    /// Neighbours in the list of its owner.
    next: u32,
    previous: u32,
    pins: u16,
    /// Nested page tables that have an entry of its own for it. Of a frame that *is* a table: its entries.
    bindings: u16,
}

impl FrameEntry {
    /// The entry of a frame that does not exist.
    pub const ABSENT: FrameEntry = FrameEntry {
        generation: NO_GENERATION,
        owner: ABSENT,
        next: NONE,
        previous: NONE,
        pins: 0,
        bindings: 0,
    };
}

/// What is known of 512 adjacent frames, the first of them a multiple of 512.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Region {
    /// That of all its frames, or [`NO_GENERATION`].
    generation: u64,
    /// Pins of its frames, added up.
    pins: u32,
    /// Bindings of single frames of it, added up.
    bindings: u32,
    /// Nested page tables that have one entry for all of it.
    large_bindings: u32,
}

/// Regions that a table of so many frames has.
pub const fn regions(frames: u64) -> u64 {
    frames.div_ceil(LARGE_FRAMES)
}

/// The table of all frames.
pub struct FrameTable {
    entries: &'static mut [FrameEntry],
    regions: &'static mut [Region],
    free_map: &'static [AtomicU64],
    free: u64,
    owned: [u64; MAX_ENVIRONMENTS],
    /// First frame in the list of each environment; at [`FREE_LIST`] that of the free ones.
    first: [u32; MAX_ENVIRONMENTS],
    next_generation: u64,
    /// Where the last search for any frame ended.
    hint: u64,
}

impl FrameTable {
    /// A table in which no frame exists yet. `free_map` has a bit for every entry, all zero, `regions` as
    /// many as [`regions`] says.
    ///
    /// # Panics
    ///
    /// If they are too small.
    pub fn new(
        entries: &'static mut [FrameEntry],
        regions: &'static mut [Region],
        free_map: &'static [AtomicU64],
    ) -> FrameTable {
        let frames = entries.len() as u64;
        assert!(free_map.len() as u64 * 64 >= frames && regions.len() as u64 >= self::regions(frames));
        entries.fill(FrameEntry::ABSENT);
        regions.fill(Region::default());
        FrameTable {
            entries,
            regions,
            free_map,
            free: 0,
            owned: [0; MAX_ENVIRONMENTS],
            first: [NONE; MAX_ENVIRONMENTS],
            next_generation: 1,
            hint: 0,
        }
    }

    /// Frames in the table, those that do not exist included.
    pub fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Whether the table has no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Free frames.
    pub fn free_frames(&self) -> u64 {
        self.free
    }

    /// Frames owned by an environment.
    pub fn owned_by(&self, environment: EnvironmentId) -> u64 {
        self.owned[environment.index()]
    }

    /// Frames owned by the kernel.
    pub fn kernel_frames(&self) -> u64 {
        self.owned[KERNEL as usize]
    }

    /// Whose a frame is.
    pub fn owner(&self, frame: u64) -> Owner {
        match self.entry(frame).map_or(ABSENT, |entry| entry.owner) {
            ABSENT => Owner::Absent,
            FREE => Owner::Free,
            LEAVING => Owner::Leaving,
            KERNEL => Owner::Kernel,
            bits => Owner::Environment(EnvironmentId::from_bits(bits)),
        }
    }

    /// Takes frames for the kernel, whatever they were. Only at the start.
    pub fn reserve(&mut self, frames: Range<u64>) {
        for frame in frames.start..frames.end.min(self.len()) {
            self.set_owner(frame, KERNEL, NO_GENERATION);
        }
    }

    /// Frees frames of the kernel; others are left alone.
    pub fn release_kernel(&mut self, frames: Range<u64>) {
        for frame in frames.start..frames.end.min(self.len()) {
            if self.owner(frame) == Owner::Kernel {
                self.set_owner(frame, FREE, NO_GENERATION);
            }
        }
    }

    /// Takes one free frame for the kernel, wherever it is: near the last one, so that large runs stay whole, if
    /// there is one without looking far.
    pub fn take_any(&mut self) -> Option<u64> {
        /// Words of the free map that are looked at.
        const WORDS: u64 = 64;
        let frame = match self.search(self.hint, self.len(), 1, 1, WORDS) {
            Search::Found(frame) => {
                self.hint = frame + 1;
                frame
            }
            Search::GoOn(_) | Search::Nowhere => {
                Some(self.first[FREE_LIST]).filter(|frame| *frame != NONE)?.into()
            }
        };
        self.set_owner(frame, KERNEL, NO_GENERATION);
        Some(frame)
    }

    /// Takes free frames, which carry this generation from now on: a part of an allocation.
    ///
    /// # Errors
    ///
    /// [`Status::NoSuch`] and [`Status::InUse`] when they can't be had; nothing is taken then.
    pub fn take(&mut self, owner: Owner, frames: Range<u64>, generation: u64) -> Result<(), Status> {
        self.require_free(frames.start, frames.end - frames.start)?;
        let bits = match owner {
            Owner::Environment(id) => id.to_bits(),
            _ => KERNEL,
        };
        frames.for_each(|frame| self.set_owner(frame, bits, generation));
        Ok(())
    }

    /// Frees frames that were taken for an allocation which has failed: no capability for them was sealed.
    pub fn give_up(&mut self, frames: Range<u64>) {
        frames.for_each(|frame| self.set_owner(frame, FREE, NO_GENERATION));
    }

    /// The generation of a frame.
    pub fn generation(&self, frame: u64) -> u64 {
        self.entry(frame).map_or(NO_GENERATION, |entry| entry.generation)
    }

    /// Whether all frames of a claim still carry its generation and belong to somebody; the owner of the
    /// first.
    ///
    /// # Errors
    ///
    /// [`Status::StaleCapability`] if any has been freed or revoked since.
    pub fn check(&self, claim: &Verified) -> Result<Owner, Status> {
        let stale = Status::StaleCapability;
        if claim.resource() != Resource::Page || claim.count() == 0 || claim.end() > self.len() {
            return Err(stale);
        }
        let generation = claim.generation();
        let of = |frames: Range<u64>| {
            let entries = &self.entries[frames.start as usize..frames.end as usize];
            entries.iter().all(|entry| entry.generation == generation)
        };
        let whole = |region: u64| self.regions[region as usize].generation == generation;
        // Free frames have no generation, and no capability was sealed without one.
        if generation == NO_GENERATION || !self.all(claim.first()..claim.end(), whole, of) {
            return Err(stale);
        }
        Ok(self.owner(claim.first()))
    }

    /// Whether one frame carries the generation of a claim for it alone.
    #[inline]
    pub fn is_current(&self, frame: u64, generation: u64) -> bool {
        generation != NO_GENERATION && self.entry(frame).is_some_and(|entry| entry.generation == generation)
    }

    /// Whether a frame is pinned.
    #[inline]
    pub fn is_pinned(&self, frame: u64) -> bool {
        self.entry(frame).is_some_and(|entry| entry.pins != 0)
    }

    /// Whether something holds of a run: of each region as a whole, or of the frames in it.
    fn all(&self, run: Range<u64>, whole: impl Fn(u64) -> bool, of: impl Fn(Range<u64>) -> bool) -> bool {
        let mut frame = run.start;
        while frame < run.end {
            let next = ((frame / LARGE_FRAMES + 1) * LARGE_FRAMES).min(run.end);
            touched(1);
            if !(next - frame == LARGE_FRAMES && whole(frame / LARGE_FRAMES)) {
                touched(next - frame);
                if !of(frame..next) {
                    return false;
                }
            }
            frame = next;
        }
        true
    }

    /// Whether any of the frames is pinned.
    pub fn any_pinned(&self, frames: Range<u64>) -> bool {
        let unpinned = |frames: Range<u64>| {
            self.entries[frames.start as usize..frames.end as usize].iter().all(|entry| entry.pins == 0)
        };
        let whole = |region: u64| self.regions[region as usize].pins == 0;
        !self.all(frames.start..frames.end.min(self.len()), whole, unpinned)
    }

    /// Whether any of the frames is bound by somebody.
    pub fn any_bound(&self, frames: Range<u64>) -> bool {
        let region = |frame: u64| &self.regions[(frame / LARGE_FRAMES) as usize];
        let unbound = |frames: Range<u64>| {
            region(frames.start).large_bindings == 0
                && self.entries[frames.start as usize..frames.end as usize]
                    .iter()
                    .all(|entry| entry.bindings == 0)
        };
        let whole = |number: u64| {
            let region = &self.regions[number as usize];
            region.bindings == 0 && region.large_bindings == 0
        };
        !self.all(frames.start..frames.end.min(self.len()), whole, unbound)
    }

    /// Whether somebody has an entry for a single one of the 512 frames of this frame's region.
    pub fn any_bound_singly(&self, frame: u64) -> bool {
        self.regions[(frame / LARGE_FRAMES) as usize].bindings != 0
    }

    /// Frees frames; those that are pinned follow with their last pin.
    ///
    /// # Panics
    ///
    /// If one is bound: the caller has ended its bindings.
    pub fn free(&mut self, frames: Range<u64>) {
        assert!(!self.any_bound(frames.clone()), "a frame that is bound must not be freed");
        for frame in frames {
            let owner = if self.entries[frame as usize].pins == 0 { FREE } else { LEAVING };
            self.set_owner(frame, owner, NO_GENERATION);
        }
    }

    /// A generation that no frame carries yet.
    pub fn fresh_generation(&mut self) -> u64 {
        let generation = self.next_generation;
        self.next_generation += 1;
        generation
    }

    /// Gives frames that belong to somebody a new generation: all capabilities for them are worthless but
    /// those that carry it.
    pub fn stamp(&mut self, frames: Range<u64>, generation: u64) {
        touched(frames.end - frames.start);
        for frame in frames.clone() {
            self.entries[frame as usize].generation = generation;
            self.regions[(frame / LARGE_FRAMES) as usize].generation = NO_GENERATION;
        }
        self.note_uniform(frames, generation);
    }

    /// All frames of the run have this generation: so have whole regions in it.
    pub fn note_uniform(&mut self, run: Range<u64>, generation: u64) {
        let whole = run.start.div_ceil(LARGE_FRAMES)..run.end / LARGE_FRAMES;
        for region in whole {
            self.regions[region as usize].generation = generation;
        }
    }

    /// A run of at most `most` adjacent frames that an environment owns, within one region; `None`: it owns
    /// none.
    pub fn some_owned(&self, environment: EnvironmentId, most: u64) -> Option<Range<u64>> {
        let first = self.first[environment.index()];
        if first == NONE {
            return None;
        }
        // The list has the frames of an allocation in falling order: the run goes down from here.
        let (bits, last) = (environment.to_bits(), u64::from(first));
        let lowest = (last / LARGE_FRAMES * LARGE_FRAMES).max(last.saturating_sub(most.saturating_sub(1)));
        touched(last - lowest);
        let below = (lowest..last).rev().take_while(|frame| self.entries[*frame as usize].owner == bits);
        Some(last - below.count() as u64..last + 1)
    }

    /// The frame after `frame` in the list of its owner; of an environment's frames the first, if `frame` is
    /// `None`.
    pub fn next_owned(&self, environment: EnvironmentId, frame: Option<u64>) -> Option<u64> {
        touched(1);
        let next = match frame {
            None => self.first[environment.index()],
            Some(frame) => self.entries[frame as usize].next,
        };
        (next != NONE).then_some(next.into())
    }

    /// Keeps a frame from being freed until [`FrameTable::unpin`]. Returns whether it could: there is such a
    /// frame, and it has not been pinned too often.
    #[must_use]
    pub fn pin(&mut self, frame: u64) -> bool {
        let Some(entry) = self.entries.get_mut(frame as usize) else { return false };
        match entry.pins.checked_add(1) {
            Some(pins) => {
                entry.pins = pins;
                self.regions[(frame / LARGE_FRAMES) as usize].pins += 1;
                true
            }
            None => false,
        }
    }

    /// Undoes one [`FrameTable::pin`].
    pub fn unpin(&mut self, frame: u64) {
        let entry = &mut self.entries[frame as usize];
        assert!(entry.pins > 0, "unpin without pin");
        entry.pins -= 1;
        self.regions[(frame / LARGE_FRAMES) as usize].pins -= 1;
        if entry.pins == 0 && entry.owner == LEAVING {
            self.set_owner(frame, FREE, NO_GENERATION);
        }
    }

    /// Counts a nested page table that got an entry for the frame (`large`: one for its whole region).
    pub fn bound(&mut self, frame: u64, large: bool) {
        touched(1);
        let region = &mut self.regions[(frame / LARGE_FRAMES) as usize];
        if large {
            region.large_bindings += 1;
        } else {
            region.bindings += 1;
            self.entries[frame as usize].bindings += 1;
        }
    }

    /// Counts a nested page table that lost its entry for the frame (`large`: the one for its whole region).
    pub fn unbound(&mut self, frame: u64, large: bool) {
        touched(1);
        let region = &mut self.regions[(frame / LARGE_FRAMES) as usize];
        if large {
            region.large_bindings -= 1;
        } else {
            region.bindings -= 1;
            self.entries[frame as usize].bindings -= 1;
        }
    }

    /// Notes that one nested page table has 512 entries for a region now instead of one.
    pub fn split_binding(&mut self, first: u64) {
        let region = &mut self.regions[(first / LARGE_FRAMES) as usize];
        region.large_bindings -= 1;
        region.bindings += LARGE_FRAMES as u32;
        for entry in &mut self.entries[first as usize..(first + LARGE_FRAMES) as usize] {
            entry.bindings += 1;
        }
    }

    /// Entries of the nested page table in a frame of the kernel's.
    pub fn entries_of(&self, table: u64) -> u16 {
        self.entries[table as usize].bindings
    }

    /// Notes how many entries the nested page table in a frame of the kernel's has.
    pub fn set_entries_of(&mut self, table: u64, entries: u16) {
        touched(1);
        debug_assert!(self.owner(table) == Owner::Kernel, "tables are the kernel's");
        // A table is bound by nobody: what bindings are counted in is vacant.
        let entry = &mut self.entries[table as usize];
        let region = &mut self.regions[table as usize / LARGE_FRAMES as usize];
        region.bindings = region.bindings - u32::from(entry.bindings) + u32::from(entries);
        entry.bindings = entries;
    }

    fn entry(&self, frame: u64) -> Option<&FrameEntry> {
        touched(1);
        self.entries.get(usize::try_from(frame).ok()?)
    }

    /// The only place where a frame changes hands: keeps map, counts and lists in step.
    fn set_owner(&mut self, frame: u64, owner: u32, generation: u64) {
        touched(2);
        let entry = &mut self.entries[frame as usize];
        let old = core::mem::replace(&mut entry.owner, owner);
        entry.generation = generation;
        self.regions[(frame / LARGE_FRAMES) as usize].generation = NO_GENERATION;
        let word = &self.free_map[frame as usize / 64];
        let bit = 1 << (frame % 64);
        match old {
            FREE => {
                word.fetch_and(!bit, Ordering::Relaxed);
                self.free -= 1;
                self.leave_list(frame as u32, FREE_LIST);
            }
            ABSENT | LEAVING => {}
            KERNEL => self.owned[KERNEL as usize] -= 1,
            bits => {
                let index = EnvironmentId::from_bits(bits).index();
                self.owned[index] -= 1;
                self.leave_list(frame as u32, index);
            }
        }
        match owner {
            FREE => {
                self.free_map[frame as usize / 64].fetch_or(bit, Ordering::Relaxed);
                self.free += 1;
                self.join_list(frame as u32, FREE_LIST);
            }
            ABSENT | LEAVING => {}
            KERNEL => self.owned[KERNEL as usize] += 1,
            bits => {
                let index = EnvironmentId::from_bits(bits).index();
                self.owned[index] += 1;
                self.join_list(frame as u32, index);
            }
        }
    }

    fn join_list(&mut self, frame: u32, list: usize) {
        let first = core::mem::replace(&mut self.first[list], frame);
        (self.entries[frame as usize].next, self.entries[frame as usize].previous) = (first, NONE);
        if first != NONE {
            self.entries[first as usize].previous = frame;
        }
    }

    fn leave_list(&mut self, frame: u32, list: usize) {
        let FrameEntry { next, previous, .. } = self.entries[frame as usize];
        match previous {
            NONE => self.first[list] = next,
            previous => self.entries[previous as usize].next = next,
        }
        if next != NONE {
            self.entries[next as usize].previous = previous;
        }
    }
}

/// A table of so many frames, all free, for tests.
#[cfg(test)]
pub fn model(frames: u64) -> FrameTable {
    let entries = vec![FrameEntry::ABSENT; frames as usize].leak();
    let regions = vec![Region::default(); regions(frames) as usize].leak();
    let map: Vec<AtomicU64> = (0..frames.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
    let mut table = FrameTable::new(entries, regions, map.leak());
    table.reserve(0..frames);
    table.release_kernel(0..frames);
    table
}

#[cfg(test)]
mod audit;
#[cfg(test)]
mod tests;
