//! The instructions that an honest program does not use: the only `unsafe` code of this unikernel.
//!
//! An instruction that may trap runs between [`RESUME`] being set to the address after it and [`caught`],
//! which tells what happened. The functions are safe to call although what they try is not: that is the
//! point, and it is this environment alone that may suffer.
#![allow(unsafe_code)]

mod calls;
mod state;
mod views;

pub use calls::*;
pub use state::*;
pub use views::*;

use alloc::boxed::Box;
use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::{FRAME_BYTES, FRAME_SHIFT, LINEAR_BASE, Page};
use libos_core::exo::hypercall;
use libos_core::trap::{Handled, TrapFrame};
use libos_core::{memory, trap};

/// An exception that an instruction raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trap {
    /// Its vector.
    pub vector: u8,
    /// Its error code.
    pub error_code: u64,
}

/// Where to go on after a trap; 0: no trap is expected.
static RESUME: AtomicU64 = AtomicU64::new(0);
/// The trap, as vector + 1; 0: none.
static CAUGHT: AtomicU64 = AtomicU64::new(0);
static CAUGHT_CODE: AtomicU64 = AtomicU64::new(0);

/// Vectors that a forbidden instruction may raise.
const CAUGHT_VECTORS: [u8; 8] = [0, 1, 3, 6, 7, 11, 13, 14];

/// Installs the handlers, once.
fn prepare() {
    static DONE: AtomicBool = AtomicBool::new(false);
    if !DONE.swap(true, Ordering::Relaxed) {
        CAUGHT_VECTORS.iter().for_each(|vector| trap::set_handler(*vector, catch));
    }
    CAUGHT.store(0, Ordering::Relaxed);
}

fn catch(frame: &mut TrapFrame) -> Handled {
    let resume = RESUME.swap(0, Ordering::Relaxed);
    if resume == 0 {
        return Handled::No;
    }
    CAUGHT.store(frame.vector + 1, Ordering::Relaxed);
    CAUGHT_CODE.store(frame.error_code, Ordering::Relaxed);
    frame.rip = resume;
    Handled::Yes
}

/// The trap of the last instruction, if it raised one.
fn caught() -> Option<Trap> {
    RESUME.store(0, Ordering::Relaxed);
    let vector = CAUGHT.swap(0, Ordering::Relaxed).checked_sub(1)? as u8;
    Some(Trap { vector, error_code: CAUGHT_CODE.load(Ordering::Relaxed) })
}

/// Runs instructions with `rax` = a page of ours, `rcx` and `rdx` = 0; tells the trap.
macro_rules! try_instructions {
    ($($line:literal),+) => {{
        prepare();
        let page = scratch_frame() << FRAME_SHIFT;
        // SAFETY: a trap goes on behind the last instruction; the registers named are all that these change.
        unsafe {
            asm!(
                "lea r8, [rip + 77f]",
                "mov [rip + {resume}], r8",
                $($line,)+
                "77:",
                resume = sym RESUME,
                inout("rax") page => _,
                inout("rcx") 0u64 => _,
                inout("rdx") 0u64 => _,
                out("r8") _,
                out("r9") _,
            );
        }
        caught()
    }};
}

/// A frame that instructions may ruin.
fn scratch_frame() -> u64 {
    static FRAME: AtomicU64 = AtomicU64::new(0);
    if FRAME.load(Ordering::Relaxed) == 0 {
        let page = Box::leak(zero_page());
        FRAME.store(memory::frame_of(page).unwrap_or_default(), Ordering::Relaxed);
    }
    FRAME.load(Ordering::Relaxed)
}

/// A page of zeros on the heap.
pub fn zero_page() -> Box<Page> {
    page_of(0)
}

/// A page full of one byte on the heap.
pub fn page_of(byte: u8) -> Box<Page> {
    Box::new(Page([byte; FRAME_BYTES]))
}

/// Names and traps of the instructions of AMD and Intel that manage virtual machines, and of some that are as
/// bad.
pub fn virtualization_instructions() -> [(&'static str, Option<Trap>); 21] {
    [
        ("vmrun", try_instructions!("vmrun rax")),
        ("vmload", try_instructions!("vmload rax")),
        ("vmsave", try_instructions!("vmsave rax")),
        ("stgi", try_instructions!("stgi")),
        ("clgi", try_instructions!("clgi")),
        ("skinit", try_instructions!("skinit eax")),
        ("invlpga", try_instructions!("invlpga rax, ecx")),
        ("vmxon", try_instructions!("push rax", "vmxon [rsp]", "77:", "pop rax")),
        ("vmxoff", try_instructions!("vmxoff")),
        ("vmlaunch", try_instructions!("vmlaunch")),
        ("vmresume", try_instructions!("vmresume")),
        ("vmclear", try_instructions!("push rax", "vmclear [rsp]", "77:", "pop rax")),
        ("vmptrld", try_instructions!("push rax", "vmptrld [rsp]", "77:", "pop rax")),
        ("vmread", try_instructions!("vmread rax, rcx")),
        ("vmwrite", try_instructions!("vmwrite rcx, rax")),
        ("vmfunc", try_instructions!(".byte 0x0f, 0x01, 0xd4")),
        ("getsec", try_instructions!(".byte 0x0f, 0x37")),
        ("rsm", try_instructions!("rsm")),
        ("monitor", try_instructions!(".byte 0x0f, 0x01, 0xc8")),
        ("mwait", try_instructions!(".byte 0x0f, 0x01, 0xc9")),
        ("the other vendor's hypercall", other_hypercall()),
    ]
}

fn other_hypercall() -> Option<Trap> {
    if libos_core::exo::start_info().hypercall == hyperexo_abi::start::HYPERCALL_VMMCALL {
        try_instructions!("vmcall")
    } else {
        try_instructions!("vmmcall")
    }
}

/// Names and traps of instructions that want more privilege than a guest has.
pub fn privileged_instructions() -> [(&'static str, Option<Trap>); 5] {
    [
        ("wbinvd", try_instructions!("wbinvd")),
        ("invd", try_instructions!("invd")),
        ("rdpmc", try_instructions!("rdpmc")),
        ("mov dr7", try_instructions!("mov dr7, rcx")),
        ("mov from dr6", try_instructions!("mov rdx, dr6")),
    ]
}

/// Reads a model-specific register.
pub fn read_msr(register: u32) -> Result<u64, Trap> {
    prepare();
    let (low, high): (u32, u32);
    // SAFETY: a trap goes on behind the instruction.
    unsafe {
        asm!("lea r8, [rip + 77f]", "mov [rip + {resume}], r8", "rdmsr", "77:", resume = sym RESUME,
            in("ecx") register, inout("eax") 0u32 => low, inout("edx") 0u32 => high, out("r8") _);
    }
    caught().map_or(Ok(u64::from(high) << 32 | u64::from(low)), Err)
}

/// Writes a model-specific register.
pub fn write_msr(register: u32, value: u64) -> Option<Trap> {
    prepare();
    // SAFETY: a trap goes on behind the instruction; what a write brings about is this environment's problem.
    unsafe {
        asm!("lea r8, [rip + 77f]", "mov [rip + {resume}], r8", "wrmsr", "77:", resume = sym RESUME,
            in("ecx") register, in("eax") value as u32, in("edx") (value >> 32) as u32, out("r8") _);
    }
    caught()
}

/// Reads a byte from a port.
pub fn port_in(port: u16) -> Option<Trap> {
    prepare();
    // SAFETY: a trap goes on behind the instruction.
    unsafe {
        asm!("lea r8, [rip + 77f]", "mov [rip + {resume}], r8", "in al, dx", "77:", resume = sym RESUME,
            in("dx") port, out("al") _, out("r8") _);
    }
    caught()
}

/// Writes 32 bits to a port.
pub fn port_out(port: u16, value: u32) -> Option<Trap> {
    prepare();
    // SAFETY: a trap goes on behind the instruction.
    unsafe {
        asm!("lea r8, [rip + 77f]", "mov [rip + {resume}], r8", "out dx, eax", "77:", resume = sym RESUME,
            in("dx") port, in("eax") value, out("r8") _);
    }
    caught()
}

/// Writes a string of bytes to a port.
pub fn port_out_string(port: u16) -> Option<Trap> {
    prepare();
    let bytes = [0u8; 16];
    // SAFETY: a trap goes on behind the instruction; the bytes are there.
    unsafe {
        asm!("lea r8, [rip + 77f]", "mov [rip + {resume}], r8", "rep outsb", "77:", resume = sym RESUME,
            in("dx") port, inout("rcx") bytes.len() => _, inout("rsi") bytes.as_ptr() => _, out("r8") _);
    }
    caught()
}

/// Sets bits of CR0, and takes them back if that worked.
pub fn set_cr0_bits(bits: u64) -> Option<Trap> {
    prepare();
    // SAFETY: a trap goes on behind the instruction; the old value is put back.
    unsafe {
        asm!("lea r8, [rip + 77f]", "mov r9, cr0", "mov [rip + {resume}], r8", "mov rax, r9", "xor rax, {bits}",
            "mov cr0, rax", "mov cr0, r9", "77:", resume = sym RESUME, bits = in(reg) bits, out("rax") _,
            out("r8") _, out("r9") _);
    }
    caught()
}

/// Sets bits of CR4, and takes them back if that worked.
pub fn set_cr4_bits(bits: u64) -> Option<Trap> {
    prepare();
    // SAFETY: as above.
    unsafe {
        asm!("lea r8, [rip + 77f]", "mov r9, cr4", "mov [rip + {resume}], r8", "mov rax, r9", "xor rax, {bits}",
            "mov cr4, rax", "mov cr4, r9", "77:", resume = sym RESUME, bits = in(reg) bits, out("rax") _,
            out("r8") _, out("r9") _);
    }
    caught()
}

/// Turns on XSAVE, then writes XCR0.
pub fn set_xcr0(value: u64) -> Option<Trap> {
    const OSXSAVE: u64 = 1 << 18;
    prepare();
    // SAFETY: as above; extended state is used by nobody here.
    unsafe {
        asm!("lea r8, [rip + 77f]", "mov [rip + {resume}], r8", "mov r9, cr4", "or r9, {osxsave}", "mov cr4, r9",
            "xsetbv", "77:", resume = sym RESUME, osxsave = in(reg) OSXSAVE, in("ecx") 0, in("eax") value as u32,
            in("edx") (value >> 32) as u32, out("r8") _, out("r9") _);
    }
    caught()
}

/// Raises an interrupt by software.
pub fn software_interrupt() {
    // SAFETY: the vector has a handler, see `count_interrupts`.
    unsafe { asm!("int 0x50") };
}

/// Raises the vector of upcalls by software.
pub fn fake_upcall() {
    // SAFETY: the runtime handles it like any upcall; there is no cause.
    unsafe { asm!("int 0x40") };
}

/// Has software interrupts counted.
pub fn count_interrupts(count: &'static AtomicU64) {
    trap::set_handler(0x50, move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        Handled::Yes
    });
}

/// Reads a word at an address of our address space.
pub fn read_word(address: u64) -> u64 {
    // SAFETY: none: that is what is being tried.
    unsafe { (address as *const u64).read_volatile() }
}

/// Writes a word at an address of our address space.
pub fn write_word(address: u64, value: u64) {
    // SAFETY: none: that is what is being tried.
    unsafe { (address as *mut u64).write_volatile(value) }
}

/// Calls an address of our address space.
pub fn execute(address: u64) {
    // SAFETY: none: that is what is being tried.
    unsafe { asm!("call {}", in(reg) address, clobber_abi("C")) };
}

/// The processor's guards: name, whether it is offered (CPUID), whether it is on (control registers, EFER).
pub fn guards() -> [(&'static str, bool, bool); 5] {
    const EFER: u32 = 0xc000_0080;
    let (control, features, low): (u64, u64, u32);
    // SAFETY: reads registers.
    unsafe {
        asm!("mov {}, cr0", "mov {}, cr4", out(reg) control, out(reg) features);
        asm!("rdmsr", in("ecx") EFER, out("eax") low, out("edx") _);
    }
    let bit = |word: u64, number: u32| word >> number & 1 != 0;
    let (basic, extended) = (__cpuid(0).eax, __cpuid(0x8000_0001));
    let seven = if basic < 7 { None } else { Some(__cpuid_count(7, 0)) };
    let ebx = |number| seven.is_some_and(|leaf| bit(leaf.ebx.into(), number));
    let ecx = |number| seven.is_some_and(|leaf| bit(leaf.ecx.into(), number));
    [
        ("WP", true, bit(control, 16)),
        ("NX", bit(extended.edx.into(), 20), bit(low.into(), 11)),
        ("SMEP", ebx(7), bit(features, 20)),
        ("SMAP", ebx(20), bit(features, 21)),
        ("UMIP", ecx(2), bit(features, 11)),
    ]
}

/// Maps 2 MiB of physical memory from `physical` (a multiple), readable, writable and executable, and returns
/// where.
pub fn map_everything_allowed(physical: u64) -> u64 {
    /// An entry of the top table that nobody uses, and the address it stands for.
    const TOP_INDEX: u64 = 100;
    const TABLE: u64 = 0x3;
    const LARGE_PAGE: u64 = 0x83;
    let directory = Box::leak(zero_page());
    let pointers = Box::leak(zero_page());
    let entry = |page: &Page| memory::frame_of(page).unwrap_or_default() << FRAME_SHIFT | TABLE;
    set_entry(directory, 0, physical | LARGE_PAGE);
    let directory_entry = entry(directory);
    set_entry(pointers, 0, directory_entry);
    let pointers_entry = entry(pointers);
    write_word(LINEAR_BASE + top_table() + 8 * TOP_INDEX, pointers_entry);
    load_cr3(top_table());
    TOP_INDEX << 39
}

fn set_entry(table: &mut Page, index: usize, entry: u64) {
    table.0[8 * index..8 * index + 8].copy_from_slice(&entry.to_le_bytes());
}

/// Physical address of our top page table.
pub fn top_table() -> u64 {
    let value: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr3", out(reg) value) };
    value & 0x000f_ffff_ffff_f000
}

/// Makes a physical address the top page table.
pub fn load_cr3(physical: u64) {
    // SAFETY: none for a foreign table: that is what is being tried.
    unsafe { asm!("mov cr3, {}", in(reg) physical) };
}

/// Loads an empty interrupt descriptor table and raises an exception.
pub fn triple_fault() {
    let table: [u8; 10] = [0; 10];
    // SAFETY: none: this ends the environment.
    unsafe { asm!("lidt [{}]", "ud2", in(reg) table.as_ptr()) };
}

/// Halts with interrupts disabled.
pub fn halt_forever() {
    // SAFETY: nobody wakes us: that is what is being tried.
    unsafe { asm!("cli", "hlt") };
}

/// Disables interrupts.
pub fn disable_interrupts() {
    // SAFETY: delays our own handlers only.
    unsafe { asm!("cli") };
}

/// Enables interrupts.
pub fn enable_interrupts() {
    // SAFETY: the runtime had them enabled before.
    unsafe { asm!("sti") };
}

/// Lets a little time pass without a call.
pub fn spin() {
    for _ in 0..4096 {
        core::hint::black_box(());
    }
    core::hint::spin_loop();
}

/// A virtual CPU that starts as it is told, behind the back of the runtime.
pub fn vcpu_start(core: u64, instruction: u64, stack: u64, root: u64) -> Result<hypercall::NewVcpu, Status> {
    // SAFETY: none: what it starts with can't run, or must be refused.
    unsafe { hypercall::vcpu_start(core, instruction, stack, root, 0) }
}

/// An instruction that does nothing but run: an endless loop.
pub fn endless_loop() -> u64 {
    #[unsafe(naked)]
    extern "C" fn forever() -> ! {
        core::arch::naked_asm!("2:", "pause", "jmp 2b")
    }
    forever as *const () as u64
}

/// Instructions that need a stack.
pub fn push_loop() -> u64 {
    #[unsafe(naked)]
    extern "C" fn forever() -> ! {
        core::arch::naked_asm!("2:", "push rax", "jmp 2b")
    }
    forever as *const () as u64
}
