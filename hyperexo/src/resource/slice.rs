//! Processor time: a core is a vector of slices (SOSP'95 §5.1.1).
//!
//! Position in the vector is the order of service; an environment with more slots gets more time. The kernel
//! walks the vector and skips owners that have nothing to do: that is all the scheduling it does.
#![forbid(unsafe_code)]

use crate::machine::id::EnvironmentId;
use alloc::vec::Vec;
use hyperexo_abi::hypercall::Status;

/// The vector of one core.
#[derive(Default)]
pub struct SliceVector {
    slots: Vec<EnvironmentId>,
    /// Slot to look at next.
    next: usize,
}

impl SliceVector {
    /// Makes room for so many slots more.
    ///
    /// # Errors
    ///
    /// [`Status::Exhausted`] without memory.
    pub fn reserve(&mut self, slots: usize) -> Result<(), Status> {
        self.slots.try_reserve(slots).map_err(|_| Status::Exhausted)
    }

    /// Appends `count` slots (at least one) for an environment, spread so that environments alternate. There
    /// is [room](SliceVector::reserve) for them.
    pub fn add(&mut self, environment: EnvironmentId, count: usize) {
        let count = count.max(1);
        // Equidistant places: every environment gets its turn early, none gets a burst.
        let gap = (self.slots.len() / count).max(1);
        for index in 0..count {
            let place = ((index + 1) * gap + index).min(self.slots.len());
            self.slots.insert(place, environment);
        }
    }

    /// Takes all slots of an environment away.
    pub fn remove(&mut self, environment: EnvironmentId) {
        let before = self.slots[..self.next].iter().filter(|slot| **slot == environment).count();
        self.slots.retain(|slot| *slot != environment);
        self.next -= before;
    }

    /// The owner of the next slice that `can_run`, and moves on.
    pub fn advance(&mut self, can_run: impl Fn(EnvironmentId) -> bool) -> Option<EnvironmentId> {
        for step in 0..self.slots.len() {
            let place = (self.next + step) % self.slots.len();
            if can_run(self.slots[place]) {
                self.next = place + 1;
                return Some(self.slots[place]);
            }
        }
        None
    }

    /// Whether anyone else than `environment` has slots and `can_run`.
    pub fn contended(&self, environment: EnvironmentId, can_run: impl Fn(EnvironmentId) -> bool) -> bool {
        self.slots.iter().any(|slot| *slot != environment && can_run(*slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u16) -> EnvironmentId {
        EnvironmentId::new(number, 0)
    }

    #[test]
    fn newcomers_come_last_and_do_not_clump() {
        let mut vector = SliceVector::default();
        for number in 1..4 {
            vector.add(id(number), 1);
        }
        assert_eq!(vector.slots, [1, 2, 3].map(id));
        vector.add(id(9), 3);
        assert_eq!(vector.slots, [1, 9, 2, 9, 3, 9].map(id));
    }

    #[test]
    fn shares_follow_slots_and_the_idle_are_skipped() {
        let mut vector = SliceVector::default();
        vector.add(id(1), 1);
        vector.add(id(2), 2);
        vector.add(id(3), 3);
        let mut turns = [0; 4];
        for _ in 0..60 {
            turns[vector.advance(|_| true).unwrap().index()] += 1;
        }
        assert_eq!(turns, [0, 10, 20, 30]);
        assert_eq!(vector.advance(|other| other == id(1)), Some(id(1)));
        assert_eq!(vector.advance(|_| false), None);
        vector.remove(id(3));
        assert!((0..10).all(|_| vector.advance(|_| true) != Some(id(3))));
        assert!(vector.contended(id(1), |_| true) && !vector.contended(id(1), |other| other == id(3)));
        vector.remove(id(1));
        vector.remove(id(2));
        assert_eq!(vector.advance(|_| true), None);
    }
}
