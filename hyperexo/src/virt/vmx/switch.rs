//! Into the guest and back: neither an entry nor an exit saves the general registers, and an exit does not return but
//! goes to the address in the VMCS.

use crate::virt::Registers;
use core::arch::naked_asm;
use core::mem::offset_of;
use x86::vmx::vmcs::host;

/// What [`enter`] needs.
#[repr(C)]
pub struct Switch {
    /// General registers of the guest.
    pub registers: Registers,
    /// Address of the guest's [`FxState`](crate::virt::state::FxState).
    pub fx: u64,
    /// What the VMCS has as the host's stack pointer; 0: not written yet.
    pub host_stack: u64,
    /// Whether the VMCS has been launched since it was cleared (0 or 1): the next entry is `VMRESUME`.
    pub launched: u64,
    /// `MXCSR` of the kernel.
    pub mxcsr: u32,
}

/// How [`enter`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// With an exit, or with a failed entry that looks like one.
    Exit,
    /// The processor refused; it says why in the VMCS (`VMfailValid`).
    Refused,
    /// There is no current VMCS (`VMfailInvalid`).
    NoVmcs,
}

impl Entered {
    /// From what [`enter`] returned.
    pub fn from_code(code: u64) -> Entered {
        match code {
            0 => Entered::Exit,
            1 => Entered::Refused,
            _ => Entered::NoVmcs,
        }
    }
}

/// Runs the guest until its next exit. Returns a code for [`Entered::from_code`].
///
/// Interrupts stay disabled until the guest is entered, and exit from there. After the exit, the host's handlers take
/// what is pending.
///
/// # Safety
///
/// VMX is on, the current VMCS is complete, its nested page table confines the guest, its host state is that of this core
/// and leads to [`landing`]. `switch` points to a valid [`Switch`] that is always used with this VMCS. Interrupts are
/// disabled, the descriptor tables are loaded.
#[unsafe(naked)]
pub unsafe extern "C" fn enter(switch: *mut Switch) -> u64 {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rdi",
        "cmp [rdi + {host_stack}], rsp",
        "je 2f",
        "mov [rdi + {host_stack}], rsp",
        "mov eax, {stack_field}",
        "vmwrite rax, rsp",
        "2:",
        "mov rax, [rdi + {fx}]",
        "fxrstor64 [rax]",
        "cmp qword ptr [rdi + {launched}], 0",
        "mov rax, [rdi + {rax}]",
        "mov rbx, [rdi + {rbx}]",
        "mov rcx, [rdi + {rcx}]",
        "mov rdx, [rdi + {rdx}]",
        "mov rsi, [rdi + {rsi}]",
        "mov rbp, [rdi + {rbp}]",
        "mov r8, [rdi + {r8}]",
        "mov r9, [rdi + {r9}]",
        "mov r10, [rdi + {r10}]",
        "mov r11, [rdi + {r11}]",
        "mov r12, [rdi + {r12}]",
        "mov r13, [rdi + {r13}]",
        "mov r14, [rdi + {r14}]",
        "mov r15, [rdi + {r15}]",
        "mov rdi, [rdi + {rdi}]",
        "jne 3f",
        "vmlaunch",
        "jmp 4f",
        "3:",
        "vmresume",
        // Refused: zero flag, or carry flag if there is no current VMCS.
        "4:",
        "setc al",
        "movzx eax, al",
        "inc eax",
        "pop rdi",
        "ldmxcsr [rdi + {mxcsr}]",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        stack_field = const host::RSP,
        host_stack = const offset_of!(Switch, host_stack),
        launched = const offset_of!(Switch, launched),
        fx = const offset_of!(Switch, fx),
        mxcsr = const offset_of!(Switch, mxcsr),
        rax = const offset_of!(Registers, rax),
        rbx = const offset_of!(Registers, rbx),
        rcx = const offset_of!(Registers, rcx),
        rdx = const offset_of!(Registers, rdx),
        rsi = const offset_of!(Registers, rsi),
        rdi = const offset_of!(Registers, rdi),
        rbp = const offset_of!(Registers, rbp),
        r8 = const offset_of!(Registers, r8),
        r9 = const offset_of!(Registers, r9),
        r10 = const offset_of!(Registers, r10),
        r11 = const offset_of!(Registers, r11),
        r12 = const offset_of!(Registers, r12),
        r13 = const offset_of!(Registers, r13),
        r14 = const offset_of!(Registers, r14),
        r15 = const offset_of!(Registers, r15),
    );
}

/// Where an exit goes: the host's instruction pointer in every VMCS. Returns from the [`enter`] that entered the guest.
///
/// # Safety
///
/// Not to be called: the processor jumps here with the stack pointer that `enter` wrote to the VMCS.
#[unsafe(naked)]
pub unsafe extern "C" fn landing() {
    naked_asm!(
        "push rdi",
        "mov rdi, [rsp + 8]",
        "mov [rdi + {rax}], rax",
        "mov [rdi + {rbx}], rbx",
        "mov [rdi + {rcx}], rcx",
        "mov [rdi + {rdx}], rdx",
        "mov [rdi + {rsi}], rsi",
        "mov [rdi + {rbp}], rbp",
        "mov [rdi + {r8}], r8",
        "mov [rdi + {r9}], r9",
        "mov [rdi + {r10}], r10",
        "mov [rdi + {r11}], r11",
        "mov [rdi + {r12}], r12",
        "mov [rdi + {r13}], r13",
        "mov [rdi + {r14}], r14",
        "mov [rdi + {r15}], r15",
        "pop qword ptr [rdi + {rdi}]",
        "mov rax, [rdi + {fx}]",
        "fxsave64 [rax]",
        "ldmxcsr [rdi + {mxcsr}]",
        "mov qword ptr [rdi + {launched}], 1",
        "sti",
        "nop",
        "cli",
        "xor eax, eax",
        "pop rdi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        launched = const offset_of!(Switch, launched),
        fx = const offset_of!(Switch, fx),
        mxcsr = const offset_of!(Switch, mxcsr),
        rax = const offset_of!(Registers, rax),
        rbx = const offset_of!(Registers, rbx),
        rcx = const offset_of!(Registers, rcx),
        rdx = const offset_of!(Registers, rdx),
        rsi = const offset_of!(Registers, rsi),
        rdi = const offset_of!(Registers, rdi),
        rbp = const offset_of!(Registers, rbp),
        r8 = const offset_of!(Registers, r8),
        r9 = const offset_of!(Registers, r9),
        r10 = const offset_of!(Registers, r10),
        r11 = const offset_of!(Registers, r11),
        r12 = const offset_of!(Registers, r12),
        r13 = const offset_of!(Registers, r13),
        r14 = const offset_of!(Registers, r14),
        r15 = const offset_of!(Registers, r15),
    );
}
