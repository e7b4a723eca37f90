//! Starting the other processors (SDM vol. 3 §10.4 "Multiple-Processor Initialization", the INIT–SIPI–SIPI
//! sequence).
//!
//! A processor that is started begins in real mode at the page whose number is in the start-up interrupt.
//! There lies a copy of the trampoline: it goes straight from real mode to long mode with the page tables of
//! the starting processor and calls a Rust function on a stack of its own.

use crate::apic::LocalApic;
use crate::linear;
use core::arch::global_asm;

/// Physical address of the trampoline: conventional memory that no firmware keeps after boot.
pub const TRAMPOLINE_ADDRESS: u64 = 0x8000;

/// Offsets, in the trampoline's page, of what it is told.
const CR3: u64 = 0xf00;
const STACK: u64 = 0xf08;
const ARGUMENT: u64 = 0xf10;
const ENTRY: u64 = 0xf18;

const INIT_PAUSE_US: u64 = 10_000;
const STARTUP_PAUSE_US: u64 = 200;

global_asm!(
    ".pushsection .rodata.trampoline, \"a\"",
    ".code16",
    "hx_trampoline_start:",
    "cli",
    "cld",
    "xor ax, ax",
    "mov ds, ax",
    // lgdt [pointer]; the assembler does not take the expression.
    ".byte 0x0f, 0x01, 0x16",
    ".short {base} + hx_trampoline_pointer - hx_trampoline_start",
    // mov eax, [cr3]
    ".byte 0x66, 0xa1",
    ".short {base} + {cr3}",
    "mov cr3, eax",
    // CR4: PAE, OSFXSR, OSXMMEXCPT. EFER: LME, NXE. CR0: PG, WP, NE, ET, MP, PE; caches on.
    "mov eax, 0x620",
    "mov cr4, eax",
    "mov ecx, 0xc0000080",
    "rdmsr",
    "or eax, 0x900",
    "wrmsr",
    "mov eax, 0x80010033",
    "mov cr0, eax",
    // jmp 8:hx_trampoline_long
    ".byte 0xea",
    ".short {base} + hx_trampoline_long - hx_trampoline_start, 8",
    ".code64",
    "hx_trampoline_long:",
    "xor eax, eax",
    "mov ds, eax",
    "mov es, eax",
    "mov ss, eax",
    "mov fs, eax",
    "mov gs, eax",
    "xor ebp, ebp",
    "mov ebx, {base}",
    "mov rsp, [rbx + {stack}]",
    "mov rdi, [rbx + {argument}]",
    "call [rbx + {entry}]",
    "ud2",
    ".balign 8",
    "hx_trampoline_table:",
    ".quad 0, 0x00af9b000000ffff",
    "hx_trampoline_pointer:",
    ".short 15",
    ".long {base} + hx_trampoline_table - hx_trampoline_start",
    "hx_trampoline_end:",
    ".popsection",
    base = const TRAMPOLINE_ADDRESS,
    cr3 = const CR3,
    stack = const STACK,
    argument = const ARGUMENT,
    entry = const ENTRY,
);

unsafe extern "C" {
    static hx_trampoline_start: u8;
    static hx_trampoline_end: u8;
}

/// How a processor begins.
#[derive(Clone, Copy, Debug)]
pub struct Birth {
    /// Physical address of the top page table, below 4 GiB. It maps the page of the trampoline by identity,
    /// executable, and what the processor needs until it loads another.
    pub root: u64,
    /// What it calls.
    pub entry: extern "C" fn(u64) -> !,
    /// With what.
    pub argument: u64,
    /// Where its stack ends.
    pub stack: u64,
}

/// The page tables of the calling processor, for [`Birth::root`].
pub fn current_root() -> u64 {
    let root: u64;
    // SAFETY: reading CR3 at privilege level 0 has no effect.
    unsafe { core::arch::asm!("mov {}, cr3", out(reg) root, options(nomem, nostack, preserves_flags)) };
    root
}

/// Has the calling processor forget cached translations.
pub fn forget_translations() {
    // SAFETY: loads what is loaded already.
    unsafe {
        core::arch::asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack, preserves_flags))
    };
}

/// Starts the processor with local APIC number `apic_id`. Returns at once; whether the processor came is for
/// its entry to say. `pause` waits for a number of microseconds.
///
/// # Safety
///
/// Ring 0; `birth` is as its fields say; the page at [`TRAMPOLINE_ADDRESS`] is unused and mapped writable
/// ([`crate::linear`]); the stack is the new processor's alone, a multiple of 16. The next processor is
/// started only after this one has reached its entry, or never will.
pub unsafe fn start(apic: &LocalApic, apic_id: u8, birth: &Birth, pause: impl Fn(u64)) {
    // SAFETY: the trampoline's page is unused and mapped (caller), and the code fits in front of what it is
    // told.
    unsafe {
        let start = &raw const hx_trampoline_start;
        let bytes = (&raw const hx_trampoline_end) as usize - start as usize;
        core::ptr::copy_nonoverlapping(start, linear::pointer(TRAMPOLINE_ADDRESS), bytes);
        for (offset, value) in [
            (CR3, birth.root),
            (STACK, birth.stack),
            (ARGUMENT, birth.argument),
            (ENTRY, birth.entry as usize as u64),
        ] {
            linear::pointer::<u64>(TRAMPOLINE_ADDRESS + offset).write_volatile(value);
        }
    }
    apic.send_init(apic_id);
    pause(INIT_PAUSE_US);
    for _ in 0..2 {
        apic.send_startup(apic_id, (TRAMPOLINE_ADDRESS >> 12) as u8);
        pause(STARTUP_PAUSE_US);
    }
}
