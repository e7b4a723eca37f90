//! What the cache knows: which block is in which buffer, and in what condition.
//!
//! ```text
//!             read submitted            completed, checksum right
//!   Free ────► Taken ────► Reading ──────────────► Staged
//!    ▲           │            │ failed               │ first reference
//!    │           │ written    ▼                      ▼
//!    ├───────────┼───────── (Free)              Resident ◄───► Writing
//!    │           └──────────────────────────────►  │  │ write submitted, completed
//!    └──────────────── evicted, forgotten ◄────────┘
//! ```
//!
//! Invariants, all private to this module and its neighbours:
//!
//! * slots that are not `Free` never exceed the capacity (except while it shrinks);
//! * a block is in at most one slot, and `index` finds it unless it was forgotten while being read;
//! * exactly the slots that are `Resident` or `Writing` are in a pool, that of their `place`;
//! * `dirty` holds exactly the slots whose `dirty` flag is set, by their block on the device;
//! * a slot has a page unless it is free, lost, or the device has the page.

use super::allocation::{ManagerId, Managers, Place, Victim};
use super::disclosure::Disclosure;
use super::references::ReferenceLog;
use super::write_back::{WriteBack, WriteOrder};
use super::{
    CacheOptions, CacheStatistics, Cached, Event, Observer, Order, ReadAhead, ReplacementPolicy, reference,
};
use crate::FileId;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;
use hashbrown::HashMap;
use hyperexo_abi::Page;

/// Condition of a slot; see the picture above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Free,
    /// Promised to somebody who will fill it.
    Taken,
    /// The device fills it, under this tag.
    Reading(u64),
    Staged,
    Resident,
    /// The device writes it out, under this tag.
    Writing(u64),
    /// The device kept the page after a timeout. Out of use for ever.
    Lost,
}

/// Most blocks in staging once the cache is full, unless told otherwise: two of the largest requests, one to
/// use while the other is on its way.
const MAX_STAGING: usize = 2 * hyperexo_abi::ring::MAX_REQUEST_BLOCKS;

/// How long a staged block waits for its first reference, in references per buffer of the cache.
const PATIENCE: u64 = 8;

/// A block of a file.
pub(super) type Key = (FileId, u64);

/// Place on the device of a block that has none yet.
pub(super) const UNPLACED: u64 = u64::MAX;

pub(super) struct Slot {
    pub(super) condition: Condition,
    pub(super) key: Key,
    /// Block on the device.
    pub(super) disk: u64,
    pub(super) page: Option<Box<Page>>,
    /// The pool it is in, while `Resident` or `Writing`.
    pub(super) place: Place,
    /// Whether the priority lasts only until the next reference.
    pub(super) temporary: bool,
    pub(super) dirty: bool,
    /// Number of references there had been when it became dirty.
    pub(super) dirty_since: u64,
    /// Number of references there had been when it was last referenced.
    pub(super) last_used: u64,
    /// Number of references there had been when it was staged.
    pub(super) staged_at: u64,
    /// When this block is first referenced, read-ahead should go on from here.
    pub(super) goes_on: Option<u64>,
}

impl Slot {
    pub(super) fn in_a_pool(&self) -> bool {
        matches!(self.condition, Condition::Resident | Condition::Writing(_))
    }
}

pub(super) struct State {
    pub(super) capacity: usize,
    pub(super) staging_limit: Option<usize>,
    pub(super) slots: Vec<Slot>,
    free: Vec<usize>,
    pub(super) index: HashMap<Key, usize>,
    /// Slots that are `Staged` or `Reading`, oldest first.
    pub(super) staged: Order,
    pub(super) managers: Managers,
    /// Where blocks of a file belong, if not in priority 0 of the default manager.
    pub(super) places: HashMap<FileId, Place>,
    pub(super) read_ahead: Box<dyn ReadAhead>,
    /// What is known of the future of managers; of those that are not here, nothing.
    pub(super) disclosures: BTreeMap<ManagerId, Disclosure>,
    pub(super) dirty: BTreeMap<u64, usize>,
    /// Dirty slots in the order in which they became so.
    pub(super) dirtied: Order,
    pub(super) write_back: Box<dyn WriteBack>,
    pub(super) write_order: WriteOrder,
    /// By block on the device: what was written there since the last flush.
    pub(super) unflushed: BTreeMap<u64, Key>,
    /// Checksums of blocks written to the device that the file system has not yet asked for.
    pub(super) written: BTreeMap<Key, u32>,
    pub(super) recording: Option<Vec<u64>>,
    pub(super) log: Option<ReferenceLog>,
    pub(super) observer: Option<Observer>,
    pub(super) statistics: CacheStatistics,
    pub(super) mounting: bool,
    /// A dirty block was lost in the device: its contents can't be written any more.
    pub(super) lost_dirty: bool,
}

impl State {
    pub(super) fn new(options: &CacheOptions) -> State {
        State {
            capacity: options.blocks.max(1),
            staging_limit: options.staging,
            slots: Vec::new(),
            free: Vec::new(),
            index: HashMap::new(),
            staged: Order::default(),
            managers: Managers::new(options.allocation, options.policy, options.blocks.max(1)),
            places: HashMap::new(),
            read_ahead: options.read_ahead.build(),
            disclosures: BTreeMap::new(),
            dirty: BTreeMap::new(),
            dirtied: Order::default(),
            write_back: options.write_back.build(),
            write_order: WriteOrder::default(),
            unflushed: BTreeMap::new(),
            written: BTreeMap::new(),
            recording: options.record_references.then(Vec::new),
            log: None,
            observer: None,
            statistics: CacheStatistics::default(),
            mounting: true,
            lost_dirty: false,
        }
    }

    /// Changes how many slots may be taken; at least 1.
    pub(super) fn set_capacity(&mut self, blocks: usize) {
        self.capacity = blocks.max(1);
        self.managers.resize(self.capacity);
    }

    /// Slots that hold something or may soon.
    pub(super) fn occupied(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Slots that can be taken without replacing anything.
    pub(super) fn vacant(&self) -> usize {
        self.capacity.saturating_sub(self.occupied())
    }

    pub(super) fn staging_limit(&self) -> usize {
        self.staging_limit
            .unwrap_or((self.capacity / 16).clamp(1, MAX_STAGING))
            .min(self.capacity.saturating_sub(1))
    }

    /// Where blocks of a file belong.
    pub(super) fn place_of(&self, file: FileId) -> Place {
        self.places.get(&file).copied().unwrap_or_default()
    }

    /// Says where blocks of a file belong from now on. Those with a temporary priority keep it, within the
    /// manager. Looks at every buffer.
    pub(super) fn set_place(&mut self, file: FileId, place: Place) {
        if self.places.insert(file, place).unwrap_or_default() == place {
            return;
        }
        for slot in 0..self.slots.len() {
            let entry = &self.slots[slot];
            if entry.key.0 != file || !entry.in_a_pool() {
                continue;
            }
            let temporary = entry.temporary;
            let priority = if temporary { entry.place.priority } else { place.priority };
            let place = Place { priority, ..place };
            if entry.place != place {
                self.move_to(slot, place, temporary);
            }
        }
    }

    /// Gives blocks of a file a priority until each is next referenced or replaced.
    pub(super) fn set_temporary_priority(&mut self, file: FileId, blocks: Range<u64>, priority: i32) {
        for key in self.known_keys(file, blocks) {
            let Some(&slot) = self.index.get(&key) else { continue };
            if self.slots[slot].in_a_pool() {
                let place = Place { priority, ..self.slots[slot].place };
                self.move_to(slot, place, true);
            }
        }
    }

    /// Gives a pool another policy.
    pub(super) fn set_policy(&mut self, place: Place, policy: Box<dyn ReplacementPolicy>) {
        let slots = &self.slots;
        let block_in = |slot: usize| reference(slots[slot].key.0, slots[slot].key.1);
        self.managers.set_policy(place, policy, block_in);
    }

    /// Blocks of a range that are in the cache, without looking at more blocks than there are buffers.
    pub(super) fn known_keys(&self, file: FileId, blocks: Range<u64>) -> Vec<Key> {
        let count = blocks.end.saturating_sub(blocks.start);
        if count <= self.slots.len() as u64 {
            return blocks.map(|block| (file, block)).filter(|key| self.index.contains_key(key)).collect();
        }
        let mut keys: Vec<Key> =
            self.index.keys().filter(|key| key.0 == file && blocks.contains(&key.1)).copied().collect();
        keys.sort_unstable();
        keys
    }

    pub(super) fn cached(&self, slot: usize) -> Cached {
        let (file, block) = self.slots[slot].key;
        Cached { slot, block: reference(file, block) }
    }

    /// A vacant slot, now `Taken`.
    pub(super) fn take_vacant(&mut self) -> Option<usize> {
        if self.vacant() == 0 {
            return None;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                condition: Condition::Free,
                key: (FileId(0), 0),
                disk: UNPLACED,
                page: None,
                place: Place::default(),
                temporary: false,
                dirty: false,
                dirty_since: 0,
                last_used: 0,
                staged_at: 0,
                goes_on: None,
            });
            self.slots.len() - 1
        });
        self.slots[slot].condition = Condition::Taken;
        Some(slot)
    }

    /// Gives a slot back. It must be in no pool, not dirty, and not in the index.
    pub(super) fn release(&mut self, slot: usize) {
        self.staged.remove(slot);
        self.slots[slot].condition = Condition::Free;
        self.free.push(slot);
    }

    /// Gives the memory of vacant slots back.
    pub(super) fn drop_vacant_pages(&mut self) {
        for &slot in &self.free {
            self.slots[slot].page = None;
        }
    }

    /// Counts a reference, and notes it if they are being recorded or observed.
    fn count_reference(&mut self, key: Key, event: impl FnOnce(u64) -> Event) {
        self.statistics.references += 1;
        let block = reference(key.0, key.1);
        if let Some(recording) = &mut self.recording {
            recording.push(block);
        }
        if let Some(log) = &mut self.log {
            log.push(block);
        }
        if let Some(observer) = &mut self.observer {
            observer(event(block));
        }
    }

    /// A reference to a resident block.
    pub(super) fn hit(&mut self, slot: usize) {
        self.count_reference(self.slots[slot].key, Event::Hit);
        self.statistics.hits += 1;
        let (place, block) = (self.slots[slot].place, self.cached(slot));
        let back = if self.slots[slot].temporary { self.place_of(self.slots[slot].key.0) } else { place };
        self.slots[slot].place = back;
        self.slots[slot].temporary = false;
        self.managers.access(place, back, block);
        self.follow(slot);
    }

    /// The first reference to a `Staged` or `Taken` block: from now on it is in the care of a policy.
    pub(super) fn promote(&mut self, slot: usize) {
        let key = self.slots[slot].key;
        self.count_reference(key, Event::Miss);
        self.statistics.misses += 1;
        self.staged.remove(slot);
        let place = self.place_of(key.0);
        let entry = &mut self.slots[slot];
        entry.condition = Condition::Resident;
        entry.place = place;
        entry.temporary = false;
        self.managers.insert(place, self.cached(slot));
        self.follow(slot);
    }

    /// Moves a resident block to another pool.
    fn move_to(&mut self, slot: usize, place: Place, temporary: bool) {
        self.managers.transfer(self.slots[slot].place, place, self.cached(slot));
        self.slots[slot].place = place;
        self.slots[slot].temporary = temporary;
    }

    /// Takes a block out of its pool for a reason that says nothing about its worth.
    pub(super) fn leave_pool(&mut self, slot: usize) {
        self.managers.remove(self.slots[slot].place, self.cached(slot));
    }

    /// Chooses a resident block that could go to make room for another; it may be dirty.
    pub(super) fn choose_victim(&mut self, missing: Option<Key>) -> Option<Victim> {
        let slots = &self.slots;
        let may_go = |slot: usize| slots.get(slot).is_some_and(|slot| slot.condition == Condition::Resident);
        let (victim, rejected) =
            self.managers.victim(missing.map(|(file, block)| reference(file, block)), may_go);
        self.statistics.rejected_victims += rejected;
        victim
    }

    /// Takes a clean resident block out of the cache. The slot is `Taken` afterwards.
    pub(super) fn evict(&mut self, victim: Victim) {
        let slot = victim.slot;
        let cached = self.cached(slot);
        self.managers.evict(self.slots[slot].place, victim, cached);
        self.index.remove(&self.slots[slot].key);
        self.slots[slot].condition = Condition::Taken;
        self.statistics.evictions += 1;
        if let Some(observer) = &mut self.observer {
            observer(Event::Evicted(cached.block));
        }
    }

    /// Drops a staged block.
    pub(super) fn drop_staged(&mut self, slot: usize) {
        self.index.remove(&self.slots[slot].key);
        self.release(slot);
        self.statistics.staged_wasted += 1;
    }

    /// Drops a block without writing it, in whatever condition it is. A block that is being read goes when
    /// that ends.
    pub(super) fn forget(&mut self, key: Key) {
        self.written.remove(&key);
        let Some(slot) = self.index.remove(&key) else { return };
        self.unflushed.remove(&self.slots[slot].disk);
        match self.slots[slot].condition {
            Condition::Resident => {
                self.set_clean(slot, true);
                self.leave_pool(slot);
                self.release(slot);
            }
            Condition::Staged => {
                self.release(slot);
                self.statistics.staged_wasted += 1;
            }
            Condition::Reading(_) => {}
            // Nobody asks for this: writes are waited for before anything is forgotten.
            Condition::Writing(_) | Condition::Taken | Condition::Free | Condition::Lost => {}
        }
    }

    pub(super) fn set_dirty(&mut self, slot: usize) {
        let now = self.statistics.references;
        let entry = &mut self.slots[slot];
        self.dirty.insert(entry.disk, slot);
        if !entry.dirty {
            entry.dirty = true;
            entry.dirty_since = now;
            self.dirtied.push_back(slot);
        }
    }

    pub(super) fn set_clean(&mut self, slot: usize, dropped: bool) {
        let entry = &mut self.slots[slot];
        if entry.dirty {
            entry.dirty = false;
            self.dirty.remove(&entry.disk);
            self.dirtied.remove(slot);
            self.statistics.dropped_dirty += u64::from(dropped);
        }
    }

    /// Most blocks beyond a missing one that may be fetched along with it.
    ///
    /// Buffers that hold nothing, or only what the reader's manager wants no more, can be used for it up to
    /// half of all. Beyond them, staging has a budget, because every staged block displaces one that a policy
    /// wants to keep.
    pub(super) fn room_ahead(&self, manager: ManagerId, most: usize) -> usize {
        let staged = self.staged.len();
        let free = (self.vacant() + self.managers.unwanted(manager)).saturating_sub(1);
        let free = free.min((self.capacity / 2).saturating_sub(staged));
        let budget = self.staging_limit().saturating_sub(staged);
        free.max(budget).min(most)
    }

    /// Drops staged blocks that have waited so long that they were not wanted, after all. They take room from
    /// further read-ahead only, so there is no hurry: a stream that is read along with many others is slow.
    pub(super) fn drop_stale(&mut self) {
        let now = self.statistics.references;
        while let Some(slot) = self.staged.front() {
            let entry = &self.slots[slot];
            let stale = now.saturating_sub(entry.staged_at) > PATIENCE * self.capacity as u64;
            if !stale || entry.condition != Condition::Staged {
                return;
            }
            self.drop_staged(slot);
        }
    }
}
