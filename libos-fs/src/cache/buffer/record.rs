//! Who hears what happens in a cache: observers, recordings, the log.

use crate::cache::key::{Key, reference};
use crate::cache::references::ReferenceLog;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Something that happened to a block. Its number is that of [`reference()`](crate::cache::reference()).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It was referred to and in the cache.
    Hit(u64),
    /// It was referred to and not in the cache, or only in staging.
    Miss(u64),
    /// It left to make room. If a reference made it leave, this comes before that reference's miss.
    Evicted(u64),
}

/// Is told of every event as it happens; see [`BufferCache::observe`](crate::cache::BufferCache::observe). It
/// must not use the cache that it observes.
pub type Observer = Box<dyn FnMut(Event)>;

/// All that listen to one cache.
pub(super) struct Record {
    recording: Option<Vec<u64>>,
    log: Option<ReferenceLog>,
    observer: Option<Observer>,
    /// What the call underway will refer to next.
    goes_on: Option<Key>,
}

impl Record {
    /// Nobody observes, and nothing is logged.
    pub(super) fn new(recording: bool) -> Record {
        Record { recording: recording.then(Vec::new), log: None, observer: None, goes_on: None }
    }

    /// Prints all references from here on.
    pub(super) fn log_references(&mut self, print: fn(&str)) {
        self.log = Some(ReferenceLog::new(print));
    }

    /// Ends that.
    pub(super) fn end_reference_log(&mut self) {
        self.log = None;
    }

    /// Starts a new recording.
    pub(super) fn start_recording(&mut self) {
        self.recording = Some(Vec::new());
    }

    /// Ends the recording and returns it.
    pub(super) fn take_references(&mut self) -> Vec<u64> {
        self.recording.take().unwrap_or_default()
    }

    /// Tells `observer` of all events from here on.
    pub(super) fn observe(&mut self, observer: Option<Observer>) {
        self.observer = observer;
    }

    /// The reference that was told last is one of a call that asks for `next`, too.
    pub(super) fn call_goes_on(&mut self, next: Key) {
        self.goes_on = Some(next);
    }

    /// A block was referred to.
    pub(super) fn referred(&mut self, key: Key, event: impl FnOnce(u64) -> Event) {
        let block = reference(key.0, key.1);
        if let Some(recording) = &mut self.recording {
            recording.push(block);
        }
        if let Some(log) = &mut self.log {
            log.push(block, self.goes_on.take() == Some(key));
        }
        if let Some(observer) = &mut self.observer {
            observer(event(block));
        }
    }

    /// A block left to make room.
    pub(super) fn evicted(&mut self, block: u64) {
        if let Some(observer) = &mut self.observer {
            observer(Event::Evicted(block));
        }
    }
}
