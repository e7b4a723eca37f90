//! A link that misbehaves, the same way for the same seed.

use super::{Frame, Link, NicStatistics, Offload, Offloads};
use crate::flow::Flow;
use alloc::collections::VecDeque;
use core::time::Duration;

/// How often what happens to a frame, in frames of 65,536; each is decided by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The frame is lost.
    pub lose: u16,
    /// It comes twice.
    pub repeat: u16,
    /// It comes after the next one.
    pub reorder: u16,
    /// One of its bits is flipped.
    pub damage: u16,
}

/// A link on which frames that come have [`Faults`]. Wrap both ends for both directions.
pub struct Faulty<L> {
    below: L,
    faults: Faults,
    state: u64,
    /// Frames that come before the link is asked again.
    ready: VecDeque<Frame>,
    /// A frame that waits for the one after it.
    held: Option<Frame>,
}

impl<L: Link> Faulty<L> {
    /// Wraps a link.
    pub fn new(below: L, faults: Faults, seed: u64) -> Faulty<L> {
        Faulty { below, faults, state: seed, ready: VecDeque::new(), held: None }
    }

    /// Xorshift* (S. Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled").
    fn random(&mut self) -> u64 {
        self.state = self.state.max(1);
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn happens(&mut self, of_65536: u16) -> bool {
        self.random() >> 48 < u64::from(of_65536)
    }

    fn take(&mut self, mut frame: Frame) {
        if self.happens(self.faults.lose) {
            return self.below.recycle(frame);
        }
        if self.happens(self.faults.damage) && !frame.is_empty() {
            // What is damaged has been on a wire, where checksums are complete.
            frame.complete_checksum();
            frame.set_offload(Offload::NONE);
            let bit = self.random() as usize % (frame.len() * 8);
            frame[bit / 8] ^= 1 << (bit % 8);
        }
        if self.happens(self.faults.repeat) {
            self.ready.push_back(frame.clone());
        }
        if self.held.is_none() && self.happens(self.faults.reorder) {
            self.held = Some(frame);
            return;
        }
        self.ready.push_back(frame);
        self.ready.extend(self.held.take());
    }
}

impl<L: Link> Link for Faulty<L> {
    fn address(&self) -> [u8; 6] {
        self.below.address()
    }
    fn max_frame_bytes(&self) -> usize {
        self.below.max_frame_bytes()
    }

    fn offloads(&self) -> Offloads {
        self.below.offloads()
    }
    fn statistics(&self) -> NicStatistics {
        self.below.statistics()
    }

    fn takes(&self, flow: &Flow) -> bool {
        self.below.takes(flow)
    }
    fn receive(&mut self) -> Option<Frame> {
        while self.ready.is_empty() {
            match self.below.receive() {
                Some(frame) => self.take(frame),
                None => return self.held.take(),
            }
        }
        self.ready.pop_front()
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
        if self.ready.is_empty() {
            self.below.wait(timeout);
        }
    }
}
