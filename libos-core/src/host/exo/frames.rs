//! Frames of HyperExo: allocated and bound at once, in runs of any length.

use super::hypercall;
use super::information::{free_map, start_info};
use core::sync::atomic::Ordering;
use hyperexo_abi::ANY;
use hyperexo_abi::capability::{Capability, Rights};
use hyperexo_abi::hypercall::{MAX_ALLOCATION_FRAMES, Status};

/// Allocates and binds `count` adjacent frames for good, the first a multiple of `alignment`.
pub(super) fn allocate(count: u64, alignment: u64) -> Result<u64, Status> {
    if count > MAX_ALLOCATION_FRAMES {
        return allocate_long_run(count, alignment);
    }
    let capability = hypercall::page_alloc(ANY, count, alignment)?;
    bind_fresh(&capability)
}

/// Binds frames that have just been allocated, read-write, and returns the first. If that fails, gives them
/// back.
pub(super) fn bind_fresh(capability: &Capability) -> Result<u64, Status> {
    let claim = capability.claim().ok_or(Status::BadArgument)?;
    // SAFETY: the frames are fresh: no Rust object lies in them.
    match unsafe { hypercall::page_bind(capability, Rights::READ_WRITE) } {
        Ok(()) => Ok(claim.first),
        Err(status) => {
            give_back(capability);
            Err(status)
        }
    }
}

/// Gives frames back that nobody uses.
pub(super) fn give_back(capability: &Capability) {
    // SAFETY: no Rust object lies in the frames: they are fresh, or the caller's caller promises it. If the
    // kernel refuses, they stay ours, unused.
    let _ = unsafe { hypercall::page_free(capability) };
}

/// Allocates more adjacent frames than one call gives. Finds them in the map of free frames and takes them by
/// number. If another environment takes one of them first, looks again.
fn allocate_long_run(count: u64, alignment: u64) -> Result<u64, Status> {
    /// How often others may be faster.
    const TRIES: usize = 8;
    if count > start_info().quota_frames {
        return Err(Status::QuotaExceeded);
    }
    let mut last = Status::Exhausted;
    for _ in 0..TRIES {
        let words = free_map().iter().map(|word| word.load(Ordering::Relaxed));
        let first = free_run(words, count, alignment).ok_or(Status::Exhausted)?;
        match take_run(first, count) {
            Ok(()) => return Ok(first),
            Err(Status::InUse) => last = Status::InUse,
            Err(status) => return Err(status),
        }
    }
    Err(last)
}

/// Allocates and binds particular frames, part by part. On an error it takes none of them.
///
/// The heap calls this to grow, so the stack remembers the parts, one level for each: 64 for a gigabyte.
fn take_run(first: u64, count: u64) -> Result<(), Status> {
    let part = MAX_ALLOCATION_FRAMES.min(count);
    let capability = hypercall::page_alloc(first, part, 1)?;
    bind_fresh(&capability)?;
    if part == count {
        return Ok(());
    }
    take_run(first + part, count - part).inspect_err(|_| give_back(&capability))
}

/// The first frame of the lowest run of `count` frames that are free by the words of a map. It is a multiple
/// of `alignment`.
fn free_run(words: impl Iterator<Item = u64>, count: u64, alignment: u64) -> Option<u64> {
    let bits = words.flat_map(|word| (0..64).map(move |bit| word >> bit & 1 != 0));
    let mut first = None;
    for (frame, free) in (0u64..).zip(bits) {
        if !free {
            first = None;
        } else if first.is_none() && frame.is_multiple_of(alignment) {
            first = Some(frame);
        }
        if let Some(first) = first.filter(|first| frame - first + 1 == count) {
            return Some(first);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found_in_the_map() {
        // Frames 3 to 69 and from 72 on are free.
        let map = [!0 << 3, !(0b11 << 6), !0];
        let find = |count, alignment| free_run(map.into_iter(), count, alignment);
        assert_eq!(find(1, 1), Some(3));
        assert_eq!(find(67, 1), Some(3));
        assert_eq!(find(68, 1), Some(72));
        assert_eq!(find(64, 64), Some(128));
        assert_eq!(find(65, 64), None);
        assert_eq!(find(60, 4), Some(4));
        assert_eq!(find(66, 4), Some(4));
        assert_eq!(find(67, 4), Some(72));
        assert_eq!(find(64, 32), Some(96));
        assert_eq!(find(121, 1), None);
    }
}
