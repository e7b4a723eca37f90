//! Requests on their way: who asked, who waits, and who listens to the device for all.
//!
//! Everything here is done under one lock in a time that does not depend on the device. Who must wait leaves a [`Waker`]
//! and sleeps without the lock. One of those whose requests are on their way is the *listener*: the device calls it,
//! whosesoever request is done, and it passes the news on. When its own is done another one listens.

use crate::device::{
    BlockDevice, DeviceError, Finished, Operation, Rejected, Rejection, Request, zeroed_page,
};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::task::Waker;
use hyperexo_abi::Page;

/// The device and what is on its way.
pub(super) struct Desk {
    device: Box<dyn BlockDevice + Send>,
    flights: BTreeMap<u64, Flight>,
    /// Tag of the request whose owner the device calls.
    listener: Option<u64>,
    /// Those who wait for room in the device's queue.
    in_line: Vec<Waker>,
    next_tag: u64,
    /// Requests that have ended.
    completions: u64,
    /// Buffers for requests.
    pages: Vec<Box<Page>>,
    /// A frame that no block is in, from which nobody can get anything: the next block goes there.
    pub(super) spare: usize,
    /// Frames below have been used.
    pub(super) used: usize,
}

/// A request for adjacent blocks of a file, from its submission until its blocks are in the cache.
struct Flight {
    /// First block, and how many.
    block: u64,
    count: u64,
    /// Who submitted it, while asleep.
    owner: Option<Waker>,
    /// Those who want one of its blocks.
    others: Vec<Waker>,
    finished: Option<Finished>,
}

/// What came of the wish to submit a request.
pub(super) enum Submitted {
    /// It is on its way, under this tag.
    OnItsWay(u64),
    /// The queue is full, after so many completions. Who asked is in line, and is woken by the next one.
    Full {
        /// As [`Desk::completions`] says now.
        completions: u64,
    },
    /// It will never be taken.
    Refused(DeviceError),
}

/// Cores to wake as soon as the lock is free.
#[must_use]
#[derive(Default)]
pub(super) struct Wakes(Vec<Waker>);

impl Wakes {
    pub(super) fn wake(self) {
        self.0.into_iter().for_each(Waker::wake);
    }
}

impl Desk {
    /// Nothing on its way; frame 0 is spare.
    pub(super) fn new(device: Box<dyn BlockDevice + Send>) -> Desk {
        Desk {
            device,
            flights: BTreeMap::new(),
            listener: None,
            in_line: Vec::new(),
            next_tag: 0,
            completions: 0,
            pages: Vec::new(),
            spare: 0,
            used: 1,
        }
    }

    /// The request that has a block on its way.
    pub(super) fn on_its_way(&self, block: u64) -> Option<u64> {
        let has = |flight: &Flight| (flight.block..flight.block + flight.count).contains(&block);
        self.flights.iter().find(|(_, flight)| has(flight)).map(|(tag, _)| *tag)
    }

    /// Has somebody woken when a request has landed.
    pub(super) fn join(&mut self, tag: u64, waker: Waker) {
        if let Some(flight) = self.flights.get_mut(&tag) {
            flight.others.push(waker);
        }
    }

    /// Whether the blocks of a request are in the cache, or never will be by it.
    pub(super) fn has_landed(&self, tag: u64) -> bool {
        !self.flights.contains_key(&tag)
    }

    /// Starts to read `count` blocks: of the file from `block` on, on the device from `disk` on.
    pub(super) fn submit(&mut self, disk: u64, block: u64, count: u64, waker: &Waker) -> Submitted {
        let tag = self.next_tag;
        let buffers = (0..count).map(|_| self.pages.pop().unwrap_or_else(zeroed_page)).collect();
        let request = Request { tag, operation: Operation::Read, block: disk, buffers };
        let Err(Rejected { request, reason }) = self.device.submit(request) else {
            self.next_tag += 1;
            let flight = Flight { block, count, owner: None, others: Vec::new(), finished: None };
            self.flights.insert(tag, flight);
            return Submitted::OnItsWay(tag);
        };
        self.pages.extend(request.buffers);
        match reason {
            Rejection::Refused(error) => Submitted::Refused(error),
            Rejection::QueueFull if self.flights.values().all(|flight| flight.finished.is_some()) => {
                // Full with nothing in flight: it will never have room.
                Submitted::Refused(DeviceError::Io)
            }
            Rejection::QueueFull => {
                self.in_line.push(waker.clone());
                Submitted::Full { completions: self.completions }
            }
        }
    }

    /// The outcome of a request, if it has ended; if not, its owner is to sleep, and will be woken by `waker`. Asked again
    /// after every wake.
    pub(super) fn outcome(&mut self, tag: u64, waker: &Waker) -> (Option<Finished>, Wakes) {
        let mut wakes = Wakes::default();
        loop {
            self.collect(tag, &mut wakes);
            let Some(flight) = self.flights.get_mut(&tag) else { return (None, wakes) };
            if let Some(finished) = flight.finished.take() {
                flight.owner = None;
                if self.listener == Some(tag) {
                    self.listener = None;
                    self.appoint(&mut wakes);
                }
                // It has ended, whatever becomes of its blocks.
                return (Some(finished), wakes);
            }
            flight.owner = Some(waker.clone());
            let listener = *self.listener.get_or_insert(tag);
            if listener != tag || !self.device.ready(waker) {
                return (None, wakes);
            }
        }
    }

    /// How many requests have ended.
    pub(super) fn completions(&self) -> u64 {
        self.completions
    }

    /// Takes what the device has done for the owner of a request; others whose requests have ended are to be woken.
    fn collect(&mut self, own: u64, wakes: &mut Wakes) {
        while let Some(completion) = self.device.poll() {
            self.completions += 1;
            if let Some(flight) = self.flights.get_mut(&completion.tag) {
                wakes.0.extend(flight.owner.take().filter(|_| completion.tag != own));
                flight.finished = Some(Finished { buffers: completion.buffers, result: completion.result });
            }
            wakes.0.append(&mut self.in_line);
        }
    }

    /// Wakes somebody who sleeps until a request has ended, to listen.
    fn appoint(&mut self, wakes: &mut Wakes) {
        wakes.0.extend(self.flights.values_mut().find_map(|flight| flight.owner.take()));
    }

    /// The blocks of a request are in the cache, or never will be by it. Its buffers serve others.
    pub(super) fn land(&mut self, tag: u64, buffers: Vec<Box<Page>>) -> Wakes {
        self.pages.extend(buffers);
        Wakes(self.flights.remove(&tag).map(|flight| flight.others).unwrap_or_default())
    }
}
