//! Runtime of a unikernel: everything between the first instruction and the application's `main`, and the
//! hardware behind safe functions.
//!
//! | module | what |
//! |---|---|
//! | [`entry`] | [`main!`], exit codes |
//! | [`console`] | [`print!`], [`println!`] |
//! | [`mod@arguments`] | the command line |
//! | [`time`] | clock and sleeping |
//! | [`heap`] | the global allocator |
//! | [`memory`] | address space and frames |
//! | [`frames`] | runs of frames with an owner |
//! | [`paging`] | page tables as data |
//! | [`trap`] | exceptions: handlers by vector |
//! | [`faults`] | accesses without a binding, handled |
//! | [`view`] | memory that only code entered through a gate reaches |
//! | [`upcall`] | calls from the kernel, sleeping until one comes |
//! | [`disk`] | asynchronous block requests |
//! | [`net`] | Ethernet packets |
//! | [`random`] | bytes that nobody can guess |
//! | [`hypercall`] | the calls of the exokernel, one function each |
//! | [`cores`] | functions on other cores |
//! | [`lock`] | mutual exclusion with other cores and with trap handlers |
//! | [`mod@panic`] | the report at a bad end |
//! | [`platform`] | the only part that knows what the unikernel runs on |
//!
//! A unikernel runs in one address space, and on one core unless it starts functions on others. Its program
//! may be written without `unsafe`: what this crate exports as safe is safe.
//!
//! Test programs of the host can link this crate and use what is pure; what needs a platform panics there.
#![no_std]

extern crate alloc;

pub mod arguments;
pub mod console;
pub mod cores;
pub mod disk;
pub mod entry;
pub mod faults;
pub mod frames;
pub mod heap;
pub mod hypercall;
pub mod lock;
pub mod memory;
pub mod net;
pub mod paging;
pub mod panic;
pub mod platform;
pub mod random;
pub mod time;
pub mod trap;
pub mod upcall;
pub mod view;

pub use arguments::Arguments;
pub use entry::{Termination, exit};
pub use platform::Host;
pub use platform::exo::start_info;

#[doc(hidden)]
pub use hyperexo_hw;

/// What this unikernel runs on.
///
/// # Panics
/// In a test program of the host. So do the other functions here.
pub fn host() -> Host {
    platform::current().host()
}

/// The counters of this unikernel: those that HyperExo keeps for the environment, or, directly on a machine,
/// those of its own drivers.
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

/// The command line, to be asked.
pub fn arguments() -> Arguments<'static> {
    Arguments(command_line())
}

/// The value of the last word `key=value` of the command line.
pub fn argument(key: &str) -> Option<&'static str> {
    arguments().value(key)
}
