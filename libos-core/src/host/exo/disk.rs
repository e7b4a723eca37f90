//! The disk extent of an environment: requests go through the ring that it shares with the kernel
//! ([`hyperexo_abi::ring`]).
//!
//! The kernel is called only if it does not look at the ring by itself. It raises an upcall only if somebody
//! sleeps, on the virtual CPU that opened the disk first.

use super::hypercall;
use super::information::start_info;
use crate::memory;
use crate::platform::{BlockQueue, DiskError, OpenDisk, QueueFull};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicPtr, Ordering, fence};
use hyperexo_abi::capability::Rights;
use hyperexo_abi::ring::{
    self, DiskRing, MAX_REQUEST_BLOCKS, Operation, Outcome, RING_FRAMES, SUBMISSIONS, Slot as _,
};

/// The ring that the kernel knows. It is bound once, and used by one [`RingQueue`] after the other.
static RING: AtomicPtr<DiskRing> = AtomicPtr::new(core::ptr::null_mut());

/// Binds the extent, and gives the kernel a ring if it has none yet.
pub(super) fn open() -> Result<OpenDisk, DiskError> {
    let start = start_info();
    if start.disk_blocks == 0 {
        return Err(DiskError::NoDisk { why: "the machine has no disk" });
    }
    let claim = start.disk_capability.claim().ok_or(DiskError::NoExtent)?;
    let rights = claim.rights.intersection(Rights::READ_WRITE);
    hypercall::disk_bind(&start.disk_capability, rights)
        .map_err(|status| DiskError::Refused { step: "binding the extent", status })?;
    let queue = RingQueue { extent: Some((claim.first, claim.count)), ..RingQueue::new(ring()?) };
    Ok(OpenDisk {
        queue: Box::new(queue),
        first_block: claim.first,
        blocks: claim.count,
        read_only: !rights.contains(Rights::WRITE),
    })
}

/// The ring that the kernel knows, with nothing in flight.
fn ring() -> Result<&'static DiskRing, DiskError> {
    // SAFETY: only rings of `new_ring` are stored, which live for ever.
    if let Some(ring) = unsafe { RING.load(Ordering::Acquire).as_ref() } {
        return Ok(ring);
    }
    let ring = new_ring()?;
    RING.store(core::ptr::from_ref(ring).cast_mut(), Ordering::Release);
    Ok(ring)
}

/// Makes an empty ring and binds it.
fn new_ring() -> Result<&'static DiskRing, DiskError> {
    let first = memory::acquire_frames(RING_FRAMES, 1)
        .map_err(|status| DiskError::Refused { step: "frames for the ring", status })?;
    // SAFETY: the frames are fresh and serve nothing else, for ever. They hold zeros, which is an empty ring.
    let ring = unsafe { &*(memory::linear_address(first) as *const DiskRing) };
    // SAFETY: as above.
    unsafe { hypercall::ring_bind(first) }
        .map_err(|status| DiskError::Refused { step: "binding the ring", status })?;
    Ok(ring)
}

/// Our side of a ring.
///
/// Invariant: each submission in the ring, or taken from it and not completed, comes from
/// [`BlockQueue::put`], whose caller has lent the frames that it names.
pub(crate) struct RingQueue<'a> {
    ring: &'a DiskRing,
    tail: u32,
    head: u32,
    /// First block and length of the extent that is bound, if one is.
    extent: Option<(u64, u64)>,
}

impl<'a> RingQueue<'a> {
    /// A queue over a ring with nothing in flight. It goes on where the queue before it ended.
    pub fn new(ring: &'a DiskRing) -> RingQueue<'a> {
        RingQueue {
            ring,
            tail: ring.sq_tail.0.load(Ordering::Relaxed),
            head: ring.cq_head.0.load(Ordering::Relaxed),
            extent: None,
        }
    }

    /// Whether there are requests of which the kernel must be told.
    fn needs_kick(&self) -> bool {
        // The kernel sets `need_kick`, then looks at the tail again. The order here is the reverse.
        fence(Ordering::SeqCst);
        self.ring.sq_head.0.load(Ordering::Relaxed) != self.tail
            && self.ring.need_kick.0.load(Ordering::Relaxed) != 0
    }
}

impl BlockQueue for RingQueue<'_> {
    unsafe fn put(
        &mut self,
        number: usize,
        operation: Operation,
        block: u64,
        frames: &[u64],
    ) -> Result<(), QueueFull> {
        let waiting = self.tail.wrapping_sub(self.ring.sq_head.0.load(Ordering::Acquire));
        if waiting as usize >= SUBMISSIONS {
            return Err(QueueFull);
        }
        let mut named = [0; MAX_REQUEST_BLOCKS];
        named[..frames.len()].copy_from_slice(frames);
        let submission = ring::Submission {
            tag: number as u64,
            operation: operation as u8,
            block,
            count: frames.len() as u32,
            frames: named,
        };
        self.ring.submissions[self.tail as usize % SUBMISSIONS].store(&submission);
        self.tail = self.tail.wrapping_add(1);
        self.ring.sq_tail.0.store(self.tail, Ordering::Release);
        Ok(())
    }

    /// Makes a hypercall if the kernel does not look by itself.
    ///
    /// # Panics
    ///
    /// If the kernel refuses to look at the ring. The ring is damaged then, and no request would ever end.
    fn kick(&mut self) {
        if self.needs_kick() {
            // SAFETY: by the invariant all frames that the ring names are lent.
            if let Err(status) = unsafe { hypercall::ring_kick() } {
                panic!("the kernel refuses the disk ring: {status}");
            }
        }
    }

    fn has_completion(&self) -> bool {
        self.ring.cq_tail.0.load(Ordering::Acquire) != self.head
    }

    fn take(&mut self) -> Option<(usize, Outcome)> {
        if !self.has_completion() {
            return None;
        }
        let completion = self.ring.completions[self.head as usize % ring::COMPLETIONS].load();
        self.head = self.head.wrapping_add(1);
        self.ring.cq_head.0.store(self.head, Ordering::Release);
        Some((completion.tag as usize, completion.outcome))
    }

    fn completion_or_wake(&mut self) -> bool {
        self.ring.wake.0.store(1, Ordering::Relaxed);
        // The kernel moves the tail, then looks at `wake`.
        fence(Ordering::SeqCst);
        let found = self.has_completion();
        if found {
            self.ring.wake.0.store(0, Ordering::Relaxed);
        }
        found
    }
}

/// Ends the binding of the extent.
impl Drop for RingQueue<'_> {
    fn drop(&mut self) {
        if let Some((first, blocks)) = self.extent {
            // A revocation may have ended the binding already.
            let _ = hypercall::disk_unbind(first, blocks);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kicks_and_wakes_only_when_asked_for() {
        let layout = core::alloc::Layout::new::<DiskRing>();
        // SAFETY: zeros are a valid ring, and the memory has its layout.
        let ring: Box<DiskRing> = unsafe { Box::from_raw(alloc::alloc::alloc_zeroed(layout).cast()) };
        let mut queue = RingQueue::new(&ring);
        // SAFETY: nobody follows the frame.
        unsafe { queue.put(7, Operation::Read, 0, &[5]) }.unwrap();
        assert!(!queue.needs_kick(), "the kernel is looking");
        ring.need_kick.0.store(1, Ordering::Relaxed);
        assert!(queue.needs_kick());
        ring.sq_head.0.store(1, Ordering::Relaxed);
        assert!(!queue.needs_kick(), "nothing new");
        assert!(!queue.completion_or_wake());
        assert_eq!(ring.wake.0.load(Ordering::Relaxed), 1);
        ring.completions[0].store(&ring::Completion { tag: 7, outcome: Outcome::Ok });
        ring.cq_tail.0.store(1, Ordering::Relaxed);
        assert!(queue.completion_or_wake());
        assert_eq!(ring.wake.0.load(Ordering::Relaxed), 0);
        assert_eq!((queue.take(), queue.take()), (Some((7, Outcome::Ok)), None));
    }
}
