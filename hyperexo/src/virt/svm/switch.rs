//! Into the guest and back: one function, because neither `VMRUN` nor the exit saves the general registers.
//! Quick calls ([`crate::virt::switch`]) go back into the guest from here.

use super::vmcb::{CLEAN_NESTED, Control, Save, Vmcb, exit, tlb_control};
use crate::virt::switch::{
    NULL, VIEW_SWITCH, load_registers, return_to_host, save_host, store_registers, switch_asm,
};
use crate::virt::vcpu::Registers;
use core::mem::offset_of;
use hyperexo_abi::hypercall::VIEWS;
use hyperexo_hw::{load_sse, store_sse};

/// What [`enter`] needs, in the order it reads it.
#[repr(C)]
pub struct Switch {
    /// General registers of the guest, `rax` excepted: that is in the VMCB.
    pub registers: Registers,
    /// Physical address of the guest's VMCB.
    pub guest: u64,
    /// Physical address of the page that holds the host's `VMLOAD` state.
    pub host: u64,
    /// Address of the guest's [`SseState`](hyperexo_hw::sse::SseState).
    pub sse: u64,
    /// Address of the atomic counter of the guest's hypercalls.
    pub hypercalls: u64,
    /// Address of the environment's list of views, nested CR3 values; 0: none.
    pub view_list: u64,
    /// TLB control that flushes this guest's translations ([`tlb_control`]).
    pub flush: u32,
    /// `MXCSR` of the kernel.
    pub mxcsr: u32,
}

/// Runs the guest until its next exit that is no quick call.
///
/// Interrupts are off for the host (GIF) until the guest is entered, and are taken by the host's handlers
/// when GIF is set again; at return they are disabled by IF. Between a quick call and the next entry GIF
/// stays clear: what came meanwhile is the reason of the next exit (APM vol. 2 §15.13.1).
///
/// # Safety
///
/// SVM is on (`EFER.SVME`, `VM_HSAVE_PA`), `switch` points to a valid [`Switch`]: a complete VMCB whose
/// nested page table confines the guest, a host page written by `VMSAVE` on this core, a valid
/// [`SseState`](hyperexo_hw::sse::SseState). Interrupts are disabled, the descriptor tables are loaded.
#[unsafe(naked)]
pub unsafe extern "C" fn enter(switch: *mut Switch) {
    switch_asm!({
        save_host!(),
        "mov rax, [rdi + {sse}]",
        load_sse!("rax"),
        "clgi",
        "sti",
        "mov rax, [rdi + {guest}]",
        "vmload rax",
        load_registers!(),
        "2:",
        "vmrun rax",
        // The exit restored rax and rsp; all else is the guest's. Is it a quick call, in ordinary
        // circumstances?
        "cmp dword ptr [rax + {exit_code}], {vmmcall}",
        "jne 3f",
        "cmp qword ptr [rax + {shadow}], 0",
        "jne 3f",
        "cmp qword ptr [rax + {guest_rax}], {null}",
        "jne 4f",
        "mov byte ptr [rax + {tlb}], {no_flush}",
        // It is: past the instruction, nothing to inject again, counted, results 0 to 3 are 0 as is the
        // status.
        "5:",
        "add qword ptr [rax + {rip}], {vmmcall_bytes}",
        "mov qword ptr [rax + {injection}], 0",
        "mov rdi, [rsp]",
        "mov rdi, [rdi + {hypercalls}]",
        "lock inc qword ptr [rdi]",
        "mov qword ptr [rax + {guest_rax}], 0",
        "xor edi, edi",
        "xor esi, esi",
        "xor edx, edx",
        "xor r8d, r8d",
        "jmp 2b",
        // Perhaps the other one? Cached translations do not carry the table's name: they go.
        "4:",
        "cmp qword ptr [rax + {guest_rax}], {view_switch}",
        "jne 3f",
        "cmp rdi, {views}",
        "jae 3f",
        "push rcx",
        "mov rcx, [rsp + 8]",
        "mov rcx, [rcx + {view_list}]",
        "test rcx, rcx",
        "jz 6f",
        "mov rcx, [rcx + rdi * 8]",
        "test rcx, rcx",
        "jz 6f",
        "mov [rax + {nested_cr3}], rcx",
        "and dword ptr [rax + {clean}], {nested_changed}",
        "mov rcx, [rsp + 8]",
        "mov ecx, [rcx + {flush}]",
        "mov [rax + {tlb}], cl",
        "pop rcx",
        "jmp 5b",
        "6:",
        "pop rcx",
        // It is not.
        "3:",
        "vmsave rax",
        "mov rax, [rsp]",
        "mov [rax + {rcx}], rcx",
        "mov [rax + {rdi}], rdi",
        "mov rdi, rax",
        store_registers!(),
        "mov rax, [rdi + {host}]",
        "vmload rax",
        "mov rax, [rdi + {sse}]",
        store_sse!("rax"),
        "ldmxcsr [rdi + {mxcsr}]",
        "cld",
        "stgi",
        "nop",
        "cli",
        return_to_host!(),
    }
        guest = const offset_of!(Switch, guest),
        host = const offset_of!(Switch, host),
        sse = const offset_of!(Switch, sse),
        hypercalls = const offset_of!(Switch, hypercalls),
        mxcsr = const offset_of!(Switch, mxcsr),
        exit_code = const CONTROL + offset_of!(Control, exit_code),
        injection = const CONTROL + offset_of!(Control, event_injection),
        tlb = const CONTROL + offset_of!(Control, tlb_control),
        shadow = const CONTROL + offset_of!(Control, interrupt_shadow),
        guest_rax = const SAVE + offset_of!(Save, rax),
        rip = const SAVE + offset_of!(Save, rip),
        vmmcall = const exit::VMMCALL,
        vmmcall_bytes = const VMMCALL_BYTES,
        null = const NULL,
        view_switch = const VIEW_SWITCH,
        views = const VIEWS,
        view_list = const offset_of!(Switch, view_list),
        flush = const offset_of!(Switch, flush),
        nested_cr3 = const CONTROL + offset_of!(Control, nested_cr3),
        clean = const CONTROL + offset_of!(Control, clean),
        nested_changed = const !(CLEAN_NESTED as i32),
        no_flush = const tlb_control::NOTHING,
    )
}

/// Length of `VMMCALL` (0F 01 D9).
const VMMCALL_BYTES: u64 = 3;
const CONTROL: usize = offset_of!(Vmcb, control);
const SAVE: usize = offset_of!(Vmcb, save);

const _: () = assert!(offset_of!(Switch, registers) == 0);
