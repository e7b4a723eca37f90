//! The same on Linux: signals for exceptions, `mprotect` for changes of protection, and `/proc/self/pagemap`
//! for dirty pages.
//!
//! Sources: sigaction(2), mprotect(2), proc(5); Linux, Documentation/admin-guide/mm/soft-dirty.rst.

use crate::line::line;
use crate::machine::linux::{self as machine, Answer, Area, PAGE, PAGES};
use crate::matrix::Matrices;
use crate::order::shuffled;
use std::fs::File;
use std::hint::black_box;
use std::io::{Error, Read, Write};
use std::os::unix::fs::FileExt;
use std::process::{Command, ExitCode, Stdio};

/// Operations in a batch.
const ROUNDS: u64 = 100;
/// Batches, the fastest of which counts.
const BATCHES: u64 = 5;
/// The word with which the program is the other end of pipes.
const ECHO: &str = "echo";

/// Measures the groups of `only=`, or everything; with the word `echo` it gives back what it reads, byte by
/// byte.
pub fn main() -> ExitCode {
    let done = match std::env::args().nth(1).as_deref() {
        Some(ECHO) => echo(),
        _ => run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// As in the unikernel.
fn report(name: &str, operations: u64, mut batch: impl FnMut() -> u64) {
    batch();
    let best = (0..BATCHES).map(|_| batch()).min().unwrap_or(0);
    println!("{}", line(name, operations, best, []));
}

fn timed(work: impl FnOnce()) -> u64 {
    let start = machine::ticks();
    work();
    machine::ticks() - start
}

fn measure(name: &str, rounds: u64, mut operation: impl FnMut()) {
    report(name, rounds, || timed(|| (0..rounds).for_each(|_| operation())));
}

fn run() -> Result<(), Error> {
    let only = std::env::args().find_map(|word| word.strip_prefix("only=").map(str::to_owned));
    let wanted = |group: &str| only.as_ref().is_none_or(|only| only.split(',').any(|one| one == group));
    measure("nothing", ROUNDS, || black_box(()));
    if wanted("calls") {
        measure("procedure", ROUNDS, || procedure(black_box(1)));
        measure("system-call", ROUNDS, machine::system_call);
        pipes()?;
    }
    if wanted("exceptions") {
        exceptions()?;
    }
    if wanted("memory") {
        memory()?;
    }
    if wanted("matrix") {
        let mut matrices = Matrices::new();
        measure("matrix", 1, || {
            black_box(matrices.multiply());
        });
    }
    Ok(())
}

/// A procedure that does nothing.
#[inline(never)]
fn procedure(argument: u64) {
    black_box(argument);
}

fn exceptions() -> Result<(), Error> {
    let all: [(&str, i32, Answer, u64, fn()); 5] = [
        ("illegal", libc::SIGILL, Answer::Pass, 2, machine::illegal),
        ("breakpoint", libc::SIGTRAP, Answer::Pass, 0, machine::breakpoint),
        ("overflow", libc::SIGSEGV, Answer::Pass, 0, machine::overflow),
        ("divide", libc::SIGFPE, Answer::Pass, 2, machine::divide),
        ("unaligned", libc::SIGBUS, Answer::Pass, 3, machine::unaligned),
    ];
    for (name, signal, answer, bytes, raise) in all {
        machine::answer(signal, answer, bytes)?;
        raise();
        if machine::take_answered() == 0 {
            // The emulator does not check alignment.
            continue;
        }
        measure(name, ROUNDS, raise);
        answered(name, (BATCHES + 1) * ROUNDS)?;
    }
    Ok(())
}

/// Each operation must have come to the handler.
fn answered(name: &str, expected: u64) -> Result<(), Error> {
    match machine::take_answered() {
        answered if answered == expected => Ok(()),
        answered => Err(Error::other(format!("{name}: {answered} signals instead of {expected}"))),
    }
}

fn memory() -> Result<(), Error> {
    let area = Area::new()?;
    let order: Vec<usize> = shuffled(PAGES as u64).into_iter().map(|page| page as usize).collect();
    let pages = PAGES as u64;
    let each = |write| (0..PAGES).for_each(|page| area.protect(page, 1, write));
    let all = |write| area.protect(0, PAGES, write);
    dirty(&area)?;
    // One page of its own at a time: neighbours with the same rights are one mapping.
    report("prot1", pages, || {
        all(true);
        timed(|| order.iter().for_each(|page| area.protect(*page, 1, false)))
    });
    report("unprot1", pages, || {
        all(false);
        timed(|| order.iter().for_each(|page| area.protect(*page, 1, true)))
    });
    report("prot100", pages, || {
        each(true);
        timed(|| all(false))
    });
    report("unprot100", pages, || {
        each(false);
        timed(|| all(true))
    });
    machine::take_answered();
    machine::answer(libc::SIGSEGV, Answer::Pass, 3)?;
    all(false);
    measure("trap", ROUNDS, || area.write(1));
    answered("trap", (BATCHES + 1) * ROUNDS)?;
    machine::answer(libc::SIGSEGV, Answer::Allow, 0)?;
    report("fault", pages, || {
        all(false);
        timed(|| order.iter().for_each(|page| area.write(*page)))
    });
    answered("fault", (BATCHES + 1) * pages)?;
    machine::answer(libc::SIGSEGV, Answer::Exchange, 0)?;
    all(false);
    let last = order[PAGES - 1];
    area.protect(last, 1, true);
    area.set_allowed(last);
    report("appel1", pages, || timed(|| order.iter().for_each(|page| area.write(*page))));
    answered("appel1", (BATCHES + 1) * pages)?;
    machine::answer(libc::SIGSEGV, Answer::Allow, 0)?;
    report("appel2", pages, || {
        timed(|| {
            all(false);
            order.iter().for_each(|page| area.write(*page));
        })
    });
    answered("appel2", (BATCHES + 1) * pages)
}

/// Whether a page was written: bit 55 of its word, where the kernel keeps it.
fn dirty(area: &Area) -> Result<(), Error> {
    const SOFT_DIRTY: u64 = 1 << 55;
    let (Ok(map), Ok(mut clear)) =
        (File::open("/proc/self/pagemap"), File::options().write(true).open("/proc/self/clear_refs"))
    else {
        return Ok(());
    };
    let written = |page: usize| {
        let mut word = [0; 8];
        map.read_exact_at(&mut word, ((area.address(page) / PAGE) * 8) as u64)?;
        Ok::<_, Error>(u64::from_le_bytes(word) & SOFT_DIRTY != 0)
    };
    clear.write_all(b"4")?;
    area.write(3);
    if [written(3)?, written(4)?] != [true, false] {
        // A kernel without it.
        return Ok(());
    }
    report("dirty", PAGES as u64, || timed(|| (0..PAGES).for_each(|page| _ = black_box(written(page)))));
    Ok(())
}

/// A byte to another process by a pipe, and one back.
fn pipes() -> Result<(), Error> {
    let mut other =
        Command::new("/proc/self/exe").arg(ECHO).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (Some(mut to), Some(mut from)) = (other.stdin.take(), other.stdout.take()) else {
        return Err(Error::other("no pipes"));
    };
    let mut failed = false;
    measure("pipe", ROUNDS, || {
        let mut byte = [1];
        failed |= to.write_all(&byte).and_then(|()| from.read_exact(&mut byte)).is_err();
    });
    drop(to);
    other.wait()?;
    if failed { Err(Error::other("the other end of the pipes failed")) } else { Ok(()) }
}

fn echo() -> Result<(), Error> {
    let (mut from, mut to) =
        (File::open("/proc/self/fd/0")?, File::options().write(true).open("/proc/self/fd/1")?);
    let mut byte = [0];
    while from.read(&mut byte)? > 0 {
        to.write_all(&byte)?;
    }
    Ok(())
}
