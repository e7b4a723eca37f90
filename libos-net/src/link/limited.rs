//! A link for shorter frames than it carries.

use super::{Frame, Link, NicStatistics, Offloads};
use alloc::boxed::Box;
use core::time::Duration;

/// A link that says it carries only frames of so many bytes.
pub(crate) struct Limited {
    below: Box<dyn Link>,
    max_frame_bytes: usize,
}

impl Limited {
    /// Limits a link. One that carries less stays as it is.
    pub(crate) fn new(below: Box<dyn Link>, max_frame_bytes: usize) -> Limited {
        Limited { below, max_frame_bytes }
    }
}

impl Link for Limited {
    fn address(&self) -> [u8; 6] {
        self.below.address()
    }
    fn max_frame_bytes(&self) -> usize {
        self.below.max_frame_bytes().min(self.max_frame_bytes)
    }
    fn offloads(&self) -> Offloads {
        self.below.offloads()
    }
    fn statistics(&self) -> NicStatistics {
        self.below.statistics()
    }
    fn receive(&mut self) -> Option<Frame> {
        self.below.receive()
    }
    fn frame(&mut self, bytes: usize) -> Frame {
        self.below.frame(bytes)
    }
    fn has_room(&mut self) -> bool {
        self.below.has_room()
    }
    fn send(&mut self, frame: Frame) {
        self.below.send(frame);
    }
    fn recycle(&mut self, frame: Frame) {
        self.below.recycle(frame);
    }
    fn flush(&mut self) {
        self.below.flush();
    }
    fn wait(&mut self, timeout: Option<Duration>) {
        self.below.wait(timeout);
    }
}
