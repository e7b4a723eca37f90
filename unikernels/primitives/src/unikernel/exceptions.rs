//! Exceptions: from the instruction to a handler and back, by each of the ways that there are.

use super::measure::measure;
use crate::machine::exceptions::{self as machine, EXCEPTIONS, Exception};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use libos_core::trap::{self, Handled};
use libos_core::{println, quick};

/// Measures them.
pub fn run(rounds: u64) -> Result<(), String> {
    one::<0>(rounds)?;
    one::<1>(rounds)?;
    one::<2>(rounds)?;
    one::<3>(rounds)?;
    one::<4>(rounds)?;
    machine::pass_illegal_by_entry().map_err(|error| error.to_string())?;
    measure("illegal-entry", rounds, || (EXCEPTIONS[0].raise)());
    machine::give_coprocessor().map_err(|error| error.to_string())?;
    measure("coprocessor", rounds, machine::use_coprocessor);
    machine::pass_page_fault();
    measure("page-fault", rounds, machine::load_nowhere);
    measure("cr3-load", rounds, machine::load_cr3);
    Ok(())
}

/// Measures one of [`EXCEPTIONS`], known to the compiler so that nothing is called to raise it.
fn one<const NUMBER: usize>(rounds: u64) -> Result<(), String> {
    let exception = const { &EXCEPTIONS[NUMBER] };
    if is_raised(exception) {
        exception.pass_by_closure();
        measure(&format!("{}-closure", exception.name), rounds, || (EXCEPTIONS[NUMBER].raise)());
        exception.pass_by_function().map_err(|error| error.to_string())?;
        measure(exception.name, rounds, || (EXCEPTIONS[NUMBER].raise)());
    }
    Ok(())
}

/// Each comes with its vector and to the right place, both ways; no register is lost; handlers nest.
pub fn test() -> Result<(), String> {
    let raised: Vec<&Exception> = EXCEPTIONS.iter().filter(|exception| is_raised(exception)).collect();
    raised.iter().try_for_each(|exception| each(exception))?;
    machine::mark_illegal().map_err(|error| error.to_string())?;
    if !machine::keeps_registers() || machine::SEEN.load(Ordering::Relaxed) == 0 {
        return Err("a quick handler: registers are lost, or it was not called".into());
    }
    EXCEPTIONS[0].pass_by_closure();
    if !machine::keeps_registers() {
        return Err("a closure: registers are lost".into());
    }
    machine::give_coprocessor().map_err(|error| error.to_string())?;
    (0..3).for_each(|_| machine::use_coprocessor());
    let names: Vec<&str> = raised.iter().map(|exception| exception.name).collect();
    nested(names.len())?;
    println!("exceptions: {}: by closure and by function, registers kept, nested", names.join(", "));
    Ok(())
}

/// Whether the processor raises an exception. QEMU's emulator moves words that are not aligned.
fn is_raised(exception: &Exception) -> bool {
    let (before, bytes) = (CALLED.load(Ordering::Relaxed), exception.bytes);
    quick::clear(exception.vector);
    trap::set_handler(exception.vector, move |frame| {
        CALLED.fetch_add(1, Ordering::Relaxed);
        frame.rip += bytes;
        Handled::Yes
    });
    (exception.raise)();
    CALLED.load(Ordering::Relaxed) != before
}

/// How often closures of [`is_raised`] and [`each`] were called.
static CALLED: AtomicU64 = AtomicU64::new(0);

fn each(exception: &Exception) -> Result<(), String> {
    let Exception { name, vector, bytes, .. } = *exception;
    CALLED.store(0, Ordering::Relaxed);
    quick::clear(vector);
    trap::set_handler(vector, move |frame| {
        CALLED.fetch_add(u64::from(frame.vector == u64::from(vector)), Ordering::Relaxed);
        frame.rip += bytes;
        Handled::Yes
    });
    (exception.raise)();
    if CALLED.load(Ordering::Relaxed) != 1 {
        return Err(format!("{name}: the closure of vector {vector} was not called once"));
    }
    exception.pass_by_function().map_err(|error| error.to_string())?;
    (0..3).for_each(|_| (exception.raise)());
    if CALLED.load(Ordering::Relaxed) != 1 {
        return Err(format!("{name}: went to the closure and not to the function"));
    }
    quick::clear(vector);
    (exception.raise)();
    match CALLED.load(Ordering::Relaxed) {
        2 => Ok(()),
        called => Err(format!("{name}: {called} calls of the closure instead of 2")),
    }
}

/// Depth of closures underway, and the deepest that there was.
static DEPTH: AtomicU64 = AtomicU64::new(0);
static DEEPEST: AtomicU64 = AtomicU64::new(0);

/// Each exception is raised by the handler of the one before: closures within closures, and a function in the
/// innermost. `raised` of [`EXCEPTIONS`] are, the last of which may not be.
fn nested(raised: usize) -> Result<(), String> {
    let exceptions = &EXCEPTIONS[..raised];
    for (number, exception) in exceptions.iter().enumerate() {
        quick::clear(exception.vector);
        let bytes = exception.bytes;
        trap::set_handler(exception.vector, move |frame| {
            let depth = DEPTH.fetch_add(1, Ordering::Relaxed) + 1;
            DEEPEST.fetch_max(depth, Ordering::Relaxed);
            if let Some(next) = EXCEPTIONS.get(number + 1).filter(|_| number + 1 < raised) {
                (next.raise)();
            }
            DEPTH.fetch_sub(1, Ordering::Relaxed);
            frame.rip += bytes;
            Handled::Yes
        });
    }
    let (first, last) = (&exceptions[0], &exceptions[raised - 1]);
    (first.raise)();
    let deepest = DEEPEST.swap(0, Ordering::Relaxed);
    last.pass_by_function().map_err(|error| error.to_string())?;
    (first.raise)();
    let (with_function, left) = (DEEPEST.load(Ordering::Relaxed), DEPTH.load(Ordering::Relaxed));
    let all = raised as u64;
    if (deepest, with_function, left) != (all, all - 1, 0) {
        return Err(format!("nested: {deepest} deep, {with_function} with a function, {left} left"));
    }
    Ok(())
}
