//! What both sides of the hypercall see.
//!
//! The exokernel, the library operating systems and the host tool that packs images all depend on this crate
//! and on nothing else they share. It holds numbers, structures in memory and the pure functions that read
//! and write them; it has no `unsafe` code and performs no I/O.
//!
//! | module | what |
//! |---|---|
//! | [`hypercall`] | call numbers, registers, status codes |
//! | [`capability`] | the 32-byte self-authenticating name of a resource |
//! | [`start`] | the page that tells a new environment what it was given |
//! | [`ring`] | the shared-memory ring of block requests |
//! | [`net`], [`offload`] | filters and rings of packets; what a packet leaves to others to do |
//! | [`accounting`] | read-only pages: counters of an environment, free frames, owners |
//! | [`upcall`] | how the kernel calls an environment |
//! | [`fault`] | accesses without a binding, as exceptions |
//! | [`bundle`] | several unikernel images in one file |
//!
//! # Memory as an environment sees it
//!
//! Guest-physical addresses *are* host-physical addresses. The kernel starts an environment in 64-bit mode
//! with page tables (in frames the environment owns) of this shape:
//!
//! ```text
//! 0x0000_0000_0000_0000  nothing: the null page faults
//! p_vaddr                the segments of the image, with the rights of their program headers
//! STACK_TOP - stack      the start-up stack, an unmapped guard page below it
//! LINEAR_BASE + pa       every physical address below `StartInfo::memory_end_frame`, read-write, not executable;
//!                        the nested page table decides which of them the environment can reach
//! ```
#![no_std]
#![forbid(unsafe_code)]

pub mod accounting;
pub mod attachment;
pub mod bundle;
pub mod capability;
pub mod fault;
pub mod hypercall;
pub mod net;
pub mod offload;
pub mod ring;
pub mod start;
pub mod upcall;

/// log2 of [`FRAME_BYTES`].
pub const FRAME_SHIFT: u32 = 12;
/// Bytes in a physical frame.
pub const FRAME_BYTES: usize = 1 << FRAME_SHIFT;
/// Bytes in a disk block, the unit of disk extents and of ring requests. One block fills one frame.
pub const BLOCK_BYTES: usize = FRAME_BYTES;
/// Frames in a run that one 2 MiB entry of a nested page table can bind.
pub const LARGE_FRAMES: u64 = 512;
/// Guest-virtual address at which an environment finds physical address 0.
pub const LINEAR_BASE: u64 = 0xffff_8000_0000_0000;
/// Guest-virtual address just above the start-up stack.
pub const STACK_TOP: u64 = 0x0000_7fff_ff00_0000;
/// The bytes of one frame or block, aligned so that it fills exactly one frame.
///
/// A `Box<Page>` is how buffers travel by ownership: to the device with a request, back with its completion.
#[derive(Clone, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)]
#[repr(C, align(4096))]
pub struct Page(pub [u8; FRAME_BYTES]);

/// Says that it is a page, and spares the reader its bytes.
impl core::fmt::Debug for Page {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Page(..)")
    }
}

/// "Any": the caller leaves the choice of frame, block or environment to the kernel.
pub const ANY: u64 = u64::MAX;
