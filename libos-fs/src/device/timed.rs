//! A disk whose time is calculated: what a program would have waited, without waiting.

use super::{BlockDevice, Completion, EndRequest, Operation, Rejected, Rejection, Request};
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::sync::Arc;
use core::cell::Cell;
use core::task::Waker;

/// A clock that moves only by calls of its methods. Clones are the same clock.
#[derive(Clone, Debug, Default)]
pub struct SimulatedClock(Rc<Cell<u64>>);

impl SimulatedClock {
    /// Nanoseconds since the start.
    pub fn now_ns(&self) -> u64 {
        self.0.get()
    }

    /// Time passes: a program computes.
    pub fn advance(&self, ns: u64) {
        self.0.set(self.0.get().saturating_add(ns));
    }

    fn advance_to(&self, ns: u64) {
        self.0.set(self.0.get().max(ns));
    }
}

/// How long a disk takes. There are no seeks: a request costs the same wherever it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskTime {
    /// For each request, in nanoseconds.
    pub request_ns: u64,
    /// For each of its blocks, in nanoseconds.
    pub block_ns: u64,
}

impl DiskTime {
    /// Time for a request of so many blocks.
    pub fn of(self, blocks: u64) -> u64 {
        self.request_ns.saturating_add(self.block_ns.saturating_mul(blocks))
    }
}

/// A device that serves one request after the other, each in the time that [`DiskTime`] says, on a
/// [`SimulatedClock`]. Waiting for it moves the clock.
pub struct TimedDisk<D> {
    below: D,
    time: DiskTime,
    clock: SimulatedClock,
    /// When it has served all it was given.
    busy_until_ns: u64,
    /// When each will be served, and what is then handed back.
    held: VecDeque<(u64, Completion)>,
    queue_depth: usize,
}

impl<D: BlockDevice> TimedDisk<D> {
    /// Wraps a device that completes requests at once. At most `queue_depth` are taken at a time.
    pub fn new(below: D, time: DiskTime, clock: SimulatedClock, queue_depth: usize) -> TimedDisk<D> {
        TimedDisk {
            below,
            time,
            clock,
            busy_until_ns: 0,
            held: VecDeque::new(),
            queue_depth: queue_depth.max(1),
        }
    }
}

impl<D: BlockDevice> BlockDevice for TimedDisk<D> {
    fn blocks(&self) -> u64 {
        self.below.blocks()
    }
    fn max_request_blocks(&self) -> usize {
        self.below.max_request_blocks()
    }
    fn read_only(&self) -> bool {
        self.below.read_only()
    }

    fn submit(&mut self, request: Request) -> Result<(), Rejected> {
        if self.held.len() >= self.queue_depth {
            return Err(Rejected { request, reason: Rejection::QueueFull });
        }
        let blocks = match request.operation {
            Operation::Flush => 0,
            _ => request.buffers.len() as u64,
        };
        self.below.submit(request)?;
        self.busy_until_ns = self.busy_until_ns.max(self.clock.now_ns()).saturating_add(self.time.of(blocks));
        while let Some(completion) = self.below.poll() {
            self.held.push_back((self.busy_until_ns, completion));
        }
        Ok(())
    }

    fn poll(&mut self) -> Option<Completion> {
        let (served_ns, _) = self.held.front()?;
        if *served_ns > self.clock.now_ns() {
            return None;
        }
        self.held.pop_front().map(|(_, completion)| completion)
    }

    fn wait(&mut self) {
        if let Some((served_ns, _)) = self.held.front() {
            self.clock.advance_to(*served_ns);
        }
    }

    /// To be asked counts as waiting, and moves the clock.
    fn ready(&mut self, _: &Waker) -> bool {
        self.wait();
        true
    }

    fn reference_log(&self) -> Option<fn(&str)> {
        self.below.reference_log()
    }

    fn end_request(&self) -> Option<Arc<dyn EndRequest>> {
        self.below.end_request()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{RamDisk, zeroed_page};
    use alloc::vec::Vec;

    #[test]
    fn requests_are_served_in_order_and_time_passes_only_by_waiting_or_computing() {
        let clock = SimulatedClock::default();
        let time = DiskTime { request_ns: 100, block_ns: 10 };
        let mut disk = TimedDisk::new(RamDisk::new(50), time, clock.clone(), 2);
        let request = |tag, blocks| {
            let buffers = (0..blocks).map(|_| zeroed_page()).collect::<Vec<_>>();
            Request { tag, operation: Operation::Read, block: 0, buffers }
        };
        assert!(disk.submit(request(1, 1)).is_ok() && disk.submit(request(2, 5)).is_ok());
        assert!(matches!(disk.submit(request(3, 1)), Err(Rejected { reason: Rejection::QueueFull, .. })));
        assert!(disk.poll().is_none());
        clock.advance(109);
        assert!(disk.poll().is_none());
        disk.wait();
        assert_eq!(clock.now_ns(), 110);
        assert_eq!(disk.poll().map(|done| done.tag), Some(1));
        disk.wait();
        assert_eq!((clock.now_ns(), disk.poll().map(|done| done.tag)), (260, Some(2)));
        // An idle disk starts when it is asked.
        clock.advance(740);
        assert!(disk.submit(request(4, 2)).is_ok());
        disk.wait();
        assert_eq!((clock.now_ns(), disk.poll().map(|done| done.tag)), (1120, Some(4)));
        disk.wait();
        assert_eq!(clock.now_ns(), 1120);
    }
}
