//! The heap: single pages from a list of their own, everything else from `talc`; both grow on demand.
//!
//! Pages (4096 bytes, aligned to as many) travel to devices and fill caches. A general allocator puts its
//! notes beside every block, so two such pages never lie next to each other, and half of the memory is lost.
//! The list has no notes.
//!
//! The heap grows by runs of frames, each twice as long as the one before, from [`FIRST_RUN`] to
//! [`LAST_RUN`]. The longest are aligned, so that one large entry of a nested page table can bind them. If
//! the quota does not allow a run, the heap asks for half of it.

use super::physical::{acquire_frames, linear_address};
use crate::cpu::lock::{Masked, MaskedRaw};
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU64, Ordering};
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::{FRAME_BYTES, LARGE_FRAMES};
use talc::TalcLock;
use talc::base::{Talc, binning::Binning};
use talc::source::Source;

/// Frames of the first run.
pub const FIRST_RUN: u64 = 4;
/// Frames of the longest run, unless one object needs more.
pub const LAST_RUN: u64 = LARGE_FRAMES;

/// Blocks up to this size are cut from single pages while the heap is small.
const SMALL_BYTES: usize = FRAME_BYTES / 4;
/// Single pages that the general heap takes before it asks for runs.
const SINGLE_PAGES: u64 = 16;

static PAGES: Masked<PageList> = Masked::new(PageList::new());
static GENERAL: TalcLock<MaskedRaw, Growth> = TalcLock::new(Growth { next_run: FIRST_RUN, single_pages: 0 });

/// The last growth that failed: frames asked for, and the status. 0 frames: none.
static REFUSED_FRAMES: AtomicU64 = AtomicU64::new(0);
static REFUSED_STATUS: AtomicU64 = AtomicU64::new(0);

/// Bytes that are given out.
static ALLOCATED_BYTES: AtomicU64 = AtomicU64::new(0);

/// Bytes that the program has on the heap: what it asked for and has not given back.
pub fn allocated_bytes() -> u64 {
    ALLOCATED_BYTES.load(Ordering::Relaxed)
}

/// The heap as the global allocator; [`crate::main!`] declares it. All values are the same heap.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heap;

fn is_page(layout: Layout) -> bool {
    layout.size() == FRAME_BYTES && layout.align() == FRAME_BYTES
}

// SAFETY: both parts give out memory that is theirs alone, with the size and alignment asked for. A block
// returns to the part it came from, as its layout tells.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = if is_page(layout) {
            PAGES.lock().take().map_or(ptr::null_mut(), NonNull::as_ptr)
        } else {
            // SAFETY: the caller's promise is passed on.
            unsafe { GENERAL.alloc(layout) }
        };
        if !block.is_null() {
            ALLOCATED_BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        ALLOCATED_BYTES.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        if is_page(layout) {
            // SAFETY: the block came from the list, as its layout says, and the caller gives it up.
            unsafe { PAGES.lock().put(block as u64) }
        } else {
            // SAFETY: the block came from the general heap, as its layout says.
            unsafe { GENERAL.dealloc(block, layout) }
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller promises that `new_size`, rounded up to the alignment, is a valid size.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        if !is_page(layout) && !is_page(new_layout) {
            // SAFETY: block and new size both belong to the general heap.
            let new_block = unsafe { GENERAL.realloc(block, layout, new_size) };
            if !new_block.is_null() {
                // Modulo 2^64, as the counter is.
                let more = (new_size as u64).wrapping_sub(layout.size() as u64);
                ALLOCATED_BYTES.fetch_add(more, Ordering::Relaxed);
            }
            return new_block;
        }
        // SAFETY: the layout is valid. The blocks are different, and both are at least as long as the copy.
        unsafe {
            let new_block = self.alloc(new_layout);
            if !new_block.is_null() {
                ptr::copy_nonoverlapping(block, new_block, layout.size().min(new_size));
                self.dealloc(block, layout);
            }
            new_block
        }
    }
}

/// Gives a frame to the heap.
///
/// # Safety
///
/// The frame must be bound read-write, in the linear map, and used by nobody.
pub(crate) unsafe fn donate(frame: u64) {
    // SAFETY: by the caller's promise.
    unsafe { PAGES.lock().put(linear_address(frame)) };
}

/// The last time the heap could not grow: frames asked for, and why not.
pub(crate) fn last_refusal() -> Option<(u64, Status)> {
    let frames = REFUSED_FRAMES.load(Ordering::Relaxed);
    let status = Status::from_number(REFUSED_STATUS.load(Ordering::Relaxed))?;
    (frames != 0).then_some((frames, status))
}

/// The lengths of run to ask for, one after the other: `preferred` frames first, halved until `needed`.
fn run_lengths(preferred: u64, needed: u64) -> impl Iterator<Item = u64> {
    core::iter::successors(Some(preferred.max(needed)), move |length| {
        (*length > needed).then(|| (length / 2).max(needed))
    })
}

/// Frames from the platform: as many as preferred if possible, never fewer than needed.
fn acquire_run(preferred: u64, needed: u64) -> Option<(u64, u64)> {
    let mut refused = Status::Exhausted;
    for length in run_lengths(preferred, needed) {
        let alignment = if length >= LARGE_FRAMES { LARGE_FRAMES } else { 1 };
        match acquire_frames(length, alignment) {
            Ok(first) => return Some((first, length)),
            Err(status) => refused = status,
        }
    }
    REFUSED_STATUS.store(refused as u64, Ordering::Relaxed);
    REFUSED_FRAMES.store(needed, Ordering::Relaxed);
    None
}

/// Pages that are free: a list through the pages themselves, and a run that has not been touched yet.
///
/// Invariant: every page of list and run is writable, in the linear map, and used by nobody.
struct PageList {
    /// Address of the first page of the list, whose first word is the address of the next; 0 ends it.
    head: u64,
    /// Address of the first untouched page.
    fresh: u64,
    /// Untouched pages.
    fresh_pages: u64,
    /// Frames to ask for next.
    next_run: u64,
}

impl PageList {
    const fn new() -> PageList {
        PageList { head: 0, fresh: 0, fresh_pages: 0, next_run: FIRST_RUN }
    }

    /// A page, from the list, the run or the platform.
    fn take(&mut self) -> Option<NonNull<u8>> {
        if let Some(page) = self.take_listed() {
            return Some(page);
        }
        if self.fresh_pages == 0 {
            let (first, frames) = acquire_run(self.next_run, 1)?;
            self.fresh = linear_address(first);
            self.fresh_pages = frames;
            self.next_run = (frames * 2).min(LAST_RUN);
        }
        self.take_fresh(1).and_then(|page| NonNull::new(page as *mut u8))
    }

    /// The address of `pages` adjacent untouched pages, if there are so many.
    fn take_fresh(&mut self, pages: u64) -> Option<u64> {
        let start = self.fresh;
        self.fresh_pages = self.fresh_pages.checked_sub(pages)?;
        self.fresh += pages * FRAME_BYTES as u64;
        Some(start)
    }

    /// A page from the list.
    fn take_listed(&mut self) -> Option<NonNull<u8>> {
        let page = NonNull::new(self.head as *mut u8)?;
        // SAFETY: by the invariant the page is readable memory of ours; `put` has written its first word.
        self.head = unsafe { page.cast::<u64>().read() };
        Some(page)
    }

    /// Adds a page to the list.
    ///
    /// # Safety
    ///
    /// The page must satisfy the invariant.
    unsafe fn put(&mut self, page: u64) {
        // SAFETY: by the caller's promise the page is writable and in no use.
        unsafe { (page as *mut u64).write(self.head) };
        self.head = page;
    }
}

/// How the general heap grows.
#[derive(Debug)]
struct Growth {
    /// Frames to ask for next.
    next_run: u64,
    /// Single pages taken.
    single_pages: u64,
}

// SAFETY: `acquire` gets memory from `PAGES` and the platform only. Neither allocates from the heap.
unsafe impl Source for Growth {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        let small = layout.size() <= SMALL_BYTES && layout.align() <= SMALL_BYTES;
        if small && talc.source.single_pages < SINGLE_PAGES {
            let page = PAGES.lock().take_listed();
            if let Some(page) = page {
                talc.source.single_pages += 1;
                // SAFETY: the page has left the list and is used by nobody else.
                return unsafe { talc.claim(page.as_ptr(), FRAME_BYTES) }.map(drop).ok_or(());
            }
        }
        let needed = frames_needed::<B>(layout, talc.is_metadata_established()).ok_or(())?;
        let (base, frames) = match acquire_run(talc.source.next_run, needed) {
            Some((first, frames)) => {
                talc.source.next_run = (talc.source.next_run * 2).min(LAST_RUN);
                (linear_address(first), frames)
            }
            // The platform gives no more, but the page list may have untouched pages left.
            None => (PAGES.lock().take_fresh(needed).ok_or(())?, needed),
        };
        // SAFETY: the frames are fresh, writable and used by nobody else.
        unsafe { talc.claim(base as *mut u8, frames as usize * FRAME_BYTES) }.map(drop).ok_or(())
    }
}

/// Frames in which `talc` surely finds room for a block, its own notes included.
fn frames_needed<B: Binning>(layout: Layout, has_metadata: bool) -> Option<u64> {
    let notes =
        4 * talc::base::CHUNK_UNIT + if has_metadata { 0 } else { talc::min_first_heap_layout::<B>().size() };
    let bytes = layout.size().checked_add(layout.align())?.checked_add(notes)?;
    Some(bytes.div_ceil(FRAME_BYTES) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{vec, vec::Vec};
    use hyperexo_abi::Page;

    #[test]
    fn runs_shrink_to_what_is_needed() {
        assert_eq!(run_lengths(64, 1).collect::<Vec<_>>(), [64, 32, 16, 8, 4, 2, 1]);
        assert_eq!(run_lengths(64, 24).collect::<Vec<_>>(), [64, 32, 24]);
        assert_eq!(run_lengths(4, 100).collect::<Vec<_>>(), [100]);
        assert_eq!(run_lengths(1, 1).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn only_pages_are_pages() {
        assert!(is_page(Layout::new::<Page>()));
        assert!(!is_page(Layout::new::<[Page; 2]>()));
        assert!(!is_page(Layout::new::<[u8; FRAME_BYTES]>()));
    }

    #[test]
    fn the_list_returns_the_pages_it_was_given() {
        let mut memory = vec![Page([0xff; FRAME_BYTES]); 3];
        let mut list = PageList::new();
        let mut addresses: Vec<u64> = memory.iter_mut().map(|page| &raw mut *page as u64).collect();
        for address in &addresses {
            // SAFETY: the pages of `memory` are used by the list only.
            unsafe { list.put(*address) };
        }
        let mut taken = Vec::new();
        while let Some(page) = list.take_listed() {
            taken.push(page.as_ptr() as u64);
        }
        addresses.reverse();
        assert_eq!(taken, addresses);
    }

    #[test]
    fn untouched_pages_are_taken_in_runs() {
        let mut list = PageList { fresh: 0x10_0000, fresh_pages: 5, ..PageList::new() };
        assert_eq!(list.take_fresh(6), None);
        assert_eq!(list.take_fresh(4), Some(0x10_0000));
        assert_eq!(list.take_fresh(2), None);
        assert_eq!(list.take_fresh(1), Some(0x10_4000));
        assert_eq!((list.take_fresh(1), list.fresh_pages), (None, 0));
    }

    #[test]
    fn growth_leaves_room_for_notes() {
        let frames = |bytes, align| {
            let layout = Layout::from_size_align(bytes, align).unwrap();
            frames_needed::<talc::DefaultBinning>(layout, true)
        };
        assert_eq!(frames(16, 8), Some(1));
        assert_eq!(frames(FRAME_BYTES, 8), Some(2));
        assert_eq!(frames(2 * FRAME_BYTES, FRAME_BYTES), Some(4));
    }
}
