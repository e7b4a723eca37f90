//! virtio-rng (virtio 1.1 §5.4): random bytes from the host.
//!
//! A driver for a seed, not for a stream: it asks, waits for the answer no longer than the caller wants, and
//! is gone. The driver of the crate `virtio-drivers` waits for ever.

use alloc::boxed::Box;
use bitflags::bitflags;
use core::hint;
use hyperexo_hw::virtio::LinearHal;
use virtio_drivers::Error;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::Transport;

/// The only queue.
const QUEUE: u16 = 0;
/// Entries of the queue; one is used.
const QUEUE_ENTRIES: usize = 4;
/// Most bytes asked for at once.
const BUFFER_BYTES: usize = 256;

bitflags! {
    /// Features that the driver knows.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Features: u64 {
        const VERSION_1 = 1 << 32;
    }
}

/// Why there are no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntropyError {
    /// The transport or the queue refuses.
    Driver(Error),
    /// No answer while the caller was willing to wait.
    Silent,
    /// An answer without a byte.
    Nothing,
}

impl From<Error> for EntropyError {
    fn from(error: Error) -> EntropyError {
        EntropyError::Driver(error)
    }
}

/// The driver.
///
/// Invariant: the fields are dropped in this order: the transport resets the device, which then uses neither
/// queue nor buffer.
pub struct VirtioEntropy<T: Transport> {
    transport: T,
    queue: Box<VirtQueue<LinearHal, QUEUE_ENTRIES>>,
    buffer: Box<[u8; BUFFER_BYTES]>,
}

impl<T: Transport> VirtioEntropy<T> {
    /// Starts the device; it never interrupts.
    ///
    /// # Errors
    ///
    /// [`EntropyError::Driver`].
    pub fn new(mut transport: T) -> Result<Self, EntropyError> {
        transport.begin_init(Features::all());
        let mut queue = Box::new(VirtQueue::new(&mut transport, QUEUE, false, false)?);
        queue.set_dev_notify(false);
        transport.finish_init();
        Ok(VirtioEntropy { transport, queue, buffer: Box::new([0; BUFFER_BYTES]) })
    }

    /// Fills `bytes`, waiting until `expired` says that it has been long enough. The device is reset at the
    /// end, so that a late answer goes nowhere.
    ///
    /// # Errors
    ///
    /// [`EntropyError`]; what `bytes` holds then is of no use.
    pub fn fill(mut self, bytes: &mut [u8], mut expired: impl FnMut() -> bool) -> Result<(), EntropyError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let got = self.ask(rest.len().min(BUFFER_BYTES), &mut expired)?;
            let (filled, later) = rest.split_at_mut(got);
            filled.copy_from_slice(&self.buffer[..got]);
            rest = later;
        }
        Ok(())
    }

    /// Has the device write up to `wanted` bytes to the buffer; how many it wrote, at least 1.
    fn ask(&mut self, wanted: usize, expired: &mut impl FnMut() -> bool) -> Result<usize, EntropyError> {
        // SAFETY: the buffer stays where it is until the device gives it back or, after an error, is reset
        // (invariant; `fill` takes the driver along).
        let token = unsafe { self.queue.add(&[], &mut [&mut self.buffer[..wanted]])? };
        self.transport.notify(QUEUE);
        while !self.queue.can_pop() {
            if expired() {
                return Err(EntropyError::Silent);
            }
            hint::spin_loop();
        }
        // SAFETY: the same buffer as above, which the device has returned.
        let written = unsafe { self.queue.pop_used(token, &[], &mut [&mut self.buffer[..wanted]])? };
        match (written as usize).min(wanted) {
            0 => Err(EntropyError::Nothing),
            written => Ok(written),
        }
    }
}
