//! A wire that takes its time.

use super::now_ns;
use libos_net::link::{Frame, Link};
use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

/// When the next frame arrives anywhere, in nanoseconds.
pub type Arrivals = Rc<Cell<Option<u64>>>;

/// A link on which frames that come have been on their way for a time, and come one after the other.
pub struct Slow<L> {
    below: L,
    delay_ns: u64,
    ns_a_byte: u64,
    max_frame_bytes: usize,
    coming: VecDeque<(u64, Frame)>,
    free_ns: u64,
    arrivals: Arrivals,
}

impl<L: Link> Slow<L> {
    pub fn new(
        below: L,
        delay_ns: u64,
        ns_a_byte: u64,
        max_frame_bytes: usize,
        arrivals: Arrivals,
    ) -> Slow<L> {
        Slow { below, delay_ns, ns_a_byte, max_frame_bytes, coming: VecDeque::new(), free_ns: 0, arrivals }
    }

    fn take(&mut self) {
        while let Some(frame) = self.below.receive() {
            self.free_ns = self.free_ns.max(now_ns()) + self.ns_a_byte * frame.len() as u64;
            self.coming.push_back((self.free_ns + self.delay_ns, frame));
        }
        if let Some((at_ns, _)) = self.coming.front() {
            let earlier = self.arrivals.get().filter(|ns| *ns > now_ns() && ns < at_ns);
            self.arrivals.set(earlier.or(Some(*at_ns)));
        }
    }
}

impl<L: Link> Link for Slow<L> {
    fn address(&self) -> [u8; 6] {
        self.below.address()
    }
    fn max_frame_bytes(&self) -> usize {
        self.max_frame_bytes
    }
    fn receive(&mut self) -> Option<Frame> {
        self.take();
        let arrived = self.coming.front().is_some_and(|(at_ns, _)| *at_ns <= now_ns());
        let frame = self.coming.pop_front_if(|_| arrived).map(|(_, frame)| frame);
        self.take();
        frame
    }
    fn has_room(&mut self) -> bool {
        self.below.has_room()
    }
    fn send(&mut self, frame: Frame) {
        assert!(frame.len() <= self.max_frame_bytes, "a frame of {} bytes", frame.len());
        self.below.send(frame);
    }
    fn wait(&mut self, _: Option<Duration>) {}
}
