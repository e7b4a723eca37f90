//! Room for a block that is to come in.

use super::transfer::BufferCache;
use crate::cache::allocation::Victim;
use crate::cache::key::Key;
use crate::error::FsError;
use alloc::vec::Vec;

impl BufferCache {
    /// A slot to fill, with block `missing` if it is for one: a vacant one, or that of a victim, which is
    /// written first if it is dirty.
    pub(super) fn take_slot(&self, missing: Option<Key>) -> Result<usize, FsError> {
        loop {
            let victim = {
                let state = &mut *self.state();
                if let Some(slot) = state.take_vacant() {
                    return Ok(slot);
                }
                state.choose_victim(missing)
            };
            let Some(victim) = victim else {
                self.give_up_staging()?;
                continue;
            };
            if self.look().dirty().contains(victim.slot()) {
                self.write_around(victim.slot())?;
            }
            if self.evict_clean(victim) {
                return Ok(victim.slot());
            }
        }
    }

    /// Takes the victim out, unless something has happened to it while others were written.
    fn evict_clean(&self, victim: Victim) -> bool {
        let state = &mut *self.state();
        let may_go = state.slots().is_resident(victim.slot()) && !state.dirty().contains(victim.slot());
        if may_go {
            state.evict(victim);
        }
        may_go
    }

    /// Makes a slot vacant when no resident block can go: drops the oldest staged block, or waits for a
    /// request.
    fn give_up_staging(&self) -> Result<(), FsError> {
        let oldest = self.look().slots().oldest_staged();
        if let Some(slot) = oldest {
            self.state().drop_staged(slot);
            return Ok(());
        }
        if self.finish_oldest() {
            return Ok(());
        }
        Err(FsError::NoBuffer { capacity: self.look().slots().capacity() })
    }

    /// Slots for as many blocks from `key` on as are not in memory, `most` at most. Fewer than `least` is an
    /// error. If a dirty block can't be written to make room for more than that, the slots are fewer.
    pub(super) fn take_slots(&self, key: Key, most: u64, least: u64) -> Result<Vec<usize>, FsError> {
        let mut slots = Vec::new();
        for position in 0..most {
            let missing = (key.0, key.1 + position);
            if self.look().slots().slot_of(missing).is_some() {
                break;
            }
            match self.take_slot(Some(missing)) {
                Ok(slot) => slots.push(slot),
                Err(error) if position < least => return Err(error),
                Err(_) => break,
            }
        }
        Ok(slots)
    }
}
