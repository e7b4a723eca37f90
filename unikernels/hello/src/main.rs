//! The smallest unikernel.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

libos_core::main!(main);

fn main() -> i32 {
    0
}
