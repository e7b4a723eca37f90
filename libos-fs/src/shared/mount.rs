//! From a device to the names and places of blocks, and back to the device.

use super::names::Names;
use crate::cache::{BufferCache, CacheOptions};
use crate::device::{BlockDevice, Completion, DeviceQueue, Rejected, Request};
use crate::error::FsError;
use crate::ext4::Ext4Volume;
use crate::extent_fs::ExtentVolume;
use crate::lock::{Mutex, RwLock};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::sync::Arc;
use core::task::Waker;

/// A device that is lent to the file system while it mounts.
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

    /// Sleeps under the lock: nobody else wants it while the device is lent.
    fn wait(&mut self) {
        self.0.lock().wait();
    }

    fn ready(&mut self, waker: &Waker) -> bool {
        self.0.lock().ready(waker)
    }
}

/// What mounting gives.
pub(super) struct Mounted {
    pub(super) names: Names,
    pub(super) device: Box<dyn BlockDevice + Send>,
    /// Blocks that were read.
    pub(super) reads: u64,
}

/// Reads the metadata of the volume on a device: of an ext4 image, names and places of all files.
pub(super) fn mount(device: Box<dyn BlockDevice + Send>) -> Result<Mounted, FsError> {
    let device = Arc::new(Mutex::new(device));
    let (names, reads) = {
        let queue = Rc::new(DeviceQueue::new(Box::new(Lent(Arc::clone(&device)))));
        let cache = Rc::new(BufferCache::new(queue, CacheOptions { blocks: 1, ..CacheOptions::default() }));
        let names = match ExtentVolume::mount(Rc::clone(&cache)) {
            Ok(volume) => Names::Extents(RwLock::new(volume.into_metadata())),
            Err(FsError::UnknownFormat) => Names::Ext4(Ext4Volume::mount(Rc::clone(&cache))?.into_names()?),
            Err(error) => return Err(error),
        };
        (names, cache.statistics().mount_reads)
    };
    match Arc::into_inner(device) {
        Some(device) => Ok(Mounted { names, device: device.into_inner(), reads }),
        None => Err(FsError::Unsupported("a device that somebody keeps after mounting")),
    }
}
