//! `kv`: a key-value server, for everybody who speaks Redis's protocol.
//!
//! | word of the command line | what |
//! |---|---|
//! | `port=N` | port of TCP (6379) |
//! | `address=`, `router=`, `address6=`, … | those of [`libos_net::Config::with_words`]; by DHCP and SLAAC if not given |
//! | `backlog=N` | connections that may be in the making, or wait to be accepted (256) |
//! | `epoch=SECONDS` | the time now, in seconds since 1970; else time goes on from where the log ends, or from 0 |
//! | `cache=N` | blocks of the file cache, with `appendonly=yes` (512) |
//! | `appendonly=yes` | a log in `/appendonly.aof` of the volume on the disk |
//! | `NAME=VALUE` | any parameter that `CONFIG SET` knows: `appendfsync=always`, `maxmemory=100mb`, `requirepass=…` |
//! | `traffic=NAME` | instead: makes the requests of [`kv::traffic::Traffic`] itself, without a network, and counts hits |
//! | `maxmemory=N%` | with `traffic=`: the share of its data that there is memory for |
//! | `part=N` | with `traffic=`: one in so many of the requests (1) |
//!
//! It says when it listens, and with a log, what that held; of traffic, one JSON object.
#![cfg_attr(bare_metal, no_std, no_main)]
#![forbid(unsafe_code)]
#![cfg_attr(not(bare_metal), allow(dead_code))]

extern crate alloc;

#[path = "main/server.rs"]
mod server;
#[path = "main/traffic.rs"]
mod traffic;

#[cfg(bare_metal)]
libos_core::main!(start);

fn start() -> Result<i32, alloc::string::String> {
    match libos_core::argument("traffic") {
        Some(name) => traffic::main(name),
        None => server::main(),
    }
}

#[cfg(not(bare_metal))]
fn main() {
    eprintln!("kv is a unikernel: cargo exo run kv --direct --net user --publish 6379:6379 --disk FILE");
}
