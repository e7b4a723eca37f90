//! Registers that a neighbour on the same core could find.

use super::{RESUME, caught, prepare};
use core::arch::asm;
use core::arch::x86_64::__cpuid;
use hyperexo_abi::hypercall::Call;
use hyperexo_abi::start::HYPERCALL_VMMCALL;
use libos_core::exo::start_info;

/// CR4: user pages have protection keys.
const PROTECTION_KEYS: u64 = 1 << 22;
/// CR4: XSAVE is used.
const OSXSAVE: u64 = 1 << 18;

/// What `RDTSCP` says besides the time; `None` where there is none.
pub fn rdtscp_number() -> Option<u32> {
    let offered = __cpuid(0x8000_0001).edx >> 27 & 1 != 0;
    let number: u32;
    if !offered {
        return None;
    }
    // SAFETY: reads registers.
    unsafe { asm!("rdtscp", out("eax") _, out("edx") _, out("ecx") number) };
    Some(number)
}

/// CR0 and CR4.
pub fn controls() -> (u64, u64) {
    let (cr0, cr4): (u64, u64);
    // SAFETY: reads registers.
    unsafe { asm!("mov {}, cr0", "mov {}, cr4", out(reg) cr0, out(reg) cr4) };
    (cr0, cr4)
}

/// Sets CR0 and CR4, in bits that this program does not depend on.
pub fn set_controls((cr0, cr4): (u64, u64)) {
    // SAFETY: callers change bits that nothing here depends on.
    unsafe { asm!("mov cr0, {}", "mov cr4, {}", in(reg) cr0, in(reg) cr4) };
}

/// Turns protection keys on, whether they are offered or not. Returns whether that worked.
pub fn turn_on_protection_keys() -> bool {
    set_in_cr4(PROTECTION_KEYS)
}

/// Sets bits of CR4 for good; returns whether that worked.
fn set_in_cr4(bits: u64) -> bool {
    prepare();
    // SAFETY: a trap goes on behind the instruction.
    unsafe {
        asm!("lea r8, [rip + 77f]", "mov [rip + {resume}], r8", "mov r9, cr4", "or r9, {bits}", "mov cr4, r9", "77:",
            resume = sym RESUME, bits = in(reg) bits, out("r8") _, out("r9") _);
    }
    caught().is_none()
}

/// The rights of protection keys.
pub fn protection_keys() -> u32 {
    let value: u32;
    // SAFETY: protection keys are on.
    unsafe { asm!("rdpkru", in("ecx") 0, out("eax") value, out("edx") _) };
    value
}

/// Sets the rights of protection keys. There are no user pages.
pub fn set_protection_keys(value: u32) {
    // SAFETY: protection keys are on, and no page has one.
    unsafe { asm!("wrpkru", in("ecx") 0, in("eax") value, in("edx") 0) };
}

/// The address of the last page fault, or what was written there.
pub fn fault_address() -> u64 {
    let value: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr2", out(reg) value) };
    value
}

/// Writes the address of the last page fault.
pub fn set_fault_address(value: u64) {
    // SAFETY: the register has no effect.
    unsafe { asm!("mov cr2, {}", in(reg) value) };
}

/// The task priority.
pub fn task_priority() -> u64 {
    let value: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr8", out(reg) value) };
    value
}

/// Sets the task priority, to one that lets upcalls through.
pub fn set_task_priority(value: u64) {
    // SAFETY: callers pass priorities below that of upcalls.
    unsafe { asm!("mov cr8, {}", in(reg) value) };
}

/// Turns on AVX, if it is offered; returns whether it is on.
pub fn turn_on_avx() -> bool {
    const AVX_AND_XSAVE: u32 = 1 << 28 | 1 << 26;
    if __cpuid(1).ecx & AVX_AND_XSAVE != AVX_AND_XSAVE || !set_in_cr4(OSXSAVE) {
        return false;
    }
    // SAFETY: XSAVE is on, and the value is one that every processor with AVX takes.
    unsafe { asm!("xsetbv", in("ecx") 0, in("eax") 7, in("edx") 0) };
    true
}

/// x87 and SSE state as `FXSAVE` has it, and the upper halves of AVX registers (here: whole registers).
#[derive(Clone, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Floating {
    legacy: [u8; 512],
    vectors: [[u64; 4]; 16],
}

impl Floating {
    /// What the registers hold here.
    pub fn here() -> Floating {
        let mut state = Floating { legacy: [0; 512], vectors: [[0; 4]; 16] };
        // SAFETY: the area is large enough and aligned.
        unsafe { asm!("fxsave64 [{}]", in(reg) &raw mut state.legacy) };
        state
    }

    /// Distinct values in all registers. `exception`: an x87 exception is pending, and not masked.
    pub fn of(value: impl Fn(u64) -> u64, exception: bool) -> Floating {
        const MXCSR: u32 = 0x1f80;
        let mut state = Floating {
            legacy: [0; 512],
            vectors: core::array::from_fn(|register| {
                core::array::from_fn(|word| value((register * 4 + word) as u64))
            }),
        };
        let mut put = |offset: usize, bytes: &[u8]| {
            state.legacy[offset..offset + bytes.len()].copy_from_slice(bytes);
        };
        // Control, status (zero divide, error summary, busy), abridged tags: all registers are in use.
        let (control, status): (u16, u16) = if exception { (0x37b, 0x8084) } else { (0x37f, 0) };
        put(0, &control.to_le_bytes());
        put(2, &status.to_le_bytes());
        put(4, &[0xff]);
        // Last instruction and operand.
        put(8, &(value(100) >> 17).to_le_bytes());
        put(16, &(value(101) >> 17).to_le_bytes());
        // Rounding and flags of our own; all exceptions stay masked.
        put(24, &(MXCSR | value(102) as u32 & 0x603f).to_le_bytes());
        for register in 0..8 {
            put(32 + 16 * register, &(value(200 + register as u64) | 1 << 63).to_le_bytes());
            put(40 + 16 * register, &0x4000u16.to_le_bytes());
        }
        state
    }

    /// Whether x87 is as after reset.
    pub fn x87_is_reset(&self) -> bool {
        self.legacy[..2] == [0x7f, 3]
            && self.legacy[2..24].iter().chain(&self.legacy[32..160]).all(|byte| *byte == 0)
    }

    /// Loads this state, lets environment `next` have the core, and returns the state before and after that.
    pub fn keep_while_yielding(&self, next: u64, avx: bool) -> (Floating, Floating) {
        /// Loads, stores, yields, stores, and cleans up. The areas begin with 512 bytes of `FXSAVE`.
        #[unsafe(naked)]
        extern "C" fn run(
            state: *const Floating,
            before: *mut Floating,
            after: *mut Floating,
            next: u64,
            vmmcall: u64,
            avx: u64,
        ) {
            core::arch::naked_asm!(
                "push rbx",
                "push rbp",
                "push r12",
                "push r13",
                "push r14",
                "sub rsp, 16",
                "stmxcsr [rsp]",
                "mov rbx, rsi",
                "mov rbp, rdx",
                "mov r12, rcx",
                "mov r13, r8",
                "mov r14, r9",
                "fxrstor64 [rdi]",
                "test r14, r14",
                "jz 2f",
                ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
                "vmovups ymm\\n, [rdi + 512 + 32 * \\n]",
                ".endr",
                "2:",
                "fxsave64 [rbx]",
                "test r14, r14",
                "jz 3f",
                ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
                "vmovups [rbx + 512 + 32 * \\n], ymm\\n",
                ".endr",
                "3:",
                "mov eax, {call}",
                "mov rdi, r12",
                "xor esi, esi",
                "xor edx, edx",
                "xor r8d, r8d",
                "xor r9d, r9d",
                "xor r10d, r10d",
                "test r13, r13",
                "jz 4f",
                "vmmcall",
                "jmp 5f",
                "4:",
                "vmcall",
                "5:",
                "fxsave64 [rbp]",
                "test r14, r14",
                "jz 6f",
                ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
                "vmovups [rbp + 512 + 32 * \\n], ymm\\n",
                ".endr",
                "6:",
                "fninit",
                "ldmxcsr [rsp]",
                "add rsp, 16",
                "pop r14",
                "pop r13",
                "pop r12",
                "pop rbp",
                "pop rbx",
                "ret",
                call = const Call::Yield as u32,
            )
        }
        let empty = || Floating { legacy: [0; 512], vectors: [[0; 4]; 16] };
        let (mut before, mut after) = (empty(), empty());
        let vmmcall = start_info().hypercall == HYPERCALL_VMMCALL;
        run(self, &raw mut before, &raw mut after, next, vmmcall.into(), avx.into());
        (before, after)
    }
}
