//! `filecache`: one workload under one cache policy.
//!
//! | word of the command line | what |
//! |---|---|
//! | `workload=cs\|din\|sort` | which; must be given |
//! | `policy=default\|own\|lru\|mru\|fifo\|clock` | cache policy; `default` if not given |
//! | `cache=80%` or `cache=800` | cache in hundredths of the workload's data, or in blocks; `80%` if not given |
//! | `read_ahead=none\|sequential\|cluster` | read-ahead policy; the library's default if not given |
//! | `record=1` | print the reference string as well |
//!
//! It prints one result line, a JSON object; the exit code is 0 if the workload's result was the expected one.
#![cfg_attr(not(feature = "data"), no_std, no_main)]
#![forbid(unsafe_code)]

/// What it runs on.
#[cfg_attr(feature = "data", path = "main/host.rs")]
#[cfg_attr(not(feature = "data"), path = "main/unikernel.rs")]
mod platform;

#[cfg(feature = "data")]
fn main() -> std::process::ExitCode {
    platform::main()
}
