//! The buffers: which block is in which, and in what condition.
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
//! Invariants:
//!
//! * slots that are not `Free` never exceed the capacity (except while it shrinks);
//! * a block is in at most one slot, and `index` finds it unless it was forgotten while being read;
//! * `staged` holds exactly the slots that are `Staged` or `Reading`;
//! * a slot has a page unless it is free, lost, or the device has the page.

use super::contents::Contents;
use crate::cache::key::{Key, known_slots};
use crate::cache::order::Order;
use crate::device::zeroed_page;
use crate::file_id::FileId;
use crate::lent_page::LentPage;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use hashbrown::HashMap;
use hyperexo_abi::Page;

/// Most blocks in staging once the cache is full, unless told otherwise: two of the largest requests, one to
/// use while the other is on its way.
const MAX_STAGING: usize = 2 * hyperexo_abi::ring::MAX_REQUEST_BLOCKS;

/// How long a staged block waits for its first reference, in references per buffer of the cache.
const PATIENCE: u64 = 8;

/// Place on the device of a block that has none yet.
const UNPLACED: u64 = u64::MAX;

/// Condition of a slot; see the picture above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Free,
    /// Promised to a caller that will fill it.
    Taken,
    /// The device fills it, under this tag.
    Reading(u64),
    Staged,
    Resident,
    /// The device writes it out, under this tag.
    Writing(u64),
    /// The device kept the page after a timeout. Never used again.
    Lost,
}

/// What a look at the index says.
pub(super) enum Found {
    /// It is in this slot, in the care of a policy.
    Resident(usize),
    /// It is in this slot and was never referenced.
    Staged(usize),
    /// The request of this tag has its page.
    OnItsWay(u64),
    /// It is in no slot.
    Absent,
}

/// What `forget` leaves to the caller.
pub(super) enum Forgotten {
    /// The block was resident: it must leave its pool, and the slot be released.
    Resident,
    /// The block was staged; its slot is free.
    Staged,
    /// Nothing: its slot is free already, or will be when the device is done with it.
    Nothing,
}

struct Slot {
    condition: Condition,
    key: Key,
    /// Block on the device.
    disk: u64,
    page: Option<Contents>,
    /// Number of references there had been when it was last referenced.
    last_used: u64,
    /// Number of references there had been when it was staged.
    staged_at: u64,
    /// When this block is first referenced, read-ahead should go on from here.
    goes_on: Option<u64>,
}

/// All buffers of a cache.
pub(super) struct Slots {
    capacity: usize,
    staging_limit: Option<usize>,
    slots: Vec<Slot>,
    free: Vec<usize>,
    index: HashMap<Key, usize>,
    /// Oldest first.
    staged: Order,
}

impl Slots {
    /// So many, all free.
    pub(super) fn new(capacity: usize, staging_limit: Option<usize>) -> Slots {
        Slots {
            capacity,
            staging_limit,
            slots: Vec::new(),
            free: Vec::new(),
            index: HashMap::new(),
            staged: Order::default(),
        }
    }

    /// Changes how many may be taken.
    pub(super) fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
    }

    /// How many may be taken.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Numbers of slots are below.
    pub(super) fn count(&self) -> usize {
        self.slots.len()
    }

    /// Slots that hold something or may soon.
    pub(super) fn occupied(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Slots that can be taken without replacing anything.
    pub(super) fn vacant(&self) -> usize {
        self.capacity.saturating_sub(self.occupied())
    }

    /// Blocks that the index finds.
    pub(super) fn blocks(&self) -> usize {
        self.index.len()
    }

    /// Slots that are staged or being read.
    pub(super) fn staged(&self) -> usize {
        self.staged.len()
    }

    /// Most blocks in staging once the cache is full.
    pub(super) fn staging_limit(&self) -> usize {
        self.staging_limit
            .unwrap_or((self.capacity / 16).clamp(1, MAX_STAGING))
            .min(self.capacity.saturating_sub(1))
    }

    /// Where a block is.
    pub(super) fn find(&self, key: Key) -> Found {
        let Some(&slot) = self.index.get(&key) else { return Found::Absent };
        match self.slots[slot].condition {
            Condition::Resident => Found::Resident(slot),
            Condition::Reading(tag) | Condition::Writing(tag) => Found::OnItsWay(tag),
            _ => Found::Staged(slot),
        }
    }

    /// The slot of a block, whatever its condition.
    pub(super) fn slot_of(&self, key: Key) -> Option<usize> {
        self.index.get(&key).copied()
    }

    /// Slots of the blocks of a range that are in the cache; see [`known_slots`].
    pub(super) fn known(&self, file: FileId, blocks: Range<u64>) -> Vec<usize> {
        known_slots(&self.index, file, blocks)
    }

    /// The block in a slot.
    pub(super) fn key(&self, slot: usize) -> Key {
        self.slots[slot].key
    }

    /// Where on the device the block in a slot is.
    pub(super) fn disk(&self, slot: usize) -> u64 {
        self.slots[slot].disk
    }

    /// Whether the block in a slot has no place on the device.
    pub(super) fn is_unplaced(&self, slot: usize) -> bool {
        self.slots[slot].disk == UNPLACED
    }

    /// The block in a slot has another place on the device from now on.
    pub(super) fn place_on(&mut self, slot: usize, disk: u64) {
        self.slots[slot].disk = disk;
    }

    /// Whether a slot is `Resident`. `false` if there is no such slot.
    pub(super) fn is_resident(&self, slot: usize) -> bool {
        self.slots.get(slot).is_some_and(|slot| slot.condition == Condition::Resident)
    }

    /// Whether a slot is `Staged`.
    pub(super) fn is_staged(&self, slot: usize) -> bool {
        self.slots[slot].condition == Condition::Staged
    }

    /// Whether the block in a slot is in the care of a policy.
    pub(super) fn in_a_pool(&self, slot: usize) -> bool {
        matches!(self.slots[slot].condition, Condition::Resident | Condition::Writing(_))
    }

    /// The contents of a slot.
    pub(super) fn page(&self, slot: usize) -> Option<&Page> {
        self.slots[slot].page.as_ref().map(Contents::page)
    }

    /// The contents of a slot, to change them.
    pub(super) fn page_mut(&mut self, slot: usize) -> Option<&mut Page> {
        self.slots[slot].page.as_mut().map(Contents::page_mut)
    }

    /// The contents of a slot, for others to read.
    pub(super) fn lend(&mut self, slot: usize) -> Option<Arc<LentPage>> {
        let lent = self.slots[slot].page.take()?.lend();
        self.slots[slot].page = Some(Contents::Lent(Arc::clone(&lent)));
        Some(lent)
    }

    /// The block in a slot is used, after so many references.
    pub(super) fn touch(&mut self, slot: usize, now: u64) {
        self.slots[slot].last_used = now;
    }

    /// When the block in a slot was last used.
    pub(super) fn last_used(&self, slot: usize) -> u64 {
        self.slots[slot].last_used
    }

    /// When the block in this slot is first referenced, read-ahead goes on from block `next`.
    pub(super) fn set_goes_on(&mut self, slot: usize, next: u64) {
        self.slots[slot].goes_on = Some(next);
    }

    /// Where read-ahead goes on now that the block in this slot is referenced. Says it once.
    pub(super) fn take_goes_on(&mut self, slot: usize) -> Option<u64> {
        self.slots[slot].goes_on.take()
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

    /// Fills a `Taken` slot with zeros for a block that has no place on the device. It stays `Taken` until
    /// [`Slots::make_resident`].
    pub(super) fn fill(&mut self, slot: usize, key: Key) {
        let entry = &mut self.slots[slot];
        entry.key = key;
        entry.disk = UNPLACED;
        entry.goes_on = None;
        let mut page = entry.page.take().and_then(Contents::into_unread).unwrap_or_else(zeroed_page);
        page.0.fill(0);
        entry.page = Some(Contents::Own(page));
        self.index.insert(key, slot);
    }

    /// A `Taken` slot is going to be read into: the page for it. [`Slots::set_reading`] comes next.
    pub(super) fn begin_read(&mut self, slot: usize, key: Key, disk: u64, now: u64) -> Box<Page> {
        let entry = &mut self.slots[slot];
        let page = entry.page.take().and_then(Contents::into_unread).unwrap_or_else(zeroed_page);
        entry.key = key;
        entry.disk = disk;
        entry.staged_at = now;
        entry.goes_on = None;
        self.index.insert(key, slot);
        self.staged.push_back(slot);
        page
    }

    /// A resident slot is going to be written: its page. [`Slots::set_writing`] comes next.
    pub(super) fn begin_write(&mut self, slot: usize) -> Box<Page> {
        self.slots[slot].page.take().map_or_else(zeroed_page, Contents::into_page)
    }

    /// The device fills the slot, under this tag.
    pub(super) fn set_reading(&mut self, slot: usize, tag: u64) {
        self.slots[slot].condition = Condition::Reading(tag);
    }

    /// The device writes the slot, under this tag.
    pub(super) fn set_writing(&mut self, slot: usize, tag: u64) {
        self.slots[slot].condition = Condition::Writing(tag);
    }

    /// A read has ended. `None`: the device kept the page. The slot is `Staged` if the contents are right and
    /// still wanted, else it is free or lost. Returns whether the block was still wanted.
    pub(super) fn end_read(&mut self, slot: usize, page: Option<Box<Page>>, right: bool) -> bool {
        let kept_by_device = page.is_none();
        self.slots[slot].page = page.map(Contents::Own);
        let key = self.slots[slot].key;
        let wanted = self.index.get(&key) == Some(&slot);
        if right && wanted {
            self.slots[slot].condition = Condition::Staged;
            return true;
        }
        if wanted {
            self.index.remove(&key);
        }
        if kept_by_device {
            self.lose(slot);
        } else {
            self.release(slot);
        }
        wanted
    }

    /// A write has ended, and here is the page. The slot is `Resident` again.
    pub(super) fn end_write(&mut self, slot: usize, page: Box<Page>) {
        self.slots[slot].condition = Condition::Resident;
        self.slots[slot].page = Some(Contents::Own(page));
    }

    /// A write has ended, and the device kept the page. The caller sees to it that the block leaves its pool.
    pub(super) fn lose_written(&mut self, slot: usize) {
        self.index.remove(&self.slots[slot].key);
        self.lose(slot);
    }

    fn lose(&mut self, slot: usize) {
        self.staged.remove(slot);
        self.slots[slot].condition = Condition::Lost;
    }

    /// A `Staged` or `Taken` slot is in the care of a policy from now on.
    pub(super) fn make_resident(&mut self, slot: usize) {
        self.staged.remove(slot);
        self.slots[slot].condition = Condition::Resident;
    }

    /// The block in a resident slot leaves. The slot is `Taken` afterwards.
    pub(super) fn vacate(&mut self, slot: usize) {
        self.index.remove(&self.slots[slot].key);
        self.slots[slot].condition = Condition::Taken;
    }

    /// Drops a staged block.
    pub(super) fn drop_staged(&mut self, slot: usize) {
        self.index.remove(&self.slots[slot].key);
        self.release(slot);
    }

    /// Takes a block out of the index, in whatever condition it is.
    pub(super) fn forget(&mut self, slot: usize) -> Forgotten {
        self.index.remove(&self.slots[slot].key);
        match self.slots[slot].condition {
            Condition::Resident => Forgotten::Resident,
            Condition::Staged => {
                self.release(slot);
                Forgotten::Staged
            }
            // A block that is being read goes when that ends. The others are never asked for: writes are
            // waited for before anything is forgotten.
            Condition::Reading(_)
            | Condition::Writing(_)
            | Condition::Taken
            | Condition::Free
            | Condition::Lost => Forgotten::Nothing,
        }
    }

    /// The oldest staged block.
    pub(super) fn oldest_staged(&self) -> Option<usize> {
        self.staged.iter().find(|slot| self.is_staged(*slot))
    }

    /// The oldest staged block, if it has waited too long for its first reference.
    pub(super) fn stale(&self, now: u64) -> Option<usize> {
        let slot = self.staged.front()?;
        let age = now.saturating_sub(self.slots[slot].staged_at);
        let stale = age > PATIENCE * self.capacity as u64;
        (stale && self.is_staged(slot)).then_some(slot)
    }
}
