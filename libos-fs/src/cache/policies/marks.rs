//! What a hit leaves behind under policies that move nothing on a hit.

use super::per_slot::PerSlot;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU8, Ordering};

/// A small number for each slot that hits raise and the search for a victim lowers: all that a hit changes
/// under [`Clock`](crate::cache::Clock), [`Sieve`](super::Sieve) and [`S3Fifo`](super::S3Fifo).
pub trait Marks: Send {
    /// The mark of a slot; 0 where none was set.
    fn get(&self, slot: usize) -> u8;
    /// Sets the mark of a slot.
    fn set(&mut self, slot: usize, mark: u8);
}

/// Marks of a policy that is used by one core. A byte a slot.
#[derive(Default)]
pub struct OwnMarks(PerSlot<u8>);

impl Marks for OwnMarks {
    #[inline]
    fn get(&self, slot: usize) -> u8 {
        self.0.get(slot)
    }

    #[inline]
    fn set(&mut self, slot: usize, mark: u8) {
        self.0.set(slot, mark);
    }
}

/// Marks that other cores raise while the policy is at work: see [`SharedCache`](crate::cache::SharedCache).
/// A byte a slot, as many as there were at the start. A mark that two cores change at once may count one of
/// the changes only.
#[derive(Clone)]
pub struct SharedMarks(Arc<[AtomicU8]>);

impl SharedMarks {
    /// Marks for slots below `slots`, all 0.
    pub fn new(slots: usize) -> SharedMarks {
        SharedMarks((0..slots).map(|_| AtomicU8::new(0)).collect())
    }

    /// Raises the mark of a slot by one, up to `most`. Writes nothing if it is there already, so that popular
    /// blocks stay in the caches of all cores.
    #[inline]
    pub fn raise(&self, slot: usize, most: u8) {
        if let Some(mark) = self.0.get(slot) {
            let old = mark.load(Ordering::Relaxed);
            if old < most {
                mark.store(old + 1, Ordering::Relaxed);
            }
        }
    }
}

impl Marks for SharedMarks {
    #[inline]
    fn get(&self, slot: usize) -> u8 {
        self.0.get(slot).map_or(0, |mark| mark.load(Ordering::Relaxed))
    }

    #[inline]
    fn set(&mut self, slot: usize, new: u8) {
        if let Some(mark) = self.0.get(slot) {
            mark.store(new, Ordering::Relaxed);
        }
    }
}
