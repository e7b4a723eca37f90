//! Instructions that raise exceptions, and the handlers that make them harmless.

use core::arch::{asm, naked_asm};
use core::sync::atomic::{AtomicU64, Ordering};
use libos_core::quick::{self, OVERFLOW};
use libos_core::trap::{self, BREAKPOINT, DIVIDE, GENERAL_PROTECTION, Handled, INVALID_OPCODE, PAGE_FAULT};
use libos_core::window::Window;

/// An address in the guard below the image: nothing is ever mapped there.
const NOWHERE: u64 = 8;
/// Bytes of the instructions in [`load_nowhere`] and [`store_passed`].
const MOVE_BYTES: u64 = 3;
/// Bytes of `ud2` and of `div ecx`.
const SHORT_BYTES: u64 = 2;
/// Bytes of `movaps xmm0, [rdi]`.
const ALIGNED_MOVE_BYTES: u64 = 3;
/// "Device not available".
const COPROCESSOR: u8 = 7;

/// An exception that an instruction raises.
pub struct Exception {
    /// As in result lines.
    pub name: &'static str,
    /// Its vector.
    pub vector: u8,
    /// Raises it. Handlers come first.
    pub raise: fn(),
    /// Bytes from the address that a handler finds to the next instruction.
    pub bytes: u64,
    /// Goes there.
    pass: quick::Handler,
}

/// Those that a program can raise without page tables.
pub const EXCEPTIONS: [Exception; 5] = [
    Exception {
        name: "illegal",
        vector: INVALID_OPCODE,
        raise: illegal,
        bytes: SHORT_BYTES,
        pass: pass::<2>,
    },
    Exception { name: "breakpoint", vector: BREAKPOINT, raise: breakpoint, bytes: 0, pass: pass::<0> },
    Exception { name: "overflow", vector: OVERFLOW, raise: overflow, bytes: 0, pass: pass::<0> },
    Exception { name: "divide", vector: DIVIDE, raise: divide, bytes: SHORT_BYTES, pass: pass::<2> },
    Exception {
        name: "unaligned",
        vector: GENERAL_PROTECTION,
        raise: unaligned,
        bytes: ALIGNED_MOVE_BYTES,
        pass: pass::<3>,
    },
];

/// A quick handler in two instructions: passes over an instruction of so many bytes.
#[unsafe(naked)]
extern "C" fn pass<const BYTES: u64>(_instruction: u64, _error_code: u64) -> u64 {
    naked_asm!("lea rax, [rdi + {bytes}]", "ret", bytes = const BYTES)
}

impl Exception {
    /// Has it passed over by a closure.
    pub fn pass_by_closure(&self) {
        quick::clear(self.vector);
        let bytes = self.bytes;
        trap::set_handler(self.vector, move |frame| {
            frame.rip += bytes;
            Handled::Yes
        });
    }

    /// Has it passed over by a function.
    pub fn pass_by_function(&self) -> Result<(), quick::NotQuick> {
        // SAFETY: the instructions in this file have no results that anybody uses.
        unsafe { quick::set_handler(self.vector, self.pass) }
    }
}

fn illegal() {
    // SAFETY: the handler goes on behind the instruction and changes no register. So in the others.
    unsafe { asm!("ud2", options(nostack)) };
}

fn breakpoint() {
    // SAFETY: as in `illegal`.
    unsafe { asm!("int3", options(nostack)) };
}

fn overflow() {
    // SAFETY: as in `illegal`.
    unsafe { asm!("int 4", options(nostack)) };
}

fn divide() {
    // SAFETY: as in `illegal`. The bytes are `div ecx`.
    unsafe {
        asm!(".byte 0xf7, 0xf1", in("ecx") 0, inout("eax") 1 => _, inout("edx") 0 => _, options(nostack))
    };
}

/// What is no 16-byte boundary raises general protection in a move of aligned words, at every privilege
/// level.
fn unaligned() {
    let words = [0u128; 2];
    // SAFETY: as in `illegal`. The bytes are `movaps xmm0, [rdi]`.
    unsafe {
        asm!(".byte 0x0f, 0x28, 0x07", in("rdi") (&raw const words as usize) + 1, out("xmm0") _, options(nostack));
    }
}

/// The shortest way there is: assembly that the processor calls, for an illegal instruction.
pub fn pass_illegal_by_entry() -> Result<(), quick::NotQuick> {
    #[unsafe(naked)]
    unsafe extern "C" fn entry() {
        naked_asm!("add qword ptr [rsp], {bytes}", "iretq", bytes = const SHORT_BYTES)
    }
    // SAFETY: the flags are changed there and come back with `iretq`; nothing else is.
    unsafe { quick::set_entry(INVALID_OPCODE, entry) }
}

/// Has the coprocessor given back to whoever uses it without having it.
pub fn give_coprocessor() -> Result<(), quick::NotQuick> {
    #[unsafe(naked)]
    unsafe extern "C" fn entry() {
        naked_asm!("clts", "iretq")
    }
    // SAFETY: only the bit is cleared that raised the exception.
    unsafe { quick::set_entry(COPROCESSOR, entry) }
}

/// Takes the coprocessor away (three instructions) and uses it. [`give_coprocessor`] comes first.
pub fn use_coprocessor() {
    // SAFETY: no SSE instruction is executed with the bit set but the one that is to fault, or one in a
    // handler of an interrupt, which faults and goes on just the same.
    unsafe {
        asm!("mov rax, cr0", "or al, 8", "mov cr0, rax", "movaps xmm0, xmm0", out("rax") _, options(nostack));
    }
}

/// Has [`load_nowhere`] passed over by a closure.
pub fn pass_page_fault() {
    trap::set_handler(PAGE_FAULT, |frame| {
        if trap::fault_address() != NOWHERE {
            return Handled::No;
        }
        frame.rip += MOVE_BYTES;
        Handled::Yes
    });
}

/// Reads where nothing is mapped. [`pass_page_fault`] comes first.
pub fn load_nowhere() {
    // SAFETY: the bytes are `mov rax, [rdi]`: MOVE_BYTES long. It faults, is passed over, and changes
    // nothing.
    unsafe { asm!(".byte 0x48, 0x8b, 0x07", in("rdi") NOWHERE, out("rax") _, options(nostack)) };
}

/// Loads CR3 with what it holds.
pub fn load_cr3() {
    // SAFETY: the address space stays the same; only the TLB is emptied.
    unsafe { asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack)) };
}

/// Faults of [`store_passed`] that the handler has seen.
pub static PASSED: AtomicU64 = AtomicU64::new(0);

/// Has [`store_passed`] passed over in this window, which is not used otherwise.
pub fn pass_stores(window: &mut Window) {
    // SAFETY: the only access that faults in the window is that of `store_passed`.
    unsafe {
        window.set_resuming_handler(|fault| {
            // One core writes it.
            PASSED.store(PASSED.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            fault.instruction + MOVE_BYTES
        });
    }
}

/// Writes to a page that must not be written, which is passed over: [`pass_stores`] comes first.
pub fn store_passed(window: &Window, page: u64) {
    let address = window.pages().address(page);
    // SAFETY: the bytes are `mov [rdi], rax`: MOVE_BYTES long, to a word of a page of a window, which
    // everybody uses as atomics.
    unsafe { asm!(".byte 0x48, 0x89, 0x07", in("rdi") address, in("rax") 1u64, options(nostack)) };
}

/// Raises an exception with known values in all registers that a function may change. Returns whether they
/// are the same afterwards.
pub fn keeps_registers() -> bool {
    let (general, vector): (u64, u64);
    // SAFETY: an illegal instruction, which is passed over, between assignments to registers that are named.
    unsafe {
        asm!(
            ".irp register, rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11",
            "mov \\register, 0x5a5a5a5a",
            ".endr",
            "movq xmm0, rax",
            ".irp number, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
            "movaps xmm\\number, xmm0",
            ".endr",
            "ud2",
            // r12: rax, changed twice for each register that is the same, so not at all.
            "mov r12, rax",
            ".irp register, rcx, rdx, rsi, rdi, r8, r9, r10, r11",
            "xor r12, rax",
            "xor r12, \\register",
            ".endr",
            ".irp number, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
            "pcmpeqb xmm\\number, xmm0",
            ".endr",
            ".irp number, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
            "pand xmm1, xmm\\number",
            ".endr",
            "pmovmskb r13, xmm1",
            out("r12") general,
            out("r13") vector,
            out("rax") _, out("rcx") _, out("rdx") _, out("rsi") _, out("rdi") _,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
            out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
            options(nostack),
        );
    }
    general == 0x5a5a_5a5a && vector == 0xffff
}

/// Where [`mark`] was called from last.
pub static SEEN: AtomicU64 = AtomicU64::new(0);

/// A quick handler that wants registers of its own, as much as it can get.
extern "C" fn mark(instruction: u64, _error_code: u64) -> u64 {
    SEEN.store(instruction, Ordering::Relaxed);
    // SAFETY: changes registers that it names.
    unsafe {
        asm!(
            ".irp register, rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11", "xor \\register, \\register", ".endr",
            ".irp number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
            "pxor xmm\\number, xmm\\number",
            ".endr",
            out("rax") _, out("rcx") _, out("rdx") _, out("rsi") _, out("rdi") _,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
            out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
            options(nostack),
        );
    }
    instruction + SHORT_BYTES
}

/// Has illegal instructions passed over by [`mark`].
pub fn mark_illegal() -> Result<(), quick::NotQuick> {
    // SAFETY: the illegal instructions in this file have no results.
    unsafe { quick::set_handler(INVALID_OPCODE, mark) }
}
