//! The network card of a unikernel.

use super::{Cores, Frame, Link, NicStatistics, Offloads};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;
use hyperexo_abi::net::{Destination, ETHER_ARP, ETHER_IPV4, ETHER_IPV6, Fields, Filter};
use libos_core::net::{NetError, Nic};

/// [`Nic`] as a [`Link`].
pub struct NicLink {
    nic: Nic,
    /// What the card had no room for.
    unsent: VecDeque<Frame>,
}

impl NicLink {
    /// Opens the network for what the internet protocols are made of; see [`Nic::open_with`]. What else
    /// neighbours send does not come, and costs them alone.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn open() -> Result<NicLink, NetError> {
        let filter = |destination, ether_type| {
            let fields = Fields { ether_type: Some(ether_type), ..Fields::default() };
            Filter { destination, fields }
        };
        let all = [ETHER_ARP, ETHER_IPV4, ETHER_IPV6]
            .map(|kind| [Destination::Own, Destination::Group].map(|destination| filter(destination, kind)));
        Nic::open_with(all.as_flattened()).map(NicLink::new)
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
        self.wait_or(timeout, &mut || false);
    }

    fn wait_or(&mut self, timeout: Option<Duration>, other: &mut dyn FnMut() -> bool) {
        self.nic.wait_or(!self.unsent.is_empty(), timeout, other);
    }
}

/// Cores of a unikernel that share a link: each sleeps as [`libos_core::time::wait`] has it.
pub struct UnikernelCores {
    /// The machine's number of each core, by its place; the first has the link.
    pub numbers: Vec<u64>,
}

impl Cores for UnikernelCores {
    fn wake(&self, core: usize) {
        // One that was not started has nothing to look at.
        let _ = libos_core::cores::wake(self.numbers[core]);
    }

    fn wait(&self, _: usize, timeout: Option<Duration>, until: &mut dyn FnMut() -> bool) {
        libos_core::time::wait(timeout, until);
    }
}
