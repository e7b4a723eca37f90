//! A value for each slot.

use alloc::vec::Vec;

/// A value for each slot, the default where none was set. Reading and setting take constant time.
#[derive(Default)]
pub(super) struct PerSlot<T>(Vec<T>);

impl<T: Copy + Default> PerSlot<T> {
    pub(super) fn get(&self, slot: usize) -> T {
        self.0.get(slot).copied().unwrap_or_default()
    }

    pub(super) fn set(&mut self, slot: usize, value: T) {
        match self.0.get_mut(slot) {
            Some(old) => *old = value,
            None => {
                self.0.resize(slot + 1, T::default());
                self.0[slot] = value;
            }
        }
    }
}
