//! What a unikernel runs on: the only part of the library that knows.
//!
//! `Platform` is what a host must offer, `Facts` what it tells at the start. Today there is one host, HyperExo
//! ([`exo`]); running directly on a machine is another implementation of the same trait, chosen in `entry`.

pub mod exo;

use hyperexo_abi::hypercall::Status;
use spin::Once;

/// What a host must offer.
pub(crate) trait Platform: Sync {
    /// Writes `bytes` bytes at a physical address (of this image's memory) to the console.
    fn console_write(&self, physical: u64, bytes: u64);

    /// Ends the unikernel.
    fn exit(&self, code: u32) -> !;

    /// Allocates `count` adjacent frames, the first a multiple of `alignment`, and binds them read-write. They hold
    /// zeros. The result is the first.
    fn allocate_frames(&self, count: u64, alignment: u64) -> Result<u64, Status>;

    /// Has [`hyperexo_abi::upcall::Cause::Timer`] raised on the calling virtual CPU when the TSC reaches `ticks`.
    fn set_timer(&self, ticks: u64);

    /// The causes of upcalls to the calling virtual CPU since its last call: bits of [`hyperexo_abi::upcall::Cause`].
    fn take_upcalls(&self) -> u64;

    /// Where the unikernel may run.
    fn cores(&self) -> Cores;

    /// Makes virtual CPU `number` on another core.
    ///
    /// # Safety
    /// `entry` must be fit to run, as a kernel's first instructions are: its stack is mapped and nobody else's. Called
    /// once for each number, but for those that were refused.
    unsafe fn start_core(&self, number: usize, core: u64, entry: CoreEntry) -> Result<(), Status>;

    /// Whether [`Platform::start_core`] is over for `number`, so that its upcalls will be told.
    fn core_ready(&self, number: usize) -> bool;

    /// Raises [`hyperexo_abi::upcall::Cause::Wake`] on virtual CPU `number`; nothing if there is none.
    fn call_core(&self, number: usize);
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
#[derive(Clone, Copy, Debug)]
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
