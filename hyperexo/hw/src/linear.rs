//! Where physical memory is mapped: at its own addresses, or all of it at some distance.
//!
//! Devices and tables of the firmware are named by physical addresses. Who reaches them from an address space
//! of its own says once where that shows physical memory; until then it is mapped by identity.

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

/// Physical addresses among which device registers are reached: the fourth GiB. Where RAM reaches into it,
/// they lie above.
pub const DEVICE_REGISTERS: Range<u64> = 3 << 30..4 << 30;

/// Whether so many bytes from an address on lie in a range.
pub fn lies_in(address: u64, bytes: u64, range: &Range<u64>) -> bool {
    range.start <= address && address.checked_add(bytes).is_some_and(|end| end <= range.end)
}

/// Virtual address of physical address 0.
static BASE: AtomicU64 = AtomicU64::new(0);

/// Says where physical memory is mapped, if not by identity.
///
/// # Safety
///
/// Every physical address `p` that a device, the firmware's tables or the heap use is mapped at `base + p`,
/// from now on.
pub unsafe fn set_base(base: u64) {
    BASE.store(base, Ordering::Relaxed);
}

/// Where a physical address is mapped. Whether something is there is for the caller to know.
pub fn pointer<T>(physical: u64) -> *mut T {
    physical.wrapping_add(BASE.load(Ordering::Relaxed)) as *mut T
}

/// The physical address behind a pointer into linearly mapped memory.
pub fn physical<T>(pointer: *const T) -> u64 {
    (pointer as u64).wrapping_sub(BASE.load(Ordering::Relaxed))
}
