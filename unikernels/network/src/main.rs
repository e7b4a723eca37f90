//! `network`: packets between environments, and between one and whoever is outside.
//!
//! | word | what |
//! |---|---|
//! | `role=ping` | finds an echo by broadcast, then sends it requests and checks the answers |
//! | `role=echo` | answers requests, until it has seen all numbers |
//! | `role=arp` | asks who has an IPv4 address |
//! | `role=get` | fetches a page by HTTP, `count` times, and prints its CRC-32 |
//! | `role=store` | puts `count` values of `bytes` into a key-value store, reads them, and has it end |
//! | `role=streams` | takes and gives bytes by TCP, to measure how many a second there can be |
//! | `count=N` | requests to send, or to answer (1000) |
//! | `batch=N` | requests on their way at once, at most 32 (1) |
//! | `bytes=N` | bytes of a request, 28 to 1514 (64) |
//! | `shared=1` | `role=echo` takes requests to the machine's address, too |
//! | `address=A/BITS` | address for `role=get`, `store` and `streams`, as 10.0.0.2/24; by DHCP if not given |
//! | `from=A`, `page=P` | server for `role=get` and `store`, page for `get` (10.0.0.1, /) |
//! | `clients=N` | connections of `role=get` that are used at once (1) |
//! | `port=N` | port of TCP: the server's for `role=get` (80) and `store` (6379), its own for `role=streams` (5001) |
//! | `own=A`, `wanted=A` | IPv4 addresses for `role=arp` (10.0.2.15, 10.0.2.2) |
//!
//! Results are JSON objects, one a line. Exit code 1 if an answer does not come at all, 2 for a command
//! line that makes no sense.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

mod get;
mod internet;
mod roles;
mod store;
mod streams;

use alloc::string::String;
use core::net::Ipv4Addr;
use core::time::Duration;
use libos_core::net::NetError;
use libos_core::{argument, arguments, println};
use network::message;
use roles::{Ping, arp, echo, ping};

libos_core::main!(main);

/// How long a packet may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most requests on their way at once: their answers find room whatever else comes.
const MAX_BATCH: u64 = 32;

/// Why it did not work.
#[derive(Debug)]
enum Failure {
    /// A word of the command line makes no sense; what would.
    Word(&'static str),
    /// The network could not be opened.
    Network(NetError),
    /// Nothing came, after so many answers.
    Silence {
        /// Answers until then.
        answers: u64,
    },
    /// As many packets as possible are on their way, and none leaves.
    NoRoom,
    /// The addresses of the command line make no sense.
    Config(String),
    /// Something of TCP failed.
    Stream(String),
}

impl From<NetError> for Failure {
    fn from(error: NetError) -> Failure {
        Failure::Network(error)
    }
}

fn main() -> i32 {
    match run() {
        Ok(()) => 0,
        Err(failure) => {
            match &failure {
                Failure::Word(what) => println!("error: {what}"),
                Failure::Network(error) => println!("error: {error}"),
                Failure::Silence { answers } => println!("error: nothing came after {answers} packets"),
                Failure::NoRoom => println!("error: packets do not leave"),
                Failure::Config(what) => println!("error: {what}"),
                Failure::Stream(why) => println!("error: {why}"),
            }
            if matches!(failure, Failure::Word(_) | Failure::Config(_)) { 2 } else { 1 }
        }
    }
}

fn run() -> Result<(), Failure> {
    let number = |key, default, what| match arguments().number(key) {
        Ok(value) => Ok(value.unwrap_or(default)),
        Err(_) => Err(Failure::Word(what)),
    };
    let count = number("count", 1000, "count=N: a number of requests")?;
    let batch = number("batch", 1, "batch=N: 1 to 32")?;
    let bytes = number("bytes", 64, "bytes=N: 28 to 1514")?;
    if !(1..=MAX_BATCH).contains(&batch) {
        return Err(Failure::Word("batch=N: 1 to 32"));
    }
    if !(message::MIN_BYTES as u64..=message::MAX_BYTES as u64).contains(&bytes) {
        return Err(Failure::Word("bytes=N: 28 to 1514"));
    }
    match argument("role") {
        Some("ping") => ping(Ping { count, batch, bytes: bytes as usize }),
        Some("echo") => echo(count, arguments().number("shared") == Ok(Some(1))),
        Some("arp") => {
            arp(address("own", Ipv4Addr::new(10, 0, 2, 15))?, address("wanted", Ipv4Addr::new(10, 0, 2, 2))?)
        }
        Some("get") => match number("clients", 1, "clients=N: 1 to 1000")? {
            clients @ 1..=1000 => get::get(count, clients),
            _ => Err(Failure::Word("clients=N: 1 to 1000")),
        },
        Some("store") => store::store(count, bytes as usize),
        Some("streams") => streams::streams(),
        _ => Err(Failure::Word(
            "role=ping, role=echo, role=arp, role=get, role=store or role=streams must be given",
        )),
    }
}

fn address(key: &str, default: Ipv4Addr) -> Result<Ipv4Addr, Failure> {
    argument(key)
        .map_or(Ok(default), str::parse)
        .map_err(|_| Failure::Word("own=A, wanted=A: IPv4 addresses"))
}
