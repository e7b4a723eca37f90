//! `pager`: one program with more data than frames, under one policy for pages.
//!
//! | word of the command line | what |
//! |---|---|
//! | `program=NAME` | which of [`pager::Program::ALL`]; must be given |
//! | `policy=default\|own\|NAME` | CLOCK, the program's own, or one of the library's; `default` if not given |
//! | `scale=N` | N times the usual data; `1` if not given |
//! | `frames=N`, `frames=N%` | frames for its data, or the share of its pages; mostly `25%` if not given |
//! | `record=1` | records page references, exactly: a fault for each change of page |
//! | `test=NAME` | does a test of paged memory instead: see `main/tests.rs` |
//!
//! It prints one result line, a JSON object. In the profile `image` it is a unikernel, which pages to the
//! first blocks of its disk; with the feature `linux` a program for Linux, which leaves paging to the kernel.
#![cfg_attr(bare_metal, no_std, no_main)]
#![forbid(unsafe_code)]

extern crate alloc;

#[cfg_attr(not(bare_metal), allow(dead_code))]
#[path = "main/paged.rs"]
mod paged;
#[cfg_attr(not(bare_metal), allow(dead_code))]
#[path = "main/tests.rs"]
mod tests;
#[cfg_attr(not(bare_metal), allow(dead_code))]
#[path = "main/unikernel.rs"]
mod unikernel;

#[cfg(bare_metal)]
libos_core::main!(unikernel::main);

#[cfg(all(not(bare_metal), feature = "linux"))]
fn main() -> std::process::ExitCode {
    pager::linux::main()
}

#[cfg(all(not(bare_metal), not(feature = "linux")))]
fn main() -> std::process::ExitCode {
    eprintln!(
        "pager is a unikernel: build it with `exo build`, run it with `exo run` or `exo compare pager`"
    );
    std::process::ExitCode::FAILURE
}
