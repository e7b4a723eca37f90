//! `httpd`: the files of a volume, for everybody who asks by HTTP/1.1.
//!
//! | word of the command line | what |
//! |---|---|
//! | `port=N` | port of TCP (80) |
//! | `address=A/BITS` | its own address, such as 10.0.0.2/24; by DHCP if not given |
//! | `router=A` | the way to other networks, with `address=` |
//! | `cache=N` | blocks of the file cache (1024) |
//! | `backlog=N` | connections that may be in the making, or wait to be accepted (256) |
//! | `quiet=1` | no access log |
//! | `requests=N` | ends after so many requests, with a line of counts |
//! | `counts=N` | the same line after every so many requests |
//!
//! It says when it listens, and prints a line for each request in the common log format.
#![cfg_attr(bare_metal, no_std, no_main)]
#![forbid(unsafe_code)]
#![cfg_attr(not(bare_metal), allow(dead_code))]

extern crate alloc;

#[path = "main/server.rs"]
mod server;

#[cfg(bare_metal)]
libos_core::main!(server::main);

#[cfg(not(bare_metal))]
fn main() {
    eprintln!("httpd is a unikernel: cargo exo run httpd --direct --net user --publish 8080:80 --disk FILE");
}
