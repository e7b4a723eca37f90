//! A unikernel that tries everything that is forbidden, one act a run: `attempt=NAME`.
//!
//! `attempt=list` prints the names, one a line with the end that HyperExo must bring about:
//!
//! * `survives`: every try is refused with the status or exception that belongs to it. Exit code 0; 1 if one
//!   was not.
//! * `killed`: HyperExo ends this environment, and gives the reason. Exit code 1 if it does not.
//! * `either`: processors differ; what counts is that nobody else notices.
//!
//! The end of an attempt that needs more than one core is followed by `cores=2`, of one that needs the
//! network by `network`; where there are fewer it says so, does nothing, and the exit code is 0.
//!
//! `attempt=all` runs all that must survive on one core. Exit code 2 stands for a command line that makes no
//! sense, 3 for an attempt that needs a disk where there is none.
//!
//! | module | what it tries |
//! |---|---|
//! | [`memory`] | frames of others, by every kind of access and by page table |
//! | [`calls`] | hypercalls with forged, stale, narrow and absurd arguments |
//! | [`ring`] | disk requests for foreign blocks and frames, lies in the ring's indices |
//! | [`net`] | filters, packets and frames of others on the network |
//! | [`instructions`] | virtualization, MSRs, ports, control registers |
//! | [`state`] | registers of a neighbour on the same core |
//! | [`cores`] | what several cores make possible: memory taken away under another's hands, virtual CPUs that can't be |
//! | [`faults`] | nested faults that it handles itself |
//! | [`views`] | what is shown only inside views |
//! | [`holds`] | every call with its largest arguments |
//! | [`shares`] | the time of others |
//! | [`image`] | what the image's own address space forbids: `act=NAME`, on any platform |
//! | [`disturbance`] | endless loops, storms, suicide |
//! | [`machine`] | the instructions themselves: the only `unsafe` code |
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod calls;
mod cores;
mod disturbance;
mod faults;
mod holds;
mod image;
mod instructions;
mod judge;
mod machine;
mod memory;
mod net;
mod ring;
mod shares;
mod state;
mod views;

use judge::{Attempt, End, Judge};
use libos_core::{argument, println};

libos_core::main!(main);

/// All attempts, by module.
fn attempts() -> impl Iterator<Item = &'static Attempt> {
    [
        memory::ATTEMPTS,
        calls::ATTEMPTS,
        ring::ATTEMPTS,
        net::ATTEMPTS,
        instructions::ATTEMPTS,
        state::ATTEMPTS,
        shares::ATTEMPTS,
        disturbance::ATTEMPTS,
        cores::ATTEMPTS,
        faults::ATTEMPTS,
        views::ATTEMPTS,
    ]
    .into_iter()
    .flatten()
}

/// The line of an attempt in the list.
fn list(attempt: &Attempt) {
    let Attempt { name, end, needs_cores, needs_network, what, .. } = attempt;
    match (needs_cores, needs_network) {
        (1, false) => println!("{name} {end}: {what}"),
        (1, true) => println!("{name} {end} network: {what}"),
        (cores, _) => println!("{name} {end} cores={cores}: {what}"),
    }
}

fn main() -> i32 {
    if let Some(name) = argument("act") {
        return image::act(name);
    }
    let Some(name) = argument("attempt") else {
        println!("error: argument attempt=NAME is missing; attempt=list shows the names");
        return 2;
    };
    match name {
        "list" => {
            attempts().for_each(list);
            0
        }
        "all" => {
            let codes = attempts()
                .filter(|attempt| {
                    attempt.end == End::Survives && attempt.needs_cores == 1 && !attempt.needs_network
                })
                .map(run);
            // The first failure decides.
            codes.fold(0, |first, code| if first == 0 { code } else { first })
        }
        name => {
            match attempts()
                .chain(views::PARTS)
                .chain(shares::PARTS)
                .chain(cores::PARTS)
                .chain(holds::PARTS)
                .chain(net::PARTS)
                .find(|attempt| attempt.name == name)
            {
                Some(attempt) => run(attempt),
                None => {
                    println!("error: attempt={name}: no such attempt; attempt=list shows the names");
                    2
                }
            }
        }
    }
}

/// Runs one attempt; returns the exit code.
fn run(attempt: &Attempt) -> i32 {
    if attempt.needs_disk && libos_core::exo::start_info().disk_capability.claim().is_none() {
        println!("error: attempt={}: needs a disk extent", attempt.name);
        return 3;
    }
    if attempt.needs_network && libos_core::exo::start_info().net_address == 0 {
        println!("error: attempt={}: needs the network", attempt.name);
        return 3;
    }
    let cores = libos_core::cores::count();
    if cores < attempt.needs_cores {
        println!(
            "attempt {}: skipped: needs {} cores, the machine has {cores}",
            attempt.name, attempt.needs_cores
        );
        return 0;
    }
    println!("attempt {}: {}", attempt.name, attempt.what);
    let mut judge = Judge::new(attempt.name);
    (attempt.run)(&mut judge);
    match attempt.end {
        End::Survives | End::Either => judge.verdict(),
        End::Killed => {
            println!("error: attempt={}: allowed, or refused without ending this environment", attempt.name);
            1
        }
    }
}
