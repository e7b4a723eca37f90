//! Tests of paged memory that only a machine can make: each is a word `test=NAME`.

#[path = "frames.rs"]
mod frames;

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Range;
use hyperexo_abi::Page;
use libos_core::println;
use libos_core::window::{Cells, Fault, Pages, Protection, SharedPage, Window};
use libos_fs::{RamDisk, cache::ReplacementPolicy};
use libos_pager::{PageFailure, PagedMemory, PagedOptions, Pager, PagerError, References, Swap};

/// Runs one.
pub fn run(name: &str) -> Result<(), String> {
    match name {
        "works" => abilities().and_then(|()| policies())?,
        "frames" => frames::frames()?,
        "lend" => frames::lend()?,
        "accept" => frames::accept()?,
        "guard" => guard()?,
        "failing-pager" => failing_pager()?,
        "pager-faults" => pager_faults()?,
        "policy-panics" => policy_panics()?,
        "locked" => locked()?,
        other => return Err(format!("test={other}: no such test")),
    }
    println!("paged memory: {name} is as it should be");
    Ok(())
}

/// An error that says what is not as it should be.
fn expect(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_string()) }
}

fn page(byte: u8) -> Box<Page> {
    Box::new(Page([byte; 4096]))
}

fn memory(frames: usize) -> Result<PagedMemory, String> {
    let options = PagedOptions { pages: 64, frames, cluster: 8 };
    PagedMemory::new(options).map_err(|error| error.to_string())
}

fn swap(pages: u64) -> Result<Box<Swap>, String> {
    let swap = Swap::new(Box::new(RamDisk::new(pages)), pages);
    swap.map(Box::new).map_err(|error| error.to_string())
}

/// Aliases, sharing between windows, protection, the processor's bits, copy-on-write, lazily zeroed memory.
fn abilities() -> Result<(), String> {
    let mut window = Window::new(1024).map_err(|error| error.to_string())?;
    let mut other = Window::new(8).map_err(|error| error.to_string())?;
    let pages = Rc::clone(window.pages());
    let original = SharedPage::new(page(7));
    pages.insert_shared(0, &original, Protection::Write);
    pages.insert_shared(700, &original, Protection::Read);
    other.pages().insert_shared(3, &original, Protection::Write);
    let (cells, elsewhere) = (window.cells::<u64>(0..1024), other.cells::<u8>(0..8));
    cells.set(5, 42);
    expect(
        cells.get(700 * 512 + 5) == 42 && elsewhere.get(3 * 4096 + 40) == 42,
        "an alias shows what was written",
    )?;
    elsewhere.set(3 * 4096 + 40, 9);
    expect(cells.get(5) == 9, "another window writes the same page")?;
    expect(pages.frame(0) == pages.frame(700) && pages.frame(0).is_some(), "aliases are one frame")?;
    // Bits.
    pages.insert(1, page(0), Protection::Write);
    expect(!pages.used(1) && !pages.written(1), "a fresh page is unused")?;
    cells.get(512);
    expect(pages.used(1) && !pages.written(1), "reading uses a page")?;
    pages.clear_used(1);
    expect(!pages.used(1), "the bit is cleared")?;
    cells.set(512, 1);
    expect(pages.used(1) && pages.written(1), "writing is noticed after the bit was cleared")?;
    // A handler that zeroes lazily, copies on write, and counts what it is asked for.
    let counts = Rc::new(core::cell::Cell::new([0u64; 3]));
    let (seen, map) = (Rc::clone(&counts), Rc::clone(&pages));
    window.set_handler(Box::new(move |fault| answer(&map, &seen, fault)));
    let cells = window.cells::<u64>(0..1024);
    expect(cells.get(1000 * 512) == 0, "what was never written is 0")?;
    cells.set(700 * 512 + 5, 77);
    expect((cells.get(5), cells.get(700 * 512 + 5)) == (9, 77), "a write to a shared page copies it")?;
    expect(pages.frame(0) != pages.frame(700), "the copy has a frame of its own")?;
    pages.protect_all(100..164, Protection::None);
    (100..164).for_each(|page| cells.set(page * 512, page as u64));
    pages.protect_all(100..164, Protection::Read);
    expect((100..164).all(|page| cells.get(page * 512) == page as u64), "reading is allowed")?;
    (100..164).for_each(|page| cells.set(page * 512, 0));
    expect(counts.get() == [65, 1, 64], "faults: zeroed, copied, unprotected")?;
    // What is taken out is as it was.
    let taken = pages.remove_owned(700).ok_or("the copy is there")?;
    expect(taken.0[40] == 77 && !pages.is_there(700), "a page taken out has its contents")?;
    expect(pages.remove_owned(0).is_none() && pages.is_there(0), "a shared page is not given away")?;
    drop(window);
    expect(other.cells::<u8>(0..8).get(3 * 4096) == 7, "a window that ends leaves shared pages to others")?;
    other.set_handler(Box::new(|_| Err("none".into())));
    Ok(())
}

/// Zeroes, copies or unprotects.
fn answer(
    pages: &Rc<Pages>,
    counts: &core::cell::Cell<[u64; 3]>,
    fault: &Fault,
) -> Result<(), libos_core::window::Refusal> {
    let mut seen = counts.get();
    if !pages.is_there(fault.page) {
        pages.insert(fault.page, page(0), Protection::Write);
        seen[0] += 1;
    } else if fault.page == 700 {
        let copy = pages.copy(700).ok_or("the page is there")?;
        pages.remove(700);
        pages.insert(700, copy, Protection::Write);
        seen[1] += 1;
    } else {
        pages.protect(fault.page, Protection::Write);
        seen[2] += 1;
    }
    counts.set(seen);
    Ok(())
}

/// Every policy of the library, and one of the application's own, on memory that does not fit.
fn policies() -> Result<(), String> {
    for kind in libos_fs::PolicyKind::ALL {
        check(|memory| memory.use_policy(kind)).map_err(|error| format!("{}: {error}", kind.name()))?;
    }
    check(|memory| memory.use_own_policy(Box::new(Newest::default()), References::Faults))
}

/// The page that came last goes: a ranking of the application's own.
#[derive(Default)]
struct Newest(Vec<usize>);

impl ReplacementPolicy for Newest {
    fn name(&self) -> &'static str {
        "newest"
    }
    fn inserted(&mut self, page: libos_fs::cache::Cached) {
        self.0.push(page.slot);
    }
    fn accessed(&mut self, _: libos_fs::cache::Cached) {}
    fn removed(&mut self, page: libos_fs::cache::Cached) {
        self.0.retain(|slot| *slot != page.slot);
    }
    fn victim(&mut self, _: Option<u64>) -> Option<usize> {
        self.0.last().copied()
    }
}

/// Writes and reads two regions that do not fit, by a fixed sequence, against an array on the heap.
fn check(choose: impl Fn(&PagedMemory)) -> Result<(), String> {
    let memory = memory(9)?;
    choose(&memory);
    let region = |pages| -> Result<_, String> {
        memory.region(pages, swap(pages)?).map_err(|error| error.to_string())
    };
    let (first, second) = (region(20)?, region(30)?);
    let (a, b) = (first.cells::<u32>(), second.cells::<u64>());
    let mut expected = alloc::vec![0u64; 50];
    let mut draw = pager::memory::Draw::new(8);
    for step in 0..3000u64 {
        let page = draw.below(50) as usize;
        let (found, word) = if page < 20 {
            let at = page * 1024 + page;
            (u64::from(a.get(at)), u64::from(a.get(at)) + step)
        } else {
            let at = (page - 20) * 512 + page;
            (b.get(at), b.get(at) + step)
        };
        expect(found == expected[page], "memory remembers")?;
        if draw.below(2) == 0 {
            expected[page] = word;
            if page < 20 {
                a.set(page * 1024 + page, word as u32)
            } else {
                b.set((page - 20) * 512 + page, word)
            }
        }
    }
    let done = memory.statistics();
    expect(memory.resident() <= 9 && done.read > 0 && done.written > 0, "it was paged")?;
    expect(done.rejected_victims == 0, "all victims are taken")
}

/// Ends with a report: the page behind a region.
fn guard() -> Result<(), String> {
    let mut window = Window::new(4).map_err(|error| error.to_string())?;
    window.set_handler(Box::new(|fault| Err(format!("page {} is a guard", fault.page).into())));
    window.cells::<u64>(0..4).set(1024, 1);
    Ok(())
}

/// A pager with something for every page, which it can't read.
struct Broken;

impl Pager for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }
    fn holds(&self, _: u64) -> bool {
        true
    }
    fn page_in(&mut self, _: u64, pages: Vec<Box<Page>>) -> Result<Vec<Box<Page>>, PageFailure> {
        Err(PageFailure { pages, error: PagerError::Other("the tape is torn".into()) })
    }
    fn page_out(&mut self, _: u64, pages: Vec<Box<Page>>) -> Result<Vec<Box<Page>>, PageFailure> {
        Ok(pages)
    }
    fn discard(&mut self, _: Range<u64>) {}
}

/// Ends with a report: a pager that fails.
fn failing_pager() -> Result<(), String> {
    let memory = memory(4)?;
    let region = memory.region(8, Box::new(Broken)).map_err(|error| error.to_string())?;
    expect(region.try_need(2).is_err_and(|error| error.to_string() == "the tape is torn"), "asked before")?;
    region.cells::<u64>().get(512);
    Ok(())
}

/// A pager that reads paged memory to page in.
struct Touches(Cells<'static, u64>);

impl Pager for Touches {
    fn name(&self) -> &'static str {
        "touches"
    }
    fn holds(&self, _: u64) -> bool {
        true
    }
    fn page_in(&mut self, _: u64, pages: Vec<Box<Page>>) -> Result<Vec<Box<Page>>, PageFailure> {
        self.0.get(0);
        Ok(pages)
    }
    fn page_out(&mut self, _: u64, pages: Vec<Box<Page>>) -> Result<Vec<Box<Page>>, PageFailure> {
        Ok(pages)
    }
    fn discard(&mut self, _: Range<u64>) {}
}

/// Ends with a report: a pager that faults itself.
fn pager_faults() -> Result<(), String> {
    let memory: &'static PagedMemory = Box::leak(Box::new(memory(4)?));
    let first = memory.region(8, swap(8)?).map_err(|error| error.to_string())?;
    let pager = Box::new(Touches(first.cells()));
    let second = memory.region(8, pager).map_err(|error| error.to_string())?;
    second.cells::<u64>().get(0);
    Ok(())
}

/// A policy that panics when it is asked for a victim.
struct Panics;

impl ReplacementPolicy for Panics {
    fn name(&self) -> &'static str {
        "panics"
    }
    fn inserted(&mut self, _: libos_fs::cache::Cached) {}
    fn accessed(&mut self, _: libos_fs::cache::Cached) {}
    fn removed(&mut self, _: libos_fs::cache::Cached) {}
    fn victim(&mut self, missing: Option<u64>) -> Option<usize> {
        panic!("no victim for page {missing:?}")
    }
}

/// Ends with a report: a policy that panics.
fn policy_panics() -> Result<(), String> {
    let memory = memory(4)?;
    memory.use_own_policy(Box::new(Panics), References::Faults);
    let region = memory.region(8, swap(8)?).map_err(|error| error.to_string())?;
    let cells = region.cells::<u64>();
    (0..8).for_each(|page| cells.set(page * 512, 1));
    Ok(())
}

/// Ends with a report: paged memory that is used while a lock is held.
fn locked() -> Result<(), String> {
    let memory = memory(4)?;
    let region = memory.region(8, swap(8)?).map_err(|error| error.to_string())?;
    let cells = region.cells::<u64>();
    let lock = libos_core::lock::Masked::new(());
    let _held = lock.lock();
    cells.set(0, 1);
    Ok(())
}
