//! Tests of a lane on a ring in ordinary memory. The tests play the kernel's part by hand.

use super::*;
use alloc::boxed::Box;

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

fn new_lane(ring: &PacketRing) -> Lane<'_, Lent<[Page]>> {
    Lane::new(ring)
}

/// Offers a page, or sends what is in it. Gives it back if there is no place.
fn put(lane: &mut Lane<'_, Lent<[Page]>>, page: Pages, bytes: u32) -> Result<(), Pages> {
    let frame = fake_frame(&page[0]).unwrap();
    if !lane.has_place(1) {
        return Err(page);
    }
    lane.put(Lent::new(page), &[PacketSubmission { frame, bytes, ..Default::default() }]);
    Ok(())
}

/// Takes a completion, with the page.
fn take(lane: &mut Lane<'_, Lent<[Page]>>) -> Option<(Pages, u32, Result<(), PacketOutcome>)> {
    let (lent, completion) = lane.take()?;
    // SAFETY: the test has completed it.
    Some((unsafe { lent.back() }, completion.bytes, outcome(&completion)))
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

fn kernel_complete(ring: &PacketRing, tag: u32, bytes: u32, outcome: PacketOutcome) {
    kernel_post(ring, &PacketCompletion { tag, bytes, outcome: Some(outcome), ..Default::default() });
}

fn kernel_post(ring: &PacketRing, completion: &PacketCompletion) {
    let tail = ring.cq_tail.0.load(Ordering::Relaxed);
    ring.completions[tail as usize % RING_PACKETS].store(completion);
    ring.cq_tail.0.store(tail.wrapping_add(1), Ordering::Relaxed);
}

#[test]
fn buffers_come_back_with_their_own_outcomes() {
    let ring = empty_ring();
    let mut lane = new_lane(&ring);
    put(&mut lane, page(1), 60).unwrap();
    put(&mut lane, page(2), 61).unwrap();
    let (first, second) = (kernel_take(&ring).unwrap(), kernel_take(&ring).unwrap());
    assert_eq!((first.bytes, second.bytes, kernel_take(&ring)), (60, 61, None));
    assert!(take(&mut lane).is_none());
    kernel_complete(&ring, second.tag, 61, PacketOutcome::Ok);
    kernel_complete(&ring, first.tag, 0, PacketOutcome::NotAllowed);
    let (buffer, bytes, outcome) = take(&mut lane).unwrap();
    assert_eq!((buffer[0].0[0], bytes, outcome), (2, 61, Ok(())));
    assert_eq!(fake_frame(&buffer[0]), Some(second.frame));
    let (buffer, _, outcome) = take(&mut lane).unwrap();
    assert_eq!((buffer[0].0[0], outcome), (1, Err(PacketOutcome::NotAllowed)));
    assert_eq!(lane.in_flight(), 0);
}

#[test]
fn a_full_ring_gives_the_buffer_back() {
    let ring = empty_ring();
    let mut lane = new_lane(&ring);
    (0..RING_PACKETS).for_each(|_| put(&mut lane, page(0), 60).unwrap());
    assert_eq!(put(&mut lane, page(9), 60).unwrap_err()[0].0[0], 9);
    // Taken is not enough: what was taken has its slot until it is completed.
    let taken = kernel_take(&ring).unwrap();
    assert!(put(&mut lane, page(9), 60).is_err());
    kernel_complete(&ring, taken.tag, 60, PacketOutcome::Ok);
    assert!(take(&mut lane).is_some());
    put(&mut lane, page(9), 60).unwrap();
    lane.withdraw(|| {});
}

#[test]
fn a_packet_has_an_entry_for_each_page_that_it_lies_in() {
    let shared = Arc::new(crate::platform::pages_for(3 * FRAME_BYTES));
    let mut packet = Packet::from_bytes(&[1; 54]);
    packet.push(Piece::new(Arc::clone(&shared), 4000..9000));
    packet.push(Piece::new(Arc::clone(&shared), 10..20));
    packet.set_offload(hyperexo_abi::offload::Offload::checksum(34, 16));
    let mut entries = [PacketSubmission::default(); MAX_PACKET_FRAMES];
    let count = entries_of(&packet, fake_frame, &mut entries).unwrap();
    let first = fake_frame(&shared[0]).unwrap();
    let seen: Vec<_> = entries[..count]
        .iter()
        .map(|entry| (entry.frame.wrapping_sub(first) as i64, entry.offset, entry.bytes, entry.more))
        .collect();
    assert_eq!(seen[1..], [(0, 4000, 96, true), (1, 0, 4096, true), (2, 0, 808, true), (0, 10, 10, false)]);
    assert_eq!((entries[0].bytes, entries[0].more), (54, true));
    assert!(entries[0].offload.needs_checksum());
    assert_eq!(entries_of(&packet, |_| None, &mut entries), None, "not on the heap");
    (0..MAX_PACKET_FRAMES).for_each(|_| packet.push(Piece::new(Arc::clone(&shared), 0..1)));
    assert_eq!(entries_of(&packet, fake_frame, &mut entries), None, "too many");
    let empty = Packet::from_bytes(&[]);
    assert_eq!(entries_of(&empty, fake_frame, &mut entries), Some(1));
}

#[test]
fn a_packet_in_many_pages_comes_whole_or_not_yet() {
    let ring = empty_ring();
    let mut lane = new_lane(&ring);
    (0..4).for_each(|fill| put(&mut lane, page(fill), 0).unwrap());
    let tags: Vec<u32> = (0..4).map(|_| kernel_take(&ring).unwrap().tag).collect();
    let offload = hyperexo_abi::offload::Offload::checksum(34, 16);
    let part = |at: usize, more, outcome| PacketCompletion {
        tag: tags[at],
        bytes: FRAME_BYTES as u32 - u32::from(more == 0),
        more,
        outcome: Some(outcome),
        offload,
    };
    kernel_post(&ring, &part(0, 2, PacketOutcome::Ok));
    kernel_post(&ring, &part(1, 1, PacketOutcome::Ok));
    assert!(receive(&mut lane).is_none());
    kernel_post(&ring, &part(2, 0, PacketOutcome::Ok));
    let (packet, outcome) = receive(&mut lane).unwrap();
    assert_eq!((packet.total_bytes(), packet.pieces().len(), outcome), (3 * FRAME_BYTES - 1, 2, Ok(())));
    assert_eq!((packet[0], packet.pieces()[1][0], packet.offload()), (0, 2, offload));
    kernel_post(&ring, &part(3, 0, PacketOutcome::FrameNotBound));
    assert_eq!(receive(&mut lane).unwrap().1, Err(PacketOutcome::FrameNotBound));
    assert_eq!(lane.in_flight(), 0);
}

#[test]
fn completions_of_nothing_are_passed_over() {
    let ring = empty_ring();
    let mut lane = new_lane(&ring);
    put(&mut lane, page(3), 60).unwrap();
    let taken = kernel_take(&ring).unwrap();
    kernel_complete(&ring, 17, 60, PacketOutcome::Ok);
    kernel_complete(&ring, u32::MAX, 60, PacketOutcome::Ok);
    kernel_complete(&ring, taken.tag, 60, PacketOutcome::Ok);
    assert_eq!(take(&mut lane).unwrap().0[0].0[0], 3);
    assert!(take(&mut lane).is_none());
}

#[test]
fn sleeping_is_refused_while_there_is_something() {
    let ring = empty_ring();
    let mut lane = new_lane(&ring);
    put(&mut lane, page(0), 60).unwrap();
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
    let mut lane = new_lane(&ring);
    (0..3).for_each(|fill| put(&mut lane, page(fill), 0).unwrap());
    lane.withdraw(|| {
        let head = ring.sq_head.0.load(Ordering::Relaxed);
        ring.sq_head.0.store(head.wrapping_add(1), Ordering::Relaxed);
        let late: PacketSubmission = ring.submissions[head as usize % RING_PACKETS].load();
        kernel_complete(&ring, late.tag, 60, PacketOutcome::Ok);
    });
    assert_eq!((lane.in_flight(), kernel_take(&ring)), (0, None));
    // The next lane goes on from there.
    let mut next = new_lane(&ring);
    put(&mut next, page(7), 0).unwrap();
    let taken = kernel_take(&ring).unwrap();
    kernel_complete(&ring, taken.tag, 60, PacketOutcome::Ok);
    assert_eq!(take(&mut next).unwrap().0[0].0[0], 7);
}
