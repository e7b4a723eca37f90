//! What a unikernel runs on: the only part of the library that knows.
//!
//! `Platform` is what a host must offer, `Facts` what it tells at the start. There are two: HyperExo
//! ([`exo`]), and the machine itself (`direct`). Which it is shows at the entry point: the kernel enters an
//! image at its ELF entry, a boot loader at the one that the image's notes name. Nothing above this module
//! knows.

pub(crate) mod direct;
pub mod exo;

use crate::disk::DiskError;
use crate::net::{NetError, NetPort};
use crate::random::RandomError;
use alloc::boxed::Box;
use core::ops::Range;
use hyperexo_abi::accounting::Accounting;
use hyperexo_abi::capability::Capability;
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::net::Filter;
use hyperexo_abi::ring::{Operation, Outcome};
use spin::Once;

/// What a host must offer.
pub(crate) trait Platform: Sync {
    /// What it is.
    fn host(&self) -> Host;

    /// Called once, when the address space is in place, memory can be allocated and traps are handled: starts
    /// what needs that.
    fn settle(&self) {}

    /// Writes `bytes` bytes at a physical address (of this image's memory) to the console.
    fn console_write(&self, physical: u64, bytes: u64);

    /// Ends the unikernel.
    fn exit(&self, code: u32) -> !;

    /// Allocates `count` adjacent frames, the first a multiple of `alignment`, and binds them read-write.
    /// They hold zeros. The result is the first.
    fn allocate_frames(&self, count: u64, alignment: u64) -> Result<u64, Status>;

    /// Allocates `count` adjacent frames that can be given back, from `first` on, or, if that is
    /// [`hyperexo_abi::ANY`], anywhere, the first a multiple of `alignment`. They can be read and written,
    /// and hold zeros.
    fn take_frames(&self, first: u64, count: u64, alignment: u64) -> Result<FrameRun, Status>;

    /// Gives frames back that [`Platform::take_frames`] gave.
    ///
    /// # Safety
    /// No Rust object lives in them, and they have not been given back before.
    unsafe fn give_back_frames(&self, run: &FrameRun);

    /// Has [`hyperexo_abi::upcall::Cause::Timer`] raised on the calling virtual CPU when the TSC reaches
    /// `ticks`.
    fn set_timer(&self, ticks: u64);

    /// Frames of the machine that belong to nobody.
    fn free_frames(&self) -> u64;

    /// The counters of this unikernel.
    fn accounting(&self) -> &'static Accounting;

    /// Takes an interrupt of the platform: the causes of the upcall that it is, bits of
    /// [`hyperexo_abi::upcall::Cause`]; `None` if the vector is not one of the platform's.
    fn interrupt(&self, vector: u8) -> Option<u64>;

    /// Where the unikernel may run.
    fn cores(&self) -> Cores;

    /// Makes virtual CPU `number` on another core.
    ///
    /// # Safety
    /// `entry` must be fit to run, as a kernel's first instructions are: its stack is mapped and nobody
    /// else's. Called once for each number, but for those that were refused.
    unsafe fn start_core(&self, number: usize, core: u64, entry: CoreEntry) -> Result<(), Status>;

    /// Whether [`Platform::start_core`] is over for `number`, so that its upcalls will be told.
    fn core_ready(&self, number: usize) -> bool;

    /// Turns on what each core has for itself, on virtual CPU `number`.
    ///
    /// # Safety
    /// On that virtual CPU, once, when its descriptor tables are loaded and before it enables interrupts.
    unsafe fn core_runs(&self, number: usize);

    /// Raises [`hyperexo_abi::upcall::Cause::Wake`] on virtual CPU `number`; nothing if there is none.
    fn call_core(&self, number: usize);

    /// Opens the disk, which nobody else has open.
    fn open_disk(&self) -> Result<OpenDisk, DiskError>;

    /// Opens the network for packets that match one of the filters, if the host can tell them apart. Called
    /// again only when what it returned has been dropped.
    fn open_network(&self, filters: &[Filter]) -> Result<Box<dyn NetPort>, NetError>;

    /// Fills `bytes` with random bytes of a device. [`RandomError::NoSource`] if there is none.
    fn random_bytes(&self, bytes: &mut [u8]) -> Result<(), RandomError>;
}

/// What a unikernel runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// HyperExo.
    HyperExo {
        /// Number of the environment, from 1.
        environment: u64,
    },
    /// The machine itself, without an exokernel.
    Machine,
}

impl core::fmt::Display for Host {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Host::HyperExo { environment } => write!(f, "environment {environment} of HyperExo"),
            Host::Machine => f.write_str("directly on the machine"),
        }
    }
}

/// Why a device that is there can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceFault {
    /// Its registers lie outside the part of physical memory that is mapped for devices.
    OutOfReach,
    /// It does not speak the protocol of version 1.0.
    Transport,
    /// It has neither messages nor a pin to interrupt with.
    NoInterrupt,
    /// Its queue is too short.
    ShortQueue {
        /// Entries that it has.
        entries: u32,
        /// Entries that are needed.
        needed: u32,
    },
    /// It holds no blocks: there is nothing behind it (any more).
    Empty,
    /// It refuses to be started.
    Refused,
}

impl core::fmt::Display for DeviceFault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            DeviceFault::OutOfReach => {
                f.write_str("its registers lie outside the fourth GiB of physical memory")
            }
            DeviceFault::Transport => f.write_str("it does not offer virtio 1.0 (QEMU: disable-modern=off)"),
            DeviceFault::NoInterrupt => f.write_str("it has neither MSI-X nor an interrupt pin"),
            DeviceFault::ShortQueue { entries, needed } => {
                write!(f, "its queue has {entries} entries, {needed} are needed (QEMU: queue-size={needed})")
            }
            DeviceFault::Empty => f.write_str("it holds no blocks: nothing is behind it, or not any more"),
            DeviceFault::Refused => f.write_str("it refuses to be started"),
        }
    }
}

/// A disk just opened.
pub(crate) struct OpenDisk {
    /// Takes requests; their blocks count from the first of the whole disk.
    pub queue: Box<dyn BlockQueue>,
    /// Number of the unikernel's first block on the whole disk.
    pub first_block: u64,
    /// Blocks of the unikernel.
    pub blocks: u64,
    /// Whether writing is not allowed.
    pub read_only: bool,
}

/// The queue can take no more requests now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueFull;

/// The requests of an open disk on their way.
pub(crate) trait BlockQueue: Send {
    /// Takes a request, whose completion will bear `number`; the device need not hear of it before
    /// [`BlockQueue::kick`].
    ///
    /// # Safety
    /// Until the completion, and after it if it says [`Outcome::Timeout`], the frames serve this request
    /// alone.
    unsafe fn put(
        &mut self,
        number: usize,
        operation: Operation,
        block: u64,
        frames: &[u64],
    ) -> Result<(), QueueFull>;

    /// Lets the device know of what was put.
    fn kick(&mut self);

    /// Whether [`BlockQueue::take`] has something.
    fn has_completion(&self) -> bool;

    /// A completion: the number of the request, and how it ended.
    fn take(&mut self) -> Option<(usize, Outcome)>;

    /// Whether there is a completion; if not, the next one, or the end of a request's time, raises an upcall.
    fn completion_or_wake(&mut self) -> bool;
}

/// Adjacent frames that can be given back.
#[derive(Debug)]
pub(crate) struct FrameRun {
    /// The first.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// What they can be given to others with, if there are others.
    pub capability: Option<Capability>,
}

/// The cores of a machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    /// How many.
    pub count: u64,
    /// The one of the first virtual CPU.
    pub first: u64,
}

/// How a virtual CPU starts.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct CoreEntry {
    /// First instruction.
    pub instruction: u64,
    /// Stack pointer.
    pub stack: u64,
    /// Physical address of the top page table.
    pub root: u64,
    /// What it finds in `rdi`.
    pub argument: u64,
}

/// What the host tells at the start.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// Name of the unikernel.
    pub name: &'static str,
    /// Command line.
    pub command_line: &'static str,
    /// Ticks of the TSC in a second; not 0.
    pub tsc_hz: u64,
    /// TSC value when the machine was booted.
    pub boot_tsc: u64,
    /// One past the highest frame of RAM.
    pub memory_end_frame: u64,
    /// Frames that the unikernel may own.
    pub quota_frames: u64,
    /// Where the image lies.
    pub image: Area,
    /// Where the start-up stack lies.
    pub stack: Area,
    /// Physical addresses of device registers, multiples of a large page; empty if the unikernel has no
    /// devices.
    pub devices: Range<u64>,
    /// Whether the page tables it started with are needed later.
    pub keeps_start_tables: bool,
    /// Frames of the image that nothing uses.
    pub unused_frames: Range<u64>,
}

/// A run of memory with both its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Area {
    /// First virtual address.
    pub virtual_start: u64,
    /// First physical address.
    pub physical_start: u64,
    /// Length.
    pub bytes: u64,
}

impl Area {
    /// One past the last virtual address.
    pub fn virtual_end(&self) -> u64 {
        self.virtual_start + self.bytes
    }

    /// Whether the physical addresses of another area are among those of this one.
    pub fn holds(&self, other: Area) -> bool {
        self.physical_start <= other.physical_start
            && other.physical_start + other.bytes <= self.physical_start + self.bytes
    }

    /// The physical address of a virtual address in the area.
    pub fn physical(&self, address: u64) -> Option<u64> {
        let offset = address.checked_sub(self.virtual_start)?;
        (offset < self.bytes).then(|| self.physical_start + offset)
    }
}

static CURRENT: Once<(&'static dyn Platform, Facts)> = Once::new();

/// Declares what the unikernel runs on; only the first call counts.
pub(crate) fn set(platform: &'static dyn Platform, facts: Facts) {
    CURRENT.call_once(|| (platform, facts));
}

/// What the unikernel runs on.
///
/// # Panics
/// Outside a unikernel: in a test program of the host that links this library.
pub(crate) fn current() -> &'static dyn Platform {
    CURRENT.get().expect("runs only as a unikernel").0
}

/// What the host told at the start.
///
/// # Panics
/// As [`current`].
pub(crate) fn facts() -> &'static Facts {
    &CURRENT.get().expect("runs only as a unikernel").1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_translate_what_they_hold() {
        let area = Area { virtual_start: 0x1000, physical_start: 0x9000, bytes: 0x2000 };
        assert_eq!(area.physical(0xfff), None);
        assert_eq!(area.physical(0x1000), Some(0x9000));
        assert_eq!(area.physical(0x2fff), Some(0xafff));
        assert_eq!(area.physical(0x3000), None);
    }
}
