//! The primitives of Appel and Li (ASPLOS'91) over the library's windows, and their two loops.
//!
//! | theirs | here |
//! |---|---|
//! | TRAP | [`Window::set_quick_handler`], [`Window::set_handler`] |
//! | PROT1, UNPROT | `Pages::protect` |
//! | PROTN | `Pages::protect_all` |
//! | DIRTY | `Pages::written`, `Pages::take_written` |
//! | MAP2 | `Pages::show` |

use super::measure::{measure, report};
use crate::machine::exceptions::{self as machine, PASSED};
use crate::order::shuffled;
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::Cell;
use core::hint::black_box;
use core::sync::atomic::Ordering;
use hyperexo_abi::{FRAME_BYTES, Page};
use libos_core::window::{Protection, Taken, Window};
use libos_core::{println, time};

/// Pages of a window: as many as the papers protect at once.
const PAGES: u64 = 100;
/// Words of a page.
const WORDS: usize = FRAME_BYTES / 8;

/// A window full of pages.
fn window() -> Result<Window, String> {
    let window = Window::new(PAGES).map_err(|error| error.to_string())?;
    for page in 0..PAGES {
        window.pages().insert(page, Box::new(Page([0; FRAME_BYTES])), Protection::Write);
    }
    Ok(window)
}

/// Ticks of `work`.
fn timed(work: impl FnOnce()) -> u64 {
    let start = time::ticks();
    work();
    time::ticks() - start
}

/// Writes to the pages, in this order.
fn touch(window: &Window, order: &[u64]) {
    let cells = window.cells::<u64>(0..PAGES);
    for page in order {
        cells.set(*page as usize * WORDS, *page);
    }
}

/// Measures them.
pub fn run(rounds: u64) -> Result<(), String> {
    single(&window()?);
    map2()?;
    trap(&mut window()?, rounds);
    fault(&mut window()?);
    appel1(&mut window()?);
    appel2(&mut window()?);
    Ok(())
}

/// What takes no fault.
fn single(window: &Window) {
    let pages = &**window.pages();
    let all = |protection| pages.protect_all(0..PAGES, protection);
    let each = |protection| (0..PAGES).for_each(|page| pages.protect(page, protection));
    report("dirty", PAGES, || timed(|| (0..PAGES).for_each(|page| _ = black_box(pages.written(page)))));
    report("dirty100", PAGES, || {
        (0..PAGES).for_each(|page| pages.mark_written(page));
        timed(|| pages.take_written(0..PAGES, |page| _ = black_box(page)))
    });
    report("prot1", PAGES, || {
        all(Protection::Write);
        timed(|| each(Protection::Read))
    });
    report("unprot1", PAGES, || {
        all(Protection::Read);
        timed(|| each(Protection::Write))
    });
    report("prot100", PAGES, || {
        all(Protection::Write);
        timed(|| all(Protection::Read))
    });
    report("unprot100", PAGES, || {
        all(Protection::Read);
        timed(|| all(Protection::Write))
    });
}

/// A page at a second place, which may only be read.
fn map2() -> Result<(), String> {
    let (first, second) = (window()?, Window::new(PAGES).map_err(|error| error.to_string())?);
    let (from, to) = (first.pages(), second.pages());
    report("map2", PAGES, || {
        (0..PAGES).for_each(|page| drop(to.remove(page)));
        timed(|| (0..PAGES).for_each(|page| _ = from.show(page, to, page, Protection::Read)))
    });
    Ok(())
}

/// From a write that is not allowed to the handler and behind the write.
fn trap(window: &mut Window, rounds: u64) {
    machine::pass_stores(window);
    window.pages().protect_all(0..PAGES, Protection::Read);
    measure("trap", rounds, || machine::store_passed(window, 1));
}

/// From a write that is not allowed to the handler, which allows it, and the write again: by the short way,
/// and by the one on which a handler can wait.
fn fault(window: &mut Window) {
    let (pages, order) = (Rc::clone(window.pages()), shuffled(PAGES));
    let allow = {
        let pages = Rc::clone(&pages);
        move |page| pages.protect(page, Protection::Write)
    };
    let slowly = allow.clone();
    window.set_handler(Box::new(move |fault| {
        slowly(fault.page);
        Ok(())
    }));
    let batch = |window: &Window| {
        pages.protect_all(0..PAGES, Protection::Read);
        timed(|| touch(window, &order))
    };
    report("fault-handler-that-waits", PAGES, || batch(window));
    window.set_quick_handler(move |fault| {
        allow(fault.page);
        true
    });
    report("fault", PAGES, || batch(window));
}

/// A write to a random page that is protected; the handler protects another one and allows this one.
fn appel1(window: &mut Window) {
    let (pages, order) = (Rc::clone(window.pages()), shuffled(PAGES));
    // The last of an order is the one that is allowed when it begins anew.
    let allowed = Cell::new(order[PAGES as usize - 1]);
    pages.protect_all(0..PAGES, Protection::Read);
    pages.protect(allowed.get(), Protection::Write);
    window.set_quick_handler(move |fault| {
        pages.protect(allowed.replace(fault.page), Protection::Read);
        pages.protect(fault.page, Protection::Write);
        true
    });
    report("appel1", PAGES, || timed(|| touch(window, &order)));
}

/// All pages are protected at once; each is written to, in random order, and allowed by the handler.
fn appel2(window: &mut Window) {
    let (pages, order) = (Rc::clone(window.pages()), shuffled(PAGES));
    let allowing = Rc::clone(&pages);
    window.set_quick_handler(move |fault| {
        allowing.protect(fault.page, Protection::Write);
        true
    });
    report("appel2", PAGES, || {
        timed(|| {
            pages.protect_all(0..PAGES, Protection::Read);
            touch(window, &order);
        })
    });
}

/// Each primitive does what its name says, at the borders of a window too.
pub fn test() -> Result<(), String> {
    trapped(&mut window()?)?;
    barrier(&mut window()?)?;
    dirty(&window()?)?;
    shown_twice()?;
    falls_back(&mut window()?)?;
    println!("memory: trap, prot1, protN, unprot, dirty, map2");
    Ok(())
}

fn expect<T: PartialEq + core::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?} instead of {expected:?}")) }
}

/// A protected page is not written, the one beside it is.
fn trapped(window: &mut Window) -> Result<(), String> {
    machine::pass_stores(window);
    let pages = window.pages();
    pages.protect_all(10..20, Protection::Read);
    let before = PASSED.load(Ordering::Relaxed);
    for page in [9, 10, 19, 20] {
        machine::store_passed(window, page);
    }
    expect("faults at the borders of a range", PASSED.load(Ordering::Relaxed) - before, 2)?;
    let cells = window.cells::<u64>(0..PAGES);
    let words = [9, 10, 19, 20].map(|page| cells.get(page * WORDS));
    expect("what was written", words, [1, 0, 0, 1])
}

/// A handler that keeps a log of the pages written first: each once, in order, and the writes are done.
fn barrier(window: &mut Window) -> Result<(), String> {
    let (pages, order) = (Rc::clone(window.pages()), shuffled(PAGES));
    let (log, next) = (Rc::new([const { Cell::new(0) }; PAGES as usize]), Rc::new(Cell::new(0)));
    let (logging, at) = (Rc::clone(&log), Rc::clone(&next));
    let allowing = Rc::clone(&pages);
    window.set_quick_handler(move |fault| {
        logging[at.get()].set(fault.page);
        at.set(at.get() + 1);
        allowing.protect(fault.page, Protection::Write);
        fault.write && fault.protected
    });
    pages.protect_all(0..PAGES, Protection::Read);
    touch(window, &order);
    touch(window, &order);
    let seen: Vec<u64> = log.iter().map(Cell::get).collect();
    expect("the log of pages", (next.get(), &seen), (order.len(), &order))?;
    let cells = window.cells::<u64>(0..PAGES);
    match (0..PAGES).find(|page| cells.get(*page as usize * WORDS) != *page) {
        None => Ok(()),
        Some(page) => Err(format!("page {page} was not written")),
    }
}

/// What was written is told once, and told again if it was written again.
fn dirty(window: &Window) -> Result<(), String> {
    let pages = window.pages();
    let taken = |range| {
        let mut all = Vec::new();
        pages.take_written(range, |page| all.push(page));
        all
    };
    taken(0..PAGES);
    for pass in 0..2 {
        touch(window, &[99, 3, 50, 3]);
        expect("dirty", [3, 4].map(|page| pages.written(page)), [true, false])?;
        expect("dirty pages of a few", taken(0..10), [3].to_vec())?;
        expect("dirty pages", (pass, taken(0..PAGES)), (pass, [50, 99].to_vec()))?;
    }
    expect("dirty pages when nothing was written", taken(0..PAGES), Vec::new())
}

/// A page at two places: what is written at one is read at the other, where it can't be written.
fn shown_twice() -> Result<(), String> {
    let (first, mut second) = (window()?, Window::new(2).map_err(|error| error.to_string())?);
    machine::pass_stores(&mut second);
    expect("a page that is not there", first.pages().show(0, second.pages(), 1, Protection::Read), true)?;
    touch(&first, &[0]);
    first.cells::<u64>(0..1).set(7, 77);
    let before = PASSED.load(Ordering::Relaxed);
    machine::store_passed(&second, 1);
    expect("faults at the second place", PASSED.load(Ordering::Relaxed) - before, 1)?;
    expect("what the second place shows", second.cells::<u64>(1..2).get(7), 77)?;
    expect("the second place is empty", second.pages().show(0, first.pages(), 0, Protection::Read), false)?;
    match second.pages().remove(1) {
        Some(Taken::Shared(_)) => expect("the first place", first.cells::<u64>(0..1).get(7), 77),
        other => Err(format!("the second place had {other:?}")),
    }
}

/// What the quick handler does not answer, the other one does.
fn falls_back(window: &mut Window) -> Result<(), String> {
    let pages = Rc::clone(window.pages());
    let (quick, slow) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let (counting, allowing) = (Rc::clone(&slow), Rc::clone(&pages));
    window.set_handler(Box::new(move |fault| {
        counting.set(counting.get() + 1);
        allowing.protect(fault.page, Protection::Write);
        Ok(())
    }));
    let (counting, allowing) = (Rc::clone(&quick), Rc::clone(&pages));
    window.set_quick_handler(move |fault| {
        if fault.page % 2 == 0 {
            return false;
        }
        counting.set(counting.get() + 1);
        allowing.protect(fault.page, Protection::Write);
        true
    });
    pages.protect_all(0..PAGES, Protection::None);
    touch(window, &shuffled(PAGES));
    expect("quick and other answers", (quick.get(), slow.get()), (PAGES / 2, PAGES / 2))
}

/// A quick handler that touches a page which is not there. Its unikernel ends with a report.
pub fn fault_in_quick_handler() -> Result<(), String> {
    let (mut window, other) = (window()?, Window::new(1).map_err(|error| error.to_string())?);
    window.pages().protect_all(0..PAGES, Protection::Read);
    window.set_quick_handler(move |_| {
        other.cells::<u64>(0..1).set(0, 1);
        true
    });
    touch(&window, &[0]);
    Err("a fault in a quick handler was passed over".into())
}
