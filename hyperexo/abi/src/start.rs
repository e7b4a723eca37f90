//! The page that tells a new environment what it was given.
//!
//! At its entry point an environment finds in `rdi` the physical address of a [`StartInfo`] (read it at
//! [`crate::LINEAR_BASE`] + `rdi`), in `rsi` [`MAGIC`], and a stack. Interrupts are disabled, there is no
//! interrupt descriptor table, `CR4.OSFXSR` is set.

use crate::capability::Capability;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// First word of a [`StartInfo`], and `rsi` at entry: "HXSTART1".
pub const MAGIC: u64 = u64::from_le_bytes(*b"HXSTART1");

/// Longest name of an environment.
pub const NAME_BYTES: usize = 32;
/// Longest command line of an environment.
pub const COMMAND_LINE_BYTES: usize = 2048;

/// Value of [`StartInfo::hypercall`]: the instruction is `VMCALL`.
pub const HYPERCALL_VMCALL: u64 = 0;
/// Value of [`StartInfo::hypercall`]: the instruction is `VMMCALL`.
pub const HYPERCALL_VMMCALL: u64 = 1;

/// What an environment was given. Lies in a frame that the environment owns; frame numbers are physical.
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StartInfo {
    /// [`MAGIC`].
    pub magic: u64,
    /// Number of this environment, from 1.
    pub environment: u64,
    /// Which instruction is a hypercall: [`HYPERCALL_VMCALL`] or [`HYPERCALL_VMMCALL`].
    pub hypercall: u64,
    /// Ticks of the time stamp counter in a second.
    pub tsc_hz: u64,
    /// TSC value when the kernel was entered: zero point of "since boot".
    pub boot_tsc: u64,
    /// One past the highest frame of RAM: the extent of the linear map.
    pub memory_end_frame: u64,
    /// Frames that the environment may own, those of its image included.
    pub quota_frames: u64,
    /// First frame of the run that holds image, start-up page tables, stack and this page.
    pub image_first_frame: u64,
    /// Length of that run.
    pub image_frames: u64,
    /// Physical address of the image's first page (its lowest virtual address); the image lies there without
    /// gaps.
    pub image_address: u64,
    /// Lowest virtual address of the image.
    pub image_virtual: u64,
    /// Bytes of the image in memory, a multiple of the frame size.
    pub image_bytes: u64,
    /// Physical address of the lowest byte of the start-up stack, which ends (virtually) at
    /// [`crate::STACK_TOP`].
    pub stack_address: u64,
    /// Bytes of the start-up stack.
    pub stack_bytes: u64,
    /// Frame of the [`crate::accounting::Accounting`] page, bound read-only.
    pub accounting_frame: u64,
    /// Frame of the [`crate::upcall::Doorbell`], bound read-write.
    pub doorbell_frame: u64,
    /// First frame of the free-frame bitmap (see [`crate::accounting`]), bound read-only.
    pub free_map_first_frame: u64,
    /// Frames of the free-frame bitmap.
    pub free_map_frames: u64,
    /// Frame of the [`crate::accounting::Owners`] page, bound read-only.
    pub owners_frame: u64,
    /// Blocks of the disk; 0 if there is none.
    pub disk_blocks: u64,
    /// The environment's hardware address ([`crate::net::MacAddress::to_bits`]); 0 if it may not use the
    /// network.
    pub net_address: u64,
    /// The machine's hardware address, which all environments on the network share; 0 as above.
    pub net_shared_address: u64,
    /// Core of the first virtual CPU.
    pub core: u64,
    /// Cores of the machine, numbered from 0.
    pub cores: u64,
    /// Capability for the image run (`image_first_frame`, `image_frames`), already bound with all rights.
    pub image_capability: Capability,
    /// Capability for the disk extent of the environment's manifest; all zeros if it has none. Not yet bound.
    pub disk_capability: Capability,
    /// Name, padded with zeros.
    pub name: [u8; NAME_BYTES],
    /// Bytes of `command_line` in use.
    pub command_line_bytes: u64,
    /// Command line, UTF-8.
    pub command_line: [u8; COMMAND_LINE_BYTES],
}

const _: () = assert!(size_of::<StartInfo>() <= crate::FRAME_BYTES);
