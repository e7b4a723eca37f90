//! The programs as a unikernel.

use crate::faulting::Faulting;
use crate::paged::{Paged, window};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use heaps::collector::{Barrier, Heap};
use heaps::memory::Memory;
use heaps::programs::{PAGES, Program, YOUNG_PAGES};
use heaps::store::{Store, StoreError};
use libos_core::{argument, println, time};
use libos_fs::RingDevice;

/// Runs what the command line asks for.
pub fn main() -> i32 {
    let done = match argument("store") {
        None => run(),
        Some("write") => write(),
        Some("read") => read(),
        Some(other) => Err(format!("store={other}: there are write and read")),
    };
    match done {
        Ok(()) => 0,
        Err(error) => {
            println!("error: {error}");
            1
        }
    }
}

fn run() -> Result<(), String> {
    let only: Option<Program> = match argument("only") {
        None => None,
        Some(name) => Some(name.parse().map_err(|error| format!("only={name}: {error}"))?),
    };
    let test = argument("test").is_some();
    for program in Program::ALL.into_iter().filter(|program| only.is_none_or(|only| only == *program)) {
        for barrier in Barrier::ALL {
            let (window, noted) = window(PAGES).map_err(|error| error.to_string())?;
            let memory = Paged::new(&window, noted);
            let line = match barrier {
                Barrier::Software => one::<_, true>(program, barrier, memory, test),
                Barrier::Protection | Barrier::Dirty => one::<_, false>(program, barrier, memory, test),
            };
            println!("{}", line?);
        }
    }
    Ok(())
}

/// Runs a program under a barrier; the line about it.
fn one<M: Memory, const SOFTWARE: bool>(
    program: Program,
    barrier: Barrier,
    memory: M,
    test: bool,
) -> Result<String, String> {
    let start = time::ticks();
    let mut heap = Heap::<M, SOFTWARE>::new(memory, PAGES, YOUNG_PAGES, barrier, time::ticks);
    let digest = program.run(&mut heap).map_err(|error| error.to_string())?;
    let ticks = time::ticks() - start;
    let (name, barrier) = (program.name(), barrier.name());
    let named = format!("{{\"bench\":\"heaps\",\"program\":\"{name}\",\"barrier\":\"{barrier}\"");
    if test {
        return Ok(format!("{named},\"digest\":\"{digest:016x}\"}}"));
    }
    let ([longest, pauses], done) = (heap.pauses(), heap.collections());
    Ok(format!(
        "{named},\"digest\":\"{digest:016x}\",\"ticks\":{ticks},\"program_ticks\":{},\"longest_pause\":{longest},\
         \"pauses\":{pauses},\"traps\":{},\"small\":{},\"full\":{},\"copied_words\":{},\"pages_scanned\":{},\
         \"fields_noted\":{}}}",
        ticks - pauses,
        heap.memory().traps(),
        done.small,
        done.full,
        done.copied_words,
        done.pages_scanned,
        done.fields_noted,
    ))
}

/// Objects of the list on the disk.
const OBJECTS: u64 = 2000;
/// Pages of memory for it.
const STORE_PAGES: usize = 400;

/// Opens the disk, and the store on it by `open`.
fn store(
    open: impl FnOnce(Box<RingDevice>, Faulting) -> Result<Store<Faulting>, StoreError>,
) -> Result<Store<Faulting>, String> {
    let device = RingDevice::open().map_err(|error| format!("the disk: {error}"))?;
    let window = Faulting::new(STORE_PAGES).map_err(|error| error.to_string())?;
    open(Box::new(device), window).map_err(|error| error.to_string())
}

/// Makes a store of the disk with a list in it, commits it, and changes it without a commit.
fn write() -> Result<(), String> {
    let store = store(|device, window| Store::create(device, window))?;
    let make = || -> Result<usize, StoreError> {
        let mut last = 0;
        for number in 0..OBJECTS {
            let object = store.allocate(1, 60)?;
            store.set_reference(object, 0, last);
            store.set_data(object, 0, number);
            last = object;
        }
        store.set_root(last);
        let pages = store.commit()?;
        store.set_root(0);
        Ok(pages)
    };
    let pages = make().map_err(|error| error.to_string())?;
    println!("store: {OBJECTS} objects in {pages} pages committed");
    Ok(())
}

/// Finds the list, first a few of its objects, then all.
fn read() -> Result<(), String> {
    let store = store(|device, window| Store::open(device, window))?;
    let (mut object, mut found, mut few) = (store.root(), 0, 0);
    while object != 0 {
        if store.data(object, 0) != OBJECTS - 1 - found {
            return Err(format!("object {found} of the list has {}", store.data(object, 0)));
        }
        found += 1;
        if found == 16 {
            few = store.brought();
        }
        object = store.reference(object, 0);
    }
    println!("store: 16 objects took {few} pages, all {found} took {}", store.brought());
    Ok(())
}
