//! The exokernel: it protects frames, processor time, disk blocks and packets by secure bindings, and manages
//! nothing.
//!
//! The modules are rows: each uses only rows above it, and no two use each other (`scripts/exo/src/rows`
//! checks both).
//!
//! | row | what |
//! |---|---|
//! | [`machine`] | names, time, locks, memory, console, interrupts |
//! | [`device`] | what resources are bound to: disks, network devices |
//! | [`resource`] | who owns what, who has bound what: frames, extents, filters, slices; capabilities |
//! | [`virt`] | virtual CPUs: the processor's virtualization extensions |
//! | [`environment`] | environments, how they end, calls that take several pieces |
//! | [`kernel`] | what the lock guards, and what concerns several resources |
//! | [`call`] | the one table from call number to function |
//! | [`launch`] | from an image to an environment |
//! | [`cores`] | the loop of a core: the only holder of the lock |
//! | [`start`] | from the boot loader to running environments |
//!
//! rows: machine::* · device::* · resource::+ · virt::* · environment::* · kernel · call::+
//! rows: launch::* · cores::* · start::+
//!
//! All of it but the last instructions of backends and devices runs on the host as well: there tests play the
//! machine (`model`).
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod call;
pub mod cores;
pub mod device;
pub mod environment;
pub mod kernel;
pub mod launch;
pub mod machine;
#[cfg(test)]
mod model;
pub mod resource;
pub mod start;
pub mod virt;
