//! Tests of a lane on a ring in ordinary memory. The tests play the kernel's part by hand.

use super::*;
use alloc::boxed::Box;
use hyperexo_abi::net::PacketCompletion;

/// A ring of zeros, as fresh frames are.
fn empty_ring() -> Box<PacketRing> {
    let layout = core::alloc::Layout::new::<PacketRing>();
    // SAFETY: zeros are a valid ring, and the memory has its layout.
    unsafe { Box::from_raw(alloc::alloc::alloc_zeroed(layout).cast()) }
}

/// In a test, a page's "frame" is its address without the page offset.
fn fake_frame(page: &Page) -> Option<u64> {
    Some(&raw const *page as u64 >> 12)
}

fn page(fill: u8) -> Pages {
    Box::new([Page([fill; FRAME_BYTES])])
}

/// Takes the next submission, as the kernel does.
fn kernel_take(ring: &PacketRing) -> Option<PacketSubmission> {
    let head = ring.sq_head.0.load(Ordering::Relaxed);
    if head == ring.sq_tail.0.load(Ordering::Relaxed) {
        return None;
    }
    ring.sq_head.0.store(head.wrapping_add(1), Ordering::Relaxed);
    Some(ring.submissions[head as usize % RING_PACKETS].load())
}

fn kernel_complete(ring: &PacketRing, tag: u32, bytes: u16, outcome: PacketOutcome) {
    let tail = ring.cq_tail.0.load(Ordering::Relaxed);
    let completion = PacketCompletion { tag, bytes, outcome: Some(outcome) };
    ring.completions[tail as usize % RING_PACKETS].store(&completion);
    ring.cq_tail.0.store(tail.wrapping_add(1), Ordering::Relaxed);
}

#[test]
fn buffers_come_back_with_their_own_outcomes() {
    let ring = empty_ring();
    let mut lane = Lane::new(&ring, fake_frame);
    lane.put(page(1), 60).unwrap();
    lane.put(page(2), 61).unwrap();
    let (first, second) = (kernel_take(&ring).unwrap(), kernel_take(&ring).unwrap());
    assert_eq!((first.bytes, second.bytes, kernel_take(&ring)), (60, 61, None));
    assert!(lane.take().is_none());
    kernel_complete(&ring, second.tag, 61, PacketOutcome::Ok);
    kernel_complete(&ring, first.tag, 0, PacketOutcome::NotAllowed);
    let (buffer, bytes, outcome) = lane.take().unwrap();
    assert_eq!((buffer[0].0[0], bytes, outcome), (2, 61, Ok(())));
    assert_eq!(fake_frame(&buffer[0]), Some(second.frame));
    let (buffer, _, outcome) = lane.take().unwrap();
    assert_eq!((buffer[0].0[0], outcome), (1, Err(PacketOutcome::NotAllowed)));
    assert_eq!(lane.in_flight(), 0);
}

#[test]
fn a_full_ring_gives_the_buffer_back() {
    let ring = empty_ring();
    let mut lane = Lane::new(&ring, fake_frame);
    (0..RING_PACKETS).for_each(|_| lane.put(page(0), 60).unwrap());
    assert_eq!(lane.put(page(9), 60).unwrap_err()[0].0[0], 9);
    // Taken is not enough: the completion must have a place.
    let taken = kernel_take(&ring).unwrap();
    assert!(lane.put(page(9), 60).is_err());
    kernel_complete(&ring, taken.tag, 60, PacketOutcome::Ok);
    assert!(lane.take().is_some());
    lane.put(page(9), 60).unwrap();
    lane.withdraw(|| {});
}

#[test]
fn pages_that_are_not_on_the_heap_are_given_back() {
    let ring = empty_ring();
    let mut lane = Lane::new(&ring, |_| None);
    assert!(lane.put(page(0), 60).is_err());
    assert_eq!(lane.in_flight(), 0);
}

#[test]
fn completions_of_nothing_are_passed_over() {
    let ring = empty_ring();
    let mut lane = Lane::new(&ring, fake_frame);
    lane.put(page(3), 60).unwrap();
    let taken = kernel_take(&ring).unwrap();
    kernel_complete(&ring, 17, 60, PacketOutcome::Ok);
    kernel_complete(&ring, u32::MAX, 60, PacketOutcome::Ok);
    kernel_complete(&ring, taken.tag, 60, PacketOutcome::Ok);
    assert_eq!(lane.take().unwrap().0[0].0[0], 3);
    assert!(lane.take().is_none());
}

#[test]
fn sleeping_is_refused_while_there_is_something() {
    let ring = empty_ring();
    let mut lane = Lane::new(&ring, fake_frame);
    lane.put(page(0), 60).unwrap();
    assert!(!lane.completion_or_wake());
    assert_eq!(ring.wake.0.load(Ordering::Relaxed), 1);
    let taken = kernel_take(&ring).unwrap();
    kernel_complete(&ring, taken.tag, 60, PacketOutcome::Ok);
    assert!(lane.completion_or_wake());
    assert_eq!(ring.wake.0.load(Ordering::Relaxed), 0);
    lane.withdraw(|| {});
}

/// A packet that comes while the lane is being withdrawn: the kernel has seen the old tail, and finishes
/// before `kick` returns.
#[test]
fn withdrawal_waits_for_the_kernel() {
    let ring = empty_ring();
    let mut lane = Lane::new(&ring, fake_frame);
    (0..3).for_each(|fill| lane.put(page(fill), 0).unwrap());
    lane.withdraw(|| {
        let head = ring.sq_head.0.load(Ordering::Relaxed);
        ring.sq_head.0.store(head.wrapping_add(1), Ordering::Relaxed);
        let late: PacketSubmission = ring.submissions[head as usize % RING_PACKETS].load();
        kernel_complete(&ring, late.tag, 60, PacketOutcome::Ok);
    });
    assert_eq!((lane.in_flight(), kernel_take(&ring)), (0, None));
    // The next lane goes on from there.
    let mut next = Lane::new(&ring, fake_frame);
    next.put(page(7), 0).unwrap();
    let taken = kernel_take(&ring).unwrap();
    kernel_complete(&ring, taken.tag, 60, PacketOutcome::Ok);
    assert_eq!(next.take().unwrap().0[0].0[0], 7);
}
