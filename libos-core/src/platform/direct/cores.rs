//! The processors of a machine: which there are, starting them, and calls between them.
//!
//! A processor starts with the page tables of the boot code, which map everything by identity; its first
//! instructions go on with the tables, the stack and the function that it was given.

use super::{Clock, Machine, vector};
use crate::lock;
use crate::platform::CoreEntry;
use core::arch::asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use hyperexo_abi::hypercall::Status;
use hyperexo_hw::acpi::{self, MAX_PROCESSORS};
use hyperexo_hw::apic::LocalApic;
use hyperexo_hw::descriptor::{MAX_NUMBERS, core_number};
use hyperexo_hw::smp::{self, Birth, TRAMPOLINE_ADDRESS};
use hyperexo_hw::{linear, time};

/// How long a processor may take to come up.
const PATIENCE_US: u64 = 200_000;

/// Local APIC numbers of the processors; the first is the one that booted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Processors {
    apic_ids: [u8; MAX_PROCESSORS],
    count: usize,
}

impl Processors {
    /// Those of the firmware's tables, at most `limit`; without tables, the calling one alone.
    pub fn new(tables: Option<&acpi::Machine>, own: u8, limit: u64) -> Processors {
        let told = tables.map_or(&[][..], acpi::Machine::apic_ids);
        let mut processors = Processors { apic_ids: [0; MAX_PROCESSORS], count: 0 };
        let others = told.iter().copied().filter(|id| *id != own);
        let limit = usize::try_from(limit).unwrap_or(MAX_PROCESSORS);
        for id in core::iter::once(own).chain(others).take(limit.clamp(1, MAX_PROCESSORS)) {
            processors.apic_ids[processors.count] = id;
            processors.count += 1;
        }
        processors
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The local APIC number of a core.
    pub fn apic_id(&self, core: u64) -> Option<u8> {
        self.apic_ids[..self.count].get(usize::try_from(core).ok()?).copied()
    }
}

/// Local APIC numbers by the numbers that [`crate::cores`] gives; [`NOBODY`] if there is none.
static NUMBERED: [AtomicU16; MAX_NUMBERS] = [const { AtomicU16::new(NOBODY) }; MAX_NUMBERS];
const NOBODY: u16 = u16::MAX;
/// Whether the processor that is being started has come.
static ARRIVED: AtomicBool = AtomicBool::new(false);

/// Starts a core.
///
/// # Safety
/// As [`crate::platform::Platform::start_core`]; callers take turns.
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
    // What the first instructions read, in the trampoline's page: the boot tables map it.
    let place = page + ENTRY_OFFSET;
    let birth = Birth { root: *boot_root, entry: arrive, argument: place, stack: page + STACK_OFFSET };
    // SAFETY: the page is kept free (`take_memory`), mapped by the linear map and, executable, by the boot
    // tables, which nobody has changed; image and page lie below 4 GiB. The stack there serves one call.
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

/// Waits for a number of microseconds. Too short to do anything else, and interrupts may be disabled.
fn wait(clock: &Clock, us: u64) {
    let deadline = time::ticks().saturating_add(clock.ticks_of_us(us));
    while time::ticks() < deadline {
        core::hint::spin_loop();
    }
}

/// First instructions of another processor in 64-bit mode: says that it came, and goes on as the
/// [`CoreEntry`] at the address in `rdi` wants.
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
/// On the processor with this number, its descriptor tables loaded, interrupts disabled.
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

/// Has all other cores halt for ever, as soon as they take an interrupt.
pub(super) fn halt_others() {
    let machine = super::machine();
    (0..MAX_NUMBERS)
        .filter(|number| *number != core_number())
        .for_each(|number| send(machine, number, vector::HALT));
}

/// Halts the calling core for ever.
pub(super) fn halt() -> ! {
    loop {
        // SAFETY: stops this core with interrupts disabled; nobody waits for it.
        unsafe { asm!("cli", "hlt") };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_tables_there_is_one_processor() {
        let processors = Processors::new(None, 3, 8);
        assert_eq!((processors.count(), processors.apic_id(0), processors.apic_id(1)), (1, Some(3), None));
    }
}
