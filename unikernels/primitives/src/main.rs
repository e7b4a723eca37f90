//! What crossings into the exokernel cost, what exceptions and changes of protection cost that are no
//! crossing, and what a computation does: one JSON line for each primitive, with ticks of the TSC and exits
//! for one operation.
//!
//! | word | what it does |
//! |---|---|
//! | `rounds=N` | operations in a batch (default 200) |
//! | `only=GROUP,…` | some groups only: `crossings`, `calls`, `exceptions`, `memory`, `matrix` |
//! | `test=NAME` | does a test instead: `exceptions`, `memory`, `fault-in-quick-handler` |
//!
//! Of several batches the fastest counts: the others were disturbed by something that is not measured. With a
//! second core the way of an inter-processor interrupt is measured, too. Directly on a machine there are no
//! crossings.
//!
//! With the feature `linux` it is a program for Linux, which measures the same there as far as there is such
//! a thing.
#![cfg_attr(bare_metal, no_std, no_main)]
#![deny(unsafe_code)]

extern crate alloc;

#[cfg_attr(not(any(bare_metal, feature = "linux")), allow(dead_code))]
mod line;
#[cfg(feature = "linux")]
mod linux;
mod machine;
#[cfg_attr(not(any(bare_metal, feature = "linux")), allow(dead_code))]
mod matrix;
#[cfg_attr(not(any(bare_metal, feature = "linux")), allow(dead_code))]
mod order;
#[cfg_attr(not(bare_metal), allow(dead_code))]
mod unikernel;

#[cfg(bare_metal)]
libos_core::main!(unikernel::main);

#[cfg(all(not(bare_metal), feature = "linux"))]
fn main() -> std::process::ExitCode {
    linux::main()
}

#[cfg(all(not(bare_metal), not(feature = "linux")))]
fn main() -> std::process::ExitCode {
    eprintln!(
        "primitives is a unikernel: build it with `exo build`, run it with `exo run` or `exo bench papers`"
    );
    std::process::ExitCode::FAILURE
}
