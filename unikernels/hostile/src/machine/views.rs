//! Nested faults, and what is done inside views.

use super::{RESUME, Trap, caught, load_cr3, prepare, read_word, top_table};
use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use hyperexo_abi::Page;
use hyperexo_abi::capability::{Capability, Rights};
use hyperexo_abi::hypercall::{Call, Status};
use hyperexo_abi::start::HYPERCALL_VMMCALL;
use libos_core::exo::view::{Function, View};
use libos_core::exo::{faults, hypercall, start_info};
use libos_core::memory;
use libos_core::trap::Handled;

/// How to touch memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// By reading.
    Read,
    /// By writing.
    Write,
}

/// Physical address of the last nested fault, and whether it was a write.
static FAULT_ADDRESS: AtomicU64 = AtomicU64::new(0);
static FAULT_WRITE: AtomicBool = AtomicBool::new(false);

/// Has [`touch`] go on after a nested fault.
pub fn catch_faults() -> Result<(), Status> {
    faults::set_handler(|fault, frame| {
        let resume = RESUME.swap(0, Ordering::Relaxed);
        FAULT_ADDRESS.store(fault.physical, Ordering::Relaxed);
        FAULT_WRITE.store(fault.access == faults::Access::Write, Ordering::Relaxed);
        frame.rip = resume;
        if resume == 0 { Handled::No } else { Handled::Yes }
    })
}

/// Touches the first word of a frame; a nested fault is an error: its physical address and kind.
/// [`catch_faults`] comes first.
pub fn touch(frame: u64, how: Touch) -> Result<(), (u64, Touch)> {
    let address = memory::linear_address(frame);
    let touched: u64;
    // SAFETY: none for a foreign frame: that is what is being tried. A fault goes on behind the access, with
    // `r9` still 0.
    unsafe {
        match how {
            Touch::Read => asm!("lea r8, [rip + 77f]", "mov [rip + {resume}], r8", "mov rax, [{address}]",
                "inc r9", "77:", resume = sym RESUME, address = in(reg) address, out("rax") _, out("r8") _,
                inout("r9") 0u64 => touched),
            Touch::Write => asm!("lea r8, [rip + 77f]", "mov [rip + {resume}], r8", "mov [{address}], rax",
                "inc r9", "77:", resume = sym RESUME, address = in(reg) address, in("rax") 0u64, out("r8") _,
                inout("r9") 0u64 => touched),
        }
    }
    RESUME.store(0, Ordering::Relaxed);
    let written = FAULT_WRITE.load(Ordering::Relaxed);
    let kind = if written { Touch::Write } else { Touch::Read };
    if touched != 0 { Ok(()) } else { Err((FAULT_ADDRESS.load(Ordering::Relaxed), kind)) }
}

/// Reads the first word of a frame. As a handler of nested faults it goes on only if the read was allowed.
pub fn read_foreign(frame: u64) -> Handled {
    read_word(memory::linear_address(frame));
    Handled::Yes
}

/// Has nested faults reported to a frame, without a handler for them.
pub fn fault_page(frame: Option<u64>) -> Result<(), Status> {
    // SAFETY: callers pass frames allocated for this, or that must be refused.
    unsafe { hypercall::fault_page(frame) }
}

/// Raises an exception through a descriptor table at an address.
pub fn trap_through(table: u64) {
    let mut operand = [0u8; 10];
    operand[..2].copy_from_slice(&0xfffu16.to_le_bytes());
    operand[2..].copy_from_slice(&table.to_le_bytes());
    // SAFETY: none: this ends the environment.
    unsafe { asm!("lidt [{}]", "ud2", in(reg) operand.as_ptr()) };
}

/// Binds frames in a view. Only for frames that hold nothing.
pub fn page_bind_in(view: u64, capability: &Capability, rights: Rights) -> Result<(), Status> {
    // SAFETY: callers pass frames allocated for this, or that must be refused.
    unsafe { hypercall::page_bind_in(view, capability, rights) }
}

/// Executes `VMFUNC`, with indices that must not lead anywhere; returns the status it leaves.
pub fn vmfunc(function: u32, index: u32) -> Result<u64, Trap> {
    prepare();
    let status: u64;
    // SAFETY: a trap goes on behind the instruction; were it to succeed, that would be what the attempt is
    // about.
    unsafe {
        asm!("lea r8, [rip + 77f]", "mov [rip + {resume}], r8", ".byte 0x0f, 0x01, 0xd4", "77:",
            resume = sym RESUME, inout("rax") u64::from(function) => status, in("ecx") index, out("r8") _);
    }
    caught().map_or(Ok(status), Err)
}

/// What to do inside a view.
#[derive(Clone, Copy, Debug)]
pub enum Inside {
    /// Reads a word (its index) of the frame shown.
    Read(u8),
    /// Writes a word (its index); returns 0.
    Write(u8, u64),
    /// Makes the page tables that are used outside those in use.
    LoadTables,
    /// Ends the binding of the frame shown, and touches it.
    Unbind,
    /// Ends the view, and touches the frame shown.
    End,
    /// Stays for ever.
    Stay,
}

/// Does something inside a view. Whatever is needed goes along in registers: nothing else is there.
pub fn inside(view: &View, what: Inside) -> Result<u64, Status> {
    let vmmcall = start_info().hypercall == HYPERCALL_VMMCALL;
    let argument = view.first_shown() << 16 | view.number() << 8 | u64::from(vmmcall);
    let (function, argument): (Function, u64) = match what {
        Inside::Read(word) => (read_inside, u64::from(word)),
        Inside::Write(word, value) => (write_inside, u64::from(word) << 56 | value),
        Inside::LoadTables => (load_tables_inside, top_table()),
        Inside::Unbind => (unbind_inside, argument),
        Inside::End => (end_inside, argument),
        Inside::Stay => (stay_inside, 0),
    };
    // SAFETY: the functions touch the frame shown and nothing else, or try what must not succeed.
    unsafe { view.call(function, argument) }
}

extern "C" fn read_inside(page: *mut Page, word: u64) -> u64 {
    // SAFETY: a word of the frame shown.
    unsafe { page.cast::<u64>().add(word as usize).read_volatile() }
}

extern "C" fn write_inside(page: *mut Page, argument: u64) -> u64 {
    let value = argument & ((1 << 56) - 1);
    // SAFETY: as above.
    unsafe { page.cast::<u64>().add((argument >> 56) as usize).write_volatile(value) };
    0
}

extern "C" fn load_tables_inside(_: *mut Page, root: u64) -> u64 {
    load_cr3(root);
    0
}

extern "C" fn unbind_inside(page: *mut Page, argument: u64) -> u64 {
    call_inside(Call::PageUnbind, [argument >> 16, 1, argument >> 8 & 0xff], argument & 1 != 0);
    read_inside(page, 0)
}

extern "C" fn end_inside(page: *mut Page, argument: u64) -> u64 {
    call_inside(Call::ViewEnd, [argument >> 8 & 0xff, 0, 0], argument & 1 != 0);
    read_inside(page, 0)
}

extern "C" fn stay_inside(_: *mut Page, _: u64) -> u64 {
    loop {
        core::hint::spin_loop();
    }
}

/// A hypercall that needs nothing but registers.
fn call_inside(call: Call, [a, b, c]: [u64; 3], vmmcall: bool) {
    // SAFETY: what these calls take away is used by nobody but the caller, which tries just that.
    unsafe {
        if vmmcall {
            asm!("vmmcall", inout("rax") call as u64 => _, inout("rdi") a => _, inout("rsi") b => _,
                inout("rdx") c => _, inout("r8") 0u64 => _);
        } else {
            asm!("vmcall", inout("rax") call as u64 => _, inout("rdi") a => _, inout("rsi") b => _,
                inout("rdx") c => _, inout("r8") 0u64 => _);
        }
    }
}
