//! Tests of requests on a ring in ordinary memory. The tests play the kernel's part by hand.

use super::*;
use crate::host::exo::disk::RingQueue;
use alloc::vec;
use hyperexo_abi::FRAME_BYTES;
use hyperexo_abi::ring::{DiskRing, SUBMISSIONS, Slot as _};

/// A ring of zeros, as fresh frames are.
fn empty_ring() -> Box<DiskRing> {
    let layout = core::alloc::Layout::new::<DiskRing>();
    // SAFETY: zeros are a valid ring, and the memory has its layout.
    unsafe { Box::from_raw(alloc::alloc::alloc_zeroed(layout).cast()) }
}

/// In a test, a page's "frame" is its address without the page offset.
fn fake_frame(page: &Page) -> Option<u64> {
    Some(&raw const *page as u64 >> 12)
}

fn over(ring: &DiskRing, frame_of: fn(&Page) -> Option<u64>) -> Requests<'_> {
    Requests::new(Box::new(RingQueue::new(ring)), frame_of)
}

fn page(fill: u8) -> Box<Page> {
    Box::new(Page([fill; FRAME_BYTES]))
}

fn read(tag: u64, block: u64, count: usize) -> Request {
    Request { tag, operation: Operation::Read, block, buffers: (0..count).map(|_| page(0)).collect() }
}

/// Takes the next submission, as the kernel does.
fn kernel_take(ring: &DiskRing) -> Option<ring::Submission> {
    let head = ring.sq_head.0.load(Ordering::Relaxed);
    if head == ring.sq_tail.0.load(Ordering::Relaxed) {
        return None;
    }
    let submission = ring.submissions[head as usize % SUBMISSIONS].load();
    ring.sq_head.0.store(head.wrapping_add(1), Ordering::Relaxed);
    Some(submission)
}

/// Posts a completion, as the kernel does.
fn kernel_complete(ring: &DiskRing, tag: u64, outcome: Outcome) {
    let tail = ring.cq_tail.0.load(Ordering::Relaxed);
    ring.completions[tail as usize % ring::COMPLETIONS].store(&ring::Completion { tag, outcome });
    ring.cq_tail.0.store(tail.wrapping_add(1), Ordering::Relaxed);
}

#[test]
fn requests_come_back_with_their_own_buffers_in_any_order() {
    let ring = empty_ring();
    let mut queue = over(&ring, fake_frame);
    queue.put(read(70, 5, 2), 100).unwrap();
    queue.put(read(71, 9, 1), 100).unwrap();
    let first = kernel_take(&ring).unwrap();
    let second = kernel_take(&ring).unwrap();
    assert_eq!((first.block, first.count), (105, 2));
    assert_eq!((second.block, second.count, second.operation), (109, 1, Operation::Read as u8));
    assert!(queue.take().is_none());
    kernel_complete(&ring, second.tag, Outcome::Ok);
    kernel_complete(&ring, first.tag, Outcome::DeviceError);
    let done = queue.take().unwrap();
    assert_eq!((done.tag, done.result), (71, Ok(())));
    assert_eq!(fake_frame(&done.buffers[0]), Some(second.frames[0]));
    let done = queue.take().unwrap();
    assert_eq!((done.tag, done.result), (70, Err(Outcome::DeviceError)));
    assert_eq!(
        done.buffers.iter().filter_map(|page| fake_frame(page)).collect::<Vec<_>>(),
        first.frames[..2]
    );
    assert_eq!(queue.in_flight, 0);
}

#[test]
fn a_timeout_keeps_the_buffers() {
    let ring = empty_ring();
    let mut queue = over(&ring, fake_frame);
    queue.put(read(1, 0, 3), 0).unwrap();
    let submission = kernel_take(&ring).unwrap();
    kernel_complete(&ring, submission.tag, Outcome::Timeout);
    let done = queue.take().unwrap();
    assert_eq!((done.result, done.buffers.len()), (Err(Outcome::Timeout), 0));
}

#[test]
fn a_full_queue_gives_the_request_back() {
    let ring = empty_ring();
    let mut queue = over(&ring, fake_frame);
    for tag in 0..SUBMISSIONS as u64 {
        queue.put(read(tag, 0, 1), 0).unwrap();
    }
    let rejected = queue.put(read(99, 4, 2), 0).unwrap_err();
    assert_eq!(rejected.reason, Reason::QueueFull);
    assert_eq!((rejected.request.tag, rejected.request.buffers.len()), (99, 2));
    // The kernel takes all, completes none: the slots are the limit.
    let taken: Vec<_> = core::iter::from_fn(|| kernel_take(&ring)).collect();
    for tag in SUBMISSIONS..MAX_IN_FLIGHT {
        queue.put(read(tag as u64, 0, 1), 0).unwrap();
    }
    while kernel_take(&ring).is_some() {}
    assert_eq!(queue.put(read(99, 4, 2), 0).unwrap_err().reason, Reason::QueueFull);
    kernel_complete(&ring, taken[3].tag, Outcome::Ok);
    assert_eq!(queue.take().unwrap().tag, 3);
    queue.put(read(99, 4, 2), 0).unwrap();
}

#[test]
fn indices_wrap() {
    let ring = empty_ring();
    for index in [&ring.sq_head, &ring.sq_tail, &ring.cq_head, &ring.cq_tail] {
        index.0.store(u32::MAX - 5, Ordering::Relaxed);
    }
    let mut queue = over(&ring, fake_frame);
    for tag in 0..200 {
        queue.put(read(tag, tag, 1), 0).unwrap();
        let submission = kernel_take(&ring).unwrap();
        assert_eq!(submission.block, tag);
        kernel_complete(&ring, submission.tag, Outcome::Ok);
        assert_eq!(queue.take().unwrap().tag, tag);
    }
}

#[test]
fn unknown_tags_are_ignored() {
    let ring = empty_ring();
    let mut queue = over(&ring, fake_frame);
    kernel_complete(&ring, 5, Outcome::Ok);
    kernel_complete(&ring, u64::MAX, Outcome::Ok);
    assert!(queue.take().is_none());
    assert!(!queue.queue.has_completion());
}

#[test]
fn requests_are_checked_against_the_extent() {
    let extent = Extent { first: 8, blocks: 10, read_only: true };
    let check = |operation, block, count| {
        extent.check(&Request { tag: 0, operation, block, buffers: (0..count).map(|_| page(0)).collect() })
    };
    assert_eq!(check(Operation::Read, 8, 2), Ok(()));
    assert_eq!(check(Operation::Read, 9, 2), Err(Reason::OutOfRange { block: 9, count: 2, blocks: 10 }));
    assert_eq!(
        check(Operation::Read, u64::MAX, 1),
        Err(Reason::OutOfRange { block: u64::MAX, count: 1, blocks: 10 })
    );
    assert_eq!(check(Operation::Read, 0, 0), Err(Reason::NoBuffers));
    assert_eq!(check(Operation::Write, 0, 1), Err(Reason::ReadOnly));
    assert_eq!(check(Operation::Flush, 0, 0), Ok(()));
    assert_eq!(check(Operation::Flush, 0, 1), Err(Reason::FlushWithBuffers));
    let most = MAX_REQUEST_BLOCKS;
    assert_eq!(check(Operation::Read, 0, most + 1), Err(Reason::TooManyBuffers { buffers: most + 1, most }));
}

#[test]
fn a_foreign_buffer_is_refused() {
    let ring = empty_ring();
    let mut queue = over(&ring, |_| None);
    let rejected = queue.put(read(1, 0, 1), 0).unwrap_err();
    assert_eq!(rejected.reason, Reason::ForeignBuffer);
    assert_eq!(ring.sq_tail.0.load(Ordering::Relaxed), 0);
    let request = Request { tag: 2, operation: Operation::Flush, block: 0, buffers: vec![] };
    queue.put(request, 0).unwrap();
}
