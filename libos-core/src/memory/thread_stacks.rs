//! Stacks of threads: each at the top of a slot of its own, with nothing mapped below it.
//!
//! ```text
//! slot start                                                     slot end
//!  │ nothing: guard                    │ stack, grows down  ← │ Here │
//! ```
//!
//! A stack is never unmapped. When its thread has ended, the next thread gets it, and what is missing is
//! mapped below. So no processor ever has a translation that is not true any more.

use super::level::{self, ENTRIES, Level};
use super::paging::{self, Entry, Protection};
use super::physical::acquire_frames;
use crate::cpu::lock::Masked;
use crate::cpu::section::{HERE_BYTES, SLOT_BYTES, THREAD_STACKS};
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::{FRAME_BYTES, FRAME_SHIFT};

/// Most bytes of a thread's stack: three quarters of its slot.
pub const MOST_STACK_BYTES: u64 = SLOT_BYTES / 4 * 3;
/// Slots that there can be.
const MOST_SLOTS: u64 = (1 << 39) / SLOT_BYTES;
/// Bytes that a table of the lowest level maps.
const LEAF_BYTES: u64 = paging::LARGE_BYTES;

/// The slots.
struct Slots {
    /// The table in the top table's entry, once there is one.
    top: Option<&'static Level>,
    directories: Vec<&'static Level>,
    leaves: Vec<&'static Level>,
    /// Pages that are mapped in each slot.
    pages: Vec<u64>,
    free: Vec<usize>,
}

static SLOTS: Masked<Slots> = Masked::new(Slots {
    top: None,
    directories: Vec::new(),
    leaves: Vec::new(),
    pages: Vec::new(),
    free: Vec::new(),
});

/// A stack that somebody has. Dropped when nobody runs on it any more, it is the next one's.
#[derive(Debug)]
pub(crate) struct ThreadStack {
    slot: usize,
    bytes: u64,
}

impl ThreadStack {
    /// A stack of so many bytes, rounded up to pages, [`MOST_STACK_BYTES`] at most. The last [`HERE_BYTES`]
    /// of them are not for use.
    ///
    /// # Errors
    ///
    /// The platform's answer if there are no frames; [`Status::BadArgument`] if that is too much,
    /// [`Status::Exhausted`] if there are as many stacks as there can be.
    pub fn take(bytes: u64) -> Result<ThreadStack, Status> {
        if bytes > MOST_STACK_BYTES {
            return Err(Status::BadArgument);
        }
        let pages = bytes.div_ceil(FRAME_BYTES as u64).max(1);
        let slots = &mut *SLOTS.lock();
        let slot = slots.free.pop().unwrap_or(slots.pages.len());
        if slot == slots.pages.len() {
            if slot as u64 == MOST_SLOTS {
                return Err(Status::Exhausted);
            }
            slots.pages.push(0);
        }
        match slots.map(slot, pages) {
            Ok(()) => Ok(ThreadStack { slot, bytes: slots.pages[slot] * FRAME_BYTES as u64 - HERE_BYTES }),
            Err(status) => {
                slots.free.push(slot);
                Err(status)
            }
        }
    }

    /// Its slot.
    pub fn slot(&self) -> Range<u64> {
        let start = THREAD_STACKS + self.slot as u64 * SLOT_BYTES;
        start..start + SLOT_BYTES
    }

    /// The bytes to be used.
    pub fn range(&self) -> Range<u64> {
        let end = self.slot().end - HERE_BYTES;
        end - self.bytes..end
    }
}

impl Drop for ThreadStack {
    fn drop(&mut self) {
        SLOTS.lock().free.push(self.slot);
    }
}

/// The mapped part of the slot in which an address lies, that of the guard included; `None` if nothing is
/// mapped there or it is no slot.
pub(crate) fn thread_stack_of(address: u64) -> Option<Range<u64>> {
    let number = address.checked_sub(THREAD_STACKS)? / SLOT_BYTES;
    let pages = *crate::cpu::lock::lock_within(&SLOTS, 1)?.pages.get(usize::try_from(number).ok()?)?;
    let end = THREAD_STACKS + (number + 1) * SLOT_BYTES - HERE_BYTES;
    (pages > 0).then(|| end + HERE_BYTES - pages * FRAME_BYTES as u64..end)
}

impl Slots {
    /// Maps what a slot lacks of so many pages.
    fn map(&mut self, slot: usize, pages: u64) -> Result<(), Status> {
        let missing = pages.saturating_sub(self.pages[slot]);
        if missing == 0 {
            return Ok(());
        }
        let frames = acquire_frames(missing, 1)?;
        let end = (slot as u64 + 1) * SLOT_BYTES;
        for (number, frame) in (self.pages[slot]..pages).zip(frames..) {
            let offset = end - (number + 1) * FRAME_BYTES as u64;
            let entry = &self.leaf(offset).0[(offset >> FRAME_SHIFT) as usize % ENTRIES as usize];
            entry.store(Entry::new(frame << FRAME_SHIFT, Protection::Write).0, Ordering::Release);
        }
        self.pages[slot] = pages;
        Ok(())
    }

    /// The lowest table for an offset from the first slot. Slots come one after the other, so tables do.
    fn leaf(&mut self, offset: u64) -> &'static Level {
        let top = *self.top.get_or_insert_with(|| {
            let top = Level::leak();
            level::enter(THREAD_STACKS, top);
            top
        });
        let number = (offset / LEAF_BYTES) as usize;
        while self.leaves.len() <= number {
            let at = self.leaves.len();
            if at.is_multiple_of(ENTRIES as usize) {
                self.directories.push(below(&top.0[self.directories.len()]));
            }
            let directory = self.directories[at / ENTRIES as usize];
            self.leaves.push(below(&directory.0[at % ENTRIES as usize]));
        }
        self.leaves[number]
    }
}

/// A new table behind an entry.
fn below(entry: &AtomicU64) -> &'static Level {
    let table = Level::leak();
    entry.store(Entry::table(table.physical()).0, Ordering::Release);
    table
}
