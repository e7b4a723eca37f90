//! What is known of the future, manager by manager.

use super::disclosure::{Disclosure, NEVER};
use super::slots::Slots;
use crate::cache::allocation::{ManagerId, Managers};
use crate::cache::key::Key;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// More ranks than four for each slot and these are ranked anew: most of them are no longer true.
const SPARE_RANKS: usize = 16;

/// The disclosures of those managers of whom something is known.
#[derive(Default)]
pub(super) struct Disclosures(BTreeMap<ManagerId, Disclosure>);

impl Disclosures {
    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether something is known of a manager.
    pub(super) fn knows(&self, manager: ManagerId) -> bool {
        self.0.contains_key(&manager)
    }

    /// Whether nothing is known of any manager.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is known of a manager.
    pub(super) fn of(&self, manager: ManagerId) -> Option<&Disclosure> {
        self.0.get(&manager)
    }

    /// The same, to change it.
    pub(super) fn of_mut(&mut self, manager: ManagerId) -> Option<&mut Disclosure> {
        self.0.get_mut(&manager)
    }

    /// A manager will refer to these blocks, in this order, after all that it disclosed before.
    pub(super) fn disclose(
        &mut self,
        manager: ManagerId,
        keys: impl Iterator<Item = Key> + Clone,
        slots: &Slots,
        managers: &Managers,
    ) {
        let disclosure = self.0.entry(manager).or_default();
        if !disclosure.is_ranking() {
            return disclosure.disclose(keys);
        }
        // What is disclosed now comes after all else: nothing changes for blocks whose next use was known.
        let unknown = keys.clone().filter(|key| disclosure.next_use(*key) == NEVER).collect::<Vec<_>>();
        disclosure.disclose(keys);
        for slot in unknown.into_iter().filter_map(|key| slots.slot_of(key)) {
            if slots.is_resident(slot) {
                rank(disclosure, slot, slots, managers);
            }
        }
    }

    /// The block in a slot, which is resident, was referenced.
    pub(super) fn follow(&mut self, slot: usize, slots: &Slots, managers: &Managers) {
        let Some(manager) = managers.place_in(slot).map(|place| place.manager) else { return };
        let Some(disclosure) = self.0.get_mut(&manager) else { return };
        disclosure.referred(slots.key(slot));
        if disclosure.is_over() {
            self.0.remove(&manager);
        } else if disclosure.is_ranking() {
            rank(disclosure, slot, slots, managers);
            if disclosure.ranks() > 4 * slots.count() + SPARE_RANKS {
                self.rank_all(manager, slots, managers);
            }
        }
    }

    /// Ranks blocks of a manager, of those in these slots that are resident.
    pub(super) fn rank_again(
        &mut self,
        manager: ManagerId,
        again: impl Iterator<Item = usize>,
        slots: &Slots,
        managers: &Managers,
    ) {
        let Some(disclosure) = self.0.get_mut(&manager) else { return };
        again.for_each(|slot| rank(disclosure, slot, slots, managers));
    }

    /// Ranks all blocks of a manager by their next use.
    fn rank_all(&mut self, manager: ManagerId, slots: &Slots, managers: &Managers) {
        let Some(disclosure) = self.0.get_mut(&manager) else { return };
        disclosure.start_ranking();
        for slot in (0..slots.count()).filter(|slot| is_of(manager, *slot, slots, managers)) {
            rank(disclosure, slot, slots, managers);
        }
    }

    /// A slot whose block `may_go`, is the manager's, and is not needed before `position`: that of the block
    /// that is needed last.
    pub(super) fn farthest(
        &mut self,
        manager: ManagerId,
        position: u64,
        may_go: impl Fn(usize) -> bool,
        slots: &Slots,
        managers: &Managers,
    ) -> Option<usize> {
        if !self.0.get(&manager)?.is_ranking() {
            self.rank_all(manager, slots, managers);
        }
        self.0.get_mut(&manager)?.take_farthest(position, |slot, last_used| {
            let ready =
                is_of(manager, slot, slots, managers) && slots.last_used(slot) == last_used && may_go(slot);
            ready.then(|| slots.key(slot))
        })
    }
}

fn is_of(manager: ManagerId, slot: usize, slots: &Slots, managers: &Managers) -> bool {
    slots.is_resident(slot) && managers.place_in(slot).is_some_and(|place| place.manager == manager)
}

fn rank(disclosure: &mut Disclosure, slot: usize, slots: &Slots, managers: &Managers) {
    let Some(place) = managers.place_in(slot) else { return };
    disclosure.rank(slots.key(slot), place.priority, slots.last_used(slot), slot);
}
