//! The buffer cache: a strict budget of blocks, and policies that decide how it is spent.
//!
//! The design is that of application-controlled file caching (P. Cao, E. W. Felten, K. Li, OSDI 1994), on two
//! levels. *Managers* (an application, a set of files, a tenant) share the blocks; [`Allocation`] decides
//! which of them gives one up. In a manager every file has a *priority*, blocks of the same priority form a
//! pool with a replacement policy of its own, and the pool of the lowest priority is asked for a victim
//! first. A single block can have a *temporary priority* until it is next referenced or replaced. Policies
//! and priorities can be changed at any time. Who makes no [`Manager`] has one, the default.
//!
//! * **Budget.** Resident blocks, blocks in staging and blocks on their way never exceed
//!   [`CacheOptions::blocks`].
//! * **Misses are clustered.** What a [`ReadAhead`] policy fetches along with a missing block waits in
//!   *staging*. The replacement policy hears of a block only when it is first referenced. So it sees the same
//!   references as without read-ahead, and it does not throw away what was just fetched.
//! * **Write-back.** Written blocks stay until they are replaced, until the [`WriteBack`] policy sends them,
//!   or until the file system commits; then adjacent ones are written together. Blocks of removed files are
//!   dropped without being written.
//! * **Nothing is borrowed while waiting** but the device; several requests are in flight at a time.
//! * **Checksums** are verified when a block arrives and computed when it leaves, if the format has them.

mod allocation;
mod chains;
pub mod criteria;
mod disclosure;
mod event;
mod fetch;
mod managed;
mod manager;
mod metadata;
mod opt;
mod order;
mod placeholders;
mod policies;
mod pools;
mod prefetch;
mod read_ahead;
pub mod references;
mod shared;
mod simulation;
mod stack;
mod state;
mod statistics;
mod transfer;
mod write_back;

pub use allocation::{Allocation, ManagerId, ManagerStatistics, UnknownAllocation};
pub use event::{Event, Observer};
pub(crate) use fetch::{Locate, Run};
pub use managed::ManagedSimulation;
pub use manager::Manager;
pub use opt::{Opt, optimal_misses};
pub use order::{Lists, Order};
pub use policies::*;
pub use read_ahead::{
    Aggressive, Cluster, Directed, Disclosed, NoReadAhead, OneBlock, ReadAhead, ReadAheadKind, Reference,
    Sequential, UnknownReadAhead,
};
pub use shared::SharedCache;
pub use simulation::{Referenced, Simulation, simulate};
pub use stack::{LruStack, OptStack};
pub use statistics::CacheStatistics;
pub use write_back::{
    ByAge, ByRatio, DirtyBlocks, OnReplacement, UnknownWriteBack, WriteBack, WriteBackKind,
};

use crate::device::DeviceQueue;
use crate::{FileId, FsError};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use allocation::Victim;
use core::cell::RefCell;
use core::ops::Range;
use hyperexo_abi::Page;
use state::{Condition, Key, State, UNPLACED};
use transfer::Flight;

/// How a cache starts.
#[derive(Clone, Debug)]
pub struct CacheOptions {
    /// Blocks it may hold; at least 1.
    pub blocks: usize,
    /// Policy of all priorities that are not given another.
    pub policy: PolicyKind,
    /// How room is divided between managers.
    pub allocation: Allocation,
    /// Read-ahead policy.
    pub read_ahead: ReadAheadKind,
    /// When written blocks go to the device before they have to.
    pub write_back: WriteBackKind,
    /// Blocks that may be in staging once the cache is full. `None`: a sixteenth of `blocks`, from 1 to 64.
    /// Larger requests cost fewer of them, but every staged block displaces one that the replacement policy
    /// wants to keep.
    pub staging: Option<usize>,
    /// Whether to record references from the start; see [`BufferCache::start_recording`].
    pub record_references: bool,
}

impl Default for CacheOptions {
    fn default() -> CacheOptions {
        CacheOptions {
            blocks: 1024,
            policy: PolicyKind::default(),
            allocation: Allocation::default(),
            read_ahead: ReadAheadKind::default(),
            write_back: WriteBackKind::default(),
            staging: None,
            record_references: false,
        }
    }
}

/// The number by which policies and recorded references know a block of a file: file number × 2³² + block.
/// Adjacent blocks have adjacent numbers.
pub fn reference(file: FileId, block: u64) -> u64 {
    file.0 << 32 | block & 0xffff_ffff
}

/// The cache of a volume. All methods take `&self`; see the [module](self) for what it promises.
pub struct BufferCache {
    queue: Rc<DeviceQueue>,
    state: RefCell<State>,
    flights: RefCell<BTreeMap<u64, Flight>>,
}

impl BufferCache {
    pub(crate) fn new(queue: Rc<DeviceQueue>, options: CacheOptions) -> BufferCache {
        let state = RefCell::new(State::new(&options));
        BufferCache { queue, state, flights: RefCell::default() }
    }

    /// From here on, metadata reads are no longer counted as part of mounting.
    pub(crate) fn end_of_mount(&self) {
        self.state.borrow_mut().mounting = false;
    }

    /// Chooses another read-ahead policy. What was disclosed to the old one is forgotten.
    pub fn set_read_ahead(&self, policy: impl Into<Box<dyn ReadAhead>>) {
        let state = &mut *self.state.borrow_mut();
        state.read_ahead = policy.into();
        state.disclosures.clear();
    }

    /// Whether read-ahead makes use of what is disclosed by [`File::will_need`](crate::File::will_need): for
    /// applications that would have to find out first what they will need.
    pub fn uses_disclosures(&self) -> bool {
        self.state.borrow().read_ahead.disclosed() != Disclosed::Ignored
    }

    /// Counters. Waits for what is on its way, so that they agree with those of the device.
    pub fn statistics(&self) -> CacheStatistics {
        self.finish_all();
        let state = self.state.borrow();
        CacheStatistics { resident: state.index.len(), dirty: state.dirty.len(), ..state.statistics }
    }

    /// Blocks it may hold.
    pub fn blocks(&self) -> usize {
        self.state.borrow().capacity
    }

    /// Changes how many blocks it may hold (at least 1). Blocks that no longer fit are replaced as usual.
    ///
    /// # Errors
    /// If a dirty block can't be written the cache stays larger than asked for until it can be.
    pub fn resize(&self, blocks: usize) -> Result<(), FsError> {
        self.state.borrow_mut().set_capacity(blocks);
        self.finish_all();
        loop {
            {
                let state = self.state.borrow();
                if state.occupied() <= state.capacity {
                    return Ok(());
                }
            }
            let slot = self.take_slot(None)?;
            let state = &mut *self.state.borrow_mut();
            state.release(slot);
            state.drop_vacant_pages();
        }
    }

    /// Drops all blocks that need not be written, those in staging included.
    pub fn drop_clean(&self) {
        self.finish_all();
        let state = &mut *self.state.borrow_mut();
        for slot in 0..state.slots.len() {
            match state.slots[slot].condition {
                Condition::Resident if !state.slots[slot].dirty => {
                    state.evict(Victim::unasked(slot));
                    state.release(slot);
                }
                Condition::Staged => state.drop_staged(slot),
                _ => {}
            }
        }
    }

    /// Prints all references from here on, as [`references`] describes.
    pub(crate) fn log_references(&self, print: fn(&str)) {
        self.state.borrow_mut().log = Some(references::ReferenceLog::new(print));
    }

    /// Starts to record references; see [`reference()`] for their numbers.
    pub fn start_recording(&self) {
        self.state.borrow_mut().recording = Some(Vec::new());
    }

    /// Ends recording and returns the references since its start, as the replacement policies saw them.
    pub fn take_references(&self) -> Vec<u64> {
        self.state.borrow_mut().recording.take().unwrap_or_default()
    }

    /// From here on, tells `observer` of every event; `None` ends that.
    pub fn observe(&self, observer: Option<Observer>) {
        self.state.borrow_mut().observer = observer;
    }

    /// References a block and shows its contents, or says `false` for a hole; see [`BufferCache::access`] for
    /// `certain` and `locate`.
    pub(crate) fn read(
        &self,
        key: Key,
        certain: u64,
        locate: Locate<'_>,
        show: impl FnOnce(&Page),
    ) -> Result<bool, FsError> {
        let Some(slot) = self.access(key, certain, locate)? else { return Ok(false) };
        if let Some(page) = &self.state.borrow().slots[slot].page {
            show(page);
        }
        // Now, as the block may have to go for others.
        self.prefetch(key.0, locate);
        Ok(true)
    }

    /// References a block and changes it. Without `locate` its old contents don't matter; holes hold zeros.
    ///
    /// `place` says where on the device it will go from now on; it is called after the old contents have
    /// arrived, with nothing borrowed. If it fails the block is unchanged.
    pub(crate) fn write(
        &self,
        key: Key,
        locate: Option<Locate<'_>>,
        place: impl FnOnce() -> Result<u64, FsError>,
        change: impl FnOnce(&mut Page),
    ) -> Result<(), FsError> {
        let old = match locate {
            Some(locate) => self.access(key, 0, locate)?,
            None => None,
        };
        let slot = match old {
            Some(slot) => slot,
            None => self.enter(key)?,
        };
        let placed = place();
        let state = &mut *self.state.borrow_mut();
        let disk = match placed {
            Ok(disk) => disk,
            Err(error) => {
                if state.slots[slot].disk == UNPLACED {
                    state.forget(key);
                }
                return Err(error);
            }
        };
        if state.slots[slot].disk != disk {
            state.set_clean(slot, false);
            state.slots[slot].disk = disk;
        }
        state.set_dirty(slot);
        if let Some(page) = &mut state.slots[slot].page {
            change(page);
        }
        Ok(())
    }

    /// Writes what is due by the write-back policy.
    pub(crate) fn after_write(&self) {
        // What could not be written is still dirty, and the next commit will say so.
        let _ = self.write_behind();
    }

    /// Drops blocks of a file without writing them: it was cut or removed.
    pub(crate) fn forget(&self, file: FileId, blocks: Range<u64>) {
        self.finish_writes();
        let state = &mut *self.state.borrow_mut();
        for key in state.known_keys(file, blocks.clone()) {
            state.forget(key);
        }
        let written: Vec<Key> =
            state.written.range((file, blocks.start)..(file, blocks.end)).map(|(key, _)| *key).collect();
        for key in written {
            state.written.remove(&key);
        }
        state.unflushed.retain(|_, key| key.0 != file || !blocks.contains(&key.1));
    }

    /// Forgets the manager, the priority and the write order of a file that is gone.
    pub(crate) fn forget_place(&self, file: FileId) {
        let state = &mut *self.state.borrow_mut();
        state.places.remove(&file);
        state.write_order.forget(file);
    }

    /// Checksums of the blocks written to the device since the last call.
    pub(crate) fn take_written(&self) -> BTreeMap<Key, u32> {
        core::mem::take(&mut self.state.borrow_mut().written)
    }
}
