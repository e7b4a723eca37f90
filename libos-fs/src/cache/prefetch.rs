//! Prefetching what an application has disclosed, while it computes.
//!
//! Whenever fewer than [`DEPTH`] requests are on their way, the next blocks of the disclosed list that are
//! not in memory are fetched, in batches that are sorted by their place on the device, adjacent blocks in one
//! request. What gives them room is decided by [`Disclosed`]. With `DoNoHarm` these are the rules of P. Cao,
//! E. W. Felten, A. R. Karlin, K. Li, "Implementation and performance of integrated application-controlled
//! file caching, prefetching, and disk scheduling" (ACM TOCS 14(4), 1996): fetch what is missing first,
//! replace what is needed last, and nothing that is needed before the block that is fetched. Of blocks of
//! which nothing was disclosed, the manager's replacement policies choose: they may know better. What is
//! controlled is how far ahead: as much as hides the device's time, no further, which keeps the number of
//! reads near the least. Only blocks of the manager itself are replaced, so nobody else is harmed.

use super::allocation::{ManagerId, Victim};
use super::disclosure::{Disclosure, NEVER};
use super::fetch::{Incoming, Locate};
use super::state::{Condition, Key, State};
use super::{BufferCache, Disclosed, reference};
use crate::FileId;
use alloc::vec::Vec;
use core::ops::Range;

/// Most requests on their way while another batch is started.
const DEPTH: usize = 4;

/// Blocks in a batch.
const BATCH: usize = 16;

/// Blocks that come so many references later are not yet fetched in the place of others: the sooner a block
/// is replaced, the fewer there are to choose from, and the more often one is read again.
const HORIZON: u64 = 2 * BATCH as u64;

/// While the first missing block is so many references away, a batch may wait until half of it finds room.
const COMFORTABLE: u64 = HORIZON / 2;

/// Where a fetched block goes.
enum Room {
    Vacant,
    /// Instead of a block that is needed later.
    Of(usize),
    /// Instead of this block, or another one, of which nothing is known.
    OfUnknown(usize),
}

impl Room {
    fn takes(&self, slot: usize) -> bool {
        matches!(self, Room::Of(taken) | Room::OfUnknown(taken) if *taken == slot)
    }
}

/// A block that is to be fetched: its position in the list, what it is, where it is on the device.
struct Wanted {
    position: u64,
    key: Key,
    disk: u64,
    checksum: Option<u32>,
    room: Room,
}

impl State {
    /// A block of a file has been referenced and is in `slot`.
    pub(super) fn follow(&mut self, slot: usize) {
        let entry = &mut self.slots[slot];
        entry.last_used = self.statistics.references;
        let (key, last_used, manager) = (entry.key, entry.last_used, entry.place.manager);
        let priority = entry.place.priority;
        let slots = self.slots.len();
        let Some(disclosure) = self.disclosures.get_mut(&manager) else { return };
        disclosure.referred(key);
        if disclosure.is_over() {
            self.disclosures.remove(&manager);
            return;
        }
        if disclosure.is_ranking() {
            disclosure.rank(key, priority, last_used, slot);
            if disclosure.ranks() > 4 * slots + BATCH {
                self.rank_all(manager);
            }
        }
    }

    /// Ranks all blocks of a manager by their next use.
    fn rank_all(&mut self, manager: ManagerId) {
        let Some(disclosure) = self.disclosures.get_mut(&manager) else { return };
        disclosure.start_ranking();
        for (slot, entry) in self.slots.iter().enumerate() {
            if entry.condition == Condition::Resident && entry.place.manager == manager {
                disclosure.rank(entry.key, entry.place.priority, entry.last_used, slot);
            }
        }
    }

    /// The next block to fetch that is not in `planned`, with its position.
    fn next_missing(&mut self, manager: ManagerId, planned: &[Wanted]) -> Option<(u64, Key)> {
        let index = &self.index;
        let disclosure = self.disclosures.get_mut(&manager)?;
        disclosure.next_missing(|key| index.contains_key(&key) || planned.iter().any(|w| w.key == key))
    }

    /// A slot whose block is clean and not needed before `position`: that of the block that is needed last.
    fn harmless_victim(&mut self, manager: ManagerId, position: u64, planned: &[Wanted]) -> Option<usize> {
        if !self.disclosures.get(&manager)?.is_ranking() {
            self.rank_all(manager);
        }
        let slots = &self.slots;
        self.disclosures.get_mut(&manager)?.take_farthest(position, |slot, last_used| {
            let entry = &slots[slot];
            let ready = entry.condition == Condition::Resident
                && !entry.dirty
                && entry.place.manager == manager
                && entry.last_used == last_used
                && !planned.iter().any(|wanted| wanted.room.takes(slot));
            ready.then_some(entry.key)
        })
    }

    /// Evicts a block for another; returns its slot.
    fn make_room(&mut self, slot: Option<usize>) -> Option<usize> {
        self.evict(Victim::unasked(slot?));
        slot
    }

    /// Whether nothing has been disclosed about the next use of the block in a slot.
    fn is_unknown(&self, manager: ManagerId, slot: usize) -> bool {
        let disclosure = self.disclosures.get(&manager);
        disclosure.is_none_or(|disclosure| disclosure.next_use(self.slots[slot].key) == NEVER)
    }

    /// Which block of which nothing is known makes room for `missing`: the one that the manager's policies
    /// choose, or, if more is known of that or it is dirty, the last of `planned`, which is not empty. It is
    /// not in `planned` afterwards.
    fn choose_unknown(
        &mut self,
        manager: ManagerId,
        missing: Key,
        planned: &mut Vec<usize>,
    ) -> Option<usize> {
        let slots = &self.slots;
        let may_go = |slot: usize| slots.get(slot).is_some_and(|slot| slot.condition == Condition::Resident);
        let chosen = self.managers.own_victim(manager, reference(missing.0, missing.1), may_go);
        let good = |slot: &usize| !self.slots[*slot].dirty && self.is_unknown(manager, *slot);
        let Some(slot) = chosen.filter(good) else { return planned.pop() };
        planned.retain(|other| *other != slot);
        Some(slot)
    }

    /// What is known of the future of a file's manager, if the read-ahead policy makes use of it.
    pub(super) fn is_disclosed(&self, file: FileId) -> Option<ManagerId> {
        if self.disclosures.is_empty() || self.read_ahead.disclosed() == Disclosed::Ignored {
            return None;
        }
        let manager = self.place_of(file).manager;
        self.disclosures.contains_key(&manager).then_some(manager)
    }

    /// Room for the block at a position of the list, beside what is planned already.
    fn room_for(&mut self, manager: ManagerId, position: u64, planned: &[Wanted]) -> Option<Room> {
        let vacant = planned.iter().filter(|wanted| matches!(wanted.room, Room::Vacant)).count();
        // One buffer stays for what is referenced and was not disclosed.
        if self.staged.len() + planned.len() + 1 >= self.capacity {
            return None;
        }
        if vacant < self.vacant() {
            return Some(Room::Vacant);
        }
        let horizon = HORIZON.min((self.capacity / 8).max(BATCH) as u64);
        let disclosure = self.disclosures.get_mut(&manager)?;
        if disclosure.distance(position) > horizon {
            if planned.is_empty() {
                disclosure.idle_until(position - horizon);
            }
            return None;
        }
        match self.read_ahead.disclosed() {
            Disclosed::DoNoHarm => {
                let slot = self.harmless_victim(manager, position, planned)?;
                Some(if self.is_unknown(manager, slot) { Room::OfUnknown(slot) } else { Room::Of(slot) })
            }
            _ => None,
        }
    }
}

impl BufferCache {
    /// Notes that blocks of a file will be referenced, in this order, after all that was disclosed before to
    /// the same manager.
    pub(crate) fn disclose(&self, file: FileId, blocks: Range<u64>) {
        let state = &mut *self.state.borrow_mut();
        if blocks.is_empty() || state.read_ahead.disclosed() == Disclosed::Ignored {
            return;
        }
        let manager = state.place_of(file).manager;
        let keys = blocks.map(|block| (file, block));
        let disclosure: &mut Disclosure = state.disclosures.entry(manager).or_default();
        if !disclosure.is_ranking() {
            return disclosure.disclose(keys);
        }
        // What is disclosed now comes after all else: nothing changes for blocks whose next use was known.
        let unknown = keys.clone().filter(|key| disclosure.next_use(*key) == NEVER).collect::<Vec<_>>();
        disclosure.disclose(keys);
        for key in unknown {
            let Some(&slot) = state.index.get(&key) else { continue };
            let entry = &state.slots[slot];
            if entry.condition == Condition::Resident {
                disclosure.rank(key, entry.place.priority, entry.last_used, slot);
            }
        }
    }

    /// Starts to fetch what was disclosed about the manager of a file. Does not wait.
    pub(crate) fn prefetch(&self, file: FileId, locate: Locate<'_>) {
        let Some(manager) = self.state.borrow().is_disclosed(file) else { return };
        loop {
            self.settle_finished();
            let idle = self.state.borrow().disclosures.get(&manager).is_none_or(Disclosure::is_idle);
            if idle || self.flights.borrow().len() >= DEPTH {
                return;
            }
            let batch = self.plan(manager, locate);
            if batch.is_empty() {
                return;
            }
            self.start_batch(manager, batch);
        }
    }

    /// The next batch. Empty if nothing is missing, if there is no room without harm, or if it can wait for
    /// more.
    fn plan(&self, manager: ManagerId, locate: Locate<'_>) -> Vec<Wanted> {
        let mut batch: Vec<Wanted> = Vec::new();
        while batch.len() < BATCH {
            let missing = self.state.borrow_mut().next_missing(manager, &batch);
            let Some((position, key)) = missing else { break };
            // What can't be found is a hole, or gone: whoever refers to it will hear of it.
            let run = locate(key.0, key.1, 1).ok().flatten();
            let state = &mut *self.state.borrow_mut();
            if let Some(run) = run {
                let Some(room) = state.room_for(manager, position, &batch) else { break };
                let promised = run.checksums.as_ref().and_then(|sums| sums.first().copied());
                let checksum = state.written.get(&key).copied().or(promised);
                batch.push(Wanted { position, key, disk: run.disk, checksum, room });
            }
            if let Some(disclosure) = state.disclosures.get_mut(&manager) {
                disclosure.take_note();
            }
        }
        let state = &mut *self.state.borrow_mut();
        let comfortable = COMFORTABLE.min(state.capacity as u64 / 16);
        let Some(disclosure) = state.disclosures.get_mut(&manager) else { return batch };
        let Some(first) = batch.first().map(|wanted| wanted.position) else { return batch };
        let can_wait = batch.len() < BATCH / 2 && disclosure.distance(first) > comfortable;
        if can_wait {
            disclosure.look_again(first);
            // With each reference, one more block at most may come along.
            disclosure.idle_for((BATCH / 2 - batch.len()) as u64);
            for wanted in batch.drain(..) {
                if let Room::Of(slot) | Room::OfUnknown(slot) = wanted.room {
                    let entry = &state.slots[slot];
                    disclosure.rank(entry.key, entry.place.priority, entry.last_used, slot);
                }
            }
        }
        batch
    }

    /// Submits reads for a batch, adjacent blocks together.
    fn start_batch(&self, manager: ManagerId, mut batch: Vec<Wanted>) {
        let most = self.queue.max_request_blocks();
        batch.sort_unstable_by_key(|wanted| wanted.disk);
        let unknown = batch.iter().rev().filter_map(|wanted| match wanted.room {
            Room::OfUnknown(slot) => Some(slot),
            Room::Vacant | Room::Of(_) => None,
        });
        let mut unknown: Vec<usize> = unknown.collect();
        let mut requests: Vec<(u64, Vec<Incoming>)> = Vec::new();
        for Wanted { key, disk, checksum, room, .. } in batch {
            let slot = match room {
                Room::Vacant => self.state.borrow_mut().take_vacant(),
                Room::Of(slot) => self.state.borrow_mut().make_room(Some(slot)),
                Room::OfUnknown(_) => {
                    let state = &mut *self.state.borrow_mut();
                    let chosen = state.choose_unknown(manager, key, &mut unknown);
                    state.make_room(chosen)
                }
            };
            let Some(slot) = slot else { continue };
            let incoming = Incoming { key, slot, checksum };
            match requests.last_mut() {
                Some((first, blocks)) if *first + blocks.len() as u64 == disk && blocks.len() < most => {
                    blocks.push(incoming);
                }
                _ => requests.push((disk, Vec::from([incoming]))),
            }
        }
        for (disk, incoming) in requests {
            self.start_read(disk, incoming);
        }
        // Those in whose place policies chose others.
        let state = &mut *self.state.borrow_mut();
        let Some(disclosure) = state.disclosures.get_mut(&manager) else { return };
        for slot in unknown {
            let entry = &state.slots[slot];
            disclosure.rank(entry.key, entry.place.priority, entry.last_used, slot);
        }
    }
}
