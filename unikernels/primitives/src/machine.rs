//! The instructions that are measured and that Rust has no safe name for: the only `unsafe` code of this unikernel.
#![allow(unsafe_code)]

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};
use hyperexo_abi::ANY;
use hyperexo_abi::capability::{Capability, Rights};
use hyperexo_abi::hypercall::Status;
use libos_core::trap::{self, Handled};
use libos_core::{faults, hypercall, memory};

/// An address in the guard below the image: nothing is ever mapped there.
const NOWHERE: u64 = 8;
/// Bytes of the instruction in [`page_fault`].
const LOAD_BYTES: u64 = 3;

/// Installs the handlers that make the exceptions of this module harmless.
pub fn prepare() {
    trap::set_handler(trap::BREAKPOINT, |_| Handled::Yes);
    trap::set_handler(trap::PAGE_FAULT, |frame| {
        if trap::fault_address() != NOWHERE {
            return Handled::No;
        }
        frame.rip += LOAD_BYTES;
        Handled::Yes
    });
}

/// Raises a breakpoint exception, which its handler ignores. [`prepare`] comes first.
pub fn breakpoint() {
    // SAFETY: the handler returns to the next instruction and changes no register.
    unsafe { asm!("int3") };
}

/// Reads where nothing is mapped; the handler skips the instruction. [`prepare`] comes first.
pub fn page_fault() {
    // SAFETY: the bytes are `mov rax, [rdi]`: LOAD_BYTES long. It faults, is skipped, and changes nothing.
    unsafe { asm!(".byte 0x48, 0x8b, 0x07", in("rdi") NOWHERE, out("rax") _, options(nostack)) };
}

/// Loads CR3 with what it holds.
pub fn load_cr3() {
    // SAFETY: the address space stays the same; only the TLB is emptied.
    unsafe { asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack)) };
}

/// A frame of this environment that is not bound.
static UNBOUND: AtomicU64 = AtomicU64::new(0);

/// Has accesses to `frame`, which is not bound, passed over.
pub fn prepare_nested_fault(frame: &SpareFrame) -> Result<(), Status> {
    UNBOUND.store(memory::linear_address(frame.first()), Ordering::Relaxed);
    faults::set_handler(|_, frame| {
        frame.rip += LOAD_BYTES;
        Handled::Yes
    })
}

/// Reads memory that is mapped but not bound; the handler skips the instruction. [`prepare_nested_fault`] comes first.
pub fn nested_fault() {
    let address = UNBOUND.load(Ordering::Relaxed);
    // SAFETY: as in `page_fault`.
    unsafe { asm!(".byte 0x48, 0x8b, 0x07", in("rdi") address, out("rax") _, options(nostack)) };
}

/// A frame of this environment that nothing in the image uses.
pub struct SpareFrame(Capability);

impl SpareFrame {
    /// Allocates one; it is not bound yet.
    pub fn new() -> Result<SpareFrame, Status> {
        hypercall::page_alloc(ANY, 1, 1).map(SpareFrame)
    }

    /// Its number.
    fn first(&self) -> u64 {
        self.0.claim().map_or(0, |claim| claim.first)
    }

    /// Binds the frame, touches it, and ends the binding.
    pub fn bind_touch_unbind(&self) -> Result<(), Status> {
        let frame = self.first();
        let address = memory::linear_address(frame) as *mut u64;
        // SAFETY: the frame was allocated here and no Rust object lives in it; while it is bound, the linear map reaches it.
        unsafe {
            hypercall::page_bind(&self.0, Rights::READ_WRITE)?;
            address.write_volatile(1);
            hypercall::page_unbind(frame, 1)
        }
    }
}
