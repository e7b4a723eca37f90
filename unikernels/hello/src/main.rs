//! The smallest unikernel: says what it was given and how long it took to get here.
//!
//! Arguments, each also a way to try what the runtime does at a bad end:
//!
//! | word | what it does |
//! |---|---|
//! | `power-button=1` | takes the power button over, waits until it is pressed, says so and goes on |
//! | `spin-ms=N` | computes for N milliseconds, then goes on |
//! | `sleep-ms=N` | sleeps for N milliseconds, then goes on |
//! | `read-blocks=N` | reads the first N blocks of its disk and prints the sum of their bytes; exit code 4 on an error |
//! | `allocate-mib=N` | allocates N MiB in one piece, and writes to every page |
//! | `own-frames=N` | allocates N adjacent frames, gives them back, and allocates them again by number; exit code 6 on an error |
//! | `random-bytes=N` | draws N random bytes and prints how many bits are set in them, and where they are from; exit code 5 on an error |
//! | `print-lines=N` | prints N numbered lines |
//! | `exit=N` | ends with exit code N |
//! | `panic=1` | panics |
//! | `overflow=1` | overflows the stack |
//! | `oom=1` | allocates until the quota is used up |
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

mod disk;
mod frames;

use alloc::vec::Vec;
use core::hint::black_box;
use core::time::Duration;
use hyperexo_abi::accounting::Exit;
use libos_core::disk::{Disk, DiskError};
use libos_core::{Arguments, accounting, argument, command_line, memory, power, println, random, time};

libos_core::main!(main);

fn main() -> i32 {
    let since_boot_us = time::since_boot_ns() / 1000;
    println!("Hello from {}, {}", libos_core::name(), libos_core::host());
    println!("command line: \"{}\"", command_line());
    println!(
        "frames: {} of the image, {} of the runtime, quota {}, {} free in the machine",
        memory::image_frames(),
        memory::acquired_frames(),
        memory::quota_frames(),
        memory::free_frames()
    );
    match Disk::open() {
        Ok(disk) => println!("disk: {} blocks from block {}", disk.blocks(), disk.first_block()),
        Err(DiskError::NoDisk { .. } | DiskError::NoExtent) => println!("disk: none"),
        Err(error) => println!("disk: {error}"),
    }
    println!("{{\"hello\":{{\"since_boot_us\":{since_boot_us},\"hypercalls\":{}}}}}", hypercalls());
    obey(libos_core::arguments())
}

/// Exits by hypercall so far.
fn hypercalls() -> u64 {
    use core::sync::atomic::Ordering;
    accounting().exits[Exit::Hypercall as usize].load(Ordering::Relaxed)
}

/// Does what the arguments say; returns the exit code.
fn obey(arguments: Arguments<'_>) -> i32 {
    let number = |key| match arguments.number(key) {
        Ok(value) => value,
        Err(error) => {
            println!("error: {error}");
            libos_core::exit(2)
        }
    };
    if argument("power-button").is_some() {
        power::take_over();
        println!("waiting for the power button");
        power::wait();
        println!("the button was pressed, and the program goes on");
    }
    if let Some(milliseconds) = number("spin-ms") {
        let end = time::now_ns() + milliseconds * 1_000_000;
        while time::now_ns() < end {}
    }
    if let Some(milliseconds) = number("sleep-ms") {
        time::sleep(Duration::from_millis(milliseconds));
    }
    if let Some(blocks) = number("read-blocks") {
        match disk::sum_blocks(blocks) {
            Ok((sum, blocks)) => println!("{{\"read\":{{\"blocks\":{blocks},\"sum\":{sum}}}}}"),
            Err(error) => {
                println!("error: {error}");
                return 4;
            }
        }
    }
    if let Some(mebibytes) = number("allocate-mib") {
        let block = black_box(alloc::vec![1u8; (mebibytes as usize) << 20]);
        let pages = block.iter().step_by(hyperexo_abi::FRAME_BYTES).map(|byte| u64::from(*byte)).sum::<u64>();
        println!("{{\"allocated\":{{\"bytes\":{},\"pages\":{pages}}}}}", block.len());
    }
    if let Some(count) = number("own-frames")
        && let Err(error) = frames::own(count)
    {
        println!("error: {error}");
        return 6;
    }
    if let Some(count) = number("random-bytes") {
        let mut bytes = alloc::vec![0; count as usize];
        match random::fill(&mut bytes) {
            Ok(source) => {
                let ones = bytes.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>();
                println!("{{\"random\":{{\"bytes\":{count},\"ones\":{ones},\"source\":\"{source}\"}}}}");
            }
            Err(error) => {
                println!("error: {error}");
                return 5;
            }
        }
    }
    for line in 0..number("print-lines").unwrap_or(0) {
        println!("line {line}");
    }
    if argument("panic").is_some() {
        panic!("as the command line asked");
    }
    if argument("overflow").is_some() {
        println!("{}", overflow(1));
    }
    if argument("oom").is_some() {
        println!("{}", exhaust());
    }
    number("exit").map_or(0, |code| code as i32)
}

/// Calls itself for ever, so that the stack overflows.
fn overflow(depth: u64) -> u64 {
    if depth == 0 {
        return depth;
    }
    let filling = black_box([depth; 64]);
    overflow(black_box(depth + 1)) + filling[3]
}

/// Allocates for ever, so that the quota is used up.
fn exhaust() -> usize {
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    while blocks.len() < usize::MAX {
        blocks.push(black_box(alloc::vec![1; 64 << 10]));
    }
    blocks.len()
}
