//! Windows: runs of virtual memory whose page faults the application answers, inside the image and without
//! an exit.
//!
//! ```text
//! program ── word of a Cells ── not mapped ── page fault ── handler of the window ── Pages::insert ── again
//! ```
//!
//! [`Pages`] is what a handler works with: it puts pages of the heap into the window, takes them out, changes
//! what is allowed, and reads the bits that the processor sets (used, written). A [`Window`] lends its memory
//! as [`Cells`]. A program that touches a page which is not there has its handler called; afterwards the
//! access is made again. If the handler gives up, the unikernel ends with a report that names the page and
//! the reason.
//!
//! Which page comes and which one goes is not decided here: see the crate `libos-pager`.
//!
//! # Why this is sound
//!
//! * Memory is lent as words that are read and written one at a time, as atomics. So a handler that fills a
//!   page with something else than was there can confuse the program, but not the compiler.
//! * A page is either mapped and the window's, or somebody's `Box<Page>`. [`Pages::remove`] ends the mapping
//!   and its translation before it gives the box back.
//! * Windows, [`Pages`] and [`Cells`] stay with the thread that made them, and that stays on its core as long
//!   as it has a window. So no other core has translations of their addresses in use. The tables of a window
//!   are never freed; the next window takes them over.
//! * An access that can't be answered never returns.

mod caching;
mod cells;
mod fault;
mod frames;
mod slots;

pub use cells::{Cells, Word};
pub use fault::{Fault, Handler, Refusal};
pub(crate) use fault::{answer, failure};
pub use slots::{MOST_WINDOW_PAGES, MOST_WINDOWS};

pub use super::paging::{Caching, Protection};
pub use caching::CachingError;
pub use frames::FrameError;

use super::frames::SharedFrames;
use super::lent::Lent;
use super::paging::Entry;
use super::physical::{linear_address, physical_address};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::arch::asm;
use core::cell::RefCell;
use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use fault::Registered;
use hyperexo_abi::{FRAME_BYTES, FRAME_SHIFT, LARGE_FRAMES, Page};
use slots::Slot;
pub use slots::WindowError;

/// Bits of an address within a large page.
const LARGE_SHIFT: u32 = FRAME_SHIFT + LARGE_FRAMES.trailing_zeros();

/// What a page of a window holds.
enum Content {
    Nothing,
    Owned(Lent),
    Shared(Rc<SharedPage>),
    /// One of them, counted from their first.
    Frame(Rc<SharedFrames>, u64),
    /// 512 of them from this one on, as a large page.
    Large(Rc<SharedFrames>, u64),
    /// Part of the large page that begins at the multiple of 512 before.
    Within,
}

/// A page that several places of windows show: see [`Pages::insert_shared`].
pub struct SharedPage(Option<Lent>);

impl SharedPage {
    /// Makes a page shareable.
    pub fn new(page: Box<Page>) -> Rc<SharedPage> {
        Rc::new(SharedPage(Some(Lent::new(page))))
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        if let Some(lent) = self.0.take() {
            // SAFETY: whoever maps the page holds a reference to this value. So nobody maps it any more.
            drop(unsafe { lent.back() });
        }
    }
}

impl fmt::Debug for SharedPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedPage(..)")
    }
}

/// What was taken out of a window.
#[derive(Debug)]
pub enum Taken {
    /// A page that was this place's alone.
    Owned(Box<Page>),
    /// A page that other places may show, too.
    Shared(Rc<SharedPage>),
    /// Frames, which go when nobody shows them any more.
    Frames(Rc<SharedFrames>),
}

/// The pages of a window, counted from 0. All that a handler can do.
///
/// Invariant: an entry of the slot's tables is present only if `contents` holds that page at its place.
pub struct Pages {
    slot: Slot,
    contents: RefCell<Vec<Content>>,
}

impl Pages {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.slot.pages()
    }

    /// The entry of a page: that of the large page if it is part of one.
    fn entry(&self, page: u64) -> &'static AtomicU64 {
        assert!(page < self.count(), "page {page} of a window of {}", self.count());
        let entry = self.slot.entry(page);
        // The table that a large page stands for is empty, so most pages need no look at what they hold.
        if entry.load(Ordering::Relaxed) != 0 || !self.is_large(page) {
            return entry;
        }
        self.slot.directory_entry(page).unwrap_or(entry)
    }

    /// Whether a page is part of a large one.
    fn is_large(&self, page: u64) -> bool {
        matches!(self.contents.borrow().get(page as usize), Some(Content::Large(..) | Content::Within))
    }

    /// Whether a page is there, accessible or not.
    pub fn is_there(&self, page: u64) -> bool {
        self.contents.borrow().get(page as usize).is_some_and(|content| !matches!(content, Content::Nothing))
    }

    /// Puts a page in.
    ///
    /// # Panics
    ///
    /// If there is one already, no such place, or the page does not lie on the heap. So do the other
    /// functions that put pages in.
    pub fn insert(&self, page: u64, contents: Box<Page>, protection: Protection) {
        let address = &raw const *contents as u64;
        self.place(page, address, Content::Owned(Lent::new(contents)), protection);
    }

    /// Puts in a page that others may show, too: in this window or another one, with rights of their own.
    pub fn insert_shared(&self, page: u64, contents: &Rc<SharedPage>, protection: Protection) {
        let address = contents.0.as_ref().map_or(0, Lent::address);
        self.place(page, address, Content::Shared(Rc::clone(contents)), protection);
    }

    fn place(&self, page: u64, address: u64, content: Content, protection: Protection) {
        let physical = physical_address(address).expect("a page of the heap");
        self.place_physical(page, physical, content, protection);
    }

    fn place_physical(&self, page: u64, physical: u64, content: Content, protection: Protection) {
        let entry = self.entry(page);
        let place = &mut self.contents.borrow_mut()[page as usize];
        assert!(matches!(place, Content::Nothing), "page {page} of the window is there already");
        *place = content;
        // Nothing was mapped there, so there is no translation to end.
        entry.store(Entry::new(physical, protection).0, Ordering::Release);
    }

    /// Takes a page out. `None` if there is none. A large page goes as a whole, by its first page.
    pub fn remove(&self, page: u64) -> Option<Taken> {
        if self.is_large(page) {
            return self.remove_large(page);
        }
        let content =
            core::mem::replace(self.contents.borrow_mut().get_mut(page as usize)?, Content::Nothing);
        if matches!(content, Content::Nothing) {
            return None;
        }
        self.entry(page).store(0, Ordering::Release);
        self.end_translation(page);
        match content {
            // SAFETY: the mapping and its translation have ended, and `contents` had the only way to it.
            Content::Owned(lent) => Some(Taken::Owned(unsafe { lent.back() })),
            Content::Shared(page) => Some(Taken::Shared(page)),
            Content::Frame(frames, _) | Content::Large(frames, _) => Some(Taken::Frames(frames)),
            Content::Nothing | Content::Within => None,
        }
    }

    /// Takes a page out that is this place's alone. One that is shared stays, and the answer is `None`.
    pub fn remove_owned(&self, page: u64) -> Option<Box<Page>> {
        if !matches!(self.contents.borrow().get(page as usize)?, Content::Owned(_)) {
            return None;
        }
        match self.remove(page)? {
            Taken::Owned(page) => Some(page),
            Taken::Shared(_) | Taken::Frames(_) => None,
        }
    }

    /// Makes a page that is there shareable, without moving it; returns it, to be shown elsewhere. `None` for
    /// frames, which can be shown elsewhere as they are.
    pub fn share(&self, page: u64) -> Option<Rc<SharedPage>> {
        let place = &mut self.contents.borrow_mut()[page as usize];
        let shared = match core::mem::replace(place, Content::Nothing) {
            Content::Nothing => return None,
            Content::Owned(lent) => Rc::new(SharedPage(Some(lent))),
            Content::Shared(shared) => shared,
            // Who put it in has the frames.
            other => {
                *place = other;
                return None;
            }
        };
        *place = Content::Shared(Rc::clone(&shared));
        Some(shared)
    }

    /// Shows a page at a second place, with rights of its own (Appel and Li's MAP2). Returns whether there
    /// was a page.
    ///
    /// # Panics
    ///
    /// If the second place has a page already, or there are no such places.
    pub fn show(&self, page: u64, at: &Pages, place: u64, protection: Protection) -> bool {
        self.share(page).map(|shared| at.insert_shared(place, &shared, protection)).is_some()
    }

    /// The address of a page: a number, to be told or compared.
    pub fn address(&self, page: u64) -> u64 {
        self.slot.address(page)
    }

    /// Changes what is allowed on a page. Nothing happens if it is not there.
    ///
    /// # Panics
    ///
    /// If there is no such place.
    pub fn protect(&self, page: u64, protection: Protection) {
        change_protection(self.entry(page), protection);
        self.end_translation(page);
    }

    /// Changes what is allowed on adjacent pages. Many translations are ended at once. A large page changes
    /// as a whole.
    ///
    /// # Panics
    ///
    /// If there are no such places.
    pub fn protect_all(&self, pages: Range<u64>, protection: Protection) {
        for (_, entries) in self.slot.entries(&pages) {
            entries.iter().for_each(|entry| change_protection(entry, protection));
        }
        self.end_translations(pages);
    }

    /// Calls `each` with the pages among these that have been written since they were put in, or since this
    /// was asked last, and forgets that they were written. Many translations are ended at once.
    ///
    /// # Panics
    ///
    /// If there are no such places.
    pub fn take_written(&self, pages: Range<u64>, mut each: impl FnMut(u64)) {
        let mut any = false;
        for (part, entries) in self.slot.entries(&pages) {
            let is_large = entries.len() < (part.end - part.start) as usize;
            for (page, entry) in part.clone().zip(entries) {
                if Entry(entry.load(Ordering::Relaxed)).written() {
                    entry.fetch_and(!Entry::WRITTEN, Ordering::AcqRel);
                    any = true;
                    if is_large { part.clone().for_each(&mut each) } else { each(page) }
                }
            }
        }
        if any {
            self.end_translations(pages);
        }
    }

    /// Whether a page has been used since [`Pages::clear_used`].
    pub fn used(&self, page: u64) -> bool {
        Entry(self.entry(page).load(Ordering::Relaxed)).used()
    }

    /// Forgets that a page was used.
    pub fn clear_used(&self, page: u64) {
        self.bits().clear_used(page);
    }

    /// Notes that a page was used, as the processor would.
    pub fn mark_used(&self, page: u64) {
        self.entry(page).fetch_or(Entry::USED, Ordering::AcqRel);
    }

    /// Whether a page has been written since it was put in, or since [`Pages::clear_written`].
    pub fn written(&self, page: u64) -> bool {
        Entry(self.entry(page).load(Ordering::Relaxed)).written()
    }

    /// Notes that a page was written, as the processor would.
    pub fn mark_written(&self, page: u64) {
        self.entry(page).fetch_or(Entry::WRITTEN, Ordering::AcqRel);
    }

    /// Forgets that a page was written.
    pub fn clear_written(&self, page: u64) {
        self.entry(page).fetch_and(!Entry::WRITTEN, Ordering::AcqRel);
        self.end_translation(page);
    }

    /// Copies a page out, whatever is allowed on it.
    pub fn copy(&self, page: u64) -> Option<Box<Page>> {
        let address = match self.contents.borrow().get(page as usize)? {
            Content::Nothing => return None,
            Content::Owned(lent) => lent.address(),
            Content::Shared(shared) => shared.0.as_ref().map_or(0, Lent::address),
            Content::Frame(frames, number) => linear_address(frames.first() + number),
            Content::Large(frames, number) => linear_address(frames.first() + number),
            Content::Within => linear_address(self.frame(page)?),
        };
        let mut copy = Box::new(Page([0; FRAME_BYTES]));
        for (word, bytes) in (address..).step_by(8).zip(copy.0.chunks_exact_mut(8)) {
            // SAFETY: the page is on the heap, as `contents` holds it; its words are only used as atomics.
            let word = unsafe { (*(word as *const AtomicU64)).load(Ordering::Relaxed) };
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        Some(copy)
    }

    /// The number of the frame behind a page that is there.
    pub fn frame(&self, page: u64) -> Option<u64> {
        if !self.is_there(page) {
            return None;
        }
        let physical = Entry(self.entry(page).load(Ordering::Relaxed)).physical();
        // The lowest bit of a large page's address is one of its caching.
        let large = self.is_large(page);
        Some(if large {
            (physical >> LARGE_SHIFT << (LARGE_SHIFT - FRAME_SHIFT)) + page % LARGE_FRAMES
        } else {
            physical >> FRAME_SHIFT
        })
    }

    /// The bits that the processor sets, for a policy that asks for them itself.
    pub fn bits(&self) -> PageBits {
        PageBits(self.slot.clone_view())
    }

    fn end_translation(&self, page: u64) {
        end_translation(self.slot.address(page));
    }

    fn end_translations(&self, pages: Range<u64>) {
        /// From so many pages on, emptying the TLB takes less than ending translations one by one.
        const MANY: u64 = 32;
        if pages.end.saturating_sub(pages.start) >= MANY {
            return end_translations();
        }
        pages.for_each(|page| self.end_translation(page));
    }
}

/// Nobody can reach the window any more; its pages go back to the heap.
impl Drop for Pages {
    fn drop(&mut self) {
        (0..self.count()).for_each(|page| drop(self.remove(page)));
    }
}

/// Whether pages of a window were used. It may go to other cores, but sees and changes nothing else.
#[derive(Clone)]
pub struct PageBits(slots::View);

impl PageBits {
    /// Whether a page has been used since [`PageBits::clear_used`].
    pub fn used(&self, page: u64) -> bool {
        self.0.entry(page).is_some_and(|entry| Entry(entry.load(Ordering::Relaxed)).used())
    }

    /// Forgets that a page was used.
    pub fn clear_used(&self, page: u64) {
        if let Some(entry) = self.0.entry(page) {
            entry.fetch_and(!Entry::USED, Ordering::AcqRel);
            // The processor sets the bit only when it loads the entry.
            end_translation(self.0.address(page));
        }
    }
}

/// Changes what an entry allows. Nothing happens if no page is there: its entry is 0, as no page of the heap
/// has physical address 0.
fn change_protection(entry: &AtomicU64, protection: Protection) {
    // The processor may set a bit meanwhile.
    let change = |old| (old != 0).then(|| Entry(old).with(protection).0);
    let _ = entry.fetch_update(Ordering::AcqRel, Ordering::Relaxed, change);
}

/// Ends the translation of an address on the calling core.
fn end_translation(address: u64) {
    // SAFETY: what is ended is made again from the tables when it is needed.
    unsafe { asm!("invlpg [{}]", in(reg) address, options(nostack, preserves_flags)) };
}

/// Ends all translations on the calling core.
fn end_translations() {
    // SAFETY: the same table is loaded again.
    unsafe { asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack, preserves_flags)) };
}

/// A run of virtual memory with a handler for its page faults.
pub struct Window {
    pages: Rc<Pages>,
    /// `None` until there is a handler.
    registered: Option<Registered>,
}

impl Window {
    /// A window of `pages` pages, none of which is there.
    ///
    /// # Errors
    ///
    /// [`WindowError`].
    ///
    /// # Panics
    ///
    /// In a test program of the host.
    pub fn new(pages: u64) -> Result<Window, WindowError> {
        let slot = Slot::take(pages)?;
        let contents = (0..pages).map(|_| Content::Nothing).collect();
        Ok(Window { pages: Rc::new(Pages { slot, contents: RefCell::new(contents) }), registered: None })
    }

    /// Its pages.
    pub fn pages(&self) -> &Rc<Pages> {
        &self.pages
    }

    /// Has page faults in the window answered by `handler`. Until then, any ends the unikernel.
    ///
    /// It is called on the stack of the program that faulted, with interrupts enabled, so that it can wait
    /// for a disk. If it panics, or touches a page of the same window that is not there, the unikernel ends
    /// with a report.
    pub fn set_handler(&mut self, handler: Box<Handler>) {
        self.registered().change(|answerer| answerer.handler = Some(handler));
    }

    /// Has `handler` asked first. It returns whether the access is to be made again; if not, the handler of
    /// [`Window::set_handler`] is called.
    ///
    /// It takes a tenth of the instructions of the usual way, and so it may do less ([`crate::quick`]): it
    /// runs on a small stack with interrupts disabled, does not wait, and touches no page that is not there.
    ///
    /// It is not asked where the program's stack lies below the core's stack for exceptions, as a thread's
    /// may: a window that threads use has a handler of the other kind as well, or their first fault ends the
    /// unikernel.
    pub fn set_quick_handler(&mut self, handler: impl Fn(&Fault) -> bool + 'static) {
        let retry = move |fault: &Fault| if handler(fault) { fault.instruction } else { 0 };
        // SAFETY: the access is made again, or not answered.
        unsafe { self.set_resuming_handler(retry) };
    }

    /// As [`Window::set_quick_handler`], with a handler that says where to go on; 0: it does not answer.
    ///
    /// # Safety
    ///
    /// Where it says to go on, the program must be able to go on, with the registers that it had at the
    /// access.
    pub unsafe fn set_resuming_handler(&mut self, handler: impl Fn(&Fault) -> u64 + 'static) {
        let quick = move |page, address, error_code, instruction| {
            handler(&Fault::new(page, address, error_code, instruction))
        };
        self.registered().change(|answerer| answerer.quick = Some(Box::new(quick)));
        crate::cpu::quick::set_page_fault_handler(fault::answer_quickly);
    }

    fn registered(&mut self) -> &mut Registered {
        self.registered.get_or_insert_with(|| Registered::new(&self.pages.slot))
    }

    /// Lends adjacent pages as words.
    ///
    /// # Panics
    ///
    /// If the window has no such pages.
    pub fn cells<W: Word>(&self, pages: Range<u64>) -> Cells<'_, W> {
        assert!(pages.start <= pages.end && pages.end <= self.pages.count(), "pages of the window");
        let words = (pages.end - pages.start) as usize * (FRAME_BYTES / size_of::<W::Atomic>());
        // SAFETY: the addresses are the window's as long as it is borrowed, aligned to a page, and nothing
        // else. What is there is used as atomics of any bits. An access to a page that is not there is
        // answered or never returns.
        unsafe { Cells::new(self.pages.slot.address(pages.start) as *const W::Atomic, words) }
    }
}
