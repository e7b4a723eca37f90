//! What the ways into the guest and back have in common on both backends: the moves of general registers,
//! which no processor makes by itself, and the *quick calls*.
//!
//! # Quick calls
//!
//! A hypercall that concerns nothing but the calling virtual CPU is carried out where the exit lands, in a
//! few instructions between the exit and the next entry: [`Call::Null`], and [`Call::ViewSwitch`] to a view
//! that is in the list. Nobody's lock is taken, no table of the kernel is read, and only those registers move
//! that are used: the guest's other registers, and all of its SSE state, stay where they are. That is
//! why it is written in assembly: what the compiler makes of Rust may use SSE registers.
//!
//! What a quick call leaves out, and why nothing is lost by that:
//!
//! * It does not ask whether a device or another core wants this core. They say so by an interrupt, and one
//!   that is pending at an entry takes the guest out before its first instruction; that exit is no hypercall.
//!   So [`Signals::shoot_down`](crate::machine::interrupt::Signals::shoot_down) needs no more patience than
//!   with any guest, and the core counts as running the guest throughout.
//! * It does not take the time: its ticks count among the guest's. The exit itself is counted, atomically.
//! * It does not flush more than the switch of a view asks for, where TLB entries do not carry the table's
//!   name (SVM). The list that it reads changes only while no guest of the environment runs
//!   ([`crate::resource::frame::views`]).
//! * Whatever is unusual (the shadow of `STI` or `MOV SS`; on VMX, interrupts disabled) goes the ordinary
//!   way, where the same calls are answered by [`crate::call`].

use hyperexo_abi::hypercall::Call;

/// Number of the quick call that does nothing.
pub const NULL: u64 = Call::Null as u64;
/// Number of the quick call that changes the view.
pub const VIEW_SWITCH: u64 = Call::ViewSwitch as u64;

/// A naked function's body with the offsets of all [`Registers`](crate::virt::vcpu::Registers) but `rax` as
/// operands; the lines in braces, then further operands.
macro_rules! switch_asm {
    ({ $($lines:tt)* } $($operands:tt)*) => {
        core::arch::naked_asm!(
            $($lines)*
            rbx = const core::mem::offset_of!($crate::virt::vcpu::Registers, rbx),
            rcx = const core::mem::offset_of!($crate::virt::vcpu::Registers, rcx),
            rdx = const core::mem::offset_of!($crate::virt::vcpu::Registers, rdx),
            rsi = const core::mem::offset_of!($crate::virt::vcpu::Registers, rsi),
            rdi = const core::mem::offset_of!($crate::virt::vcpu::Registers, rdi),
            rbp = const core::mem::offset_of!($crate::virt::vcpu::Registers, rbp),
            r8 = const core::mem::offset_of!($crate::virt::vcpu::Registers, r8),
            r9 = const core::mem::offset_of!($crate::virt::vcpu::Registers, r9),
            r10 = const core::mem::offset_of!($crate::virt::vcpu::Registers, r10),
            r11 = const core::mem::offset_of!($crate::virt::vcpu::Registers, r11),
            r12 = const core::mem::offset_of!($crate::virt::vcpu::Registers, r12),
            r13 = const core::mem::offset_of!($crate::virt::vcpu::Registers, r13),
            r14 = const core::mem::offset_of!($crate::virt::vcpu::Registers, r14),
            r15 = const core::mem::offset_of!($crate::virt::vcpu::Registers, r15),
            $($operands)*
        )
    };
}

/// Loads the guest's general registers, but for `rax`, from those at `rdi`.
macro_rules! load_registers {
    () => {
        concat!(
            "mov rbx, [rdi + {rbx}]\n",
            "mov rcx, [rdi + {rcx}]\n",
            "mov rdx, [rdi + {rdx}]\n",
            "mov rsi, [rdi + {rsi}]\n",
            "mov rbp, [rdi + {rbp}]\n",
            "mov r8, [rdi + {r8}]\n",
            "mov r9, [rdi + {r9}]\n",
            "mov r10, [rdi + {r10}]\n",
            "mov r11, [rdi + {r11}]\n",
            "mov r12, [rdi + {r12}]\n",
            "mov r13, [rdi + {r13}]\n",
            "mov r14, [rdi + {r14}]\n",
            "mov r15, [rdi + {r15}]\n",
            "mov rdi, [rdi + {rdi}]",
        )
    };
}

/// Stores the guest's general registers, but for `rax`, `rcx` and `rdi`, in those at `rdi`.
macro_rules! store_registers {
    () => {
        concat!(
            "mov [rdi + {rbx}], rbx\n",
            "mov [rdi + {rdx}], rdx\n",
            "mov [rdi + {rsi}], rsi\n",
            "mov [rdi + {rbp}], rbp\n",
            "mov [rdi + {r8}], r8\n",
            "mov [rdi + {r9}], r9\n",
            "mov [rdi + {r10}], r10\n",
            "mov [rdi + {r11}], r11\n",
            "mov [rdi + {r12}], r12\n",
            "mov [rdi + {r13}], r13\n",
            "mov [rdi + {r14}], r14\n",
            "mov [rdi + {r15}], r15",
        )
    };
}

/// Saves the registers that belong to the caller of `enter`, and `rdi`, the address of the backend's
/// `Switch`, on top.
macro_rules! save_host {
    () => {
        "push rbp\npush rbx\npush r12\npush r13\npush r14\npush r15\npush rdi"
    };
}

/// Takes back what [`save_host`] saved, and returns.
macro_rules! return_to_host {
    () => {
        "pop rdi\npop r15\npop r14\npop r13\npop r12\npop rbx\npop rbp\nret"
    };
}

pub(super) use {load_registers, return_to_host, save_host, store_registers, switch_asm};
