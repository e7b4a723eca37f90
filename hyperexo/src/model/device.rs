//! Devices whose every move a test decides.

use crate::device::block::BlockDevice;
use crate::device::net::NetDevice;
use crate::machine::memory::PhysicalMemory;
use hyperexo_abi::FRAME_BYTES;
use hyperexo_abi::net::MacAddress;
use hyperexo_abi::offload::{MAX_LARGE_PACKET_BYTES, Offload, Offloads};
use hyperexo_hw::virtio::block::{Operation, Outcome, QueueFull, SLOTS};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

/// A request that the device has.
#[derive(Clone, Debug)]
pub struct Request {
    slot: usize,
    /// What it is.
    pub operation: Operation,
    /// First block.
    pub block: u64,
    /// A frame for each block.
    pub frames: Vec<u64>,
}

/// What the device has and knows.
pub struct DiskState {
    blocks: Vec<[u8; FRAME_BYTES]>,
    memory: PhysicalMemory,
    free: VecDeque<usize>,
    /// Requests that it works at.
    pub working: VecDeque<Request>,
    done: VecDeque<(usize, Outcome)>,
    /// It refuses writes.
    pub read_only: bool,
}

impl DiskState {
    /// Finishes the oldest request, well or not; returns whether there was one.
    pub fn finish(&mut self, outcome: Outcome) -> bool {
        let Some(request) = self.working.pop_front() else { return false };
        if outcome == Outcome::Done {
            for (block, frame) in (request.block as usize..).zip(&request.frames) {
                match request.operation {
                    Operation::Read => self.memory.write(*frame, 0, &self.blocks[block]),
                    Operation::Write => self.memory.read(*frame, 0, &mut self.blocks[block]),
                    Operation::Flush => {}
                }
            }
        }
        self.done.push_back((request.slot, outcome));
        true
    }

    /// First byte of a block.
    pub fn byte(&self, block: u64) -> u8 {
        self.blocks[block as usize][0]
    }
}

/// A disk, as the kernel has it.
pub struct ModelDisk(Arc<Mutex<DiskState>>);

/// The same disk, as a test has it.
#[derive(Clone)]
pub struct DiskControl(Arc<Mutex<DiskState>>);

impl DiskControl {
    /// The device.
    pub fn state(&self) -> MutexGuard<'_, DiskState> {
        self.0.lock().unwrap()
    }
}

/// A disk of so many blocks; block `n` is full of byte `n`.
pub fn disk(blocks: u64, memory: PhysicalMemory) -> (ModelDisk, DiskControl) {
    let state = DiskState {
        blocks: (0..blocks).map(|block| [block as u8; FRAME_BYTES]).collect(),
        memory,
        free: (0..SLOTS).collect(),
        working: VecDeque::new(),
        done: VecDeque::new(),
        read_only: false,
    };
    let shared = Arc::new(Mutex::new(state));
    (ModelDisk(shared.clone()), DiskControl(shared))
}

impl BlockDevice for ModelDisk {
    fn blocks(&self) -> u64 {
        self.0.lock().unwrap().blocks.len() as u64
    }
    fn read_only(&self) -> bool {
        self.0.lock().unwrap().read_only
    }
    fn can_flush(&self) -> bool {
        true
    }
    fn in_flight(&self) -> usize {
        SLOTS - self.0.lock().unwrap().free.len()
    }
    fn notify(&mut self) -> bool {
        false
    }
    unsafe fn submit(
        &mut self,
        operation: Operation,
        block: u64,
        frames: &[u64],
    ) -> Result<usize, QueueFull> {
        let mut state = self.0.lock().unwrap();
        let slot = state.free.pop_front().ok_or(QueueFull)?;
        assert!(block as usize + frames.len() <= state.blocks.len(), "the kernel checks the end of the disk");
        state.working.push_back(Request { slot, operation, block, frames: frames.to_vec() });
        Ok(slot)
    }
    fn complete(&mut self) -> Option<(usize, Outcome)> {
        let mut state = self.0.lock().unwrap();
        let (slot, outcome) = state.done.pop_front()?;
        state.free.push_back(slot);
        Some((slot, outcome))
    }
}

/// What is beyond the network device.
#[derive(Default)]
pub struct NetState {
    /// Packets on their way to this machine, and what the device says of them.
    pub inbox: VecDeque<(Vec<u8>, Offload)>,
    /// Packets that have left it.
    pub outbox: Vec<Vec<u8>>,
    /// What was left to it for each of those.
    pub left: Vec<Offload>,
    /// What it does.
    pub offloads: Offloads,
    /// The device takes no more.
    pub full: bool,
}

/// A network device, as the kernel has it.
pub struct ModelNet(Arc<Mutex<NetState>>, Vec<u8>);

/// The same device, as a test has it.
#[derive(Clone)]
pub struct NetControl(Arc<Mutex<NetState>>);

impl NetControl {
    /// The device.
    pub fn state(&self) -> MutexGuard<'_, NetState> {
        self.0.lock().unwrap()
    }
}

/// A network device.
pub fn net() -> (ModelNet, NetControl) {
    let shared = Arc::new(Mutex::new(NetState::default()));
    (ModelNet(shared.clone(), vec![0; MAX_LARGE_PACKET_BYTES]), NetControl(shared))
}

impl NetDevice for ModelNet {
    fn address(&self) -> MacAddress {
        MacAddress::LOOPBACK
    }
    fn has_room(&mut self) -> bool {
        !self.0.lock().unwrap().full
    }
    fn offloads(&self) -> Offloads {
        self.0.lock().unwrap().offloads
    }
    fn stage(&mut self) -> bool {
        self.has_room()
    }
    fn send(&mut self, bytes: usize, offload: Offload) {
        let mut state = self.0.lock().unwrap();
        state.outbox.push(self.1[..bytes].to_vec());
        state.left.push(offload);
    }
    fn receive(&mut self) -> Option<(usize, Offload)> {
        let (bytes, offload) = self.0.lock().unwrap().inbox.pop_front()?;
        self.1[..bytes.len()].copy_from_slice(&bytes);
        Some((bytes.len(), offload))
    }
    fn packet(&mut self) -> &mut [u8] {
        &mut self.1
    }
}
