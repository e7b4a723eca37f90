//! Hypercalls with what must be refused, and frames and rings as the kernel sees them.

use super::{disable_interrupts, enable_interrupts};
use alloc::vec::Vec;
use hyperexo_abi::capability::{Capability, Rights};
use hyperexo_abi::hypercall::{Arguments, Status};
use hyperexo_abi::net::NetRings;
use hyperexo_abi::ring::DiskRing;
use hyperexo_abi::{FRAME_BYTES, FRAME_SHIFT, LINEAR_BASE};
use libos_core::exo::hypercall;

/// A hypercall with any number and arguments.
pub fn call(number: u64, arguments: Arguments) -> Result<(), Status> {
    // SAFETY: callers pass nothing that names memory of ours, or must be refused.
    let (status, _) = unsafe { hypercall::raw(number, arguments) };
    match Status::from_number(status) {
        Some(Status::Ok) => Ok(()),
        Some(status) => Err(status),
        None => Err(Status::UnknownCall),
    }
}

/// The registers that no hypercall uses.
#[derive(Clone, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct CallState {
    /// `rbx rcx rbp r9 r10 r11 r12 r13 r14 r15`.
    general: [u64; 10],
    /// `xmm0` to `xmm15`.
    xmm: [u128; 16],
}

impl CallState {
    /// Each register holds a value of its own.
    pub fn distinct() -> CallState {
        const PATTERN: u64 = 0x9e37_79b9_7f4a_7c15;
        let word = |number: usize| PATTERN.wrapping_mul(number as u64 + 1);
        CallState {
            general: core::array::from_fn(word),
            xmm: core::array::from_fn(|number| {
                u128::from(word(number + 16)) << 64 | u128::from(word(number + 32))
            }),
        }
    }
}

/// Makes a hypercall, with arguments 0 to 3 being 0, in a state; returns its status and the state after it.
pub fn call_with_state(number: u64, before: &CallState, interrupts: bool) -> (u64, CallState) {
    /// Pushes, loads, calls, stores, pops. `after` is found on the stack.
    #[unsafe(naked)]
    extern "C" fn run(number: u64, vmmcall: u64, before: *const CallState, after: *mut CallState) -> u64 {
        core::arch::naked_asm!(
            "push rbx",
            "push rbp",
            "push r12",
            "push r13",
            "push r14",
            "push r15",
            "push rcx",
            "push rsi",
            "mov rax, rdi",
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
            "movaps xmm\\n, [rdx + 80 + 16 * \\n]",
            ".endr",
            "mov rbx, [rdx]",
            "mov rcx, [rdx + 8]",
            "mov rbp, [rdx + 16]",
            "mov r9, [rdx + 24]",
            "mov r10, [rdx + 32]",
            "mov r11, [rdx + 40]",
            "mov r12, [rdx + 48]",
            "mov r13, [rdx + 56]",
            "mov r14, [rdx + 64]",
            "mov r15, [rdx + 72]",
            "xor edi, edi",
            "xor esi, esi",
            "xor edx, edx",
            "xor r8d, r8d",
            "cmp qword ptr [rsp], 0",
            "je 2f",
            "vmmcall",
            "jmp 3f",
            "2:",
            "vmcall",
            "3:",
            "mov rdx, [rsp + 8]",
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
            "movaps [rdx + 80 + 16 * \\n], xmm\\n",
            ".endr",
            "mov [rdx], rbx",
            "mov [rdx + 8], rcx",
            "mov [rdx + 16], rbp",
            "mov [rdx + 24], r9",
            "mov [rdx + 32], r10",
            "mov [rdx + 40], r11",
            "mov [rdx + 48], r12",
            "mov [rdx + 56], r13",
            "mov [rdx + 64], r14",
            "mov [rdx + 72], r15",
            "add rsp, 16",
            "pop r15",
            "pop r14",
            "pop r13",
            "pop r12",
            "pop rbp",
            "pop rbx",
            "ret",
        )
    }
    let mut after = CallState::distinct();
    after.general.fill(0);
    let vmmcall = libos_core::exo::start_info().hypercall;
    if !interrupts {
        disable_interrupts();
    }
    let status = run(number, vmmcall, before, &raw mut after);
    enable_interrupts();
    (status, after)
}

/// Gives frames back. Only for frames that hold nothing.
pub fn page_free(capability: &Capability) -> Result<(), Status> {
    // SAFETY: callers pass capabilities of frames they allocated for this, or that must be refused.
    unsafe { hypercall::page_free(capability) }
}

/// Binds frames. Only for frames that hold nothing.
pub fn page_bind(capability: &Capability, rights: Rights) -> Result<(), Status> {
    // SAFETY: as above.
    unsafe { hypercall::page_bind(capability, rights) }
}

/// Ends a binding. Only for frames that hold nothing.
pub fn page_unbind(first: u64, count: u64) -> Result<(), Status> {
    // SAFETY: as above.
    unsafe { hypercall::page_unbind(first, count) }
}

/// Has the kernel take frames as a ring.
pub fn ring_bind(first: u64) -> Result<(), Status> {
    // SAFETY: callers pass frames allocated for this, or that must be refused.
    unsafe { hypercall::ring_bind(first) }
}

/// Has the kernel look at the ring.
pub fn ring_kick() -> Result<(), Status> {
    // SAFETY: the requests name frames that hold nothing, or must be refused.
    unsafe { hypercall::ring_kick() }
}

/// A ring in frames allocated and bound for it, from `first` on.
pub fn ring_at(first: u64) -> &'static DiskRing {
    // SAFETY: the frames hold zeros, which is a ring, are bound, and serve nothing else.
    unsafe { &*((LINEAR_BASE + (first << FRAME_SHIFT)) as *const DiskRing) }
}

/// Has the kernel take frames as rings of packets.
pub fn net_ring_bind(first: u64) -> Result<(), Status> {
    // SAFETY: callers pass frames allocated for this, or that must be refused; packets come into frames that
    // hold nothing.
    unsafe { hypercall::net_ring_bind(first) }.map(drop)
}

/// Has the kernel look at the ring of packets to be sent.
pub fn net_kick() -> Result<(), Status> {
    // SAFETY: as above.
    unsafe { hypercall::net_kick() }
}

/// Rings of packets in frames allocated and bound for them, from `first` on.
pub fn net_rings_at(first: u64) -> &'static NetRings {
    // SAFETY: the frames hold zeros, which are rings, are bound, and serve nothing else.
    unsafe { &*((LINEAR_BASE + (first << FRAME_SHIFT)) as *const NetRings) }
}

/// Writes the first bytes of a frame allocated and bound for it.
pub fn write_frame(frame: u64, bytes: &[u8]) {
    assert!(bytes.len() <= FRAME_BYTES);
    // SAFETY: within the frame, which is bound read-write and holds no object.
    unsafe {
        let start = (LINEAR_BASE + (frame << FRAME_SHIFT)) as *mut u8;
        core::ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len());
    }
}

/// The first bytes of a frame allocated and bound for it.
pub fn read_frame(frame: u64, bytes: usize) -> Vec<u8> {
    assert!(bytes <= FRAME_BYTES);
    // SAFETY: within the frame, which is bound, and nobody writes it now.
    unsafe {
        core::slice::from_raw_parts((LINEAR_BASE + (frame << FRAME_SHIFT)) as *const u8, bytes).to_vec()
    }
}
