//! Waiting for requests: one core owns each, others join it.

use super::Shared;
use super::desk::Desk;
use crate::cache::ReplacementPolicy;
use crate::device::{DeviceError, Finished};
use crate::lock::MutexGuard;
use alloc::vec::Vec;
use core::task::Waker;

impl<P: ReplacementPolicy> Shared<P> {
    /// Takes what the device has done.
    pub(super) fn collect(&self) {
        let wakes = self.desk.lock().collect();
        wakes.wake();
    }

    /// Sleeps until a request of which the caller is no owner has landed. If it has none, the caller becomes
    /// its owner.
    pub(super) fn wait_for(&self, mut desk: MutexGuard<'_, Desk>, tag: u64, waker: &Waker) {
        if desk.adopt(tag) {
            drop(desk);
            let finished = self.outcome(tag, waker);
            let wakes = self.desk.lock().stage(tag, finished);
            wakes.wake();
        } else {
            desk.join(tag, waker.clone());
            drop(desk);
            self.sleep.sleep_until(&mut || self.desk.lock().has_landed(tag));
        }
    }

    /// Sleeps until the device may have room in its queue, which was full after so many completions. The
    /// caller has nothing on its way.
    pub(super) fn wait_for_room(&self, mut desk: MutexGuard<'_, Desk>, completions: u64, waker: &Waker) {
        if let Some(tag) = desk.any_unowned() {
            return self.wait_for(desk, tag, waker);
        }
        desk.stand_in_line(waker.clone());
        drop(desk);
        self.sleep.sleep_until(&mut || self.desk.lock().completions() != completions);
    }

    /// Sleeps until a request of the caller's has ended.
    pub(super) fn outcome(&self, tag: u64, waker: &Waker) -> Finished {
        // Unknown requests count as landed. This one is known until it has landed.
        let mut found = Finished { buffers: Vec::new(), result: Err(DeviceError::Io) };
        self.sleep.sleep_until(&mut || {
            let (outcome, wakes) = self.desk.lock().outcome(tag, waker);
            wakes.wake();
            outcome.map(|outcome| found = outcome).is_some()
        });
        found
    }
}
