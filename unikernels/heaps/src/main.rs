//! `heaps`: a generational collector under three write barriers, and a store of objects on a disk.
//!
//! | word of the command line | what |
//! |---|---|
//! | `only=PROGRAM` | one of the programs `trees`, `table`, `log`, `counters`; all if none is named |
//! | `test=1` | prints digests only |
//! | `store=write` | makes a store of the disk and commits a list of objects to it |
//! | `store=read` | finds that list, in another run |
//!
//! It prints a JSON object for each program and barrier: ticks in all (instructions, where the machine counts
//! them), of the program without collections, of the longest pause and of all; traps; what collections did.
#![cfg_attr(bare_metal, no_std, no_main)]
#![forbid(unsafe_code)]

extern crate alloc;

#[cfg_attr(not(bare_metal), allow(dead_code))]
#[path = "main/faulting.rs"]
mod faulting;
#[cfg_attr(not(bare_metal), allow(dead_code))]
#[path = "main/paged.rs"]
mod paged;
#[cfg_attr(not(bare_metal), allow(dead_code))]
#[path = "main/unikernel.rs"]
mod unikernel;

#[cfg(bare_metal)]
libos_core::main!(unikernel::main);

#[cfg(not(bare_metal))]
fn main() -> std::process::ExitCode {
    eprintln!("heaps is a unikernel: build it with `exo build heaps`, run it with `exo run heaps`");
    std::process::ExitCode::FAILURE
}
