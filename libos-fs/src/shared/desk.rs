//! Requests on their way: who asked, who waits, and who listens to the device for all.
//!
//! Everything here is done under one lock, in a time that does not depend on the device. A core that must
//! wait leaves a [`Waker`] and sleeps without the lock. One of the cores with a request on its way is the
//! *listener*: the device calls it when any owner's request is done, and it wakes that owner. When its own
//! request is done, another core becomes the listener.
//!
//! A request of read-ahead has no owner. Who collects its completion puts its blocks into staging; who wants
//! one of its blocks before becomes its owner.
//!
//! Invariant: if an owner sleeps, there is a listener whose request has not landed. The listener is awake,
//! has been woken, or will be called by the device.

use super::dirty::{Dirty, Placed};
use super::frames::Frames;
use super::staging::Staging;
use crate::device::{
    BlockDevice, DeviceError, Finished, Operation, Rejected, Rejection, Request, zeroed_page,
};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;
use core::task::Waker;
use hyperexo_abi::Page;

/// The device, what is on its way, and what is neither in the cache nor on the device.
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
    /// Frames that hold no block of the index, of those that have been used. The next block goes there.
    vacant: Vec<usize>,
    /// Frames below have been used.
    used: usize,
    /// Blocks that were read ahead.
    pub(super) staging: Staging,
    /// Blocks that are to be written.
    pub(super) dirty: Dirty,
    /// Blocks that have come into the cache.
    pub(super) misses: u64,
    /// Blocks of files that were read, and of these, blocks that left staging without having been used.
    pub(super) blocks_read: u64,
    pub(super) staged_wasted: u64,
}

/// What a request is for.
pub(super) enum Purpose {
    /// It reads blocks of the cache, adjacent from this one on, with these checksums if they are known.
    Fetch { block: u64, checksums: Option<Vec<u32>> },
    /// It writes these blocks of the cache.
    Write(Vec<Placed>),
    /// It concerns no block of the cache.
    Metadata,
}

/// A request, from its submission until its blocks are where they belong.
struct Flight {
    purpose: Purpose,
    count: u64,
    /// Of these, blocks that go to staging.
    ahead: u64,
    /// Whether somebody waits for its outcome, or will.
    owned: bool,
    /// Who, while asleep.
    owner: Option<Waker>,
    /// Other cores that want one of its blocks.
    others: Vec<Waker>,
    finished: Option<Finished>,
}

impl Flight {
    fn has(&self, blocks: &Range<u64>) -> bool {
        match &self.purpose {
            Purpose::Fetch { block, .. } => *block < blocks.end && blocks.start < block + self.count,
            Purpose::Write(placed) => placed.iter().any(|placed| blocks.contains(&placed.block)),
            Purpose::Metadata => false,
        }
    }
}

/// A request that is to be submitted.
pub(super) struct Wish {
    pub(super) operation: Operation,
    /// First block on the device.
    pub(super) disk: u64,
    pub(super) buffers: Vec<Box<Page>>,
    pub(super) purpose: Purpose,
    /// Blocks of it that go to staging.
    pub(super) ahead: u64,
    /// Whether somebody will ask for its outcome.
    pub(super) owned: bool,
}

/// What came of the wish to submit a request.
pub(super) enum Submitted {
    /// It is on its way, under this tag.
    OnItsWay(u64),
    /// The queue is full, after so many completions.
    Full {
        /// As [`Desk::completions`] says now.
        completions: u64,
        /// The buffers are given back.
        buffers: Vec<Box<Page>>,
    },
    /// It will never be taken.
    Refused(DeviceError, Vec<Box<Page>>),
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
    /// Nothing on its way, for a cache of so many blocks.
    pub(super) fn new(device: Box<dyn BlockDevice + Send>, capacity: usize) -> Desk {
        Desk {
            device,
            flights: BTreeMap::new(),
            listener: None,
            in_line: Vec::new(),
            next_tag: 0,
            completions: 0,
            pages: Vec::new(),
            vacant: Vec::new(),
            used: 0,
            staging: Staging::new(capacity),
            dirty: Dirty::default(),
            misses: 0,
            blocks_read: 0,
            staged_wasted: 0,
        }
    }

    /// The device. Nothing is on its way.
    pub(super) fn into_device(self) -> Box<dyn BlockDevice + Send> {
        self.device
    }

    /// A request that has one of these blocks on its way.
    pub(super) fn on_its_way(&self, blocks: Range<u64>) -> Option<u64> {
        self.flights.iter().find(|(_, flight)| flight.has(&blocks)).map(|(tag, _)| *tag)
    }

    /// Whether a block is on its way.
    pub(super) fn is_on_its_way(&self, block: u64) -> bool {
        self.on_its_way(block..block + 1).is_some()
    }

    /// Blocks on their way to staging.
    pub(super) fn on_their_way_ahead(&self) -> u64 {
        self.flights.values().map(|flight| flight.ahead).sum()
    }

    /// A request on its way that writes blocks of the cache.
    pub(super) fn any_write(&self) -> Option<u64> {
        let writes = |flight: &Flight| matches!(flight.purpose, Purpose::Write(_));
        self.flights.iter().find(|(_, flight)| writes(flight)).map(|(tag, _)| *tag)
    }

    /// A request that has no owner.
    pub(super) fn any_unowned(&self) -> Option<u64> {
        self.flights.iter().find(|(_, flight)| !flight.owned).map(|(tag, _)| *tag)
    }

    /// Makes the caller the owner of a request that has none. `false` if it has one, or has landed.
    pub(super) fn adopt(&mut self, tag: u64) -> bool {
        let flight = self.flights.get_mut(&tag);
        flight.is_some_and(|flight| !core::mem::replace(&mut flight.owned, true))
    }

    /// Adds a core to those that are woken when a request has landed.
    pub(super) fn join(&mut self, tag: u64, waker: Waker) {
        if let Some(flight) = self.flights.get_mut(&tag) {
            flight.others.push(waker);
        }
    }

    /// Adds a core to those that are woken when a request has ended. Somebody listens: no request is without
    /// owner.
    pub(super) fn stand_in_line(&mut self, waker: Waker) {
        self.in_line.push(waker);
    }

    /// Whether the blocks of a request are in the cache, or never will be by it.
    pub(super) fn has_landed(&self, tag: u64) -> bool {
        !self.flights.contains_key(&tag)
    }

    /// A buffer for a request.
    pub(super) fn page(&mut self) -> Box<Page> {
        self.pages.pop().unwrap_or_else(zeroed_page)
    }

    /// A buffer that is not needed any more.
    pub(super) fn give_back(&mut self, pages: impl IntoIterator<Item = Box<Page>>) {
        self.pages.extend(pages);
    }

    /// Starts a request.
    pub(super) fn submit(&mut self, wish: Wish) -> Submitted {
        let Wish { operation, disk, buffers, purpose, ahead, owned } = wish;
        let (tag, count) = (self.next_tag, buffers.len() as u64);
        let request = Request { tag, operation, block: disk, buffers };
        let Err(Rejected { request: Request { buffers, .. }, reason }) = self.device.submit(request) else {
            self.next_tag += 1;
            let (owner, others, finished) = Default::default();
            self.flights.insert(tag, Flight { purpose, count, ahead, owned, owner, others, finished });
            return Submitted::OnItsWay(tag);
        };
        match reason {
            Rejection::Refused(error) => Submitted::Refused(error, buffers),
            Rejection::QueueFull if self.flights.values().all(|flight| flight.finished.is_some()) => {
                // Full with nothing in flight: it will never have room.
                Submitted::Refused(DeviceError::Io, buffers)
            }
            Rejection::QueueFull => Submitted::Full { completions: self.completions, buffers },
        }
    }

    /// The outcome of a request, if it has ended; if not, its owner is to sleep, and will be woken by
    /// `waker`. Asked again after every wake.
    pub(super) fn outcome(&mut self, tag: u64, waker: &Waker) -> (Option<Finished>, Wakes) {
        let mut wakes = Wakes::default();
        loop {
            self.collect_for(Some(tag), &mut wakes);
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

    /// Takes what the device has done.
    pub(super) fn collect(&mut self) -> Wakes {
        let mut wakes = Wakes::default();
        self.collect_for(None, &mut wakes);
        wakes
    }

    /// Takes what the device has done, for the owner of a request; others whose requests have ended are to
    /// be woken.
    fn collect_for(&mut self, own: Option<u64>, wakes: &mut Wakes) {
        while let Some(completion) = self.device.poll() {
            self.completions += 1;
            wakes.0.append(&mut self.in_line);
            let tag = completion.tag;
            let finished = Finished { buffers: completion.buffers, result: completion.result };
            match self.flights.get_mut(&tag) {
                Some(flight) if flight.owned => {
                    wakes.0.extend(flight.owner.take().filter(|_| Some(tag) != own));
                    flight.finished = Some(finished);
                }
                Some(_) => wakes.0.extend(self.stage(tag, finished).0),
                None => {}
            }
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

    /// The blocks of a request are where they belong, or never will be by it. Its buffers serve others.
    pub(super) fn land(&mut self, tag: u64, buffers: Vec<Box<Page>>) -> Wakes {
        self.pages.extend(buffers);
        Wakes(self.flights.remove(&tag).map(|flight| flight.others).unwrap_or_default())
    }

    /// The same for a request of read-ahead: its blocks go to staging, if it has not failed. A failure is
    /// found out again by who asks for a block.
    pub(super) fn stage(&mut self, tag: u64, finished: Finished) -> Wakes {
        let Some(flight) = self.flights.remove(&tag) else { return Wakes::default() };
        let complete = finished.result.is_ok() && finished.buffers.len() as u64 == flight.count;
        match flight.purpose {
            Purpose::Fetch { block, checksums } if complete => {
                self.put_in_staging(block, finished.buffers, checksums.as_deref());
                // Half-way through what was read ahead is the time to read on.
                self.staging.set_goes_on(block + flight.count / 2, block + flight.count);
                self.blocks_read += flight.count;
            }
            _ => self.pages.extend(finished.buffers),
        }
        Wakes(flight.others)
    }

    /// Puts blocks into staging that have been read, with the checksums that they must have.
    pub(super) fn put_in_staging(&mut self, block: u64, pages: Vec<Box<Page>>, sums: Option<&[u32]>) {
        for (position, page) in pages.into_iter().enumerate() {
            let sum = sums.and_then(|sums| sums.get(position).copied());
            self.staging.put(block + position as u64, page, sum, self.misses);
        }
    }

    /// Fills a frame that nobody reads with a block, and returns its number.
    pub(super) fn fill_vacant(&mut self, frames: &Frames, block: u64, page: &Page) -> usize {
        loop {
            let filled = (0..self.vacant.len()).rev().find(|at| frames.fill(self.vacant[*at], block, page));
            if let Some(at) = filled {
                return self.vacant.swap_remove(at);
            }
            if self.used < frames.count() {
                self.used += 1;
                self.vacant.push(self.used - 1);
            }
            // Else more cores than there are spare frames stopped while they read: one of them goes on.
        }
    }

    /// A frame holds no block any more.
    pub(super) fn vacate(&mut self, frame: usize) {
        self.vacant.push(frame);
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

    fn fetch(block: u64, owned: bool) -> Wish {
        let (operation, buffers) = (Operation::Read, Vec::from([zeroed_page()]));
        let purpose = Purpose::Fetch { block, checksums: None };
        Wish { operation, disk: block, buffers, purpose, ahead: u64::from(!owned), owned }
    }

    #[test]
    fn what_nobody_waits_for_is_staged() {
        let device = Manual::default();
        let mut desk = Desk::new(Box::new(device.clone()), 64);
        for block in 0..2 {
            assert!(matches!(desk.submit(fetch(block, false)), Submitted::OnItsWay(_)));
        }
        assert_eq!((desk.on_their_way_ahead(), desk.on_its_way(1..9)), (2, Some(1)));
        device.complete(0);
        desk.collect().wake();
        assert!(desk.staging.contains(0) && desk.has_landed(0) && !desk.adopt(0));
        assert!(desk.adopt(1) && !desk.adopt(1) && desk.any_unowned().is_none());
        let core: Arc<Core> = Arc::default();
        assert!(desk.outcome(1, &Waker::from(Arc::clone(&core))).0.is_none());
        device.complete(1);
        assert!(core.0.load(Ordering::Relaxed));
        let finished = desk.outcome(1, &Waker::from(Arc::clone(&core))).0.expect("it has ended");
        desk.stage(1, finished).wake();
        assert!(desk.staging.contains(1) && desk.on_its_way(0..9).is_none());
    }

    /// Each core has a request, asks, sleeps, and asks again when it is woken. Requests complete in every
    /// order, one or several at a time. No core sleeps for ever.
    #[test]
    fn somebody_always_listens() {
        const CORES: u64 = 4;
        for seed in 0..2000 {
            let mut dice = crate::device::fault::Dice::new(seed);
            let device = Manual::default();
            let mut desk = Desk::new(Box::new(device.clone()), 64);
            let cores: Vec<Arc<Core>> = (0..CORES).map(|_| Arc::default()).collect();
            let waker = |core: u64| Waker::from(Arc::clone(&cores[core as usize]));
            for core in 0..CORES {
                let submitted = desk.submit(fetch(core, true));
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
