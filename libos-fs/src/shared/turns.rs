//! One disk for volumes on several cores, which nobody changes: each core mounts one of its own.

use super::Sleep;
use crate::device::{BlockDevice, Completion, EndRequest, Rejected, Request};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::task::Waker;
use spin::{Mutex, MutexGuard};

/// A disk that cores use in turns: a request is waited for when it is submitted, and who comes meanwhile
/// sleeps. It refuses writes, as no core would see those of another. Clones are the same disk.
///
/// For caches that mostly hit. Where cores miss often, [`SharedVolume`](crate::SharedVolume) keeps several
/// requests on their way, and reads what two cores want once.
pub struct Turns<D, S> {
    shared: Arc<Shared<D, S>>,
    done: VecDeque<Completion>,
}

struct Shared<D, S> {
    device: Mutex<D>,
    sleep: S,
    /// Who waits for a turn.
    waiting: Mutex<Vec<Waker>>,
}

impl<D, S> Clone for Turns<D, S> {
    fn clone(&self) -> Self {
        Turns { shared: Arc::clone(&self.shared), done: VecDeque::new() }
    }
}

impl<D: BlockDevice, S: Sleep> Turns<D, S> {
    /// A disk for several cores, which sleep by `sleep`.
    pub fn new(device: D, sleep: S) -> Turns<D, S> {
        let (device, waiting) = (Mutex::new(device), Mutex::default());
        Turns { shared: Arc::new(Shared { device, sleep, waiting }), done: VecDeque::new() }
    }

    /// The device, as soon as it is this core's turn; then others are woken.
    fn in_turn<R>(&self, act: impl FnOnce(&mut D) -> R) -> R {
        let shared = &*self.shared;
        let waker = shared.sleep.waker();
        let mut turn: Option<MutexGuard<'_, D>> = None;
        shared.sleep.sleep_until(&mut || {
            // The wish comes before the look: who ends a turn in between sees it.
            shared.waiting.lock().push(waker.clone());
            turn = shared.device.try_lock();
            turn.is_some()
        });
        let result = turn.map(|mut device| act(&mut device));
        let waiting = core::mem::take(&mut *shared.waiting.lock());
        waiting.into_iter().filter(|other| !other.will_wake(&waker)).for_each(Waker::wake);
        result.expect("the sleep ends with the device")
    }
}

impl<D: BlockDevice, S: Sleep> BlockDevice for Turns<D, S> {
    fn blocks(&self) -> u64 {
        self.in_turn(|device| device.blocks())
    }
    fn max_request_blocks(&self) -> usize {
        self.in_turn(|device| device.max_request_blocks())
    }
    fn read_only(&self) -> bool {
        true
    }
    fn submit(&mut self, request: Request) -> Result<(), Rejected> {
        let tag = request.tag;
        let done = self.in_turn(|device| {
            device.submit(request)?;
            loop {
                // What was given up comes too late for whoever wanted it.
                match device.poll() {
                    Some(done) if done.tag == tag => return Ok(done),
                    Some(_) => {}
                    None => device.wait(),
                }
            }
        })?;
        self.done.push_back(done);
        Ok(())
    }
    fn poll(&mut self) -> Option<Completion> {
        self.done.pop_front()
    }
    fn wait(&mut self) {}
    fn ready(&mut self, _: &Waker) -> bool {
        true
    }
    fn end_request(&self) -> Option<Arc<dyn EndRequest>> {
        self.in_turn(|device| device.end_request())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::Threads;
    use crate::{CacheOptions, FsError, RamDisk, Volume, extent_fs};
    use alloc::boxed::Box;
    use alloc::vec;

    #[test]
    fn volumes_on_several_cores_read_one_disk_and_change_nothing() {
        let disk = RamDisk::new(400);
        extent_fs::make(Box::new(disk.clone())).unwrap();
        let volume = Volume::mount(Box::new(disk.clone()), CacheOptions::default()).unwrap();
        let contents: Vec<u8> = (0..500_000_u32).map(|at| (at * 7 % 251) as u8).collect();
        volume.create("/file").unwrap().write_at(0, &contents).unwrap();
        volume.commit().unwrap();
        drop(volume);
        let turns = Turns::new(disk, Threads);
        std::thread::scope(|scope| {
            for core in 0..3 {
                let (disk, contents) = (turns.clone(), &contents);
                scope.spawn(move || {
                    // Too small for the file: each reading goes to the disk.
                    let options = CacheOptions { blocks: 8, ..CacheOptions::default() };
                    let volume = Volume::mount(Box::new(disk), options).unwrap();
                    let file = volume.open("/file").unwrap();
                    let mut part = vec![0; 10_000];
                    for step in 0..50 {
                        let at = (step * 37 + core * 13) % 49 * 10_000;
                        assert_eq!(file.read_at(at as u64, &mut part), Ok(part.len()));
                        assert!(part == contents[at..at + part.len()], "core {core} at {at}");
                    }
                    assert_eq!(volume.create("/other").map(drop), Err(FsError::ReadOnly));
                });
            }
        });
    }
}
