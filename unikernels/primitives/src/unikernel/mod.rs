//! The unikernel.

mod crossings;
mod exceptions;
mod measure;
mod memory;

use crate::matrix::Matrices;
use alloc::string::{String, ToString};
use core::hint::black_box;
use libos_core::{Host, argument, println};
use measure::measure;

/// Operations in a batch.
const ROUNDS: u64 = 200;
/// What there is to be measured.
const GROUPS: [&str; 5] = ["crossings", "calls", "exceptions", "memory", "matrix"];

/// Does what the command line asks for.
pub fn main() -> i32 {
    let done = match argument("test") {
        None => run(),
        Some("exceptions") => exceptions::test(),
        Some("memory") => memory::test(),
        Some("fault-in-quick-handler") => memory::fault_in_quick_handler(),
        Some(other) => {
            Err(alloc::format!("test={other}: there are exceptions, memory, fault-in-quick-handler"))
        }
    };
    match done {
        Ok(()) => 0,
        Err(error) => {
            println!("error: {error}");
            1
        }
    }
}

fn run() -> Result<(), String> {
    let rounds = libos_core::arguments().number("rounds").map_err(|error| error.to_string())?;
    let rounds = rounds.unwrap_or(ROUNDS).max(1);
    let only = argument("only");
    if let Some(unknown) = only.and_then(|only| only.split(',').find(|group| !GROUPS.contains(group))) {
        return Err(alloc::format!("only={unknown}: there are {}", GROUPS.join(", ")));
    }
    let wanted = |group: &str| only.is_none_or(|only| only.split(',').any(|one| one == group));
    measure("nothing", rounds, || black_box(()));
    if wanted("calls") {
        measure("procedure", rounds, || procedure(black_box(1)));
    }
    let on_exo = matches!(libos_core::host(), Host::HyperExo { .. });
    if wanted("crossings") && on_exo {
        crossings::run(rounds)?;
    } else if wanted("calls") && on_exo {
        crossings::null_call(rounds);
    }
    if wanted("exceptions") {
        exceptions::run(rounds)?;
    }
    if wanted("memory") {
        memory::run(rounds)?;
    }
    if wanted("matrix") {
        let mut matrices = Matrices::new();
        measure("matrix", 1, || {
            black_box(matrices.multiply());
        });
    }
    Ok(())
}

/// A procedure that does nothing.
#[inline(never)]
fn procedure(argument: u64) {
    black_box(argument);
}
