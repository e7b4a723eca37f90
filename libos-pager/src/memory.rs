//! Paged memory as a program uses it.

use crate::engine::{Area, Engine, References, Statistics};
use crate::pager::{Pager, PagerError};
use crate::recorder::Recorder;
use crate::translation::TranslationKind;
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use core::cell::RefCell;
use core::fmt;
use core::ops::Range;
use hyperexo_abi::{FRAME_BYTES, Page};
use libos_core::window::{Cells, Fault, Pages, Protection, Refusal, Window, WindowError, Word};
use libos_fs::PolicyKind;
use libos_fs::cache::{Advice, Fifo, ReplacementPolicy};

/// How a [`PagedMemory`] is made.
#[derive(Clone, Copy, Debug)]
pub struct PagedOptions {
    /// Pages of all regions together, a guard after each of them included.
    pub pages: u64,
    /// Frames that they may have.
    pub frames: usize,
    /// Most pages that move in one request.
    pub cluster: usize,
}

/// Why there is no paged memory, or no region of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryError {
    /// There is no window.
    Window(WindowError),
    /// Fewer frames than [`PagedMemory::LEAST_FRAMES`].
    TooFewFrames {
        /// Frames asked for.
        frames: usize,
    },
    /// A region does not fit.
    NoRoom {
        /// Pages asked for.
        wanted: u64,
        /// Pages left, without a guard.
        left: u64,
    },
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MemoryError::Window(error) => error.fmt(f),
            MemoryError::TooFewFrames { frames } => {
                write!(f, "{frames} frames for paged memory: at least {}", PagedMemory::LEAST_FRAMES)
            }
            MemoryError::NoRoom { wanted, left } => {
                write!(f, "a region of {wanted} pages, where {left} are left: see PagedOptions::pages")
            }
        }
    }
}

impl core::error::Error for MemoryError {}

type Shared = Rc<RefCell<Engine<Rc<Pages>>>>;

/// A set of regions that share so many frames, under one replacement policy.
pub struct PagedMemory {
    window: Window,
    engine: Shared,
    next: RefCell<u64>,
    pages: u64,
}

impl PagedMemory {
    /// Fewest frames that make sense.
    pub const LEAST_FRAMES: usize = 2;

    /// Paged memory without regions, under CLOCK with the processor's "used" bits.
    ///
    /// # Errors
    ///
    /// [`MemoryError`].
    pub fn new(options: PagedOptions) -> Result<PagedMemory, MemoryError> {
        let PagedOptions { pages, frames, cluster } = options;
        if frames < PagedMemory::LEAST_FRAMES {
            return Err(MemoryError::TooFewFrames { frames });
        }
        let mut window = Window::new(pages).map_err(MemoryError::Window)?;
        let map = Rc::clone(window.pages());
        let engine = Engine::new(map, pages, frames, cluster, Box::new(Fifo::default()), References::Faults);
        let engine = Rc::new(RefCell::new(engine));
        let answering = Rc::clone(&engine);
        window.set_handler(Box::new(move |fault| answer(&answering, fault)));
        let memory = PagedMemory { window, engine, next: RefCell::new(0), pages };
        memory.use_policy(PolicyKind::Clock);
        Ok(memory)
    }

    /// Puts a policy of the library in charge. CLOCK, SIEVE and S3-FIFO look at the processor's bits page by
    /// page; the others are told of them before each victim.
    pub fn use_policy(&self, kind: PolicyKind) {
        self.engine.borrow_mut().use_policy(kind, self.window.pages().bits());
    }

    /// Puts a policy of the application's own in charge: its ranking of pages, by their numbers in this
    /// memory ([`Region::first_page`]). `references` says what it hears of uses; [`References::Marks`] is for
    /// policies of the library.
    pub fn use_own_policy(&self, policy: Box<dyn ReplacementPolicy>, references: References) {
        self.engine.borrow_mut().set_policy(policy, references);
    }

    /// Adds a region of so many pages, with a guard behind it.
    ///
    /// # Errors
    ///
    /// [`MemoryError::NoRoom`].
    pub fn region(&self, pages: u64, pager: Box<dyn Pager>) -> Result<Region<'_>, MemoryError> {
        let mut next = self.next.borrow_mut();
        let left = (self.pages - *next).saturating_sub(1);
        if pages == 0 || pages > left {
            return Err(MemoryError::NoRoom { wanted: pages, left });
        }
        let range = *next..*next + pages;
        *next = range.end + 1;
        let area = Area { pages: range.clone(), pager, protection: Protection::Write };
        self.engine.borrow_mut().add(area);
        Ok(Region { memory: self, pages: range })
    }

    /// Chooses the page-table structure: which page is where. What is in memory stays.
    pub fn use_translation(&self, kind: TranslationKind) {
        self.engine.borrow_mut().use_translation(kind);
    }

    /// What was done so far.
    pub fn statistics(&self) -> Statistics {
        self.engine.borrow().statistics()
    }

    /// Most pages in memory: what a program may count on.
    pub fn frames(&self) -> usize {
        self.engine.borrow().frames()
    }

    /// Pages in memory.
    pub fn resident(&self) -> usize {
        self.engine.borrow().resident()
    }

    /// Records page references from now on, exactly: each change to another page faults, which takes its
    /// time.
    pub fn record(&self) {
        self.engine.borrow_mut().record();
    }

    /// Calls `look` with what was recorded, if anything was.
    pub fn recorded<T>(&self, look: impl FnOnce(&Recorder) -> T) -> Option<T> {
        self.engine.borrow().recorder().map(look)
    }
}

/// Answers a fault of the window.
fn answer(engine: &Shared, fault: &Fault) -> Result<(), Refusal> {
    let mut engine = engine.try_borrow_mut().map_err(|_| {
        Refusal("the pager or policy of this memory used a page of it that is not there".into())
    })?;
    engine.fault(fault.page, fault.write).map_err(|error| Refusal(format!("{error}")))
}

/// Part of a [`PagedMemory`], with a pager. Pages are counted from its first.
///
/// What a program says of pages is advice: the policy may ignore it, and wrong advice costs time. But
/// [`Region::discard`] is an order.
#[derive(Clone)]
pub struct Region<'m> {
    memory: &'m PagedMemory,
    pages: Range<u64>,
}

impl<'m> Region<'m> {
    /// The number of its first page in the memory, as policies know it.
    pub fn first_page(&self) -> u64 {
        self.pages.start
    }

    /// How many pages it has.
    pub fn pages(&self) -> u64 {
        self.pages.end - self.pages.start
    }

    /// All of it, as words.
    pub fn cells<W: Word>(&self) -> Cells<'m, W> {
        self.memory.window.cells(self.pages.clone())
    }

    /// Words of type `W` in a page.
    pub fn words_per_page<W: Word>(&self) -> usize {
        FRAME_BYTES / size_of::<W>()
    }

    /// The pages as the engine counts them, cut at the region's end.
    fn absolute(&self, pages: Range<u64>) -> Range<u64> {
        let at = |page: u64| self.pages.start.saturating_add(page).min(self.pages.end);
        at(pages.start)..at(pages.end)
    }

    fn advise(&self, pages: Range<u64>, advice: Advice) {
        // Reading ahead may fail: then the page fails again when it is needed, with a report.
        let _ = self.memory.engine.borrow_mut().advise(self.absolute(pages), advice);
    }

    /// These pages will be used soon: those that are outside come in now, in long requests, half of all
    /// frames at most.
    pub fn will_need(&self, pages: Range<u64>) {
        self.advise(pages, Advice::WillNeed);
    }

    /// These pages will not be used soon.
    pub fn done_with(&self, pages: Range<u64>) {
        self.advise(pages, Advice::DoneWith);
    }

    /// These pages are used in order, once: each is done with when the next one comes in.
    pub fn sequential(&self, pages: Range<u64>) {
        self.advise(pages, Advice::Sequential);
    }

    /// These pages are used in order, again and again.
    pub fn looping(&self, pages: Range<u64>) {
        self.advise(pages, Advice::Loop);
    }

    /// Nothing is known of these pages any more.
    pub fn normal(&self, pages: Range<u64>) {
        self.advise(pages, Advice::Normal);
    }

    /// What is in these pages is not wanted any more: nobody writes it, and their next use finds zeros (or,
    /// of a mapped file, what is in the file).
    pub fn discard(&self, pages: Range<u64>) {
        let pages = self.absolute(pages);
        if !pages.is_empty() {
            self.memory.engine.borrow_mut().discard(pages);
        }
    }

    /// Whether a page is in memory, so that a use of it does not fault: who may choose what to do next does
    /// first what needs no disk.
    pub fn is_in_memory(&self, page: u64) -> bool {
        self.memory.engine.borrow().is_in_memory(self.pages.start + page)
    }

    /// Keeps pages in memory, in the frames they have, while a device uses them: as long as the value lives.
    ///
    /// # Errors
    ///
    /// [`PagerError`]: a page can't come in, or no frame would be left.
    pub fn pin(&self, pages: Range<u64>) -> Result<Pinned<'m>, PagerError> {
        let pages = self.absolute(pages);
        self.memory.engine.borrow_mut().pin(pages.clone())?;
        Ok(Pinned { memory: self.memory, pages })
    }

    /// Takes a snapshot: the region as it is now can be read while the program goes on. Pages are copied to
    /// `store` when they are written for the first time since.
    ///
    /// # Errors
    ///
    /// [`PagerError`]: there is one already.
    pub fn snapshot(&self, store: Box<dyn Pager>) -> Result<Snapshot<'m>, PagerError> {
        self.memory.engine.borrow_mut().snapshot(self.pages.start, store)?;
        Ok(Snapshot { memory: self.memory, pages: self.pages.clone() })
    }

    /// Brings a page in without touching it, so that an error comes back.
    ///
    /// # Errors
    ///
    /// [`PagerError`].
    pub fn try_need(&self, page: u64) -> Result<(), PagerError> {
        self.memory.engine.borrow_mut().need(self.pages.start + page)
    }

    /// Changes what the program may do with the region. An access that is not allowed ends it with a report.
    pub fn protect(&self, protection: Protection) {
        self.memory.engine.borrow_mut().protect(self.pages.start, protection);
    }

    /// Has pagers write what has to be written, and make it permanent.
    ///
    /// # Errors
    ///
    /// [`PagerError`]; pages that could not be written are still in memory.
    pub fn sync(&self) -> Result<(), PagerError> {
        self.memory.engine.borrow_mut().sync(self.pages.clone())
    }
}

/// Pages that stay in memory, as [`Region::pin`] says.
pub struct Pinned<'m> {
    memory: &'m PagedMemory,
    pages: Range<u64>,
}

impl Pinned<'_> {
    /// The numbers of their frames, in order: what a device is told.
    pub fn frames(&self) -> impl Iterator<Item = u64> + '_ {
        self.pages.clone().filter_map(|page| self.memory.window.pages().frame(page))
    }
}

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        self.memory.engine.borrow_mut().unpin(self.pages.clone());
    }
}

/// A region as it was: see [`Region::snapshot`]. When the value is dropped, what was kept is forgotten.
pub struct Snapshot<'m> {
    memory: &'m PagedMemory,
    pages: Range<u64>,
}

impl Snapshot<'_> {
    /// Reads a page of the region as it was.
    ///
    /// # Errors
    ///
    /// [`PagerError`]: there is no such page, or it can't come in.
    pub fn read(&self, page: u64, into: &mut Page) -> Result<(), PagerError> {
        if page >= self.pages.end - self.pages.start {
            return Err(PagerError::Other(format!(
                "page {page} of a snapshot of {} pages",
                self.pages.end - self.pages.start
            )));
        }
        self.memory.engine.borrow_mut().read_snapshot(self.pages.start + page, into)
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        self.memory.engine.borrow_mut().end_snapshot(self.pages.start);
    }
}
