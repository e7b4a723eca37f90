//! Tasks that wait for a time.

use alloc::vec::Vec;
use core::task::Waker;

/// Who is to be woken when. There are few: those who wait for an answer that may not come.
#[derive(Default)]
pub(super) struct Alarms {
    waiting: Vec<(i64, Waker)>,
}

impl Alarms {
    /// Wakes somebody at this time, in microseconds. One who asks again for the same time is kept once.
    pub(super) fn insert(&mut self, due_us: i64, waker: &Waker) {
        let is_known = |(other_us, other): &(i64, Waker)| *other_us == due_us && other.will_wake(waker);
        if !self.waiting.iter().any(is_known) {
            self.waiting.push((due_us, waker.clone()));
        }
    }

    /// When the first is to be woken.
    pub(super) fn due_us(&self) -> Option<i64> {
        self.waiting.iter().map(|(due_us, _)| *due_us).min()
    }

    /// Wakes those whose time has come.
    pub(super) fn wake_due(&mut self, now_us: i64) {
        self.waiting.extract_if(.., |(due_us, _)| *due_us <= now_us).for_each(|(_, waker)| waker.wake());
    }
}
