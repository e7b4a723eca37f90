//! A disk that works in a thread of its own, with a short queue, and completes requests late and out of
//! order.

use libos_fs::device::fault::Dice;
use libos_fs::{BLOCK_BYTES, BlockDevice, Completion, DeviceError, Operation, Rejected, Rejection, Request};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::Waker;

/// Requests in flight at most.
const DEPTH: usize = 3;
/// No block has this number.
pub const NOTHING: u64 = u64::MAX;

/// What a test sees of the disk.
#[derive(Default)]
pub struct Control {
    /// Blocks of reads that succeeded.
    pub blocks_read: AtomicU64,
    /// Blocks of writes that succeeded.
    pub blocks_written: AtomicU64,
    /// As long as it is set, writes fail.
    pub fails_writes: AtomicBool,
    /// The contents.
    pub bytes: Mutex<Vec<u8>>,
    /// Requests with this block fail.
    pub broken: AtomicU64,
    /// As long as it is set, nothing completes.
    pub stopped: AtomicBool,
    done: Mutex<(VecDeque<Completion>, Option<Waker>)>,
}

pub struct SlowDisk {
    blocks: u64,
    in_flight: usize,
    requests: Sender<Request>,
    control: Arc<Control>,
}

impl SlowDisk {
    pub fn new(bytes: Vec<u8>) -> (SlowDisk, Arc<Control>) {
        let blocks = (bytes.len() / BLOCK_BYTES) as u64;
        let (broken, bytes) = (AtomicU64::new(NOTHING), Mutex::new(bytes));
        let control = Arc::new(Control { broken, bytes, ..Control::default() });
        let (requests, taken) = channel();
        let at_work = Arc::clone(&control);
        std::thread::spawn(move || work(&taken, &at_work));
        (SlowDisk { blocks, in_flight: 0, requests, control: Arc::clone(&control) }, control)
    }
}

/// The life of the disk, until nobody can ask it for anything.
fn work(requests: &Receiver<Request>, control: &Control) {
    let mut dice = Dice::new(3);
    while let Ok(first) = requests.recv() {
        while control.stopped.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        if dice.below(2) == 0 {
            std::thread::yield_now();
        }
        let mut batch: Vec<Request> = std::iter::once(first).chain(requests.try_iter()).collect();
        while !batch.is_empty() {
            let completion = answer(batch.swap_remove(dice.below(batch.len() as u64) as usize), control);
            let waker = {
                let mut done = control.done.lock().unwrap();
                done.0.push_back(completion);
                done.1.take()
            };
            waker.into_iter().for_each(Waker::wake);
        }
    }
}

fn answer(mut request: Request, control: &Control) -> Completion {
    let blocks = request.block..request.block + request.buffers.len() as u64;
    let write = request.operation == Operation::Write;
    let fails = write && control.fails_writes.load(Ordering::SeqCst);
    let mut result = Err(DeviceError::Io);
    if !fails && !blocks.contains(&control.broken.load(Ordering::SeqCst)) {
        let mut bytes = control.bytes.lock().unwrap();
        for (block, buffer) in blocks.zip(&mut request.buffers) {
            let there = &mut bytes[block as usize * BLOCK_BYTES..][..BLOCK_BYTES];
            if write {
                there.copy_from_slice(&buffer.0);
                control.blocks_written.fetch_add(1, Ordering::SeqCst);
            } else {
                buffer.0.copy_from_slice(there);
                control.blocks_read.fetch_add(1, Ordering::SeqCst);
            }
        }
        result = Ok(());
    }
    Completion { tag: request.tag, buffers: request.buffers, result }
}

impl BlockDevice for SlowDisk {
    fn blocks(&self) -> u64 {
        self.blocks
    }

    fn max_request_blocks(&self) -> usize {
        8
    }

    fn read_only(&self) -> bool {
        false
    }

    fn submit(&mut self, request: Request) -> Result<(), Rejected> {
        if self.in_flight == DEPTH {
            return Err(Rejected { request, reason: Rejection::QueueFull });
        }
        self.in_flight += 1;
        self.requests.send(request).unwrap();
        Ok(())
    }

    fn poll(&mut self) -> Option<Completion> {
        let completion = self.control.done.lock().unwrap().0.pop_front()?;
        self.in_flight -= 1;
        Some(completion)
    }

    fn wait(&mut self) {
        while self.in_flight > 0 && self.control.done.lock().unwrap().0.is_empty() {
            std::thread::yield_now();
        }
    }

    fn ready(&mut self, waker: &Waker) -> bool {
        let mut done = self.control.done.lock().unwrap();
        if done.0.is_empty() {
            done.1 = Some(waker.clone());
        }
        !done.0.is_empty()
    }
}
