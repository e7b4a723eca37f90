//! Prefetching what an application has disclosed, while it computes.
//!
//! Whenever fewer than [`DEPTH`] requests are on their way, the next blocks of the disclosed list that are
//! not in memory are fetched. They come in batches, sorted by their place on the device, adjacent blocks in
//! one request.
//!
//! [`Disclosed`](crate::cache::Disclosed) says what gives them room. With `DoNoHarm` these are the rules of
//! P. Cao, E. W. Felten, A. R. Karlin, K. Li, "Implementation and performance of integrated
//! application-controlled file caching, prefetching, and disk scheduling" (ACM TOCS 14(4), 1996): fetch what
//! is missing first, replace what is needed last, and nothing that is needed before the block that is
//! fetched. Among blocks of which nothing was disclosed, the manager's replacement policies choose.
//!
//! Blocks are fetched only as far ahead as hides the device's time. That keeps the number of reads near the
//! least. Only blocks of the manager itself are replaced, so no other manager is harmed.

use super::fetch::Locate;
use super::state::State;
use super::transfer::{BufferCache, Incoming};
use crate::cache::allocation::{ManagerId, Victim};
use crate::cache::key::Key;
use crate::file_id::FileId;
use alloc::vec::Vec;
use core::ops::Range;

/// Most requests on their way while another batch is started.
const DEPTH: usize = 4;

/// Blocks in a batch.
const BATCH: usize = 16;

/// Blocks that are needed more than so many references later are not yet fetched in the place of others. If
/// blocks are replaced too early, there are fewer to choose from, and more are read again.
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

/// Room for the block at a position of the list, beside what is planned already.
fn room_for(state: &mut State, manager: ManagerId, position: u64, planned: &[Wanted]) -> Option<Room> {
    let vacant = planned.iter().filter(|wanted| matches!(wanted.room, Room::Vacant)).count();
    let capacity = state.slots().capacity();
    // One buffer stays for what is referenced and was not disclosed.
    if state.slots().staged() + planned.len() + 1 >= capacity {
        return None;
    }
    let all_vacant = state.slots().vacant();
    if vacant < all_vacant {
        return Some(Room::Vacant);
    }
    let horizon = HORIZON.min((capacity / 8).max(BATCH) as u64);
    let disclosure = state.disclosure(manager)?;
    if disclosure.distance(position) > horizon {
        if planned.is_empty() {
            disclosure.idle_until(position - horizon, all_vacant);
        }
        return None;
    }
    if !state.replaces_for_disclosed() {
        return None;
    }
    let goes_already = |slot: usize| planned.iter().any(|wanted| wanted.room.takes(slot));
    let slot = state.harmless_victim(manager, position, goes_already)?;
    Some(if state.is_unknown(manager, slot) { Room::OfUnknown(slot) } else { Room::Of(slot) })
}

/// Which block of unknown future makes room for `missing`: the one that the manager's policies choose. It is
/// not in `planned` afterwards.
///
/// None if that one is dirty, or if its next use is known. To take another in its place would be a guess
/// against the policy, and what was guessed wrong is read once more: the reader waits for `missing` instead.
fn choose_unknown(
    state: &mut State,
    manager: ManagerId,
    missing: Key,
    planned: &mut Vec<usize>,
) -> Option<usize> {
    let chosen = state.own_victim(manager, missing);
    let good = |slot: &usize| !state.dirty().contains(*slot) && state.is_unknown(manager, *slot);
    let slot = chosen.filter(good)?;
    planned.retain(|other| *other != slot);
    Some(slot)
}

/// A slot for a block of a batch. `unknown` are the slots planned for it whose next use is unknown.
fn take_room(
    state: &mut State,
    manager: ManagerId,
    wanted: &Wanted,
    unknown: &mut Vec<usize>,
) -> Option<usize> {
    let slot = match wanted.room {
        Room::Vacant => return state.take_vacant(),
        Room::Of(slot) => slot,
        Room::OfUnknown(_) => choose_unknown(state, manager, wanted.key, unknown)?,
    };
    state.evict(Victim::unasked(slot));
    Some(slot)
}

impl BufferCache {
    /// Notes that blocks of a file will be referenced, in this order, after all that was disclosed before to
    /// the same manager.
    pub(crate) fn disclose(&self, file: FileId, blocks: Range<u64>) {
        let state = &mut *self.state();
        if !blocks.is_empty() && state.uses_disclosures() {
            state.disclose(file, blocks);
        }
    }

    /// Starts to fetch what was disclosed about the manager of a file. Does not wait.
    pub(crate) fn prefetch(&self, file: FileId, locate: Locate<'_>) {
        let Some(manager) = self.look().disclosed(file) else { return };
        loop {
            self.settle_finished();
            if self.look().is_idle(manager) || self.in_flight() >= DEPTH {
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
            let planned = |key: Key| batch.iter().any(|wanted| wanted.key == key);
            let missing = self.state().next_missing(manager, planned);
            let Some((position, key)) = missing else { break };
            // What can't be found is a hole, or gone. The reader will be told.
            let run = locate(key.0, key.1, 1).ok().flatten();
            let state = &mut *self.state();
            if let Some(run) = run {
                let Some(room) = room_for(state, manager, position, &batch) else { break };
                let promised = run.checksums.as_ref().and_then(|sums| sums.first().copied());
                let checksum = state.dirty().checksum(key).or(promised);
                batch.push(Wanted { position, key, disk: run.disk, checksum, room });
            }
            if let Some(disclosure) = state.disclosure(manager) {
                disclosure.take_note();
            }
        }
        let state = &mut *self.state();
        let vacant = state.slots().vacant();
        let comfortable = COMFORTABLE.min(state.slots().capacity() as u64 / 16);
        let Some(disclosure) = state.disclosure(manager) else { return batch };
        let Some(first) = batch.first().map(|wanted| wanted.position) else { return batch };
        let can_wait = batch.len() < BATCH / 2 && disclosure.distance(first) > comfortable;
        if can_wait {
            disclosure.look_again(first);
            // With each reference, one more block at most may come along.
            disclosure.idle_for((BATCH / 2 - batch.len()) as u64, vacant);
            let kept = batch.drain(..).filter_map(|wanted| match wanted.room {
                Room::Of(slot) | Room::OfUnknown(slot) => Some(slot),
                Room::Vacant => None,
            });
            state.keep(manager, kept);
        }
        batch
    }

    /// Submits reads for a batch, adjacent blocks together.
    fn start_batch(&self, manager: ManagerId, mut batch: Vec<Wanted>) {
        let most = self.max_request_blocks();
        batch.sort_unstable_by_key(|wanted| wanted.disk);
        let unknown = batch.iter().rev().filter_map(|wanted| match wanted.room {
            Room::OfUnknown(slot) => Some(slot),
            Room::Vacant | Room::Of(_) => None,
        });
        let mut unknown: Vec<usize> = unknown.collect();
        let mut requests: Vec<(u64, Vec<Incoming>)> = Vec::new();
        for wanted in batch {
            let Some(slot) = take_room(&mut self.state(), manager, &wanted, &mut unknown) else { continue };
            let Wanted { key, disk, checksum, .. } = wanted;
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
        self.state().keep(manager, unknown.into_iter());
    }
}
