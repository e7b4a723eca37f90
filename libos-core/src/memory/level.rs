//! Tables that are extended while they are in use.

use super::paging::{self, Entry};
use super::physical::{linear_address, physical_address, root_address};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};
use hyperexo_abi::FRAME_SHIFT;

/// Entries of a table.
pub(super) const ENTRIES: u64 = 512;

/// A table that lives for ever, so that no processor walks memory that has become something else.
#[repr(C, align(4096))]
pub(super) struct Level(pub [AtomicU64; ENTRIES as usize]);

impl Level {
    /// An empty one.
    pub fn leak() -> &'static Level {
        Box::leak(Box::new(Level([const { AtomicU64::new(0) }; ENTRIES as usize])))
    }

    /// Physical address.
    pub fn physical(&self) -> u64 {
        physical_address(&raw const *self as u64).expect("a page of the heap")
    }
}

/// Enters a table into the top table, for good, as the one for `address`.
pub(super) fn enter(address: u64, table: &Level) {
    let entry = paging::root_index(address) as u64;
    let place = linear_address(root_address() >> FRAME_SHIFT) + 8 * entry;
    // SAFETY: the word is in the top table in use, which is ours and reached through the linear map. Nothing
    // was mapped there, so no processor has a translation of it.
    unsafe { (*(place as *const AtomicU64)).store(Entry::table(table.physical()).0, Ordering::Release) };
}
