//! Disk blocks: extents, who owns them, who has bound them.
//!
//! The kernel knows no file system. It knows which environment was given which run of blocks, and checks that
//! a request stays inside what its sender has bound. A capability names part of an extent and its generation.
//!
//! An extent handed out from free space may hold what its last owner left. Clearing it by writing would cost
//! as much as using it, so each block *reads as zeros until it is written*: a bitmap says which have been.
#![forbid(unsafe_code)]

use crate::machine::id::EnvironmentId;
use crate::machine::memory::PhysicalMemory;
use crate::resource::capability::{Current, Verified};
use crate::resource::frame::table::Owner;
use alloc::vec::Vec;
use hyperexo_abi::capability::{Claim, Resource, Rights};
use hyperexo_abi::hypercall::{MAP_FRAME_BLOCKS, MAX_EXTENT_MAP_FRAMES, Status};
use hyperexo_abi::{ANY, FRAME_BYTES};

/// Most extents the table holds: each environment has a part of them for itself.
pub const MAX_EXTENTS: usize = 1024;
/// Most extents of one environment.
pub const MAX_EXTENTS_PER_OWNER: usize = 64;

/// Most extents an environment can have bound.
pub const MAX_BINDINGS: usize = 128;

/// Which blocks of an extent have been written: a bit a block, in frames on the owner's account.
pub type WrittenMap = [Option<u64>; MAX_EXTENT_MAP_FRAMES];

/// A run of blocks with one owner.
struct Extent {
    first: u64,
    count: u64,
    owner: EnvironmentId,
    /// Its owner has ended, and the device has not finished with it.
    orphan: bool,
    generation: u64,
    /// One bit a block, set when written; `None`: all blocks may be read as they are.
    written: Option<WrittenMap>,
}

impl Extent {
    fn end(&self) -> u64 {
        self.first + self.count
    }

    /// Frame and word of a block's bit in the map, and the bit; `None` if there is no map.
    fn bit(&self, block: u64) -> Option<(u64, usize, u64)> {
        let offset = block - self.first;
        let frame = self.written?[(offset / MAP_FRAME_BLOCKS) as usize]?;
        let within = offset % MAP_FRAME_BLOCKS;
        Some((frame, (within / 64) as usize, 1 << (within % 64)))
    }
}

/// An extent that an environment may name in requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// First block.
    pub first: u64,
    /// Blocks.
    pub count: u64,
    /// What requests may do.
    pub rights: Rights,
    generation: u64,
}

/// The table of a disk.
pub struct ExtentTable {
    blocks: u64,
    /// Sorted by `first`, without overlap.
    extents: Vec<Extent>,
    next_generation: u64,
    /// Blocks and extents of each environment.
    owned: Vec<Owned>,
    /// Most extents of one environment, on this machine.
    limit: usize,
}

/// What an environment owns.
#[derive(Clone, Copy, Default)]
struct Owned {
    blocks: u64,
    /// Those of `blocks` that it allocated itself.
    allocated: u64,
    extents: usize,
}

const _: () = assert!(MAP_FRAME_BLOCKS == 8 * FRAME_BYTES as u64);

impl ExtentTable {
    /// A disk of `blocks` blocks, all free, with room for the extents of nobody.
    pub fn new(blocks: u64) -> ExtentTable {
        ExtentTable { blocks, extents: Vec::new(), next_generation: 1, owned: Vec::new(), limit: 0 }
    }

    /// Makes room for the extents of this many environments, each of which can have as many as any other.
    ///
    /// # Errors
    ///
    /// [`Status::Exhausted`] without memory.
    pub fn admit(&mut self, environments: usize) -> Result<(), Status> {
        self.limit = (MAX_EXTENTS / environments.max(1)).min(MAX_EXTENTS_PER_OWNER);
        self.owned.try_reserve_exact(environments + 1).map_err(|_| Status::Exhausted)?;
        self.owned.resize(environments + 1, Owned::default());
        let wanted = self.limit * environments;
        self.extents
            .try_reserve_exact(wanted.saturating_sub(self.extents.len()))
            .map_err(|_| Status::Exhausted)
    }

    /// Blocks of the disk.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Blocks owned by an environment.
    pub fn owned_by(&self, owner: EnvironmentId) -> u64 {
        self.owned[owner.index()].blocks
    }

    /// Blocks that an environment allocated itself.
    pub fn allocated_by(&self, owner: EnvironmentId) -> u64 {
        self.owned[owner.index()].allocated
    }

    /// Gives an environment an extent with the contents it has: the operator's decision, in the manifest.
    ///
    /// # Errors
    ///
    /// As [`ExtentTable::allocate`].
    pub fn grant(
        &mut self,
        owner: EnvironmentId,
        first: u64,
        count: u64,
        rights: Rights,
    ) -> Result<Claim, Status> {
        let first = self.require_free(owner, first, count)?;
        Ok(self.insert(owner, first, count, rights, None))
    }

    /// Where free blocks are that an environment can have, starting at `first` or ([`ANY`]) anywhere.
    ///
    /// # Errors
    ///
    /// [`Status::BadArgument`] for no blocks; [`Status::NoSuch`] beyond the disk's end; [`Status::InUse`] if
    /// one has an owner; [`Status::Exhausted`] if there is no such run, or the owner has as many extents as
    /// it may have.
    pub fn require_free(&self, owner: EnvironmentId, first: u64, count: u64) -> Result<u64, Status> {
        if count == 0 {
            return Err(Status::BadArgument);
        }
        // Orphans take up places, too: those of their former owners.
        let full = self.extents.len() == self.extents.capacity();
        if full || self.owned[owner.index()].extents >= self.limit {
            return Err(Status::Exhausted);
        }
        let first = if first == ANY { self.find(count).ok_or(Status::Exhausted)? } else { first };
        let end = first.checked_add(count).filter(|end| *end <= self.blocks).ok_or(Status::NoSuch)?;
        let place = self.extents.partition_point(|extent| extent.end() <= first);
        match self.extents.get(place) {
            Some(next) if next.first < end => Err(Status::InUse),
            _ => Ok(first),
        }
    }

    /// Gives an environment free blocks that read as zeros: `first` is what [`ExtentTable::require_free`]
    /// said, `map` has zeroed frames for `count` blocks.
    pub fn allocate(&mut self, owner: EnvironmentId, first: u64, count: u64, map: WrittenMap) -> Claim {
        self.insert(owner, first, count, Rights::READ_WRITE.union(Rights::GRANT), Some(map))
    }

    fn insert(
        &mut self,
        owner: EnvironmentId,
        first: u64,
        count: u64,
        rights: Rights,
        written: Option<WrittenMap>,
    ) -> Claim {
        let owned = &mut self.owned[owner.index()];
        owned.extents += 1;
        owned.blocks += count;
        owned.allocated += if written.is_some() { count } else { 0 };
        let generation = self.fresh_generation();
        let place = self.extents.partition_point(|extent| extent.end() <= first);
        self.extents.insert(place, Extent { first, count, owner, orphan: false, generation, written });
        Claim { resource: Resource::Disk, rights, generation, first, count }
    }

    fn remove(&mut self, place: usize) -> (EnvironmentId, Option<WrittenMap>) {
        let Extent { owner, count, written, .. } = self.extents.remove(place);
        let owned = &mut self.owned[owner.index()];
        owned.extents -= 1;
        owned.blocks -= count;
        owned.allocated -= if written.is_some() { count } else { 0 };
        (owner, written)
    }

    /// First fit.
    fn find(&self, count: u64) -> Option<u64> {
        let mut start = 0;
        for extent in &self.extents {
            if extent.first - start >= count {
                return Some(start);
            }
            start = extent.end();
        }
        (self.blocks.checked_sub(start)? >= count).then_some(start)
    }

    fn position(&self, claim: &Verified) -> Result<usize, Status> {
        let place = self.extents.partition_point(|extent| extent.end() <= claim.first());
        match self.extents.get(place) {
            Some(extent)
                if claim.resource() == Resource::Disk
                    && claim.count() != 0
                    && !extent.orphan
                    && extent.first <= claim.first()
                    && claim.end() <= extent.end()
                    && extent.generation == claim.generation() =>
            {
                Ok(place)
            }
            _ => Err(Status::StaleCapability),
        }
    }

    /// The owner of a claim's blocks, if the claim is current.
    ///
    /// # Errors
    ///
    /// [`Status::StaleCapability`].
    pub fn check(&self, claim: &Verified) -> Result<Current, Status> {
        let owner = self.extents[self.position(claim)?].owner;
        Ok(Current::new(*claim, Owner::Environment(owner)))
    }

    /// Makes an extent nobody's; returns whose it was, and the frames of its map. The claim must name the
    /// whole extent.
    ///
    /// # Errors
    ///
    /// [`Status::BadArgument`] for a part of an extent.
    pub fn free(&mut self, current: Current) -> Result<(EnvironmentId, Option<WrittenMap>), Status> {
        let place = self.whole(current.verified())?;
        Ok(self.remove(place))
    }

    /// The place of the extent that a claim names as a whole.
    fn whole(&self, claim: &Verified) -> Result<usize, Status> {
        let place = self.position(claim)?;
        if self.extents[place].count == claim.count() { Ok(place) } else { Err(Status::BadArgument) }
    }

    /// Gives a whole extent a new generation, which it returns.
    ///
    /// # Errors
    ///
    /// As [`ExtentTable::free`].
    pub fn revoke(&mut self, current: Current) -> Result<u64, Status> {
        let place = self.whole(current.verified())?;
        let generation = self.fresh_generation();
        self.extents[place].generation = generation;
        Ok(generation)
    }

    /// Makes an extent of an environment nobody's, if it still has one; returns the frames of its map. If
    /// `in_use` (first block, blocks) says that a request in flight still touches it, it becomes an orphan,
    /// which [`ExtentTable::release_orphan`] frees.
    pub fn release_one(
        &mut self,
        owner: EnvironmentId,
        in_use: impl Fn(u64, u64) -> bool,
    ) -> Option<Option<WrittenMap>> {
        let its = |extent: &Extent| extent.owner == owner && !extent.orphan;
        let place = self.extents.iter().position(its)?;
        let Extent { first, count, .. } = self.extents[place];
        if !in_use(first, count) {
            return Some(self.remove(place).1);
        }
        let generation = self.fresh_generation();
        let extent = &mut self.extents[place];
        (extent.orphan, extent.generation) = (true, generation);
        Some(None)
    }

    /// Makes an orphan nobody's that is not `in_use` any more; returns whose it was, and the frames of its
    /// map.
    pub fn release_orphan(
        &mut self,
        in_use: impl Fn(u64, u64) -> bool,
    ) -> Option<(EnvironmentId, Option<WrittenMap>)> {
        let over = |extent: &Extent| extent.orphan && !in_use(extent.first, extent.count);
        let place = self.extents.iter().position(over)?;
        Some(self.remove(place))
    }

    /// The last generation given: what is newer has been revoked, freed or allocated since.
    pub fn generation(&self) -> u64 {
        self.next_generation - 1
    }

    /// Adds the extent of a claim to what an environment has bound.
    ///
    /// # Errors
    ///
    /// [`Status::InUse`] if it overlaps what is bound already; [`Status::Exhausted`] when the list is full.
    pub fn bind(&self, bindings: &mut Vec<Binding>, current: Current, rights: Rights) -> Result<(), Status> {
        let claim = current.verified();
        if bindings.len() == bindings.capacity() {
            return Err(Status::Exhausted);
        }
        let place = bindings.partition_point(|binding| binding.first + binding.count <= claim.first());
        if bindings.get(place).is_some_and(|next| next.first < claim.end()) {
            return Err(Status::InUse);
        }
        let (first, count, generation) = (claim.first(), claim.count(), claim.generation());
        bindings.insert(place, Binding { first, count, rights, generation });
        Ok(())
    }

    /// Removes bindings whose extents have been freed or revoked.
    pub fn drop_stale(&self, bindings: &mut Vec<Binding>) {
        bindings.retain(|binding| self.is_current(binding));
    }

    /// Whether a request for `count` blocks from `first` stays inside what is bound with `rights`, and the
    /// bindings are current. Adjacent bindings count as one.
    pub fn permits(&self, bindings: &[Binding], first: u64, count: u64, rights: Rights) -> bool {
        let Some(end) = first.checked_add(count) else { return false };
        let mut at = first;
        let mut place = bindings.partition_point(|binding| binding.first + binding.count <= first);
        while at < end {
            match bindings.get(place) {
                Some(binding)
                    if binding.first <= at && binding.rights.contains(rights) && self.is_current(binding) =>
                {
                    at = binding.first + binding.count;
                    place += 1;
                }
                _ => return false,
            }
        }
        count != 0
    }

    /// Whether the extent of a binding has neither been freed nor revoked since.
    pub fn is_current(&self, binding: &Binding) -> bool {
        let place = self.extents.partition_point(|extent| extent.end() <= binding.first);
        self.extents.get(place).is_some_and(|extent| extent.generation == binding.generation)
    }

    fn extent_of(&self, block: u64) -> Option<usize> {
        let place = self.extents.partition_point(|extent| extent.end() <= block);
        self.extents.get(place).filter(|extent| extent.first <= block).map(|_| place)
    }

    /// Whether a block must read as zeros: handed out from free space and not written since.
    pub fn reads_as_zeros(&self, block: u64, memory: &PhysicalMemory) -> bool {
        let bit = self.extent_of(block).and_then(|place| self.extents[place].bit(block));
        bit.is_some_and(|(frame, word, bit)| memory.word(frame, word) & bit == 0)
    }

    /// Notes that a block now holds what its owner wrote.
    pub fn mark_written(&self, block: u64, memory: &PhysicalMemory) {
        let bit = self.extent_of(block).and_then(|place| self.extents[place].bit(block));
        if let Some((frame, word, bit)) = bit {
            memory.set_word(frame, word, memory.word(frame, word) | bit);
        }
    }

    fn fresh_generation(&mut self) -> u64 {
        let generation = self.next_generation;
        self.next_generation += 1;
        generation
    }
}

#[cfg(test)]
impl ExtentTable {
    /// Frames of maps on the account of an environment.
    pub fn map_frames(&self, id: EnvironmentId) -> u64 {
        let maps =
            self.extents.iter().filter(|extent| extent.owner == id).filter_map(|extent| extent.written);
        maps.map(|map| map.iter().flatten().count() as u64).sum()
    }
}

#[cfg(test)]
mod tests;
