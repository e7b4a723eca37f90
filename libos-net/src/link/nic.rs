//! The network card of a unikernel.

use super::{Frame, Link, NicStatistics, Offloads};
use alloc::collections::VecDeque;
use core::time::Duration;
use libos_core::net::{NetError, Nic};

/// [`Nic`] as a [`Link`].
pub struct NicLink {
    nic: Nic,
    /// What the card had no room for.
    unsent: VecDeque<Frame>,
}

impl NicLink {
    /// Opens the network; see [`Nic::open`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn open() -> Result<NicLink, NetError> {
        Nic::open().map(NicLink::new)
    }

    /// A card that is open.
    pub fn new(nic: Nic) -> NicLink {
        NicLink { nic, unsent: VecDeque::new() }
    }

    /// The same, looking for frames so often before it sleeps: see [`Nic::set_looks`].
    pub fn with_looks(mut self, looks: u32) -> NicLink {
        self.nic.set_looks(looks);
        self
    }

    fn send_unsent(&mut self) {
        while let Some(frame) = self.unsent.pop_front() {
            if let Err(frame) = self.nic.enqueue(frame) {
                self.unsent.push_front(frame);
                return;
            }
        }
    }
}

impl Link for NicLink {
    fn address(&self) -> [u8; 6] {
        self.nic.address().0
    }

    fn offloads(&self) -> Offloads {
        self.nic.offloads()
    }

    fn statistics(&self) -> NicStatistics {
        self.nic.statistics()
    }

    fn receive(&mut self) -> Option<Frame> {
        self.nic.receive()
    }

    fn frame(&mut self, bytes: usize) -> Frame {
        self.nic.packet(bytes)
    }

    fn has_room(&mut self) -> bool {
        self.send_unsent();
        self.unsent.is_empty()
    }

    fn send(&mut self, frame: Frame) {
        if let Err(frame) = self.nic.enqueue(frame) {
            self.unsent.push_back(frame);
        }
    }

    fn recycle(&mut self, frame: Frame) {
        self.nic.recycle(frame);
    }

    fn flush(&mut self) {
        self.send_unsent();
        self.nic.kick();
    }

    fn wait(&mut self, timeout: Option<Duration>) {
        if self.unsent.is_empty() {
            self.nic.wait(timeout);
        } else {
            self.nic.wait_for_room(timeout);
        }
    }
}
