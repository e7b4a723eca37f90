//! Short ways from an exception to its handler and back, where [`super::trap`] takes too long.
//!
//! | way | what is saved | what the handler may do |
//! |---|---|---|
//! | [`trap::set_handler`](super::trap::set_handler): a closure | everything | change registers, wait, fault |
//! | [`set_handler`] here: a function | what functions may change | say where to go on |
//! | [`set_entry`]: assembly | nothing | everything, by itself |
//!
//! ```text
//! gate of the vector ── stub: 9 registers, 16 SSE registers ── handler(rip, error code) ── iretq
//!                         └─ no handler now, or not from here ── the gate's usual way (trap)
//! ```
//!
//! A quick handler runs on the core's stack for exceptions, with interrupts disabled. An exception in it ends
//! the unikernel with a report: the stub knows by the stack pointer, and goes the usual way, which finds no
//! stack declared. So a handler that needs more than a few words of stack, waits, or may fault, is a closure
//! of [`super::trap`]. Programs whose stack lies below the one for exceptions (threads may have such stacks)
//! always go the usual way.
//!
//! Source: Engler, Kaashoek, O'Toole, SOSP'95, §5.3 (18 instructions, three registers saved), and Thekkath
//! and Levy, ASPLOS'94. The direction flag is clear in all code of an image, so the stub does not clear it.

use core::arch::{asm, naked_asm};
use core::sync::atomic::{AtomicU64, Ordering};
use hyperexo_hw::descriptor::{MAX_NUMBERS, core_number};
use hyperexo_hw::trap::{self, BREAKPOINT, DIVIDE, GENERAL_PROTECTION, INVALID_OPCODE, PAGE_FAULT};

/// Overflow (`int 4`; `into` is no instruction of 64-bit mode).
pub const OVERFLOW: u8 = 4;
/// Alignment check. It is raised at privilege level 3 only, so not in a unikernel (SDM vol. 3 §6.15).
pub const ALIGNMENT: u8 = 17;

/// What a quick handler is given: address of the instruction (breakpoint and overflow: of the next one), and
/// the error code, if the vector has one, else any number. It returns where to go on.
pub type Handler = extern "C" fn(instruction: u64, error_code: u64) -> u64;

/// A page fault's: instruction, error code, address. 0: not answered, go the usual way.
pub(crate) type PageFaultHandler = extern "C" fn(u64, u64, u64) -> u64;

/// Vectors from here on have no short way.
const VECTORS: usize = 32;

/// A vector without a short way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotQuick(pub u8);

impl core::fmt::Display for NotQuick {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "vector {} ({}) has no short way", self.0, trap::vector_name(self.0))
    }
}

/// Handlers that the stubs call, by vector. A stub is reached only while its handler is one.
static HANDLERS: [AtomicU64; VECTORS] = [const { AtomicU64::new(0) }; VECTORS];
/// Where a stub goes that does not call its handler: the usual way.
static USUAL: [AtomicU64; VECTORS] = [const { AtomicU64::new(0) }; VECTORS];
/// Where gates lead that do not lead the usual way; 0 for the others.
static TARGETS: [AtomicU64; VECTORS] = [const { AtomicU64::new(0) }; VECTORS];
/// Addresses of the gates that cores use, by the number of the core; 0 where there is none yet.
static GATES: [AtomicU64; MAX_NUMBERS] = [const { AtomicU64::new(0) }; MAX_NUMBERS];

/// Has `handler` called for a vector, on all cores: divide error, breakpoint, overflow, invalid opcode,
/// general protection, alignment check. Page faults of windows:
/// [`Window::set_quick_handler`](crate::window::Window::set_quick_handler).
///
/// # Errors
///
/// [`NotQuick`] for other vectors.
///
/// # Safety
///
/// Where the handler says to go on, the program must be able to go on: with the registers of the interrupted
/// instruction, none of which the handler can see.
pub unsafe fn set_handler(vector: u8, handler: Handler) -> Result<(), NotQuick> {
    let stub = match vector {
        DIVIDE => stub::<{ DIVIDE }>,
        BREAKPOINT => stub::<{ BREAKPOINT }>,
        OVERFLOW => stub::<{ OVERFLOW }>,
        INVALID_OPCODE => stub::<{ INVALID_OPCODE }>,
        GENERAL_PROTECTION => stub_with_code::<{ GENERAL_PROTECTION }>,
        ALIGNMENT => stub_with_code::<{ ALIGNMENT }>,
        _ => return Err(NotQuick(vector)),
    };
    HANDLERS[usize::from(vector)].store(handler as *const () as u64, Ordering::SeqCst);
    lead(vector, stub as *const () as u64);
    Ok(())
}

/// Has page faults answered by `handler` first.
pub(crate) fn set_page_fault_handler(handler: PageFaultHandler) {
    HANDLERS[usize::from(PAGE_FAULT)].store(handler as *const () as u64, Ordering::SeqCst);
    lead(PAGE_FAULT, page_fault_stub as *const () as u64);
}

/// Makes `entry` what the processor itself calls for a vector below 32, on all cores.
///
/// # Errors
///
/// [`NotQuick`] for other vectors, page faults, and those that can come at any instruction (2, 8, 18).
///
/// # Safety
///
/// `entry` is assembly that keeps all registers but those that the program expects to change, and ends with
/// `iretq` on the stack on which it began. No exception comes in it.
pub unsafe fn set_entry(vector: u8, entry: unsafe extern "C" fn()) -> Result<(), NotQuick> {
    if usize::from(vector) >= VECTORS || matches!(vector, 2 | 8 | 18 | PAGE_FAULT) {
        return Err(NotQuick(vector));
    }
    lead(vector, entry as *const () as u64);
    Ok(())
}

/// Has a vector go the usual way again. Its quick handler may still be running on another core.
pub fn clear(vector: u8) {
    if usize::from(vector) < VECTORS {
        lead(vector, 0);
    }
}

/// Leads a vector to a target, on all cores; 0 stands for the usual way.
fn lead(vector: u8, target: u64) {
    let usual = trap::entry_address(vector);
    USUAL[usize::from(vector)].store(usual, Ordering::SeqCst);
    TARGETS[usize::from(vector)].store(target, Ordering::SeqCst);
    let bases = GATES.iter().map(|base| base.load(Ordering::SeqCst)).filter(|base| *base != 0);
    bases.for_each(|base| set_gate(base, vector, if target == 0 { usual } else { target }));
}

/// Takes note of the gates that the calling core has just loaded, and leads them where they are to lead.
///
/// # Safety
///
/// The core's gates are those of a [`CoreTables`](hyperexo_hw::descriptor::CoreTables), for as long as it
/// runs.
pub(super) unsafe fn note_gates() {
    let mut register = [0u16; 5];
    // SAFETY: stores ten bytes: a limit and the address of the gates (SDM vol. 2, SIDT).
    unsafe { asm!("sidt [{}]", in(reg) &raw mut register, options(nostack, preserves_flags)) };
    let base = (0..4).fold(0, |base, word| base | u64::from(register[1 + word]) << (16 * word));
    // Whoever leads a vector elsewhere at this moment finds the base here, or is found below.
    GATES[core_number()].store(base, Ordering::SeqCst);
    for (vector, target) in TARGETS.iter().enumerate() {
        let target = target.load(Ordering::SeqCst);
        if target != 0 {
            set_gate(base, vector as u8, target);
        }
    }
}

/// Changes where a gate leads. All code of an image lies below 4 GiB, so one word of eight bytes has all that
/// changes (SDM vol. 3, figure 6-8), and the processor never sees half of it.
fn set_gate(base: u64, vector: u8, target: u64) {
    assert!(target >> 32 == 0, "code above 4 GiB");
    // SAFETY: `note_gates` alone stores bases, of gates that stay. They are only used as atomics after that.
    let low = unsafe { &*((base + 16 * u64::from(vector)) as *const AtomicU64) };
    let kept = low.load(Ordering::SeqCst) & !(0xffff | 0xffff << 48);
    low.store(kept | target & 0xffff | (target >> 16 & 0xffff) << 48, Ordering::SeqCst);
}

/// Bytes of the registers that [`save!`] pushes.
const PUSHED: usize = 9 * 8;
/// Bytes of sixteen SSE registers. The control register is the program's, as in all code of an image.
const SSE: usize = 16 * 16;

/// Saves what a function may change. `{below}` bytes are for the SSE registers, which makes 16-byte
/// alignment.
macro_rules! save {
    () => {
        concat!(
            "push rax\npush rcx\npush rdx\npush rsi\npush rdi\npush r8\npush r9\npush r10\npush r11\n",
            "sub rsp, {below}\n.irp number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n",
            "movaps [rsp + 16 * \\number], xmm\\number\n.endr"
        )
    };
}

/// Undoes [`save!`].
macro_rules! restore {
    () => {
        concat!(
            ".irp number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n",
            "movaps xmm\\number, [rsp + 16 * \\number]\n.endr\nadd rsp, {below}\n",
            "pop r11\npop r10\npop r9\npop r8\npop rdi\npop rsi\npop rdx\npop rcx\npop rax"
        )
    };
}

/// The way of a vector without error code. The processor has pushed five words below a multiple of 16.
#[unsafe(naked)]
unsafe extern "C" fn stub<const VECTOR: u8>() {
    naked_asm!(
        save!(),
        "mov rdi, [rsp + {rip}]",
        // a program whose stack is lower than this one may be a handler on this one
        "cmp [rsp + {rip} + 24], rsp",
        "jb 2f",
        "call qword ptr [rip + {handlers} + 8 * {vector}]",
        "mov [rsp + {rip}], rax",
        restore!(),
        "iretq",
        "2:",
        restore!(),
        "jmp qword ptr [rip + {usual} + 8 * {vector}]",
        below = const SSE,
        rip = const SSE + PUSHED,
        handlers = sym HANDLERS,
        usual = sym USUAL,
        vector = const VECTOR,
    )
}

/// The way of a vector with error code: a word more, which goes at the end.
#[unsafe(naked)]
unsafe extern "C" fn stub_with_code<const VECTOR: u8>() {
    naked_asm!(
        save!(),
        "mov rdi, [rsp + {rip}]",
        "mov rsi, [rsp + {rip} - 8]",
        "cmp [rsp + {rip} + 24], rsp",
        "jb 2f",
        "call qword ptr [rip + {handlers} + 8 * {vector}]",
        "mov [rsp + {rip}], rax",
        restore!(),
        "add rsp, 8",
        "iretq",
        "2:",
        restore!(),
        "jmp qword ptr [rip + {usual} + 8 * {vector}]",
        below = const SSE + 8,
        rip = const SSE + 8 + PUSHED + 8,
        handlers = sym HANDLERS,
        usual = sym USUAL,
        vector = const VECTOR,
    )
}

/// The way of a page fault, whose handler may not answer.
#[unsafe(naked)]
unsafe extern "C" fn page_fault_stub() {
    naked_asm!(
        save!(),
        "mov rdi, [rsp + {rip}]",
        "mov rsi, [rsp + {rip} - 8]",
        "mov rdx, cr2",
        "cmp [rsp + {rip} + 24], rsp",
        "jb 2f",
        "call qword ptr [rip + {handlers} + 8 * {vector}]",
        "test rax, rax",
        "jz 2f",
        "mov [rsp + {rip}], rax",
        restore!(),
        "add rsp, 8",
        "iretq",
        "2:",
        restore!(),
        "jmp qword ptr [rip + {usual} + 8 * {vector}]",
        below = const SSE + 8,
        rip = const SSE + 8 + PUSHED + 8,
        handlers = sym HANDLERS,
        usual = sym USUAL,
        vector = const PAGE_FAULT,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    extern "C" fn handler(instruction: u64, _: u64) -> u64 {
        instruction
    }

    #[test]
    fn vectors_without_a_short_way_are_named() {
        for vector in [2, 8, PAGE_FAULT, 18, 32, 255] {
            // SAFETY: refused, as the test checks.
            assert_eq!(unsafe { set_handler(vector, handler) }, Err(NotQuick(vector)));
        }
        assert_eq!(NotQuick(2).to_string(), "vector 2 (non-maskable interrupt) has no short way");
    }

    #[test]
    fn a_gate_is_led_elsewhere_and_keeps_the_rest() {
        let gates = [const { AtomicU64::new(0x1122_8e01_0008_3344) }; 4];
        set_gate(&raw const gates as u64, 1, 0xaabb_ccdd);
        let words = gates.map(AtomicU64::into_inner);
        assert_eq!(words[2], 0xaabb_8e01_0008_ccdd);
        assert_eq!((words[0], words[1], words[3]), (0x1122_8e01_0008_3344, 0x1122_8e01_0008_3344, words[1]));
    }
}
