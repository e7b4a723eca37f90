//! Into the guest and back: neither an entry nor an exit saves the general registers, and an exit does not
//! return but goes to the address in the VMCS, where quick calls ([`crate::virt::switch`]) go straight back.

use super::exit::{BLOCKED, reason};
use crate::virt::state::RFLAGS_INTERRUPT;
use crate::virt::switch::{
    NULL, VIEW_SWITCH, load_registers, return_to_host, save_host, store_registers, switch_asm,
};
use crate::virt::vcpu::Registers;
use core::mem::offset_of;
use hyperexo_abi::hypercall::VIEWS;
use hyperexo_hw::{load_sse, store_sse};
use x86::vmx::vmcs::{control, guest, host, ro};

/// What [`enter`] needs.
#[repr(C)]
pub struct Switch {
    /// General registers of the guest.
    pub registers: Registers,
    /// Address of the guest's [`SseState`](hyperexo_hw::sse::SseState).
    pub sse: u64,
    /// What the VMCS has as the host's stack pointer; 0: not written yet.
    pub host_stack: u64,
    /// Whether the VMCS has been launched since it was cleared (0 or 1): the next entry is `VMRESUME`.
    pub launched: u64,
    /// Address of the atomic counter of the guest's hypercalls.
    pub hypercalls: u64,
    /// Address of the environment's list of views, EPTPs; 0: none.
    pub view_list: u64,
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

/// Runs the guest until its next exit that is no quick call. Returns a code for [`Entered::from_code`].
///
/// Interrupts stay disabled until the guest is entered, and exit from there. After the exit, the host's
/// handlers take what is pending.
///
/// # Safety
///
/// VMX is on, the current VMCS is complete, its nested page table confines the guest, its host state is that
/// of this core and leads to [`landing`]. `switch` points to a valid [`Switch`] that is always used with this
/// VMCS. Interrupts are disabled, the descriptor tables are loaded.
#[unsafe(naked)]
pub unsafe extern "C" fn enter(switch: *mut Switch) -> u64 {
    switch_asm!({
        save_host!(),
        "cmp [rdi + {host_stack}], rsp",
        "je 2f",
        "mov [rdi + {host_stack}], rsp",
        "mov eax, {stack_field}",
        "vmwrite rax, rsp",
        "2:",
        "mov rax, [rdi + {sse}]",
        load_sse!("rax"),
        "cmp qword ptr [rdi + {launched}], 0",
        "mov rax, [rdi + {rax}]",
        load_registers!(),
        "jne 3f",
        "vmlaunch",
        "jmp {refused}",
        "3:",
        "vmresume",
        "jmp {refused}",
    }
        refused = sym refused,
        stack_field = const host::RSP,
        host_stack = const offset_of!(Switch, host_stack),
        launched = const offset_of!(Switch, launched),
        sse = const offset_of!(Switch, sse),
        rax = const offset_of!(Registers, rax),
    )
}

/// Where [`enter`] and [`landing`] go when the processor refuses to enter: the zero flag is set, or the carry
/// flag if there is no current VMCS. Returns from `enter`.
///
/// # Safety
///
/// To be jumped to, with the stack as `enter` left it.
#[unsafe(naked)]
unsafe extern "C" fn refused() {
    core::arch::naked_asm!(
        "setc al",
        "movzx eax, al",
        "inc eax",
        "mov rdi, [rsp]",
        "ldmxcsr [rdi + {mxcsr}]",
        return_to_host!(),
        mxcsr = const offset_of!(Switch, mxcsr),
    )
}

/// Where an exit goes: the host's instruction pointer in every VMCS. Carries out a quick call and enters the
/// guest again; after any other exit, returns from the [`enter`] that entered the guest.
///
/// A guest with interrupts disabled makes no quick calls. By the manual, a pending interrupt would take it
/// out at the next entry as well; Bochs 2.7 overlooks such an interrupt, and the guest would keep the core
/// (see [`super::fill::Leash`], whose length an ordinary entry chooses by the same flag).
///
/// # Safety
///
/// Not to be called: the processor jumps here with the stack pointer that `enter` wrote to the VMCS.
#[unsafe(naked)]
pub unsafe extern "C" fn landing() {
    switch_asm!({
        "push rdi",
        "mov rdi, [rsp + 8]",
        "mov [rdi + {rax}], rax",
        "mov [rdi + {rcx}], rcx",
        // Is it a quick call, in ordinary circumstances?
        "mov ecx, {reason_field}",
        "vmread rax, rcx",
        "cmp eax, {vmcall}",
        "jne 2f",
        "mov ecx, {flags_field}",
        "vmread rax, rcx",
        "test eax, {interrupts}",
        "jz 2f",
        "mov ecx, {shadow_field}",
        "vmread rax, rcx",
        "test eax, {blocked}",
        "jnz 2f",
        "cmp qword ptr [rdi + {rax}], {null}",
        "jne 4f",
        // It is: past the instruction, counted, results 0 to 3 are 0 as is the status.
        "3:",
        "mov ecx, {rip_field}",
        "vmread rax, rcx",
        "add rax, {vmcall_bytes}",
        "vmwrite rcx, rax",
        "mov rax, [rdi + {hypercalls}]",
        "lock inc qword ptr [rax]",
        "mov rcx, [rdi + {rcx}]",
        "add rsp, 8",
        "xor eax, eax",
        "xor edi, edi",
        "xor esi, esi",
        "xor edx, edx",
        "xor r8d, r8d",
        "vmresume",
        "jmp {refused}",
        // Perhaps the other one? Its argument, the guest's rdi, is on the stack. A processor without the
        // second field refuses to write it, and nothing else.
        "4:",
        "cmp qword ptr [rdi + {rax}], {view_switch}",
        "jne 2f",
        "mov rax, [rsp]",
        "cmp rax, {views}",
        "jae 2f",
        "mov rcx, [rdi + {view_list}]",
        "test rcx, rcx",
        "jz 2f",
        "mov rcx, [rcx + rax * 8]",
        "test rcx, rcx",
        "jz 2f",
        "mov rax, rcx",
        "mov ecx, {eptp_field}",
        "vmwrite rcx, rax",
        "mov rax, [rsp]",
        "mov ecx, {index_field}",
        "vmwrite rcx, rax",
        "jmp 3b",
        // It is not.
        "2:",
        store_registers!(),
        "pop qword ptr [rdi + {rdi}]",
        "mov rax, [rdi + {sse}]",
        store_sse!("rax"),
        "ldmxcsr [rdi + {mxcsr}]",
        "mov qword ptr [rdi + {launched}], 1",
        "sti",
        "nop",
        "cli",
        "xor eax, eax",
        return_to_host!(),
    }
        reason_field = const ro::EXIT_REASON,
        flags_field = const guest::RFLAGS,
        shadow_field = const guest::INTERRUPTIBILITY_STATE,
        rip_field = const guest::RIP,
        vmcall = const reason::VMCALL,
        vmcall_bytes = const VMCALL_BYTES,
        null = const NULL,
        view_switch = const VIEW_SWITCH,
        views = const VIEWS,
        view_list = const offset_of!(Switch, view_list),
        eptp_field = const control::EPTP_FULL,
        index_field = const control::EPTP_INDEX,
        interrupts = const RFLAGS_INTERRUPT,
        blocked = const BLOCKED,
        refused = sym refused,
        hypercalls = const offset_of!(Switch, hypercalls),
        launched = const offset_of!(Switch, launched),
        sse = const offset_of!(Switch, sse),
        mxcsr = const offset_of!(Switch, mxcsr),
        rax = const offset_of!(Registers, rax),
    )
}

/// Length of `VMCALL` (0F 01 C1).
const VMCALL_BYTES: u64 = 3;
