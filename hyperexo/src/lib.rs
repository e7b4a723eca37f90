//! The exokernel: it protects frames, processor time and disk blocks by secure bindings, and manages nothing.
//!
//! | module | what |
//! |---|---|
//! | [`boot`] | from the boot loader to running environments |
//! | [`kernel`] | what the cores share: resources, and what is done to them |
//! | [`cores`], [`emulate`] | the loop of a core: environments in, exits out |
//! | [`discovery`] | what devices the machine has |
//! | [`smp`] | starting the other cores |
//! | [`hypercall`] | the one table from call number to function |
//! | [`env`](mod@env) | an environment |
//! | [`launch`], [`image`], [`startup`] | from an ELF file to an environment |
//! | [`resource`] | tables of owners: frames, slices, extents, filters |
//! | [`capability`] | sealing and checking |
//! | [`virt`] | virtual CPUs, nested page tables, what a guest sees of the processor |
//! | [`disk`], [`net`], [`ring`], [`device`] | requests and packets, the rings they come through, and the devices behind them |
//! | [`memory`], [`early`] | physical memory, with and without a frame table |
//! | [`map`] | the kernel's own page tables |
//! | [`console`], [`interrupt`], [`settings`] | the rest |
//!
//! Pure modules (tables, plans, formats) forbid `unsafe` and are tested on the host; `virt`, `memory`,
//! `boot`, `discovery`, `interrupt` and the places that make shared pages from frames touch hardware.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod boot;
pub mod capability;
pub mod console;
pub mod cores;
pub mod device;
pub mod discovery;
pub mod disk;
pub mod early;
pub mod emulate;
pub mod env;
pub mod fault;
pub mod hypercall;
pub mod image;
pub mod interrupt;
pub mod kernel;
pub mod launch;
pub mod map;
pub mod memory;
pub mod net;
pub mod resource;
pub mod ring;
pub mod settings;
pub mod smp;
pub mod startup;
pub mod view;
pub mod virt;
