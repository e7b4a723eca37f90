//! The frames of this unikernel, and which addresses lead to them.

use crate::platform::{self, Area, Facts};
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::{FRAME_SHIFT, LINEAR_BASE, Page};

/// Frames acquired at run time, for heap, tables and stacks.
static ACQUIRED: AtomicU64 = AtomicU64::new(0);

/// The address at which the linear map shows a frame.
pub fn linear_address(frame: u64) -> u64 {
    LINEAR_BASE + (frame << FRAME_SHIFT)
}

/// The physical address behind a virtual one of the image, of the start-up stack or in the linear map. `None`
/// elsewhere.
pub fn physical_address(address: u64) -> Option<u64> {
    physical_in(platform::facts(), address)
}

fn physical_in(facts: &Facts, address: u64) -> Option<u64> {
    let linear =
        Area { virtual_start: LINEAR_BASE, physical_start: 0, bytes: facts.memory_end_frame << FRAME_SHIFT };
    [facts.image, facts.stack, linear].iter().find_map(|area| area.physical(address))
}

/// The frame that a page of the heap fills. `None` if the page is not in the linear map.
pub fn frame_of(page: &Page) -> Option<u64> {
    let offset = (&raw const *page as u64).checked_sub(LINEAR_BASE)?;
    let frame = offset >> FRAME_SHIFT;
    (frame < platform::facts().memory_end_frame).then_some(frame)
}

/// Physical address of the top page table in use.
pub(crate) fn root_address() -> u64 {
    let root: u64;
    // SAFETY: reading CR3 at privilege level 0 has no effect.
    unsafe { asm!("mov {}, cr3", out(reg) root, options(nomem, nostack, preserves_flags)) };
    root & 0x000f_ffff_ffff_f000
}

/// Allocates adjacent frames from the platform, bound read-write, and returns the first. They are never given
/// back.
pub(crate) fn acquire_frames(count: u64, alignment: u64) -> Result<u64, Status> {
    let first = platform::current().allocate_frames(count, alignment)?;
    ACQUIRED.fetch_add(count, Ordering::Relaxed);
    Ok(first)
}

/// Frames that this library has allocated since the start, for page tables, stacks and heap. The frames of
/// the image are not among them.
pub fn acquired_frames() -> u64 {
    ACQUIRED.load(Ordering::Relaxed)
}

/// Frames that the unikernel may own, those of its image included.
pub fn quota_frames() -> u64 {
    platform::facts().quota_frames
}

/// Frames of the machine that nobody owns.
pub fn free_frames() -> u64 {
    platform::current().free_frames()
}

/// Frames of the image: code, data, start-up stack.
pub fn image_frames() -> u64 {
    let facts = platform::facts();
    // A stack that lies in the image is not counted twice.
    let stack = if facts.image.holds(facts.stack) { 0 } else { facts.stack.bytes };
    (facts.image.bytes + stack) >> FRAME_SHIFT
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyperexo_abi::STACK_TOP;

    const FACTS: Facts = Facts::EXAMPLE;

    #[test]
    fn physical_addresses() {
        assert_eq!(physical_in(&FACTS, 0x10_0010), Some(0x30_0010));
        assert_eq!(physical_in(&FACTS, STACK_TOP - 1), Some(0x31_ffff));
        assert_eq!(physical_in(&FACTS, LINEAR_BASE + 77), Some(77));
        assert_eq!(physical_in(&FACTS, LINEAR_BASE + (16 << 20)), None);
        assert_eq!(physical_in(&FACTS, 0), None);
        assert_eq!(physical_in(&FACTS, STACK_TOP), None);
    }
}
