//! What the cache knows, and the changes that concern more than one part of it.
//!
//! Each part keeps its own invariants. Those between the parts are kept here:
//!
//! * a block is in a pool of [`Managers`] exactly while its slot is `Resident` or `Writing`;
//! * only such slots are in [`Dirty`], by their place on the device.

use super::dirty::Dirty;
use super::disclosure::{Disclosure, NEVER};
use super::disclosures::Disclosures;
use super::options::CacheOptions;
use super::record::{Event, Record};
use super::slots::{Forgotten, Found, Slots};
use super::statistics::CacheStatistics;
use crate::cache::allocation::{ManagerId, Managers, Victim};
use crate::cache::key::Key;
use crate::cache::policies::{DirtyBlocks, Disclosed, ReadAhead, Reference, WriteBack};
use crate::error::FsError;
use crate::file_id::FileId;
use crate::lent_page::LentPage;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use hyperexo_abi::Page;

/// All parts of a cache but the device.
pub(super) struct State {
    slots: Slots,
    managers: Managers,
    dirty: Dirty,
    read_ahead: Box<dyn ReadAhead>,
    write_back: Box<dyn WriteBack>,
    disclosures: Disclosures,
    record: Record,
    statistics: CacheStatistics,
    mounting: bool,
    /// A dirty block was lost in the device: its contents can't be written any more.
    lost_dirty: bool,
}

impl State {
    /// An empty cache.
    pub(super) fn new(options: &CacheOptions) -> State {
        let capacity = options.blocks.max(1);
        State {
            slots: Slots::new(capacity, options.staging),
            managers: Managers::new(options.allocation, options.policy, capacity),
            dirty: Dirty::default(),
            read_ahead: options.read_ahead.build(),
            write_back: options.write_back.build(),
            disclosures: Disclosures::default(),
            record: Record::new(options.record_references),
            statistics: CacheStatistics::default(),
            mounting: true,
            lost_dirty: false,
        }
    }

    /// The contents of a slot, for others to read.
    pub(super) fn lend(&mut self, slot: usize) -> Option<Arc<LentPage>> {
        self.slots.lend(slot)
    }

    /// The buffers.
    pub(super) fn slots(&self) -> &Slots {
        &self.slots
    }

    /// The managers.
    pub(super) fn managers(&self) -> &Managers {
        &self.managers
    }

    /// The managers: for names, places and policies. Blocks come and go through the methods here.
    pub(super) fn managers_mut(&mut self) -> &mut Managers {
        &mut self.managers
    }

    /// What is to be written.
    pub(super) fn dirty(&self) -> &Dirty {
        &self.dirty
    }

    /// Those who hear of references.
    pub(super) fn record(&mut self) -> &mut Record {
        &mut self.record
    }

    /// The counters, to count.
    pub(super) fn counters(&mut self) -> &mut CacheStatistics {
        &mut self.statistics
    }

    /// The counters as they are now.
    pub(super) fn statistics(&self) -> CacheStatistics {
        CacheStatistics { resident: self.slots.blocks(), dirty: self.dirty.len(), ..self.statistics }
    }

    /// Whether the volume is still being mounted.
    pub(super) fn is_mounting(&self) -> bool {
        self.mounting
    }

    /// The volume is mounted.
    pub(super) fn end_of_mount(&mut self) {
        self.mounting = false;
    }

    /// Changes how many slots may be taken; at least 1.
    pub(super) fn set_capacity(&mut self, blocks: usize) {
        let capacity = blocks.max(1);
        self.slots.set_capacity(capacity);
        self.managers.resize(capacity);
    }

    /// Gives a taken slot back, and the memory of all vacant ones.
    pub(super) fn give_back(&mut self, slot: usize) {
        self.slots.release(slot);
        self.slots.drop_vacant_pages();
    }
}

/// References.
impl State {
    /// A reference to a resident block.
    pub(super) fn hit(&mut self, slot: usize) {
        self.statistics.references += 1;
        self.statistics.hits += 1;
        self.record.referred(self.slots.key(slot), Event::Hit);
        self.managers.access(slot);
        self.follow(slot);
    }

    /// The first reference to a `Staged` or `Taken` block: from now on it is in the care of a policy.
    pub(super) fn promote(&mut self, slot: usize) {
        let key = self.slots.key(slot);
        self.statistics.references += 1;
        self.statistics.misses += 1;
        self.record.referred(key, Event::Miss);
        self.slots.make_resident(slot);
        self.managers.insert(slot, key);
        self.follow(slot);
    }

    fn follow(&mut self, slot: usize) {
        self.slots.touch(slot, self.statistics.references);
        self.disclosures.follow(slot, &self.slots, &self.managers);
    }

    /// The first reference to a staged block that was there before it was asked for.
    pub(super) fn use_staged(&mut self, slot: usize) {
        self.promote(slot);
        self.statistics.staged_used += 1;
    }

    /// The first reference to a block that needs no read, in a `Taken` slot: it gets a page of zeros and no
    /// place on the device.
    pub(super) fn allocate(&mut self, slot: usize, key: Key) {
        self.slots.fill(slot, key);
        self.statistics.allocated += 1;
        self.promote(slot);
    }

    /// The block in a resident slot is written to, and belongs at this place on the device from now on.
    pub(super) fn rewrite(&mut self, slot: usize, disk: u64) -> Option<&mut Page> {
        if self.slots.disk(slot) != disk {
            self.set_clean(slot);
            self.slots.place_on(slot, disk);
        }
        self.dirty.insert(slot, disk, self.statistics.references);
        self.slots.page_mut(slot)
    }

    /// Where read-ahead goes on now that this staged block is referenced. Says it once.
    pub(super) fn take_goes_on(&mut self, slot: usize) -> Option<u64> {
        self.slots.take_goes_on(slot)
    }

    /// When the block in this slot is first referenced, read-ahead goes on from block `next`.
    pub(super) fn set_goes_on(&mut self, slot: usize, next: u64) {
        self.slots.set_goes_on(slot, next);
    }

    /// Tells read-ahead of a reference. Returns how many blocks it wants, `limit` at most.
    pub(super) fn ask_read_ahead(&mut self, key: Key, limit: u64) -> u64 {
        if self.disclosed(key.0).is_some() {
            return 0;
        }
        let (FileId(file), block) = key;
        self.read_ahead.blocks_ahead(&Reference { file, block, limit }).min(limit)
    }

    /// Chooses another read-ahead policy. What was disclosed to the old one is forgotten.
    pub(super) fn set_read_ahead(&mut self, policy: Box<dyn ReadAhead>) {
        self.read_ahead = policy;
        self.disclosures.clear();
    }
}

/// Room.
impl State {
    /// A vacant slot, now `Taken`.
    pub(super) fn take_vacant(&mut self) -> Option<usize> {
        self.slots.take_vacant()
    }

    /// Chooses a resident block that could go to make room for another; it may be dirty.
    pub(super) fn choose_victim(&mut self, missing: Option<Key>) -> Option<Victim> {
        let slots = &self.slots;
        let (victim, rejected) = self.managers.victim(missing, |slot| slots.is_resident(slot));
        self.statistics.rejected_victims += rejected;
        victim
    }

    /// The slot that a manager's policies would give up for `missing`.
    pub(super) fn own_victim(&mut self, manager: ManagerId, missing: Key) -> Option<usize> {
        let slots = &self.slots;
        self.managers.own_victim(manager, missing, |slot| slots.is_resident(slot))
    }

    /// Takes a clean resident block out of the cache. The slot is `Taken` afterwards.
    pub(super) fn evict(&mut self, victim: Victim) {
        let block = self.managers.evict(victim);
        self.slots.vacate(victim.slot());
        self.statistics.evictions += 1;
        if let Some(block) = block {
            self.record.evicted(block);
        }
    }

    /// Drops a staged block.
    pub(super) fn drop_staged(&mut self, slot: usize) {
        self.slots.drop_staged(slot);
        self.statistics.staged_wasted += 1;
    }

    /// Drops staged blocks that have waited too long for their first reference. There is no hurry, because
    /// they take room from read-ahead only; and one of many streams may be slow.
    pub(super) fn drop_stale(&mut self) {
        while let Some(slot) = self.slots.stale(self.statistics.references) {
            self.drop_staged(slot);
        }
    }

    /// Drops all blocks that need not be written, those in staging included.
    pub(super) fn drop_clean(&mut self) {
        for slot in 0..self.slots.count() {
            if self.slots.is_staged(slot) {
                self.drop_staged(slot);
            } else if self.slots.is_resident(slot) && !self.dirty.contains(slot) {
                self.evict(Victim::unasked(slot));
                self.slots.release(slot);
            }
        }
    }

    /// Most blocks beyond a missing one that may be fetched along with it.
    ///
    /// Up to half of all buffers can be used for it if they are vacant, or hold blocks of negative priority
    /// of the reader's manager. Beyond them, staging has a budget, because every staged block displaces one
    /// that a policy wants to keep.
    pub(super) fn room_ahead(&self, file: FileId, most: usize) -> usize {
        let manager = self.managers.place_of(file).manager;
        let staged = self.slots.staged();
        let free = (self.slots.vacant() + self.managers.unwanted(manager)).saturating_sub(1);
        let free = free.min((self.slots.capacity() / 2).saturating_sub(staged));
        let budget = self.slots.staging_limit().saturating_sub(staged);
        free.max(budget).min(most)
    }

    /// Gives blocks of a file a priority until each is next referenced or replaced.
    pub(super) fn set_temporary_priority(&mut self, file: FileId, blocks: Range<u64>, priority: i32) {
        for slot in self.slots.known(file, blocks) {
            self.managers.set_temporary_priority(slot, priority);
        }
    }
}

/// Requests.
impl State {
    /// A read into a `Taken` slot: the page for it, which goes to the device.
    pub(super) fn begin_read(&mut self, slot: usize, key: Key, disk: u64) -> Box<Page> {
        self.slots.begin_read(slot, key, disk, self.statistics.references)
    }

    /// A write of a resident slot: its page, which goes to the device.
    pub(super) fn begin_write(&mut self, slot: usize) -> Box<Page> {
        self.slots.begin_write(slot)
    }

    /// The request of this tag has the page of a slot that [`State::begin_read`] named.
    pub(super) fn set_reading(&mut self, slot: usize, tag: u64) {
        self.slots.set_reading(slot, tag);
    }

    /// The request of this tag has the page of a slot that [`State::begin_write`] named.
    pub(super) fn set_writing(&mut self, slot: usize, tag: u64) {
        self.slots.set_writing(slot, tag);
    }

    /// The read into a slot has ended. `None`: the device kept the page.
    pub(super) fn end_read(&mut self, slot: usize, page: Option<Box<Page>>, right: bool) {
        let wanted = self.slots.end_read(slot, page, right);
        self.statistics.staged_wasted += u64::from(right && !wanted);
    }

    /// The write of a slot has ended. `None`: the device kept the page, and may still write it or not.
    pub(super) fn end_write(
        &mut self,
        slot: usize,
        page: Option<Box<Page>>,
        written: bool,
        checksum: Option<u32>,
    ) {
        let Some(page) = page else {
            self.lost_dirty = true;
            self.set_clean(slot);
            self.managers.remove(slot);
            self.slots.lose_written(slot);
            return;
        };
        self.slots.end_write(slot, page);
        if written {
            self.set_clean(slot);
            self.dirty.note_written(self.slots.key(slot), self.slots.disk(slot), checksum);
        }
    }
}

/// Blocks that must be written.
impl State {
    fn set_clean(&mut self, slot: usize) -> bool {
        self.dirty.remove(slot, self.slots.disk(slot))
    }

    /// Whether the block in a slot is dirty and could be written now.
    pub(super) fn is_writable(&self, slot: usize) -> bool {
        self.dirty.contains(slot) && self.slots.is_resident(slot)
    }

    /// Chooses another write-back policy.
    pub(super) fn set_write_back(&mut self, policy: Box<dyn WriteBack>) {
        self.write_back = policy;
    }

    /// The oldest dirty block, if it should be written now by the policy. Those that are being written count
    /// as clean.
    pub(super) fn due(&mut self) -> Option<usize> {
        let slots = &self.slots;
        let oldest = self.dirty.oldest_first().find(|slot| slots.is_resident(*slot))?;
        let writing = self.dirty.oldest_first().take_while(|slot| !slots.is_resident(*slot)).count();
        let blocks = DirtyBlocks {
            dirty: self.dirty.len().saturating_sub(writing),
            capacity: slots.capacity(),
            oldest_references: self.statistics.references.saturating_sub(self.dirty.since(oldest)),
        };
        self.write_back.is_due(&blocks).then_some(oldest)
    }

    /// From now on blocks of `first` go before those of `then`.
    pub(super) fn write_before(&mut self, first: FileId, then: FileId) -> Result<(), FsError> {
        self.dirty.order_mut().add(first, then)
    }

    /// The slots of a dirty block and of its dirty neighbours on the device that may be written with it.
    pub(super) fn with_neighbours(&self, slot: usize, most: u64) -> Vec<usize> {
        let file = self.slots.key(slot).0;
        self.dirty.neighbours(self.slots.disk(slot), most, |other| {
            self.slots.is_resident(other) && self.dirty.order().may_join(file, self.slots.key(other).0)
        })
    }

    /// Files that must be durable before blocks in these slots are written.
    pub(super) fn files_before(&self, slots: &[usize]) -> BTreeSet<FileId> {
        if self.dirty.order().is_empty() {
            return BTreeSet::new();
        }
        let files: BTreeSet<FileId> = slots.iter().map(|slot| self.slots.key(*slot).0).collect();
        files.into_iter().flat_map(|file| self.dirty.order().all_before(file)).collect()
    }

    /// Files that `wanted` and have dirty blocks, by how many files must be written before them.
    pub(super) fn dirty_levels(&self, wanted: impl Fn(FileId) -> bool) -> BTreeMap<usize, BTreeSet<FileId>> {
        self.dirty.levels(|slot| self.slots.key(slot).0, wanted)
    }

    /// Dirty blocks of these files, in requests of at most `most` adjacent ones.
    pub(super) fn dirty_runs(&self, most: usize, files: &BTreeSet<FileId>) -> Vec<Vec<usize>> {
        self.dirty.runs(most, |slot| self.slots.key(slot).0, |file| files.contains(&file))
    }

    /// A flush has ended. If it failed, the device may have dropped the writes before it, so their blocks are
    /// dirty again.
    pub(super) fn flushed(&mut self, ok: bool) {
        let unflushed = self.dirty.take_unflushed();
        if ok {
            return;
        }
        for (disk, key) in unflushed {
            match self.slots.slot_of(key) {
                // It has been written elsewhere since.
                Some(slot) if self.slots.disk(slot) != disk => {}
                Some(slot) if self.slots.in_a_pool(slot) => {
                    self.dirty.insert(slot, disk, self.statistics.references);
                }
                _ => self.lost_dirty = true,
            }
        }
    }

    /// Whether contents that should have been written are lost.
    pub(super) fn has_lost_dirty(&self) -> bool {
        self.lost_dirty
    }

    /// Checksums of the blocks written to the device since the last call.
    pub(super) fn take_written(&mut self) -> BTreeMap<Key, u32> {
        self.dirty.take_written()
    }

    /// Drops a block without writing it, in whatever condition it is. A block that is being read goes when
    /// that ends.
    pub(super) fn forget(&mut self, slot: usize) {
        self.dirty.forget(self.slots.key(slot), self.slots.disk(slot));
        match self.slots.forget(slot) {
            Forgotten::Resident => {
                let was_dirty = self.set_clean(slot);
                self.statistics.dropped_dirty += u64::from(was_dirty);
                self.managers.remove(slot);
                self.slots.release(slot);
            }
            Forgotten::Staged => self.statistics.staged_wasted += 1,
            Forgotten::Nothing => {}
        }
    }

    /// Drops blocks of a file without writing them.
    pub(super) fn forget_blocks(&mut self, file: FileId, blocks: &Range<u64>) {
        for slot in self.slots.known(file, blocks.clone()) {
            self.forget(slot);
        }
        self.dirty.forget_range(file, blocks);
    }

    /// Forgets where blocks of a file belong and what they had to wait for.
    pub(super) fn forget_file(&mut self, file: FileId) {
        self.managers.forget_file(file);
        self.dirty.order_mut().forget(file);
    }
}

/// The future, as far as it was disclosed.
impl State {
    /// Whether read-ahead makes use of what is disclosed.
    pub(super) fn uses_disclosures(&self) -> bool {
        self.read_ahead.disclosed() != Disclosed::Ignored
    }

    /// What may be replaced by blocks that were disclosed.
    pub(super) fn replaces_for_disclosed(&self) -> bool {
        self.read_ahead.disclosed() == Disclosed::DoNoHarm
    }

    /// Blocks of a file will be referenced, in this order, after all that was disclosed before to the same
    /// manager.
    pub(super) fn disclose(&mut self, file: FileId, blocks: Range<u64>) {
        let manager = self.managers.place_of(file).manager;
        let keys = blocks.map(|block| (file, block));
        self.disclosures.disclose(manager, keys, &self.slots, &self.managers);
    }

    /// The manager of a file, if something of its future is known and read-ahead makes use of it.
    pub(super) fn disclosed(&self, file: FileId) -> Option<ManagerId> {
        if self.disclosures.is_empty() || !self.uses_disclosures() {
            return None;
        }
        let manager = self.managers.place_of(file).manager;
        self.disclosures.knows(manager).then_some(manager)
    }

    /// What is known of the future of a manager.
    pub(super) fn disclosure(&mut self, manager: ManagerId) -> Option<&mut Disclosure> {
        self.disclosures.of_mut(manager)
    }

    /// Whether there is nothing to fetch for a manager for now.
    pub(super) fn is_idle(&self, manager: ManagerId) -> bool {
        let vacant = self.slots.vacant();
        self.disclosures.of(manager).is_none_or(|disclosure| disclosure.is_idle(vacant))
    }

    /// The next block to fetch that is neither in the cache nor `planned`, with its position.
    pub(super) fn next_missing(
        &mut self,
        manager: ManagerId,
        planned: impl Fn(Key) -> bool,
    ) -> Option<(u64, Key)> {
        let slots = &self.slots;
        let disclosure = self.disclosures.of_mut(manager)?;
        disclosure.next_missing(|key| !matches!(slots.find(key), Found::Absent) || planned(key))
    }

    /// A slot whose block is clean, not `planned` to go already, and not needed before `position`: that of
    /// the block that is needed last.
    pub(super) fn harmless_victim(
        &mut self,
        manager: ManagerId,
        position: u64,
        planned: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let may_go = |slot: usize| !self.dirty.contains(slot) && !planned(slot);
        self.disclosures.farthest(manager, position, may_go, &self.slots, &self.managers)
    }

    /// Whether nothing has been disclosed about the next use of the block in a slot.
    pub(super) fn is_unknown(&self, manager: ManagerId, slot: usize) -> bool {
        let disclosure = self.disclosures.of(manager);
        disclosure.is_none_or(|disclosure| disclosure.next_use(self.slots.key(slot)) == NEVER)
    }

    /// Slots that [`State::harmless_victim`] named and that keep their blocks.
    pub(super) fn keep(&mut self, manager: ManagerId, slots: impl Iterator<Item = usize>) {
        self.disclosures.rank_again(manager, slots, &self.slots, &self.managers);
    }
}
