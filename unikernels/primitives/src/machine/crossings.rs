//! Crossings that Rust has no safe name for.

use core::arch::{asm, naked_asm};
use core::sync::atomic::{AtomicU64, Ordering};
use hyperexo_abi::capability::{Capability, Rights};
use hyperexo_abi::hypercall::{Call, Status};
use hyperexo_abi::{ANY, Page};
use libos_core::exo::view::{View, Way};
use libos_core::exo::{faults, hypercall};
use libos_core::memory;
use libos_core::trap::Handled;

/// Bytes of the instruction in [`nested_fault`].
const LOAD_BYTES: u64 = 3;

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

/// Reads memory that is mapped but not bound; the handler skips the instruction. [`prepare_nested_fault`]
/// comes first.
pub fn nested_fault() {
    let address = UNBOUND.load(Ordering::Relaxed);
    // SAFETY: the bytes are `mov rax, [rdi]`: LOAD_BYTES long. It faults, is skipped, and changes nothing.
    unsafe { asm!(".byte 0x48, 0x8b, 0x07", in("rdi") address, out("rax") _, options(nostack)) };
}

/// Does nothing, inside a view.
pub extern "C" fn inside(_: *mut Page, argument: u64) -> u64 {
    argument
}

/// Calls [`inside`].
pub fn call_inside(view: &View) -> Result<u64, Status> {
    // SAFETY: the function touches nothing.
    unsafe { view.call(inside, 0) }
}

/// Changes from the view to the own table and back, so many times; returns the ticks that takes.
pub fn change_back_and_forth(view: &View, rounds: u64) -> u64 {
    let way = view.way() as u64;
    // SAFETY: the function touches no memory but its code, which is bound on both sides.
    unsafe { view.call(changes, rounds << 32 | view.number() << 8 | way) }.unwrap_or(0)
}

/// Changes of view without a use of memory in between. In `rsi`: rounds (bits 32 and up), number (bits 8–15),
/// way (bits 0–7).
#[unsafe(naked)]
extern "C" fn changes(_: *mut Page, packed: u64) -> u64 {
    naked_asm!(
        "push rbx",
        "push r12",
        "push r13",
        "mov r12, rsi",
        "shr r12, 32",
        "movzx ebx, sil",
        "shr esi, 8",
        "movzx r13d, sil",
        "rdtsc",
        "shl rdx, 32",
        "or rax, rdx",
        "mov r9, rax",
        "2:",
        "xor edi, edi",
        "call 5f",
        "mov edi, r13d",
        "call 5f",
        "dec r12",
        "jnz 2b",
        "rdtsc",
        "shl rdx, 32",
        "or rax, rdx",
        "sub rax, r9",
        "pop r13",
        "pop r12",
        "pop rbx",
        "ret",
        // One change, to the view in edi.
        "5:",
        "cmp ebx, {vmfunc}",
        "jne 6f",
        "mov ecx, edi",
        "xor eax, eax",
        ".byte 0x0f, 0x01, 0xd4",
        "ret",
        "6:",
        "mov eax, {call}",
        "cmp ebx, {vmmcall}",
        "je 7f",
        "vmcall",
        "ret",
        "7:",
        "vmmcall",
        "ret",
        vmfunc = const Way::Vmfunc as u64,
        vmmcall = const Way::Vmmcall as u64,
        call = const Call::ViewSwitch as u64,
    )
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
        // SAFETY: the frame was allocated here and no Rust object lives in it; while it is bound, the linear
        // map reaches it.
        unsafe {
            hypercall::page_bind(&self.0, Rights::READ_WRITE)?;
            address.write_volatile(1);
            hypercall::page_unbind(frame, 1)
        }
    }
}
