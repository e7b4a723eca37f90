//! `filecache`: one workload under one cache policy.
//!
//! | word of the command line | what |
//! |---|---|
//! | `workload=NAME` | which of [`filecache::Workload::ALL`]; must be given |
//! | `policy=default\|own\|NAME` | cache policy, or one of the library's; `default` if not given |
//! | `cache=80%`, `cache=800`, `cache=paper:6.4` | cache in hundredths of the workload's data, in blocks, or as in the paper; `80%` if not given |
//! | `read_ahead=none\|one-block\|sequential\|cluster\|directed\|aggressive` | read-ahead policy; the library's default if not given |
//! | `cores=N` | N cores run the workload, each the whole of it, through one cache ([`filecache::cores`]); one core with the cache of its own if not given |
//! | `record=1` | print the reference string as well |
//!
//! It prints one result line, a JSON object; the exit code is 0 if the workload's result was the expected
//! one.
//!
//! In the profile `image` it is a unikernel; in others a program of the host, whose first argument is the
//! disk image.
#![cfg_attr(bare_metal, no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(not(bare_metal))]
#[path = "main/host.rs"]
mod host;
#[cfg_attr(not(bare_metal), allow(dead_code))]
#[path = "main/unikernel.rs"]
mod unikernel;

#[cfg(bare_metal)]
libos_core::main!(unikernel::main);

#[cfg(not(bare_metal))]
fn main() -> std::process::ExitCode {
    host::main()
}
