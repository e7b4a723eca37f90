//! Into the guest and back: one function, because neither `VMRUN` nor the exit saves the general registers.

use crate::virt::Registers;
use core::arch::naked_asm;
use core::mem::offset_of;

/// What [`enter`] needs, in the order it reads it.
#[repr(C)]
pub struct Switch {
    /// General registers of the guest, `rax` excepted: that is in the VMCB.
    pub registers: Registers,
    /// Physical address of the guest's VMCB.
    pub guest: u64,
    /// Physical address of the page that holds the host's `VMLOAD` state.
    pub host: u64,
    /// Address of the guest's [`FxState`](crate::virt::state::FxState).
    pub fx: u64,
    /// `MXCSR` of the kernel.
    pub mxcsr: u32,
}

/// Runs the guest until its next exit.
///
/// Interrupts are off for the host (GIF) until the guest is entered, and are taken by the host's handlers when GIF is set again;
/// at return they are disabled by IF.
///
/// # Safety
///
/// SVM is on (`EFER.SVME`, `VM_HSAVE_PA`), `switch` points to a valid [`Switch`]: a complete VMCB whose nested page
/// table confines the guest, a host page written by `VMSAVE` on this core, a valid [`FxState`](crate::virt::state::FxState). Interrupts are
/// disabled, the descriptor tables are loaded.
#[unsafe(naked)]
pub unsafe extern "C" fn enter(switch: *mut Switch) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rdi",
        "mov rax, [rdi + {fx}]",
        "fxrstor64 [rax]",
        "clgi",
        "sti",
        "mov rax, [rdi + {guest}]",
        "vmload rax",
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
        "vmrun rax",
        // The exit restored rax and rsp; all else is the guest's.
        "vmsave rax",
        "mov rax, [rsp]",
        "mov [rax + {rbx}], rbx",
        "mov [rax + {rcx}], rcx",
        "mov [rax + {rdx}], rdx",
        "mov [rax + {rsi}], rsi",
        "mov [rax + {rdi}], rdi",
        "mov [rax + {rbp}], rbp",
        "mov [rax + {r8}], r8",
        "mov [rax + {r9}], r9",
        "mov [rax + {r10}], r10",
        "mov [rax + {r11}], r11",
        "mov [rax + {r12}], r12",
        "mov [rax + {r13}], r13",
        "mov [rax + {r14}], r14",
        "mov [rax + {r15}], r15",
        "mov rdi, rax",
        "mov rax, [rdi + {host}]",
        "vmload rax",
        "mov rax, [rdi + {fx}]",
        "fxsave64 [rax]",
        "ldmxcsr [rdi + {mxcsr}]",
        "cld",
        "stgi",
        "nop",
        "cli",
        "pop rdi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
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
        guest = const offset_of!(Switch, guest),
        host = const offset_of!(Switch, host),
        fx = const offset_of!(Switch, fx),
        mxcsr = const offset_of!(Switch, mxcsr),
    );
}

const _: () = assert!(offset_of!(Switch, registers) == 0);
