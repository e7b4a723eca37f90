//! A wire in memory.

use super::{Frame, Link, Offloads};
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use core::cell::RefCell;
use core::time::Duration;

type Queue = Rc<RefCell<VecDeque<Frame>>>;

/// One end of a wire between two stacks of one program. Frames that the other end does not take are kept up
/// to a number, then there is no room.
pub struct Wire {
    address: [u8; 6],
    incoming: Queue,
    outgoing: Queue,
    capacity: usize,
    offloads: Offloads,
}

/// A wire that holds at most `capacity` frames in each direction. Its ends have the hardware addresses
/// 02:00:00:00:00:01 and 02:00:00:00:00:02.
pub fn wire(capacity: usize) -> (Wire, Wire) {
    let (one, two) = (Queue::default(), Queue::default());
    let end = |last, incoming: &Queue, outgoing: &Queue| Wire {
        address: [2, 0, 0, 0, 0, last],
        incoming: Rc::clone(incoming),
        outgoing: Rc::clone(outgoing),
        capacity: capacity.max(1),
        offloads: Offloads::NONE,
    };
    (end(1, &one, &two), end(2, &two, &one))
}

impl Wire {
    /// This end leaves work to the other one: frames arrive there as they were sent, with checksums that are
    /// not complete, and not cut into segments.
    pub fn with_offloads(mut self, offloads: Offloads) -> Wire {
        self.offloads = offloads;
        self
    }
}

impl Link for Wire {
    fn address(&self) -> [u8; 6] {
        self.address
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn receive(&mut self) -> Option<Frame> {
        self.incoming.borrow_mut().pop_front()
    }

    fn has_room(&mut self) -> bool {
        self.outgoing.borrow().len() < self.capacity
    }

    fn send(&mut self, mut frame: Frame) {
        if !self.offloads.contains(Offloads::CHECKSUM) {
            frame.complete_checksum();
        }
        self.outgoing.borrow_mut().push_back(frame);
    }

    /// Returns at once: nobody else runs in this program.
    fn wait(&mut self, _: Option<Duration>) {}
}
