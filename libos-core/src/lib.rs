//! Runtime of a unikernel: everything between the first instruction and the application's `main`, and the
//! hardware behind safe functions.
//!
//! | module | what |
//! |---|---|
//! | [`entry`] | [`main!`], exit codes |
//! | [`mod@arguments`] | the command line |
//! | [`console`] | [`print!`], [`println!`] |
//! | [`disk`] | asynchronous block requests |
//! | [`net`] | Ethernet packets |
//! | [`random`] | bytes that nobody can guess |
//! | [`power`] | the power button: an orderly end on request |
//! | [`time`] | clock and sleeping |
//! | [`task`] | asynchronous tasks: executor, timers, channels |
//! | [`thread`] | threads: stacks of their own, preemption, several cores |
//! | [`sync`] | what threads and tasks wait for one another with |
//! | [`schedule`] | who of them runs: six schedulers, and how to write one |
//! | [`memory`] | address space and frames |
//! | [`heap`] | the global allocator |
//! | [`frames`] | runs of frames with an owner |
//! | [`paging`] | page tables as data |
//! | [`window`] | virtual memory whose page faults the application answers |
//! | [`cores`] | functions on other cores |
//! | [`lock`] | mutual exclusion with other cores and with trap handlers |
//! | [`trap`] | exceptions: handlers by vector |
//! | [`quick`] | exceptions: short ways to a handler and back |
//! | [`upcall`] | calls from the kernel, and sleeping until one comes |
//! | [`mod@panic`] | the report at a bad end |
//! | [`exo`] | the exokernel's calls, views and faults: for programs that run under HyperExo only |
//!
//! A unikernel runs in one address space, and on one core unless it starts functions on others. Its program
//! may be written without `unsafe`: what this crate exports as safe is safe.
//!
//! Test programs of the host can link this crate and use what is pure. What needs a platform panics there.
//!
//! # Order of the modules
//!
//! Each row uses only rows above it, and no two modules use each other (`scripts/exo/src/rows` checks both).
//! `host` comes late, so nothing above it knows what the unikernel runs on: it asks `platform`.
//!
//! ```text
//! arguments · schedule
//! platform/   what a host must offer; device · block · packet · entropy · facts
//! cpu/        section · timer · lock · upcall · quick · trap
//! task/       executor · channel
//! memory/     image · paging · physical · heap · frames · lent · linear · level · thread_stacks · stacks ·
//!             space · window
//! cpu/        cores
//! time
//! thread/     switch · control · queue · wait · local
//! sync/       base · waiters · semaphore · mutex · condition · barrier · once · channel
//! io/         console · disk · net · random
//! power · panic
//! host/       exo/ (hypercall · information · frames · disk · net · view · faults) · direct/
//! entry
//!
//! rows: arguments schedule · platform::* · cpu::* · task · memory::* · memory::window::+ · cpu::cores · time
//! rows: thread · sync · io::* · power · panic · host::* · entry
//! ```
#![no_std]

extern crate alloc;

pub mod arguments;
mod cpu;
pub mod entry;
mod host;
mod io;
pub mod memory;
pub mod panic;
mod platform;
pub mod power;
pub mod schedule;
pub mod sync;
pub mod task;
pub mod thread;
pub mod time;

pub use arguments::Arguments;
pub use cpu::{cores, lock, quick, trap, upcall};
pub use entry::{Termination, exit};
pub use host::exo;
pub use io::{console, disk, net, random};
pub use memory::{frames, heap, paging, window};
pub use platform::Host;

#[doc(hidden)]
pub use hyperexo_hw;

/// What this unikernel runs on.
///
/// # Panics
///
/// In a test program of the host. So do the other functions here.
pub fn host() -> Host {
    platform::current().host()
}

/// The counters of this unikernel. Under HyperExo the kernel keeps them, directly on a machine the
/// unikernel's own drivers do.
pub fn accounting() -> &'static hyperexo_abi::accounting::Accounting {
    platform::current().accounting()
}

/// Name of this unikernel.
pub fn name() -> &'static str {
    platform::facts().name
}

/// The command line.
pub fn command_line() -> &'static str {
    platform::facts().command_line
}

/// The command line, to be asked for its words.
pub fn arguments() -> Arguments<'static> {
    Arguments(command_line())
}

/// The value of the last word `key=value` of the command line.
pub fn argument(key: &str) -> Option<&'static str> {
    arguments().value(key)
}
