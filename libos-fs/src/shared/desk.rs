//! Requests on their way: who asked, who waits, and who listens to the device for all.
//!
//! Everything here is done under one lock, in a time that does not depend on the device. A core that must
//! wait leaves a [`Waker`] and sleeps without the lock. One of the cores with a request on its way is the
//! *listener*: the device calls it when any owner's request is done, and it wakes that owner. When its own
//! request is done, another core becomes the listener.
//!
//! Invariant: if an owner sleeps, there is a listener whose request has not landed. The listener is awake,
//! has been woken, or will be called by the device.

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
    /// Cores that wait for room in the device's queue.
    in_line: Vec<Waker>,
    next_tag: u64,
    /// Requests that have ended.
    completions: u64,
    /// Buffers for requests.
    pages: Vec<Box<Page>>,
    /// A frame that holds no block, so that no core can be reading it. The next block goes there.
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
    /// Other cores that want one of its blocks.
    others: Vec<Waker>,
    finished: Option<Finished>,
}

/// What came of the wish to submit a request.
pub(super) enum Submitted {
    /// It is on its way, under this tag.
    OnItsWay(u64),
    /// The queue is full, after so many completions. The core is in line; the next completion wakes it.
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

    /// Adds a core to those that are woken when a request has landed.
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

    /// The outcome of a request, if it has ended; if not, its owner is to sleep, and will be woken by
    /// `waker`. Asked again after every wake.
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
                // It has ended, even if its blocks never reach the cache.
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

    /// Takes what the device has done for the owner of a request; others whose requests have ended are to be
    /// woken.
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

    /// Makes a sleeping owner the listener and has it woken. If its own request has ended by then, it
    /// appoints the next one.
    fn appoint(&mut self, wakes: &mut Wakes) {
        let asleep = |(tag, flight): (&u64, &mut Flight)| flight.owner.take().map(|owner| (*tag, owner));
        if let Some((tag, owner)) = self.flights.iter_mut().find_map(asleep) {
            self.listener = Some(tag);
            wakes.0.push(owner);
        }
    }

    /// The blocks of a request are in the cache, or never will be by it. Its buffers serve others.
    pub(super) fn land(&mut self, tag: u64, buffers: Vec<Box<Page>>) -> Wakes {
        self.pages.extend(buffers);
        Wakes(self.flights.remove(&tag).map(|flight| flight.others).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::sync::Arc;
    use alloc::task::Wake;
    use core::sync::atomic::{AtomicBool, Ordering};
    use spin::Mutex;

    /// A device that completes what it is told to, and remembers whom to call.
    #[derive(Clone, Default)]
    struct Manual(Arc<Mutex<State>>);

    #[derive(Default)]
    struct State {
        taken: Vec<Request>,
        done: Vec<Request>,
        called: Option<Waker>,
    }

    impl Manual {
        fn complete(&self, tag: u64) {
            let state = &mut *self.0.lock();
            let at = state.taken.iter().position(|request| request.tag == tag).unwrap();
            state.done.push(state.taken.remove(at));
            state.called.take().into_iter().for_each(Waker::wake);
        }
    }

    impl BlockDevice for Manual {
        fn blocks(&self) -> u64 {
            100
        }
        fn max_request_blocks(&self) -> usize {
            8
        }
        fn read_only(&self) -> bool {
            true
        }
        fn submit(&mut self, request: Request) -> Result<(), Rejected> {
            self.0.lock().taken.push(request);
            Ok(())
        }
        fn poll(&mut self) -> Option<crate::Completion> {
            let Request { tag, buffers, .. } = self.0.lock().done.pop()?;
            Some(crate::Completion { tag, buffers, result: Ok(()) })
        }
        fn wait(&mut self) {}
        fn ready(&mut self, waker: &Waker) -> bool {
            let state = &mut *self.0.lock();
            state.called = Some(waker.clone());
            !state.done.is_empty()
        }
    }

    /// A core: whether it has been woken.
    #[derive(Default)]
    struct Core(AtomicBool);

    impl Wake for Core {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// Each core has a request, asks, sleeps, and asks again when it is woken. Requests complete in every
    /// order, one or several at a time. No core sleeps for ever.
    #[test]
    fn somebody_always_listens() {
        const CORES: u64 = 4;
        for seed in 0..2000 {
            let mut dice = crate::device::fault::Dice::new(seed);
            let device = Manual::default();
            let mut desk = Desk::new(Box::new(device.clone()));
            let cores: Vec<Arc<Core>> = (0..CORES).map(|_| Arc::default()).collect();
            let waker = |core: u64| Waker::from(Arc::clone(&cores[core as usize]));
            for core in 0..CORES {
                let submitted = desk.submit(core, core, 1, &waker(core));
                assert!(matches!(submitted, Submitted::OnItsWay(tag) if tag == core));
                cores[core as usize].0.store(true, Ordering::Relaxed);
            }
            let (mut pending, mut reading): (Vec<u64>, Vec<u64>) =
                ((0..CORES).collect(), (0..CORES).collect());
            while !reading.is_empty() {
                let awake = |core: &u64| cores[*core as usize].0.load(Ordering::Relaxed);
                let awake: Vec<u64> = reading.iter().copied().filter(awake).collect();
                if !pending.is_empty() && (awake.is_empty() || dice.below(3) == 0) {
                    device.complete(pending.swap_remove(dice.below(pending.len() as u64) as usize));
                    continue;
                }
                assert!(!awake.is_empty(), "seed {seed}: all is done, and {reading:?} sleep");
                let core = awake[dice.below(awake.len() as u64) as usize];
                cores[core as usize].0.store(false, Ordering::Relaxed);
                let (outcome, wakes) = desk.outcome(core, &waker(core));
                wakes.wake();
                if let Some(finished) = outcome {
                    reading.retain(|other| *other != core);
                    desk.land(core, finished.buffers).wake();
                }
            }
        }
    }
}
