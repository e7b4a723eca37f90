//! Read-only pages: what the kernel knows, an environment can read without asking (SOSP'95 §3.4; SOSP'97
//! "expose information").
//!
//! * [`Accounting`]: counters of one environment, in a page bound to it alone.
//! * the free-frame bitmap: bit `n % 64` of 64-bit word `n / 64` is set when frame `n` belongs to nobody.
//!   Bound to all.
//! * [`Owners`]: frames and blocks held by each environment. Bound to all.
//!
//! The kernel writes while others read, so every field is atomic; fields are not consistent with each other.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

/// Kinds of exit that are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Exit {
    /// Hypercall.
    Hypercall = 0,
    /// An interrupt for the host arrived.
    Interrupt = 1,
    /// The environment halted.
    Halt = 2,
    /// CPUID.
    Cpuid = 3,
    /// Access to a model-specific register.
    Msr = 4,
    /// Access to an I/O port.
    Port = 5,
    /// Fault in the nested page table.
    NestedFault = 6,
    /// The guest became able to take an interrupt (interrupt window).
    Window = 7,
    /// An instruction that is not the guest's to use: virtualization, XSETBV, cache control.
    Privileged = 8,
    /// Anything else.
    Other = 9,
}

/// Number of kinds in [`Exit`].
pub const EXIT_KINDS: usize = 10;

/// Names of the kinds of [`Exit`], in order, as they appear in reports.
pub const EXIT_NAMES: [&str; EXIT_KINDS] = [
    "hypercall",
    "interrupt",
    "halt",
    "cpuid",
    "msr",
    "port",
    "nested_fault",
    "window",
    "privileged",
    "other",
];

/// Counters of one environment.
#[derive(Default)]
#[repr(C, align(4096))]
pub struct Accounting {
    /// Exits, by [`Exit`].
    pub exits: [AtomicU64; EXIT_KINDS],
    /// Ticks of the TSC spent inside the environment.
    pub guest_cycles: AtomicU64,
    /// Upcalls delivered.
    pub upcalls: AtomicU64,
    /// Disk blocks read on behalf of the environment and moved without error.
    pub disk_blocks_read: AtomicU64,
    /// Disk blocks written on behalf of the environment and moved without error.
    pub disk_blocks_written: AtomicU64,
    /// Read requests passed to the device.
    pub disk_read_requests: AtomicU64,
    /// Write requests passed to the device.
    pub disk_write_requests: AtomicU64,
    /// Flush requests passed to the device.
    pub disk_flush_requests: AtomicU64,
    /// Requests that ended in an error, refused ones included.
    pub disk_errors: AtomicU64,
    /// Packets taken from the environment and passed on.
    pub net_packets_sent: AtomicU64,
    /// Bytes of those, Ethernet headers included.
    pub net_bytes_sent: AtomicU64,
    /// Packets put into frames of the environment.
    pub net_packets_received: AtomicU64,
    /// Bytes of those, Ethernet headers included.
    pub net_bytes_received: AtomicU64,
    /// Bytes copied by the kernel for packets: out of frames of the environment, and into them. Each on the
    /// account of whose packet it is.
    pub net_bytes_copied: AtomicU64,
    /// Packets for the environment that found no place in its ring.
    pub net_packets_dropped: AtomicU64,
    /// Packets of the environment that were refused.
    pub net_packets_refused: AtomicU64,
    /// Frames owned.
    pub frames: AtomicU64,
    /// Times the environment was given the processor.
    pub slices: AtomicU64,
    /// Calls of [`crate::hypercall::Call::ConsoleWrite`] that found no room for all of their bytes.
    pub console_full: AtomicU64,
    /// Longest time that the kernel's lock was held at once on the environment's behalf, in ticks of the TSC.
    pub longest_hold: AtomicU64,
}

impl Accounting {
    /// The counters as one line of JSON, with the name of whose they are and the most frames it held at once.
    pub fn report<'a>(&'a self, name: &'a str, peak_frames: u64) -> impl fmt::Display + 'a {
        Report { counters: self, name, peak_frames }
    }
}

struct Report<'a> {
    counters: &'a Accounting,
    name: &'a str,
    peak_frames: u64,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = self.counters;
        // Names come from an operator; whoever puts a quote there gets it escaped.
        write!(f, "{{\"accounting\":{:?},\"exits\":{{", self.name)?;
        for (index, name) in EXIT_NAMES.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}\"{name}\":{}", read(&counters.exits[index]))?;
        }
        write!(f, "}}")?;
        for (name, counter) in [
            ("guest_cycles", &counters.guest_cycles),
            ("disk_blocks_read", &counters.disk_blocks_read),
            ("disk_blocks_written", &counters.disk_blocks_written),
            ("disk_read_requests", &counters.disk_read_requests),
            ("disk_write_requests", &counters.disk_write_requests),
            ("disk_flush_requests", &counters.disk_flush_requests),
            ("disk_errors", &counters.disk_errors),
            ("net_packets_sent", &counters.net_packets_sent),
            ("net_bytes_sent", &counters.net_bytes_sent),
            ("net_packets_received", &counters.net_packets_received),
            ("net_bytes_received", &counters.net_bytes_received),
            ("net_packets_dropped", &counters.net_packets_dropped),
            ("net_packets_refused", &counters.net_packets_refused),
            ("upcalls", &counters.upcalls),
            ("slices", &counters.slices),
            ("console_full", &counters.console_full),
            ("longest_hold", &counters.longest_hold),
        ] {
            write!(f, ",\"{name}\":{}", read(counter))?;
        }
        write!(f, ",\"peak_frames\":{}}}", self.peak_frames)
    }
}

/// Environments that [`Owners`] has room for.
pub const MAX_ENVIRONMENTS: usize = 64;

/// What each environment holds; index = number of the environment, 0 = the kernel.
#[repr(C, align(4096))]
pub struct Owners {
    /// Frames that belong to nobody.
    pub free_frames: AtomicU64,
    /// Frames owned.
    pub frames: [AtomicU64; MAX_ENVIRONMENTS],
    /// Disk blocks owned.
    pub blocks: [AtomicU64; MAX_ENVIRONMENTS],
}
