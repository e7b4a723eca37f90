//! Starts the processors of a machine, and calls from one to another.
//!
//! A processor starts with the page tables of the boot code, which map everything by identity. Its first
//! instructions change to the tables and the stack that it was given, and call its function.

use super::clock::Clock;
use super::machine::{Machine, machine};
use super::vector;
use crate::cpu::lock;
use crate::platform::CoreEntry;
use core::arch::asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use hyperexo_abi::hypercall::Status;
use hyperexo_hw::apic::LocalApic;
use hyperexo_hw::descriptor::{MAX_NUMBERS, core_number};
use hyperexo_hw::smp::{self, Birth, TRAMPOLINE_ADDRESS};
use hyperexo_hw::{linear, time};

/// How long a processor may take to start.
const PATIENCE_US: u64 = 200_000;

/// Local APIC numbers by the numbers that [`crate::cores`] gives. [`NOBODY`] if there is no such core.
static NUMBERED: [AtomicU16; MAX_NUMBERS] = [const { AtomicU16::new(NOBODY) }; MAX_NUMBERS];
const NOBODY: u16 = u16::MAX;
/// Whether the processor that is being started has arrived.
static ARRIVED: AtomicBool = AtomicBool::new(false);

/// Starts a core.
///
/// # Safety
///
/// As for [`crate::platform::Platform::start_core`]. One call runs at a time.
pub(super) unsafe fn start(
    machine: &Machine,
    number: usize,
    core: u64,
    entry: CoreEntry,
) -> Result<(), Status> {
    let Machine { apic, clock, processors, boot_root, .. } = machine;
    let apic_id = processors.apic_id(core).ok_or(Status::NoSuch)?;
    ARRIVED.store(false, Ordering::Release);
    let page = TRAMPOLINE_ADDRESS;
    // The first instructions read the entry in the trampoline's page, which the boot tables map.
    let place = page + ENTRY_OFFSET;
    let birth = Birth { root: *boot_root, entry: arrive, argument: place, stack: page + STACK_OFFSET };
    // SAFETY: the page is kept free (`start::take_memory`). The linear map shows it, and the boot tables,
    // which nobody has changed, map it executable. Image and page lie below 4 GiB. One start at a time uses
    // the stack in the page.
    unsafe {
        linear::pointer::<CoreEntry>(place).write_volatile(entry);
        smp::start(apic, apic_id, &birth, |us| wait(clock, us));
    }
    let deadline = time::ticks().saturating_add(clock.ticks_of_us(PATIENCE_US));
    while !ARRIVED.load(Ordering::Acquire) {
        if time::ticks() > deadline {
            return Err(Status::NoDevice);
        }
        lock::relax();
    }
    NUMBERED[number].store(apic_id.into(), Ordering::Release);
    Ok(())
}

/// Where in the trampoline's page the entry of a core lies, and where its first stack ends.
const ENTRY_OFFSET: u64 = 0xe00;
const STACK_OFFSET: u64 = 0xe00;

/// Waits for a number of microseconds, too few to sleep. Interrupts may be disabled.
fn wait(clock: &Clock, us: u64) {
    let deadline = time::ticks().saturating_add(clock.ticks_of_us(us));
    while time::ticks() < deadline {
        core::hint::spin_loop();
    }
}

/// First instructions of another processor in 64-bit mode. They say that it has arrived, and go on as the
/// [`CoreEntry`] at the address in `rdi` says.
#[unsafe(naked)]
extern "C" fn arrive(entry: u64) -> ! {
    core::arch::naked_asm!(
        "mov rax, [rdi + {root}]",
        "mov rsp, [rdi + {stack}]",
        "mov rdx, [rdi + {instruction}]",
        "mov rdi, [rdi + {argument}]",
        "mov cr3, rax",
        "lea rcx, [rip + {arrived}]",
        "mov byte ptr [rcx], 1",
        "jmp rdx",
        root = const offset_of!(CoreEntry, root),
        stack = const offset_of!(CoreEntry, stack),
        instruction = const offset_of!(CoreEntry, instruction),
        argument = const offset_of!(CoreEntry, argument),
        arrived = sym ARRIVED,
    )
}

/// Whether [`start`] is over for a number.
pub(super) fn ready(number: usize) -> bool {
    NUMBERED[number].load(Ordering::Acquire) != NOBODY
}

/// Turns on what each processor has for itself.
///
/// # Safety
///
/// Called on the processor with this number, its descriptor tables loaded, interrupts disabled.
pub(super) unsafe fn runs(number: usize) {
    // SAFETY: by the caller's promise. On the first processor the APIC is on already.
    let apic = unsafe { LocalApic::enable_best() };
    if number == 0 {
        NUMBERED[0].store(apic.id().into(), Ordering::Release);
    }
}

/// Wakes a core.
pub(super) fn call(machine: &Machine, number: usize) {
    send(machine, number, vector::WAKE);
}

fn send(machine: &Machine, number: usize, vector: u8) {
    let id = NUMBERED[number].load(Ordering::Acquire);
    if id != NOBODY {
        machine.apic.send(id as u8, vector);
    }
}

/// Makes all other cores halt for ever, at the next interrupt that they take.
pub(super) fn halt_others() {
    let machine = machine();
    (0..MAX_NUMBERS)
        .filter(|number| *number != core_number())
        .for_each(|number| send(machine, number, vector::HALT));
}

/// Halts the calling core for ever.
pub(super) fn halt() -> ! {
    loop {
        // SAFETY: the core stops with interrupts disabled, and nobody waits for it.
        unsafe { asm!("cli", "hlt") };
    }
}
