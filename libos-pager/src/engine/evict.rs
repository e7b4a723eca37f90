//! Who makes room.

use super::{Engine, References};
use crate::page_map::PageMap;
use crate::pager::PagerError;

impl<M: PageMap> Engine<M> {
    /// Takes a page out of memory that the policy names. One that can't go out stays, and another goes.
    pub(super) fn evict(&mut self, missing: Option<u64>) -> Result<(), PagerError> {
        if self.references == References::Sampled {
            self.sample();
        }
        let named = self
            .policy
            .victim(missing)
            .filter(|slot| self.taken.get(*slot) == Some(&true) && self.pins[*slot] == 0);
        let mut failure = None;
        if let Some(slot) = named {
            match self.clean(slot) {
                Ok(()) => return self.let_go(slot),
                Err(error) => failure = Some(error),
            }
        }
        self.statistics.rejected_victims += 1;
        // Any page that can go: all that are clean, before any that is to be written.
        let pages = self.frames;
        let order = (0..pages)
            .map(|step| (self.hand + step) % pages)
            .filter(|slot| self.taken[*slot] && self.pins[*slot] == 0);
        let slots: alloc::vec::Vec<usize> = order.collect();
        self.hand = (self.hand + 1) % pages.max(1);
        let clean = slots.iter().copied().find(|slot| !self.map.written(self.cached(*slot).block));
        if let Some(slot) = clean {
            return self.let_go(slot);
        }
        if let Some(error) = failure {
            // Each has to be written, and writing does not work.
            return Err(error);
        }
        let slot = slots.first().copied().ok_or(PagerError::Full)?;
        self.clean(slot)?;
        self.let_go(slot)
    }

    /// Tells the policy which pages were used since the last victim.
    fn sample(&mut self) {
        for slot in 0..self.frames {
            if self.taken[slot] && self.pins[slot] == 0 {
                let cached = self.cached(slot);
                if self.map.used(cached.block) {
                    self.map.clear_used(cached.block);
                    self.policy.accessed(cached);
                }
            }
        }
    }

    fn let_go(&mut self, slot: usize) -> Result<(), PagerError> {
        self.statistics.evicted += 1;
        self.policy.evicted(self.cached(slot));
        self.release(slot);
        Ok(())
    }

    /// Has a page written if it has to be.
    fn clean(&mut self, slot: usize) -> Result<(), PagerError> {
        let page = self.cached(slot).block;
        if self.map.written(page) { self.write_around(page) } else { Ok(()) }
    }
}
