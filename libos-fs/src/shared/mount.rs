//! From a device to the names and places of blocks, and back to the device.

use crate::FsError;
use crate::cache::{BufferCache, CacheOptions};
use crate::device::{BlockDevice, Completion, DeviceQueue, Rejected, Request};
use crate::extent_fs::{ExtentVolume, Snapshot};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::sync::Arc;
use spin::Mutex;

/// A device in the hands of whoever mounts it, until they are done.
struct Lent(Arc<Mutex<Box<dyn BlockDevice + Send>>>);

impl BlockDevice for Lent {
    fn blocks(&self) -> u64 {
        self.0.lock().blocks()
    }

    fn max_request_blocks(&self) -> usize {
        self.0.lock().max_request_blocks()
    }

    fn read_only(&self) -> bool {
        true
    }

    fn submit(&mut self, request: Request) -> Result<(), Rejected> {
        self.0.lock().submit(request)
    }

    fn poll(&mut self) -> Option<Completion> {
        self.0.lock().poll()
    }

    /// Nobody else wants the lock as long as the device is lent.
    fn wait(&mut self) {
        self.0.lock().wait();
    }
}

/// The metadata of the volume on a device, and the device.
pub(super) fn snapshot(
    device: Box<dyn BlockDevice + Send>,
) -> Result<(Snapshot, Box<dyn BlockDevice + Send>), FsError> {
    let device = Arc::new(Mutex::new(device));
    let queue = Rc::new(DeviceQueue::new(Box::new(Lent(Arc::clone(&device)))));
    let cache = Rc::new(BufferCache::new(queue, CacheOptions { blocks: 1, ..CacheOptions::default() }));
    let snapshot = ExtentVolume::mount(cache)?.into_snapshot();
    match Arc::into_inner(device) {
        Some(device) => Ok((snapshot, device.into_inner())),
        None => Err(FsError::Unsupported("a device that somebody keeps after mounting")),
    }
}
