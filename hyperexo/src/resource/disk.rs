//! Disk blocks: extents, who owns them, who has bound them.
//!
//! The kernel knows no file system. It knows which environment was given which run of blocks, and checks that
//! a request stays inside what its sender has bound. A capability names part of an extent and its generation.
//!
//! An extent handed out from free space may hold what its last owner left. Clearing it by writing would cost
//! as much as using it, so each block *reads as zeros until it is written*: a bitmap says which have been.
#![forbid(unsafe_code)]

use alloc::vec::Vec;
use hyperexo_abi::ANY;
use hyperexo_abi::capability::{Claim, Resource, Rights};
use hyperexo_abi::hypercall::Status;

use super::page::EnvironmentId;

/// Most extents the table holds: what environments can make the kernel remember is bounded.
pub const MAX_EXTENTS: usize = 1024;
/// Most extents of one environment.
pub const MAX_EXTENTS_PER_OWNER: usize = 64;
/// Most 64-block words of all bitmaps together: the kernel's memory is bounded, whoever asks.
pub const MAX_BITMAP_WORDS: usize = 16 << 10;
/// Owner of what a dead environment's requests in flight still touch.
const ORPHAN: EnvironmentId = 0;

/// Most extents an environment can have bound.
pub const MAX_BINDINGS: usize = 256;

/// A run of blocks with one owner.
struct Extent {
    first: u64,
    count: u64,
    owner: EnvironmentId,
    generation: u64,
    /// One bit a block, set when written; `None`: all blocks may be read as they are.
    written: Option<Vec<u64>>,
}

impl Extent {
    fn end(&self) -> u64 {
        self.first + self.count
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
}

impl ExtentTable {
    /// A disk of `blocks` blocks, all free.
    pub fn new(blocks: u64) -> ExtentTable {
        ExtentTable { blocks, extents: Vec::new(), next_generation: 1 }
    }

    /// Blocks of the disk.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Blocks owned by an environment.
    pub fn owned_by(&self, owner: EnvironmentId) -> u64 {
        self.extents.iter().filter(|extent| extent.owner == owner).map(|extent| extent.count).sum()
    }

    /// Blocks that an environment allocated itself.
    pub fn allocated_by(&self, owner: EnvironmentId) -> u64 {
        let allocated = |extent: &&Extent| extent.owner == owner && extent.written.is_some();
        self.extents.iter().filter(allocated).map(|extent| extent.count).sum()
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
        self.insert(owner, first, count, rights, false)
    }

    /// Gives an environment free blocks that read as zeros, starting at `first` or ([`ANY`]) anywhere.
    ///
    /// # Errors
    ///
    /// [`Status::BadArgument`] for no blocks; [`Status::NoSuch`] beyond the disk's end; [`Status::InUse`] if
    /// one has an owner; [`Status::Exhausted`] if there is no such run or no memory to keep track of it.
    pub fn allocate(&mut self, owner: EnvironmentId, first: u64, count: u64) -> Result<Claim, Status> {
        self.insert(owner, first, count, Rights::READ_WRITE.union(Rights::GRANT), true)
    }

    fn insert(
        &mut self,
        owner: EnvironmentId,
        first: u64,
        count: u64,
        rights: Rights,
        clear: bool,
    ) -> Result<Claim, Status> {
        if count == 0 {
            return Err(Status::BadArgument);
        }
        let of_owner = self.extents.iter().filter(|extent| extent.owner == owner).count();
        if self.extents.len() >= MAX_EXTENTS || of_owner >= MAX_EXTENTS_PER_OWNER {
            return Err(Status::Exhausted);
        }
        let first = if first == ANY { self.find(count).ok_or(Status::Exhausted)? } else { first };
        let end = first.checked_add(count).filter(|end| *end <= self.blocks).ok_or(Status::NoSuch)?;
        let place = self.extents.partition_point(|extent| extent.end() <= first);
        if self.extents.get(place).is_some_and(|next| next.first < end) {
            return Err(Status::InUse);
        }
        let written = if clear {
            let words = count.div_ceil(64) as usize;
            let taken: usize =
                self.extents.iter().filter_map(|extent| extent.written.as_ref()).map(Vec::len).sum();
            if words > MAX_BITMAP_WORDS.saturating_sub(taken) {
                return Err(Status::Exhausted);
            }
            let mut map = Vec::new();
            map.try_reserve_exact(words).map_err(|_| Status::Exhausted)?;
            map.resize(words, 0);
            Some(map)
        } else {
            None
        };
        self.extents.try_reserve(1).map_err(|_| Status::Exhausted)?;
        let generation = self.fresh_generation();
        self.extents.insert(place, Extent { first, count, owner, generation, written });
        Ok(Claim { resource: Resource::Disk, rights, generation, first, count })
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

    fn position(&self, claim: &Claim) -> Result<usize, Status> {
        let place = self.extents.partition_point(|extent| extent.end() <= claim.first);
        match self.extents.get(place) {
            Some(extent)
                if claim.resource == Resource::Disk
                    && claim.count != 0
                    && extent.first <= claim.first
                    && claim.end() <= extent.end()
                    && extent.generation == claim.generation =>
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
    pub fn check(&self, claim: &Claim) -> Result<EnvironmentId, Status> {
        Ok(self.extents[self.position(claim)?].owner)
    }

    /// Makes an extent nobody's. The claim must be current and name the whole extent.
    ///
    /// # Errors
    ///
    /// [`Status::StaleCapability`]; [`Status::BadArgument`] for a part of an extent.
    pub fn free(&mut self, claim: &Claim) -> Result<(), Status> {
        let place = self.position(claim)?;
        if self.extents[place].count != claim.count {
            return Err(Status::BadArgument);
        }
        self.extents.remove(place);
        Ok(())
    }

    /// Gives a whole extent a new generation.
    ///
    /// # Errors
    ///
    /// As [`ExtentTable::free`].
    pub fn revoke(&mut self, claim: &Claim) -> Result<Claim, Status> {
        let place = self.position(claim)?;
        if self.extents[place].count != claim.count {
            return Err(Status::BadArgument);
        }
        let generation = self.fresh_generation();
        self.extents[place].generation = generation;
        Ok(Claim { generation, ..*claim })
    }

    /// Makes all extents of an environment nobody's; those that `in_use` (first block, blocks) says a request
    /// in flight still touches become orphans, which [`ExtentTable::release_orphans`] frees.
    pub fn release_all(&mut self, owner: EnvironmentId, in_use: impl Fn(u64, u64) -> bool) {
        let mut next_generation = self.next_generation;
        self.extents.retain_mut(|extent| {
            if extent.owner != owner {
                return true;
            }
            extent.owner = ORPHAN;
            extent.generation = next_generation;
            next_generation += 1;
            in_use(extent.first, extent.count)
        });
        self.next_generation = next_generation;
    }

    /// Makes orphans nobody's that are not `in_use` any more.
    pub fn release_orphans(&mut self, in_use: impl Fn(u64, u64) -> bool) {
        self.extents.retain(|extent| extent.owner != ORPHAN || in_use(extent.first, extent.count));
    }

    /// Adds the extent of a claim to what an environment has bound.
    ///
    /// # Errors
    ///
    /// [`Status::StaleCapability`]; [`Status::InUse`] if it overlaps what is bound already;
    /// [`Status::Exhausted`] after [`MAX_BINDINGS`].
    pub fn bind(&self, bindings: &mut Vec<Binding>, claim: &Claim, rights: Rights) -> Result<(), Status> {
        self.position(claim)?;
        if bindings.len() >= MAX_BINDINGS {
            return Err(Status::Exhausted);
        }
        let place = bindings.partition_point(|binding| binding.first + binding.count <= claim.first);
        if bindings.get(place).is_some_and(|next| next.first < claim.end()) {
            return Err(Status::InUse);
        }
        bindings.try_reserve(1).map_err(|_| Status::Exhausted)?;
        let generation = claim.generation;
        bindings.insert(place, Binding { first: claim.first, count: claim.count, rights, generation });
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

    fn is_current(&self, binding: &Binding) -> bool {
        let place = self.extents.partition_point(|extent| extent.end() <= binding.first);
        self.extents.get(place).is_some_and(|extent| extent.generation == binding.generation)
    }

    fn extent_of(&self, block: u64) -> Option<usize> {
        let place = self.extents.partition_point(|extent| extent.end() <= block);
        self.extents.get(place).filter(|extent| extent.first <= block).map(|_| place)
    }

    /// Whether a block must read as zeros: handed out from free space and not written since.
    pub fn reads_as_zeros(&self, block: u64) -> bool {
        let Some(extent) = self.extent_of(block).map(|place| &self.extents[place]) else { return false };
        let offset = block - extent.first;
        extent.written.as_ref().is_some_and(|map| map[(offset / 64) as usize] >> (offset % 64) & 1 == 0)
    }

    /// Notes that a block now holds what its owner wrote.
    pub fn mark_written(&mut self, block: u64) {
        let Some(place) = self.extent_of(block) else { return };
        let extent = &mut self.extents[place];
        let offset = block - extent.first;
        if let Some(map) = &mut extent.written {
            map[(offset / 64) as usize] |= 1 << (offset % 64);
        }
    }

    fn fresh_generation(&mut self) -> u64 {
        let generation = self.next_generation;
        self.next_generation += 1;
        generation
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn extents_do_not_overlap() {
        let mut table = ExtentTable::new(100);
        let granted = table.grant(1, 10, 20, Rights::READ_WRITE).unwrap();
        assert_eq!(table.allocate(2, 29, 1), Err(Status::InUse));
        assert_eq!(table.allocate(2, 5, 6), Err(Status::InUse));
        assert_eq!(table.allocate(2, 95, 6), Err(Status::NoSuch));
        assert_eq!(table.allocate(2, u64::MAX - 3, 6), Err(Status::NoSuch));
        assert_eq!(table.allocate(2, 30, 0), Err(Status::BadArgument));
        assert_eq!(table.allocate(2, ANY, 10).unwrap().first, 0);
        assert_eq!(table.allocate(2, ANY, 70).unwrap().first, 30);
        assert_eq!(table.allocate(2, ANY, 1), Err(Status::Exhausted));
        assert_eq!(table.check(&granted), Ok(1));
        table.free(&granted).unwrap();
        assert_eq!(table.check(&granted), Err(Status::StaleCapability));
    }

    #[test]
    fn requests_stay_inside_current_bindings() {
        let mut table = ExtentTable::new(100);
        let left = table.grant(1, 10, 10, Rights::READ_WRITE).unwrap();
        let right = table.grant(1, 20, 10, Rights::READ_WRITE).unwrap();
        let mut bindings = Vec::new();
        table.bind(&mut bindings, &left, Rights::READ_WRITE).unwrap();
        table.bind(&mut bindings, &right, Rights::READ).unwrap();
        assert_eq!(table.bind(&mut bindings, &left, Rights::READ), Err(Status::InUse));
        assert!(table.permits(&bindings, 15, 10, Rights::READ));
        assert!(!table.permits(&bindings, 15, 10, Rights::WRITE));
        assert!(!table.permits(&bindings, 9, 2, Rights::READ));
        assert!(!table.permits(&bindings, 29, 2, Rights::READ));
        assert!(!table.permits(&bindings, 15, 0, Rights::READ));
        assert!(!table.permits(&bindings, u64::MAX, 2, Rights::READ));
        table.revoke(&right).unwrap();
        assert!(!table.permits(&bindings, 15, 10, Rights::READ));
        assert!(table.permits(&bindings, 10, 10, Rights::READ));
    }

    #[test]
    fn blocks_from_free_space_read_as_zeros_until_written() {
        let mut table = ExtentTable::new(300);
        table.grant(1, 0, 10, Rights::READ).unwrap();
        table.allocate(2, 10, 200).unwrap();
        assert!(!table.reads_as_zeros(9));
        assert!(table.reads_as_zeros(10) && table.reads_as_zeros(150));
        table.mark_written(150);
        assert!(!table.reads_as_zeros(150) && table.reads_as_zeros(149) && table.reads_as_zeros(151));
    }

    #[test]
    fn blocks_of_the_dead_are_not_given_away_while_their_requests_are_in_flight() {
        let mut table = ExtentTable::new(100);
        let old = table.allocate(1, ANY, 10).unwrap();
        table.release_all(1, |first, count| (first, count) == (0, 10));
        assert_eq!(table.check(&old), Err(Status::StaleCapability));
        assert_eq!(table.allocate(2, 5, 1), Err(Status::InUse));
        assert_eq!(table.allocate(2, ANY, 10).unwrap().first, 10);
        table.release_orphans(|_, _| true);
        assert_eq!(table.allocate(2, 5, 1), Err(Status::InUse));
        table.release_orphans(|_, _| false);
        assert!(table.allocate(2, 5, 1).is_ok() && table.reads_as_zeros(5));
    }

    #[test]
    fn what_is_kept_track_of_is_bounded() {
        let mut table = ExtentTable::new(1 << 40);
        assert_eq!(table.allocate(1, ANY, 1 << 39), Err(Status::Exhausted));
        for _ in 0..MAX_EXTENTS_PER_OWNER {
            table.allocate(1, ANY, 1).unwrap();
        }
        assert_eq!(table.allocate(1, ANY, 1), Err(Status::Exhausted));
        assert!(table.allocate(2, ANY, 1).is_ok());
    }

    proptest! {
        #[test]
        fn no_two_owners_of_one_block(steps in prop::collection::vec((1u16..4, 0u64..66, 1u64..20, any::<bool>()), 1..60)) {
            let mut table = ExtentTable::new(64);
            let mut model = [0u16; 64];
            let mut claims = Vec::new();
            for (owner, place, count, give) in steps {
                if give || claims.is_empty() {
                    let free = place + count <= 64 && model[place as usize..(place + count) as usize].iter().all(|o| *o == 0);
                    let claim = table.allocate(owner, place, count);
                    prop_assert_eq!(claim.is_ok(), free);
                    if let Ok(claim) = claim {
                        model[place as usize..(place + count) as usize].fill(owner);
                        claims.push(claim);
                    }
                } else {
                    let claim: Claim = claims.swap_remove(place as usize % claims.len());
                    table.free(&claim).unwrap();
                    model[claim.first as usize..claim.end() as usize].fill(0);
                }
                for owner in 1..4 {
                    prop_assert_eq!(table.owned_by(owner), model.iter().filter(|o| **o == owner).count() as u64);
                }
            }
        }
    }
}
