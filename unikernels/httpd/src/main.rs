//! `httpd`: the files of a volume, for everybody who asks by HTTP/1.1.
//!
//! | word of the command line | what |
//! |---|---|
//! | `port=N` | port of TCP (80) |
//! | `address=A/BITS` | its own address of IPv4, such as 10.0.0.2/24; by DHCP if not given; or `none` |
//! | `router=A` | the way to other networks, with `address=` |
//! | `address6=A/BITS` | its own address of IPv6; by what routers announce if not given; or `none` |
//! | `router6=A` | the way to other networks, with `address6=` |
//! | `mtu=N` | bytes of the longest packet |
//! | `cache=N` | blocks of files in memory (1024) |
//! | `backlog=N` | connections that may be in the making, or wait to be accepted (256) |
//! | `connections=N` | connections that a core serves at once (as many as there is memory for): one more, and the one is closed whose last answer is longest ago |
//! | `tls=N` | port for HTTPS (none); in an image built with the feature `tls` |
//! | `certificate=FILE` | with `tls=`: its chain of certificates, a file of the volume in PEM |
//! | `key=FILE` | with `tls=`: its key, ECDSA on P-256, a file of the volume in PEM; it is never sent |
//! | `stack=own` | this project's own TCP, which sends pages of the file cache without a copy, and small files kept by what is asked for most |
//! | `looks=N` | how often it looks for packets before it sleeps (2000) |
//! | `cores=N` | serves on so many cores, with `address=`: connections are spread over them, and each has its own file cache (1) |
//! | `quiet=1` | no access log |
//! | `requests=N` | ends after so many requests, with a line of counts |
//! | `counts=N` | the same line after every so many requests |
//!
//! It says when it listens, and prints a line for each request in the common log format.
#![cfg_attr(bare_metal, no_std, no_main)]
#![forbid(unsafe_code)]
#![cfg_attr(not(bare_metal), allow(dead_code))]

extern crate alloc;

#[path = "main/cores.rs"]
mod cores;
#[path = "main/secure.rs"]
mod secure;
#[path = "main/server.rs"]
mod server;
#[path = "main/start.rs"]
mod start;

#[cfg(bare_metal)]
libos_core::main!(start::main);

#[cfg(not(bare_metal))]
fn main() {
    eprintln!("httpd is a unikernel: cargo exo run httpd --direct --net user --publish 8080:80 --disk FILE");
}
