//! One program on several cores: counts primes on one core, then on several, and has them share heap, console
//! and clock.
//!
//! | word | what it does |
//! |---|---|
//! | `cores=N` | uses N cores, at most those of the machine (default: all) |
//! | `limit=N` | counts the primes below N (default 1000000) |
//! | `rounds=N` | rounds in which every core allocates, prints and sleeps (default 20) |
//! | `read-blocks=N` | the cores read the first N blocks of the disk extent, one core after the other |
//! | `file=PATH` | the cores read a file of the volume on the disk through one cache: first each the whole file, then single blocks |
//! | `cache-blocks=N` | with `file`: size of that cache (default 64) |
//! | `policy=NAME` | with `file`: `clock`, `sieve` (default), `s3-fifo` or `lru` |
//! | `gets=N` | with `file`: blocks that each core reads one by one (default 2000) |
//! | `panic=PLACE` | the core of this place, from 0, panics; `panic=all`: all do |
//! | `overflow=PLACE` | the core of this place overflows its stack |
//!
//! Prints one JSON line, with `file` another one; exit code 1 if any core counted or read something else, or
//! found memory that was not its own.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

mod failure;
mod files;
mod primes;
mod reading;
mod sharing;

use alloc::vec::Vec;
use libos_core::cores::{self, CoreHandle, StartError};
use libos_core::println;

libos_core::main!(main);

const LIMIT: u64 = 1_000_000;
const ROUNDS: u64 = 20;

fn main() -> i32 {
    match run() {
        Ok(code) => code,
        Err(error) => {
            println!("error: {error}");
            2
        }
    }
}

fn run() -> Result<i32, StartError> {
    let number = |key, default| match libos_core::arguments().number(key) {
        Ok(value) => value.unwrap_or(default),
        Err(error) => {
            println!("error: {error}");
            libos_core::exit(2)
        }
    };
    let cores = number("cores", cores::count()).clamp(1, cores::count());
    let limit = number("limit", LIMIT);
    let rounds = number("rounds", ROUNDS);
    failure::provoke(libos_core::arguments(), cores)?;
    let (primes_on_one, one_us) = primes::count(limit, 1)?;
    let (primes_on_all, all_us) = primes::count(limit, cores)?;
    let shared = sharing::rounds(rounds, cores)?;
    let same_read = match number("read-blocks", 0) {
        0 => true,
        blocks => reading::on_each(blocks, cores)?,
    };
    let same_file = match libos_core::argument("file") {
        None => true,
        Some(path) => {
            let (blocks, gets) = (number("cache-blocks", 64), number("gets", 2000));
            files::on_all(path, blocks as usize, gets, cores)?
        }
    };
    println!(
        "{{\"cores\":{cores},\"limit\":{limit},\"primes\":{primes_on_all},\"one_core_us\":{one_us},\
        \"all_cores_us\":{all_us},\"shared_rounds\":{},\"damaged\":{}}}",
        shared.rounds, shared.damaged
    );
    let right = same_read
        && same_file
        && primes_on_one == primes_on_all
        && shared.damaged == 0
        && shared.rounds == rounds * cores;
    Ok(i32::from(!right))
}

/// Has a function called on `cores` cores, this one included, each with its place from 0; returns when all
/// are done.
fn on_all(cores: u64, function: fn(u64)) -> Result<(), StartError> {
    let others = (0..cores::count()).filter(|core| *core != cores::current()).zip(1..cores);
    let started: Result<Vec<CoreHandle>, StartError> =
        others.map(|(core, place)| cores::start(core, function, place)).collect();
    function(0);
    started?.iter().for_each(CoreHandle::join);
    Ok(())
}
