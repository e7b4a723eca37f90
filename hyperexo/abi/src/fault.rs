//! Nested faults as exceptions: what an environment that has asked for them
//! ([`crate::hypercall::Call::FaultPage`]) finds when it touches memory that it has not bound so.
//!
//! The format is that of Intel's virtualization-exception information area (SDM vol. 3 §26.5.7.2), because a
//! processor with #VE fills it in by itself and delivers the exception without an exit. Otherwise the kernel
//! does the same.
//!
//! The exception is [`VECTOR`], a fault without error code: when the handler returns, the instruction is
//! executed again. It is delivered only while [`FaultPage::busy`] is 0; the handler clears the word when it
//! is done with the page. A fault while it is set, or while another event is being delivered, ends the
//! environment as if it had not asked.

use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64};

/// The vector.
pub const VECTOR: u8 = 20;
/// Value of [`FaultPage::reason`].
pub const REASON: u32 = 48;
/// What the processor or the kernel writes to [`FaultPage::busy`].
pub const BUSY: u32 = u32::MAX;

/// Bit of [`FaultPage::qualification`]: the access was a read.
pub const READ: u64 = 1 << 0;
/// Bit of [`FaultPage::qualification`]: the access was a write.
pub const WRITE: u64 = 1 << 1;
/// Bit of [`FaultPage::qualification`]: the access was an instruction fetch.
pub const EXECUTE: u64 = 1 << 2;
/// Bit of [`FaultPage::qualification`]: [`FaultPage::linear`] counts. Not every processor tells that address.
pub const LINEAR_KNOWN: u64 = 1 << 7;

/// What is told of a fault. A frame of the environment's own, which the processor writes without asking the
/// nested page table: it can be neither unbound nor freed while it has this use.
#[derive(Default)]
#[repr(C, align(4096))]
pub struct FaultPage {
    /// [`REASON`].
    pub reason: AtomicU32,
    /// 0: free; else this page tells of a fault that nobody has taken yet.
    pub busy: AtomicU32,
    /// Bits [`READ`], [`WRITE`], [`EXECUTE`], [`LINEAR_KNOWN`]; others as the processor likes.
    pub qualification: AtomicU64,
    /// Virtual address, if [`LINEAR_KNOWN`].
    pub linear: AtomicU64,
    /// Physical address.
    pub physical: AtomicU64,
    /// Number of the view that was in use ([`crate::hypercall::Call::ViewSwitch`]).
    pub view: AtomicU16,
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<FaultPage>() == crate::FRAME_BYTES);
    assert!(offset_of!(FaultPage, busy) == 4 && offset_of!(FaultPage, qualification) == 8);
    assert!(offset_of!(FaultPage, linear) == 16 && offset_of!(FaultPage, physical) == 24);
    assert!(offset_of!(FaultPage, view) == 32);
};
