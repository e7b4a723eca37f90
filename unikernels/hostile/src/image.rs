//! The image against itself: `act=NAME` does what its own address space forbids, whatever it runs on.
//!
//! Each act must end the unikernel with the runtime's report of a page fault; exit code 1 if it does not.
//! `act=guards` tells instead whether the processor's guards are on: exit code 1 if one that it offers is
//! not; `act=call` whether a call is answered, which it is exactly on HyperExo.

use crate::machine;
use alloc::boxed::Box;
use core::hint::black_box;
use hyperexo_abi::LINEAR_BASE;
use hyperexo_abi::hypercall::Status;
use libos_core::exo::hypercall;
use libos_core::{Host, memory, println};

/// A constant, in read-only memory.
static CONSTANT: [u64; 4] = [1, 2, 3, 4];

/// `ret`, eight times.
const RETURNS: u64 = 0xc3c3_c3c3_c3c3_c3c3;

/// Carries out the act with this name; returns the exit code.
pub fn act(name: &str) -> i32 {
    match name {
        "guards" => return guards(),
        "call" => return call(),
        "write-code" => machine::write_word(act as *const () as u64 & !7, 0),
        "write-constant" => machine::write_word(&raw const *black_box(&CONSTANT) as u64, 0),
        "write-code-linear" => machine::write_word(in_linear_map(act as *const () as u64 & !7), 0),
        "write-constant-linear" => {
            machine::write_word(in_linear_map(&raw const *black_box(&CONSTANT) as u64), 0);
        }
        "read-null" => drop(black_box(machine::read_word(0))),
        "write-null" => machine::write_word(8, 0),
        "execute-heap" => machine::execute(&raw const *black_box(Box::new(RETURNS)) as u64),
        "execute-stack" => machine::execute(&raw const *black_box(&RETURNS.wrapping_add(0)) as u64),
        name => {
            println!("error: act={name}: no such act");
            return 2;
        }
    }
    println!("error: act={name}: allowed");
    1
}

/// Where else an address of the image can be seen: in the linear map.
fn in_linear_map(address: u64) -> u64 {
    memory::physical_address(address).map_or(0, |physical| LINEAR_BASE + physical)
}

/// A hypercall, be there somebody to answer it or not.
fn call() -> i32 {
    let answer = hypercall::null();
    println!("call: {answer:?}");
    let expected = match libos_core::host() {
        Host::HyperExo { .. } => Ok(()),
        Host::Machine => Err(Status::UnknownCall),
    };
    i32::from(answer != expected)
}

/// Says which guards are on, and whether one is missing.
fn guards() -> i32 {
    let guards = machine::guards();
    let names = guards.iter().map(|(name, offered, on)| match (offered, on) {
        (true, true) => (name, "on"),
        (true, false) => (name, "off"),
        (false, _) => (name, "not offered"),
    });
    names.for_each(|(name, state)| println!("guard {name}: {state}"));
    i32::from(guards.iter().any(|(_, offered, on)| *offered && !on))
}
