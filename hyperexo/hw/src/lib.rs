//! What an x86-64 image needs before it has an operating system.
//!
//! Written once for the exokernel and for unikernels that run without it. Everything here touches hardware or
//! memory that Rust does not know of; physical memory is mapped by identity, or where [`linear`] was told.
#![no_std]

extern crate alloc;

pub mod acpi;
pub mod apic;
pub mod backtrace;
pub mod bars;
pub mod boot;
pub mod bridges;
pub mod button;
pub mod descriptor;
pub mod disks;
pub mod ioapic;
pub mod linear;
pub mod memory;
pub mod pci;
pub mod power;
pub mod random;
pub mod serial;
pub mod sleep;
pub mod smp;
pub mod sse;
pub mod time;
pub mod trap;
pub mod virtio;
