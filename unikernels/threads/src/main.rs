//! Threads: shares of the core by a scheduler, what threads wait for one another with, and what that costs.
//!
//! | word | what it does |
//! |---|---|
//! | `do=shares` | three threads of weights 3, 2, 1 compute for `quanta` quanta; prints each one's part |
//! | `do=primitives` | every primitive, between threads and tasks, while the timer preempts |
//! | `do=blocking` | threads wait for clocks and, with `blocks=N`, for a disk, while others compute |
//! | `do=costs` | ticks of a switch, a yield and a round trip, as the unikernel `primitives` prints them |
//! | `do=overflow` | a thread named "deep" overflows its stack |
//! | `do=panic` | a thread named "hasty" panics |
//! | `scheduler=NAME` | `round-robin` (default), `priorities`, `stride`, `lottery`, `deadline`, `feedback` |
//! | `quantum-ticks=N` | the quantum in ticks (default: 500 microseconds) |
//! | `quanta=N` | with `shares` (default 120) |
//! | `cores=N` | cores that threads run on (default 1) |
//! | `rounds=N` | with `primitives` and `costs` (default 400) |
//!
//! Results are JSON lines; exit code 1 if one is wrong.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

mod blocking;
mod costs;
mod primitives;
mod shares;

use core::fmt;
use core::time::Duration;
use libos_core::schedule::{EarliestDeadline, Feedback, Lottery, Priorities, RoundRobin, Stride};
use libos_core::thread::{self, SpawnError};
use libos_core::{Arguments, arguments, println, time};

libos_core::main!(main);

fn main() -> i32 {
    match run() {
        Ok(right) => i32::from(!right),
        Err(error) => {
            println!("error: {error}");
            2
        }
    }
}

/// Why nothing was run.
enum Failure {
    Argument(&'static str),
    Spawn(SpawnError),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Argument(key) => write!(f, "the word {key}=... is missing or wrong: see src/main.rs"),
            Failure::Spawn(error) => error.fmt(f),
        }
    }
}

impl From<SpawnError> for Failure {
    fn from(error: SpawnError) -> Failure {
        Failure::Spawn(error)
    }
}

fn number(words: Arguments<'_>, key: &'static str, default: u64) -> Result<u64, Failure> {
    words.number(key).map(|value| value.unwrap_or(default)).map_err(|_| Failure::Argument(key))
}

fn run() -> Result<bool, Failure> {
    let words = arguments();
    let quantum = number(words, "quantum-ticks", time::ticks_in(Duration::from_micros(500)))?;
    let cores = number(words, "cores", 1)?;
    let rounds = number(words, "rounds", 400)?;
    match words.value("scheduler").unwrap_or("round-robin") {
        "round-robin" => thread::start(RoundRobin::new(quantum), cores)?,
        "priorities" => thread::start(Priorities::new(quantum), cores)?,
        "stride" => thread::start(Stride::new(quantum), cores)?,
        "lottery" => thread::start(Lottery::new(quantum, 42), cores)?,
        "deadline" => thread::start(EarliestDeadline::new(quantum), cores)?,
        "feedback" => thread::start(Feedback::new(quantum, 50 * quantum), cores)?,
        _ => return Err(Failure::Argument("scheduler")),
    }
    match words.value("do") {
        Some("shares") => Ok(shares::measure(quantum, number(words, "quanta", 120)?)?),
        Some("primitives") => Ok(primitives::check(rounds)?),
        Some("blocking") => Ok(blocking::check(number(words, "blocks", 0)?)?),
        Some("costs") => Ok(costs::measure(rounds)?),
        Some("overflow") => {
            thread::spawn("deep", || overflow(0))?.join();
            Ok(false)
        }
        Some("panic") => {
            thread::spawn("hasty", || panic!("on purpose"))?.join();
            Ok(false)
        }
        _ => Err(Failure::Argument("do")),
    }
}

/// Calls itself until the stack is full.
#[inline(never)]
#[allow(unconditional_recursion)]
fn overflow(depth: u64) -> u64 {
    let page = core::hint::black_box([depth; 64]);
    overflow(depth + 1) + page[63]
}
