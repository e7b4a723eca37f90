//! Devices in front of others pass on the question whether something has completed: they do not sleep where
//! other cores wait for them.

use libos_fs::device::fault::{BitFlipper, FailingDevice};
use libos_fs::{BlockDevice, Completion, RamDisk, Rejected, Request};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

/// Counts how often it is asked, and how often somebody sleeps in it.
#[derive(Default)]
struct Asked {
    ready: AtomicUsize,
    wait: AtomicUsize,
}

struct Slow(RamDisk, Arc<Asked>);

impl BlockDevice for Slow {
    fn blocks(&self) -> u64 {
        self.0.blocks()
    }
    fn max_request_blocks(&self) -> usize {
        self.0.max_request_blocks()
    }
    fn read_only(&self) -> bool {
        self.0.read_only()
    }
    fn submit(&mut self, request: Request) -> Result<(), Rejected> {
        self.0.submit(request)
    }
    fn poll(&mut self) -> Option<Completion> {
        None
    }
    fn wait(&mut self) {
        self.1.wait.fetch_add(1, Ordering::Relaxed);
    }
    fn ready(&mut self, _: &Waker) -> bool {
        self.1.ready.fetch_add(1, Ordering::Relaxed);
        false
    }
}

struct Core;

impl Wake for Core {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn nobody_sleeps_in_a_device_that_is_asked() {
    let asked = Arc::new(Asked::default());
    let slow = || Slow(RamDisk::new(8), Arc::clone(&asked));
    let devices: [Box<dyn BlockDevice>; 3] =
        [Box::new(slow()), Box::new(FailingDevice::new(slow()).0), Box::new(BitFlipper::new(slow(), []))];
    for (number, mut device) in devices.into_iter().enumerate() {
        assert!(!device.ready(&Waker::from(Arc::new(Core))));
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        assert_eq!((count(&asked.ready), count(&asked.wait)), (number + 1, 0));
    }
}
