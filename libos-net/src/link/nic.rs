//! The network card of a unikernel.

use super::{Frame, Link};
use alloc::collections::VecDeque;
use core::time::Duration;
use libos_core::net::{NetError, Nic, NicStatistics, Packet};

/// [`Nic`] as a [`Link`].
pub struct NicLink {
    nic: Nic,
    /// What the card had no room for.
    unsent: VecDeque<Packet>,
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

    /// What the card has counted.
    pub fn statistics(&self) -> NicStatistics {
        self.nic.statistics()
    }

    fn send_unsent(&mut self) {
        while let Some(packet) = self.unsent.pop_front() {
            if let Err(packet) = self.nic.enqueue(packet) {
                self.unsent.push_front(packet);
                return;
            }
        }
    }
}

impl Link for NicLink {
    fn address(&self) -> [u8; 6] {
        self.nic.address().0
    }

    fn receive(&mut self) -> Option<Frame> {
        let (page, bytes) = self.nic.receive()?.into_page();
        Some(Frame::new(page, bytes))
    }

    fn frame(&mut self, bytes: usize) -> Frame {
        let (page, bytes) = self.nic.packet(bytes).into_page();
        Frame::new(page, bytes)
    }

    fn has_room(&mut self) -> bool {
        self.send_unsent();
        self.unsent.is_empty()
    }

    fn send(&mut self, frame: Frame) {
        let (page, bytes) = frame.into_page();
        if let Err(packet) = self.nic.enqueue(Packet::from_page(page, bytes)) {
            self.unsent.push_back(packet);
        }
    }

    fn recycle(&mut self, frame: Frame) {
        let (page, _) = frame.into_page();
        self.nic.recycle(Packet::from_page(page, 0));
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
