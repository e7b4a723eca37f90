//! The disk: what a request may do, revocation, and devices that are slow, fail, or never answer.

use crate::model::guest::{READ_WRITE, submission};
use crate::model::{Machine, Parts, Share};
use crate::resource::frame::table::Owner;
use core::sync::atomic::Ordering;
use hyperexo_abi::ANY;
use hyperexo_abi::capability::{Capability, Rights};
use hyperexo_abi::hypercall::{Call, MAX_ALLOCATION_BLOCKS, Status};
use hyperexo_abi::ring::{MAX_REQUEST_BLOCKS, Operation, Outcome, Submission};
use hyperexo_hw::virtio::block::{self, SLOTS};

#[test]
fn each_fault_of_a_request_has_its_outcome_and_nothing_reaches_the_device() {
    let mut machine = Machine::with(2);
    let [one, two] = [1, 2].map(|number| machine.vcpu(number));
    let ring = machine.ring(one);
    let (first, _) = machine.frames(one, 33);
    let (read_only, weak) = machine.frames(one, 1);
    machine.call(one, Call::PageUnbind, &[read_only, 1, 0]).unwrap();
    machine.bind(one, weak, Rights::READ).unwrap();
    let (theirs, _) = machine.frames(two, 1);
    let block = machine.extent(one, 8);
    let words = machine.call(one, Call::DiskAlloc, &[block + 8, 4]).unwrap();
    machine.call_with(one, Call::DiskBind, Capability(words), &[1]).unwrap();
    let (read, write, flush) = (Operation::Read as u8, Operation::Write as u8, Operation::Flush as u8);
    let end = machine.kernel.pages.frames.len();
    let absurd = |count: u32| Submission { count, ..submission(read, block, &[first]) };
    for (request, expected) in [
        (submission(0, block, &[first]), Outcome::BadRequest),
        (submission(4, block, &[first]), Outcome::BadRequest),
        (submission(255, block, &[first]), Outcome::BadRequest),
        (submission(read, block, &[]), Outcome::BadRequest),
        (submission(flush, block, &[first]), Outcome::BadRequest),
        (absurd(MAX_REQUEST_BLOCKS as u32 + 1), Outcome::BadRequest),
        (absurd(u32::MAX), Outcome::BadRequest),
        (submission(read, block + 12, &[first]), Outcome::BlockNotBound),
        (submission(read, block + 11, &[first, first + 1]), Outcome::BlockNotBound),
        (submission(read, 63, &[first, first + 1]), Outcome::BlockNotBound),
        (submission(read, 64, &[first]), Outcome::BlockNotBound),
        (submission(read, u64::MAX, &[first, first + 1]), Outcome::BlockNotBound),
        (submission(write, block + 8, &[first]), Outcome::BlockNotBound),
        (submission(write, block + 7, &[first, first + 1]), Outcome::BlockNotBound),
        (submission(read, block, &[read_only]), Outcome::FrameNotBound),
        (submission(read, block, &[first, theirs]), Outcome::FrameNotBound),
        (submission(read, block, &[0]), Outcome::FrameNotBound),
        (submission(read, block, &[end]), Outcome::FrameNotBound),
        (submission(read, block, &[u64::MAX]), Outcome::FrameNotBound),
        (submission(write, block, &[first, end]), Outcome::FrameNotBound),
    ] {
        ring.submit(&request);
        machine.call(one, Call::RingKick, &[]).unwrap();
        assert_eq!(ring.outcomes(), [expected], "{request:?}");
        assert!(machine.disk.state().working.is_empty(), "{request:?}");
    }
    // What is allowed: up to the ends, across the seam, from a frame that is only readable.
    ring.request(Operation::Read, block + 7, &[first, first + 1]);
    ring.request(Operation::Write, block, &[read_only]);
    ring.request(Operation::Flush, u64::MAX, &[]);
    machine.call(one, Call::RingKick, &[]).unwrap();
    machine.finish(3);
    assert_eq!(ring.outcomes(), [Outcome::Ok; 3]);
    machine.disk.state().read_only = true;
    ring.request(Operation::Write, block, &[first]);
    machine.call(one, Call::RingKick, &[]).unwrap();
    assert_eq!(ring.outcomes(), [Outcome::Unsupported]);
}

#[test]
fn blocks_read_as_zeros_until_they_are_written() {
    let mut machine = Machine::with(1);
    let one = machine.vcpu(1);
    let ring = machine.ring(one);
    let (first, _) = machine.frames(one, 3);
    let memory = machine.kernel.pages.memory;
    let block = machine.extent(one, 3);
    memory.set_word(first, 0, 0x55);
    ring.request(Operation::Write, block + 1, &[first]);
    machine.call(one, Call::RingKick, &[]).unwrap();
    machine.finish(1);
    assert_eq!(machine.disk.state().byte(block + 1), 0x55);
    (first..first + 3).for_each(|frame| memory.set_word(frame, 0, u64::MAX));
    ring.request(Operation::Read, block, &[first, first + 1, first + 2]);
    machine.call(one, Call::RingKick, &[]).unwrap();
    machine.finish(1);
    assert_eq!(ring.outcomes(), [Outcome::Ok; 2]);
    assert_eq!([0, 1, 2].map(|at| memory.word(first + at, 0)), [0, 0x55, 0]);
    // A write that failed has written nothing that can be relied on: the block still reads as zeros.
    ring.request(Operation::Write, block, &[first + 1]);
    machine.call(one, Call::RingKick, &[]).unwrap();
    machine.disk.state().finish(block::Outcome::Failed);
    machine.kernel.signals.note_disk();
    machine.attend(0);
    memory.set_word(first, 0, u64::MAX);
    ring.request(Operation::Read, block, &[first]);
    machine.call(one, Call::RingKick, &[]).unwrap();
    assert_eq!((ring.outcomes(), memory.word(first, 0)), (vec![Outcome::DeviceError, Outcome::Ok], 0));
}

#[test]
fn a_revoked_extent_is_busy_until_older_requests_are_over() {
    let mut machine = Machine::with(2);
    let [one, two] = [1, 2].map(|number| machine.vcpu(number));
    let capability = machine.call(one, Call::DiskAlloc, &[ANY, 4]).map(Capability).unwrap();
    let block = capability.claim().unwrap().first;
    machine.call_with(two, Call::DiskBind, capability, &[READ_WRITE]).unwrap();
    let (ring, (frame, _)) = (machine.ring(two), machine.frames(two, 1));
    ring.request(Operation::Write, block, &[frame]);
    machine.call(two, Call::RingKick, &[]).unwrap();
    assert_eq!(machine.disk.state().working.len(), 1);
    let fresh = machine.call_with(one, Call::Revoke, capability, &[]).map(Capability).unwrap();
    assert_eq!(machine.call_with(one, Call::DiskBind, capability, &[1]), Err(Status::StaleCapability));
    assert_eq!(machine.call_with(one, Call::DiskBind, fresh, &[1]), Err(Status::Busy));
    assert_eq!(machine.call_with(one, Call::DiskFree, fresh, &[]), Err(Status::Busy));
    // The other can start nothing more there.
    ring.request(Operation::Write, block, &[frame]);
    machine.call(two, Call::RingKick, &[]).unwrap();
    assert_eq!(ring.outcomes(), [Outcome::BlockNotBound]);
    machine.finish(1);
    machine.call_with(one, Call::DiskBind, fresh, &[1]).unwrap();
    machine.call_with(one, Call::DiskFree, fresh, &[]).unwrap();
}

#[test]
fn bad_arguments_are_refused_without_effect() {
    let mut machine = Machine::with(2);
    let [one, two] = [1, 2].map(|number| machine.vcpu(number));
    let theirs = machine.call(two, Call::DiskAlloc, &[60, 4]).map(Capability).unwrap();
    let own = machine.call(one, Call::DiskAlloc, &[8, 4]).map(Capability).unwrap();
    let reader = machine.call_with(one, Call::Derive, own, &[8, 2 | 1 << 56]).map(Capability).unwrap();
    let (page, _) = (machine.allocate(one, ANY, 1).unwrap(), ());
    let before = (machine.kernel.pages.charged(one.environment), machine.kernel.pages.frames.free_frames());
    for (arguments, expected) in [
        ([ANY, 0], Status::BadArgument),
        ([64, 1], Status::NoSuch),
        ([63, 2], Status::InUse),
        ([u64::MAX - 1, 4], Status::NoSuch),
        ([7, 2], Status::InUse),
        ([ANY, 29], Status::QuotaExceeded),
        ([ANY, 65], Status::Exhausted),
        ([ANY, MAX_ALLOCATION_BLOCKS + 1], Status::Exhausted),
        ([ANY, u64::MAX], Status::Exhausted),
    ] {
        let expected = if arguments == [63, 2] { Status::NoSuch } else { expected };
        assert_eq!(machine.call(one, Call::DiskAlloc, &arguments), Err(expected), "DiskAlloc {arguments:x?}");
    }
    for (call, capability, rights, expected) in [
        (Call::DiskBind, own, 0x10, Status::BadArgument),
        (Call::DiskBind, reader, 3, Status::NoRight),
        (Call::DiskBind, page, 1, Status::NoRight),
        (Call::DiskBind, Capability([1, 2, 3, 4]), 1, Status::ForgedCapability),
        (Call::DiskFree, reader, 0, Status::NoRight),
        (Call::DiskFree, page, 0, Status::NoRight),
        (Call::Revoke, reader, 0, Status::NoRight),
    ] {
        assert_eq!(machine.call_with(one, call, capability, &[rights]), Err(expected), "{call:?}");
    }
    let part = machine.call_with(two, Call::Derive, theirs, &[60, 2 | 15 << 56]);
    assert_eq!(part, Err(Status::NoRight), "blocks are not executed");
    let part = machine.call_with(two, Call::Derive, theirs, &[60, 2 | 11 << 56]).map(Capability).unwrap();
    for call in [Call::DiskFree, Call::Revoke] {
        assert_eq!(machine.call_with(two, call, part, &[]), Err(Status::BadArgument), "{call:?} of a part");
    }
    for arguments in [[8, 4], [60, 4], [u64::MAX, u64::MAX]] {
        assert_eq!(machine.call(one, Call::DiskUnbind, &arguments), Err(Status::NotBound));
    }
    for frame in [0, ANY, u64::MAX - 2, page.claim().unwrap().first] {
        let refused = machine.call(one, Call::RingBind, &[frame]).unwrap_err();
        assert!(matches!(refused, Status::NotBound | Status::BadArgument), "RingBind {frame:x}");
    }
    assert_eq!(machine.call(one, Call::RingKick, &[]), Err(Status::NotBound));
    let ring = machine.ring(one);
    assert_eq!(machine.call(one, Call::RingBind, &[ring.first]), Err(Status::InUse));
    assert_eq!(machine.call(one, Call::PageUnbind, &[ring.first, 1, 0]), Err(Status::Busy));
    ring.spoil(1000);
    assert_eq!(machine.call(one, Call::RingKick, &[]), Err(Status::BadArgument));
    let after = machine.kernel.pages.frames.free_frames();
    assert_eq!(machine.kernel.pages.charged(one.environment).0, before.0.0 + (before.1 - after - 3));
}

#[test]
fn without_a_disk_its_calls_say_so() {
    let mut machine = Machine::new(Parts { blocks: 0, ..Parts::default() });
    let one = machine.add(Share::default());
    assert_eq!(machine.call(one, Call::DiskAlloc, &[ANY, 1]), Err(Status::NoDevice));
    assert_eq!(machine.call(one, Call::DiskUnbind, &[0, 1]), Err(Status::NotBound));
    for call in [Call::RingBind, Call::RingKick] {
        assert_eq!(machine.call(one, call, &[0]), Err(Status::NoDevice), "{call:?}");
    }
}

/// A map of written blocks is a frame: whoever can't pay for it gets no blocks, and pays nothing.
#[test]
fn blocks_that_cannot_be_paid_for_are_not_given() {
    let mut machine = Machine::new(Parts::default());
    let one = machine.add(Share { quota: 40, ..Share::default() });
    let room = machine.kernel.pages.room(one.environment);
    machine.allocate(one, ANY, room).unwrap();
    let before = machine.kernel.pages.charged(one.environment);
    assert_eq!(machine.call(one, Call::DiskAlloc, &[ANY, 4]), Err(Status::QuotaExceeded));
    assert_eq!(machine.kernel.pages.charged(one.environment), before);
    assert_eq!(machine.kernel.disk.as_ref().unwrap().owned_by(one.environment), 0);
}

#[test]
fn a_device_that_is_late_keeps_the_frames_and_then_gives_them_back() {
    let mut machine = Machine::with(1);
    let one = machine.vcpu(1);
    let ring = machine.ring(one);
    let (frame, capability) = machine.frames(one, 2);
    let block = machine.extent(one, 4);
    ring.request(Operation::Write, block, &[frame, frame + 1]);
    machine.call(one, Call::RingKick, &[]).unwrap();
    assert_eq!(machine.call_with(one, Call::PageFree, capability, &[]), Err(Status::Busy));
    assert_eq!(machine.call(one, Call::PageUnbind, &[frame + 1, 1, 0]), Err(Status::Busy));
    machine.kernel.signals.note_disk();
    machine.attend(u64::MAX);
    assert_eq!(ring.outcomes(), [Outcome::Timeout]);
    assert_eq!(
        machine.call_with(one, Call::PageFree, capability, &[]),
        Err(Status::Busy),
        "still in its hands"
    );
    machine.finish(1);
    assert!(ring.outcomes().is_empty(), "answered once");
    machine.call_with(one, Call::PageFree, capability, &[]).unwrap();
    let accounting = machine.kernel.environments.get(one.environment).unwrap().accounting;
    assert_eq!(accounting.disk_errors.load(Ordering::Relaxed), 1);
}

/// A device that holds nothing but what was given up has died: requests are answered at once.
#[test]
fn a_device_that_has_died_is_not_waited_for() {
    let mut machine = Machine::with(2);
    for number in [1, 2] {
        let who = machine.vcpu(number);
        let (ring, (frame, _)) = (machine.ring(who), machine.frames(who, 1));
        let block = machine.extent(who, 4);
        for _ in 0..SLOTS / 2 {
            ring.request(Operation::Write, block, &[frame]);
            machine.call(who, Call::RingKick, &[]).unwrap();
        }
        machine.attend(u64::MAX);
        assert_eq!(ring.outcomes(), vec![Outcome::Timeout; SLOTS / 2]);
        if number == 2 {
            ring.request(Operation::Write, block, &[frame]);
            machine.call(who, Call::RingKick, &[]).unwrap();
            assert_eq!(ring.outcomes(), [Outcome::Timeout]);
        }
    }
}

/// Whoever ends while the device has its frames and blocks leaves them to nobody before the device is done,
/// whoever asks.
#[test]
fn requests_in_flight_outlive_their_sender_and_harm_nobody() {
    for shared in [false, true] {
        let mut machine = Machine::with(3);
        let [one, two, three] = [1, 2, 3].map(|number| machine.vcpu(number));
        let ring = machine.ring(one);
        let (frame, capability) = machine.frames(one, 4);
        if shared {
            machine.bind(two, capability, Rights::READ).unwrap();
        }
        let block = machine.extent(one, 4);
        for operation in [Operation::Read, Operation::Write] {
            ring.request(operation, block, &[frame, frame + 1, frame + 2, frame + 3]);
        }
        ring.request(Operation::Write, block, &[frame]);
        machine.call(one, Call::RingKick, &[]).unwrap();
        assert_eq!(machine.disk.state().working.len(), 2, "a read of zeros needs no device");
        machine.end(one);
        assert!(machine.kernel.pages.lookup(two.environment, frame).is_none());
        let owner = |machine: &Machine| machine.kernel.pages.frames.owner(frame + 1);
        assert_eq!(owner(&machine), Owner::Leaving);
        assert_eq!(machine.allocate(three, frame + 1, 1), Err(Status::InUse));
        assert_eq!(machine.call(three, Call::DiskAlloc, &[block, 1]), Err(Status::InUse));
        machine.finish(1);
        assert_eq!(owner(&machine), Owner::Free);
        machine.finish(1);
        assert_eq!(machine.kernel.disk.as_ref().unwrap().requests(), 0);
        assert_eq!(machine.kernel.pages.charged(one.environment).0, 1, "its maps have come back");
        machine.allocate(three, frame, 4).unwrap();
        machine.call(three, Call::DiskAlloc, &[block, 4]).unwrap();
    }
}
