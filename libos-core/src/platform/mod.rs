//! What a unikernel needs of whatever it runs on.
//!
//! [`Platform`] is what a host must offer, [`Facts`] what it tells at the start. The hosts themselves are in
//! `crate::host`; the entry point chooses one with [`set`]. All other modules ask [`current`], and so do not
//! know where they run.

mod block;
mod buffers;
mod device;
mod entropy;
mod facts;
mod packet;

pub use block::DiskError;
pub(crate) use block::{BlockQueue, OpenDisk, QueueFull};
pub use buffers::{Packet, Pages, Piece, pages_for};
pub use device::DeviceFault;
pub use entropy::RandomError;
pub use facts::Host;
pub(crate) use facts::{Area, Facts};
pub use packet::NetError;
pub(crate) use packet::NetPort;

use alloc::boxed::Box;
use core::ops::Range;
use hyperexo_abi::accounting::Accounting;
use hyperexo_abi::capability::Capability;
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::net::Filter;
use spin::Once;

/// What a host must offer.
pub(crate) trait Platform: Sync {
    /// What it is.
    fn host(&self) -> Host;

    /// Starts what needs the address space, the heap and trap handlers. Called once, when these are there.
    fn settle(&self) {}

    /// Writes `bytes` bytes at a physical address of this image's memory to the console.
    fn console_write(&self, physical: u64, bytes: u64);

    /// Ends the unikernel.
    fn exit(&self, code: u32) -> !;

    /// Allocates `count` adjacent frames and binds them read-write; returns the first. It is a multiple of
    /// `alignment`. The frames hold zeros.
    fn allocate_frames(&self, count: u64, alignment: u64) -> Result<u64, Status>;

    /// Allocates `count` adjacent frames that can be given back. They can be read and written, and hold
    /// zeros.
    ///
    /// They start at `first`; if that is [`hyperexo_abi::ANY`], at any multiple of `alignment`.
    fn take_frames(&self, first: u64, count: u64, alignment: u64) -> Result<FrameRun, Status>;

    /// Gives back frames of [`Platform::take_frames`].
    ///
    /// # Safety
    ///
    /// No Rust object lives in them, and they have not been given back before.
    unsafe fn give_back_frames(&self, run: &FrameRun);

    /// Binds frames of somebody else, to which a capability gives the right; returns the first and how many.
    /// [`Status::NoSuch`] where there is nobody else.
    ///
    /// # Safety
    ///
    /// No Rust object is made of what is in them: others may change it.
    unsafe fn bind_frames(&self, capability: &Capability, write: bool) -> Result<Range<u64>, Status> {
        let _ = (capability, write);
        Err(Status::NoSuch)
    }

    /// Ends a binding of [`Platform::bind_frames`].
    ///
    /// # Safety
    ///
    /// Nothing is mapped there any more.
    unsafe fn unbind_frames(&self, frames: Range<u64>) {
        let _ = frames;
    }

    /// A capability for all frames of a run that somebody else may have. [`Status::NoSuch`] where there is
    /// nobody else.
    fn lend_frames(&self, run: &FrameRun, write: bool) -> Result<Capability, Status> {
        let _ = (run, write);
        Err(Status::NoSuch)
    }

    /// Has [`hyperexo_abi::upcall::Cause::Timer`] raised on the calling virtual CPU when the TSC reaches
    /// `ticks`.
    fn set_timer(&self, ticks: u64);

    /// Frames of the machine that nobody owns.
    fn free_frames(&self) -> u64;

    /// The counters of this unikernel.
    fn accounting(&self) -> &'static Accounting;

    /// Takes an interrupt of the platform. Returns the causes of the upcall, bits of
    /// [`hyperexo_abi::upcall::Cause`]; `None` if the vector is not the platform's.
    fn interrupt(&self, vector: u8) -> Option<u64>;

    /// The machine's cores.
    fn cores(&self) -> Cores;

    /// Makes virtual CPU `number` on another core.
    ///
    /// # Safety
    ///
    /// `entry` must be fit to run, as a kernel's first instructions are: its stack is mapped and nobody
    /// else's. Called once for each number, except after a refusal.
    unsafe fn start_core(&self, number: usize, core: u64, entry: CoreEntry) -> Result<(), Status>;

    /// Whether [`Platform::start_core`] is over for `number`, so that its upcalls will be told.
    fn core_ready(&self, number: usize) -> bool;

    /// Turns on what each core has for itself.
    ///
    /// # Safety
    ///
    /// Called on virtual CPU `number`, once, after its descriptor tables are loaded and before it enables
    /// interrupts.
    unsafe fn core_runs(&self, number: usize);

    /// Raises [`hyperexo_abi::upcall::Cause::Wake`] on virtual CPU `number`. Does nothing if there is none.
    fn call_core(&self, number: usize);

    /// Opens the disk. The caller makes sure that it is open once at a time.
    fn open_disk(&self) -> Result<OpenDisk, DiskError>;

    /// Opens the network for packets that match one of the filters, if the host can tell them apart. Called
    /// again only after the port it returned was dropped.
    fn open_network(&self, filters: &[Filter]) -> Result<Box<dyn NetPort>, NetError>;

    /// Fills `bytes` with random bytes of a device. [`RandomError::NoSource`] if there is none.
    fn random_bytes(&self, bytes: &mut [u8]) -> Result<(), RandomError>;
}

/// Adjacent frames that can be given back.
#[derive(Debug)]
pub(crate) struct FrameRun {
    /// The first.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// What gives others a right to them. `None` where there are no others.
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

static CURRENT: Once<(&'static dyn Platform, Facts)> = Once::new();

/// Declares what the unikernel runs on. Only the first call counts.
pub(crate) fn set(platform: &'static dyn Platform, facts: Facts) {
    CURRENT.call_once(|| (platform, facts));
}

/// What the unikernel runs on.
///
/// # Panics
///
/// Outside a unikernel: in a test program of the host that links this library.
pub(crate) fn current() -> &'static dyn Platform {
    CURRENT.get().expect("runs only as a unikernel").0
}

/// What the unikernel runs on; `None` in a test program of the host.
pub(crate) fn known() -> Option<&'static dyn Platform> {
    CURRENT.get().map(|(platform, _)| *platform)
}

/// What the host told at the start.
///
/// # Panics
///
/// As [`current`].
pub(crate) fn facts() -> &'static Facts {
    &CURRENT.get().expect("runs only as a unikernel").1
}
