//! Exceptions and interrupts: from the processor's gate to a Rust function and back.
//!
//! ```text
//! gate ─ entry stub of the vector (8 bytes each) ─ common: registers, then SSE state ─ dispatcher(&mut
//! TrapFrame) ─ iretq
//! ```
//!
//! The processor enters on a stack of the interrupt stack table. There the handler stays, unless the image
//! has called [`set_interrupted_stack`]: then the frame moves to the interrupted stack, below the red zone,
//! if there is room, and the trap stack is free again. So handlers can nest and sleep; a handler that finds
//! itself still on the trap stack ([`on_trap_stack`]) was called because the interrupted stack is full or not
//! the one declared, or for a vector that can come at any time (double fault, NMI, machine check).
//!
//! All registers are the handler's to change: it sees them in the [`TrapFrame`]. SSE state is saved around
//! it. x87 and MMX state is not ([`crate::sse`]): a handler leaves it alone.

use crate::descriptor::{MAX_NUMBERS, NUMBER_SELECTOR, core_number};
use crate::sse::{self, MXCSR_RESET};
use crate::{load_sse, store_sse};
use core::arch::{asm, naked_asm};
use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// Registers at the moment of a trap, in the order in which they lie on the stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs)] // the names are those of the processor
pub struct TrapFrame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rbp: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rax: u64,
    /// Vector, 0 to 255.
    pub vector: u64,
    /// Error code that the processor pushed; 0 for vectors that have none.
    pub error_code: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

/// Divide error.
pub const DIVIDE: u8 = 0;
/// Breakpoint (`int3`).
pub const BREAKPOINT: u8 = 3;
/// Invalid opcode.
pub const INVALID_OPCODE: u8 = 6;
/// Double fault.
pub const DOUBLE_FAULT: u8 = 8;
/// General protection.
pub const GENERAL_PROTECTION: u8 = 13;
/// Page fault.
pub const PAGE_FAULT: u8 = 14;

/// Name of a vector, as the processor manuals call it.
pub fn vector_name(vector: u8) -> &'static str {
    const NAMES: [&str; 22] = [
        "divide error",
        "debug",
        "non-maskable interrupt",
        "breakpoint",
        "overflow",
        "bound range exceeded",
        "invalid opcode",
        "device not available",
        "double fault",
        "coprocessor segment overrun",
        "invalid task state",
        "segment not present",
        "stack fault",
        "general protection",
        "page fault",
        "reserved vector 15",
        "x87 floating point",
        "alignment check",
        "machine check",
        "SIMD floating point",
        "virtualization",
        "control protection",
    ];
    match NAMES.get(usize::from(vector)) {
        Some(name) => name,
        None if vector < 32 => "reserved exception",
        None => "interrupt",
    }
}

/// Bytes from one entry stub to the next.
const ENTRY_STEP: u64 = 8;

/// Vectors for which the processor pushes an error code, as a bit set: 8, 10–14, 17, 21, 29, 30.
const WITH_ERROR_CODE: u32 = 1 << 8 | 0x1f << 10 | 1 << 17 | 1 << 21 | 1 << 29 | 1 << 30;

/// Address to which the gate of a vector leads.
pub fn entry_address(vector: u8) -> u64 {
    // The stubs align themselves; the function that holds them may start a little lower.
    (entry_stubs as *const () as u64).next_multiple_of(ENTRY_STEP) + u64::from(vector) * ENTRY_STEP
}

/// Makes `dispatcher` the function that every trap of every core calls. It runs with interrupts disabled;
/// when it returns, execution goes on with the registers of the frame.
pub fn set_dispatcher(dispatcher: fn(&mut TrapFrame)) {
    DISPATCHER.store(dispatcher as *mut (), Ordering::Release);
}

/// Declares the stack of the calling core that may be interrupted: traps with a stack pointer in it run their
/// handlers there, as long as `room` bytes (counted from `low`) are left. `low..high` with `low >= high`
/// turns this off, which is how it starts.
///
/// One stack for each number of a core ([`core_number`]): a scheduler calls this when it switches, with
/// interrupts disabled.
///
/// # Safety
///
/// `low..high` must be mapped writable as long as it stays declared.
pub unsafe fn set_interrupted_stack(low: u64, high: u64, room: u64) {
    let stack = &STACKS[core_number()];
    stack.floor.store(if low < high { low.saturating_add(room) } else { u64::MAX }, Ordering::Relaxed);
    stack.ceiling.store(high, Ordering::Relaxed);
}

/// Whether the handler of `frame` runs on a stack of the interrupt stack table (see the module's text).
pub fn on_trap_stack(frame: &TrapFrame) -> bool {
    !MOVED_DISTANCE.contains(&frame.rsp.wrapping_sub(&raw const *frame as u64))
}

/// Disables interrupts; tells whether they were enabled.
pub fn disable_interrupts() -> bool {
    let flags: u64;
    // SAFETY: reads the flags and clears IF, which delays handlers and harms nobody.
    unsafe { asm!("pushfq", "pop {}", "cli", out(reg) flags) };
    flags & 1 << 9 != 0
}

/// Enables interrupts.
///
/// # Safety
///
/// The descriptor tables are loaded, and the caller holds nothing that a handler would wait for.
pub unsafe fn enable_interrupts() {
    // SAFETY: by the caller's promise.
    unsafe { asm!("sti") };
}

/// Enables interrupts and halts until one has been handled; returns with interrupts disabled. What was
/// decided with interrupts disabled before the call is still true when the processor halts: `sti` takes
/// effect after `hlt` began.
///
/// # Safety
///
/// As for [`enable_interrupts`].
pub unsafe fn wait_for_interrupt() {
    // SAFETY: by the caller's promise.
    unsafe { asm!("sti", "hlt", "cli") };
}

/// The address whose access caused the last page fault of this core.
pub fn fault_address() -> u64 {
    let address: u64;
    // SAFETY: reading CR2 at privilege level 0 has no effect.
    unsafe { asm!("mov {}, cr2", out(reg) address, options(nomem, nostack, preserves_flags)) };
    address
}

static DISPATCHER: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// A declared stack. The common entry code reads these words at their offsets.
#[repr(C)]
struct Interruptible {
    floor: AtomicU64,
    ceiling: AtomicU64,
}

/// Bytes of an [`Interruptible`], as a shift.
const STACK_SHIFT: u32 = 4;
const _: () = assert!(size_of::<Interruptible>() == 1 << STACK_SHIFT);

/// Declared stacks, by the number of the core.
static STACKS: [Interruptible; MAX_NUMBERS] =
    [const { Interruptible { floor: AtomicU64::new(u64::MAX), ceiling: AtomicU64::new(0) } }; MAX_NUMBERS];

/// Bytes of a [`TrapFrame`].
const FRAME_BYTES: u64 = size_of::<TrapFrame>() as u64;
/// Bytes below the stack pointer that compiled code may use without saying so.
const RED_ZONE_BYTES: u64 = 128;
/// From the interrupted stack pointer down to a frame that was moved there, rounding included.
const MOVED_DISTANCE: RangeInclusive<u64> = RED_ZONE_BYTES + FRAME_BYTES..=RED_ZONE_BYTES + FRAME_BYTES + 15;

const _: () = assert!(FRAME_BYTES.is_multiple_of(16), "the SSE area below the frame must be aligned");

/// Calls the dispatcher. Without one there is nobody to tell: the core stops.
extern "C" fn dispatch(frame: &mut TrapFrame) {
    let dispatcher = DISPATCHER.load(Ordering::Acquire);
    if dispatcher.is_null() {
        loop {
            // SAFETY: stops the core with interrupts disabled.
            unsafe { asm!("cli", "hlt") };
        }
    }
    // SAFETY: only `set_dispatcher` stores a value that is not null, and stores a function of this type.
    let dispatcher = unsafe { core::mem::transmute::<*mut (), fn(&mut TrapFrame)>(dispatcher) };
    dispatcher(frame);
}

/// 256 stubs of [`ENTRY_STEP`] bytes. Each pushes its vector as a signed byte; the common parts clear what
/// the sign extension made of it.
#[unsafe(naked)]
unsafe extern "C" fn entry_stubs() {
    naked_asm!(
        ".set hx_vector, 0",
        ".rept 256",
        ".balign 8",
        ".byte 0x6a, hx_vector",
        ".if (hx_vector < 32) && (({with_error_code} >> hx_vector) & 1)",
        "jmp {with}",
        ".else",
        "jmp {without}",
        ".endif",
        ".set hx_vector, hx_vector + 1",
        ".endr",
        with_error_code = const WITH_ERROR_CODE,
        with = sym common,
        without = sym common_without_error_code,
    )
}

/// Puts a zero where the error code would be.
#[unsafe(naked)]
unsafe extern "C" fn common_without_error_code() {
    naked_asm!(
        "push qword ptr [rsp]",
        "mov qword ptr [rsp + 8], 0",
        "jmp {common}",
        common = sym common,
    )
}

/// Completes the [`TrapFrame`], moves it to the interrupted stack if that is declared and has room, saves the
/// SSE state below it, calls [`dispatch`] and goes back.
#[unsafe(naked)]
unsafe extern "C" fn common() {
    naked_asm!(
        "push rax",
        "push rbx",
        "push rcx",
        "push rdx",
        "push rsi",
        "push rdi",
        "push rbp",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "cld",
        "movzx eax, byte ptr [rsp + {vector}]",
        "mov [rsp + {vector}], rax",
        // stay here if the vector is one of 2, 8, 18, or the interrupted stack is not the declared one, or is
        // full
        "cmp eax, 18",
        "ja 2f",
        "mov ecx, {critical}",
        "bt ecx, eax",
        "jc 3f",
        "2:",
        // rdx: the stack declared for this core
        "xor eax, eax",
        "mov ecx, {number}",
        "lsl eax, ecx",
        "and eax, {numbers} - 1",
        "shl eax, {shift}",
        "lea rdx, [rip + {stacks}]",
        "add rdx, rax",
        "mov rdi, [rsp + {rsp}]",
        "cmp rdi, [rdx + {ceiling}]",
        "ja 3f",
        // before the subtraction too, which could go below zero
        "cmp rdi, [rdx + {floor}]",
        "jb 3f",
        "sub rdi, {distance}",
        "and rdi, -16",
        "cmp rdi, [rdx + {floor}]",
        "jb 3f",
        "mov rbx, rdi",
        "mov rsi, rsp",
        "mov ecx, {words}",
        "rep movsq",
        "mov rsp, rbx",
        "3:",
        "mov rbx, rsp",
        // a frame record of the interrupted instruction, so that a walk by frame pointers goes on there
        "push qword ptr [rbx + {rip}]",
        "push rbp",
        "mov rbp, rsp",
        "sub rsp, {sse}",
        store_sse!("rsp"),
        "push {mxcsr}",
        "ldmxcsr [rsp]",
        "add rsp, 8",
        "mov rdi, rbx",
        "call {dispatch}",
        load_sse!("rsp"),
        "mov rsp, rbx",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rbp",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "pop rcx",
        "pop rbx",
        "pop rax",
        "add rsp, 16",
        "iretq",
        vector = const core::mem::offset_of!(TrapFrame, vector),
        rsp = const core::mem::offset_of!(TrapFrame, rsp),
        rip = const core::mem::offset_of!(TrapFrame, rip),
        critical = const 1u32 << 2 | 1 << 8 | 1 << 18,
        number = const NUMBER_SELECTOR as u32,
        numbers = const MAX_NUMBERS as u32,
        shift = const STACK_SHIFT,
        stacks = sym STACKS,
        ceiling = const core::mem::offset_of!(Interruptible, ceiling),
        floor = const core::mem::offset_of!(Interruptible, floor),
        distance = const RED_ZONE_BYTES + FRAME_BYTES,
        words = const FRAME_BYTES / 8,
        sse = const sse::BYTES,
        mxcsr = const MXCSR_RESET,
        dispatch = sym dispatch,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn frame_ends_with_what_the_processor_pushes() {
        assert_eq!(size_of::<TrapFrame>(), 22 * 8);
        let pushed = [
            offset_of!(TrapFrame, error_code),
            offset_of!(TrapFrame, rip),
            offset_of!(TrapFrame, cs),
            offset_of!(TrapFrame, rflags),
            offset_of!(TrapFrame, rsp),
            offset_of!(TrapFrame, ss),
        ];
        assert_eq!(pushed, [16 * 8, 17 * 8, 18 * 8, 19 * 8, 20 * 8, 21 * 8]);
    }

    #[test]
    fn every_stub_pushes_its_vector() {
        for vector in 0..=255 {
            // SAFETY: the stubs are code of this program, 8 bytes each.
            let stub = unsafe { *(entry_address(vector) as *const [u8; 7]) };
            assert_eq!(stub[..3], [0x6a, vector, 0xe9], "stub of vector {vector}");
            let jump = i32::from_le_bytes([stub[3], stub[4], stub[5], stub[6]]);
            let target = entry_address(vector).wrapping_add(7).wrapping_add_signed(i64::from(jump));
            let has_code = matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30);
            assert_eq!(target == common as *const () as u64, has_code, "target of vector {vector}");
        }
    }

    #[test]
    fn a_frame_just_below_the_stack_pointer_was_moved_there() {
        let mut frame = TrapFrame::default();
        let address = &raw const frame as u64;
        for (distance, on_trap_stack) in [(303, true), (304, false), (319, false), (320, true), (0, true)] {
            frame.rsp = address + distance;
            assert_eq!(super::on_trap_stack(&frame), on_trap_stack, "distance {distance}");
        }
    }

    #[test]
    fn names() {
        assert_eq!(vector_name(PAGE_FAULT), "page fault");
        assert_eq!(vector_name(31), "reserved exception");
        assert_eq!(vector_name(64), "interrupt");
    }
}
