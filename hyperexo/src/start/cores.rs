//! The other cores: started one by one before the first environment, then each in its own loop.

use super::settings::Settings;
use super::{new_table, take_run};
use crate::cores::Core;
use crate::cores::held::SharedKernel;
use crate::kernel::Kernel;
use crate::log;
use crate::machine::interrupt::{self, MAX_CORES, SIGNALS};
use crate::machine::map::{Access, Map};
use crate::machine::tables::{TRAP_STACK_FRAMES, load_tables};
use crate::resource::slice::SliceVector;
use crate::virt;
use hyperexo_abi::FRAME_SHIFT;
use hyperexo_hw::acpi::Machine;
use hyperexo_hw::apic::LocalApic;
use hyperexo_hw::descriptor::TrapStacks;
use hyperexo_hw::smp::{Birth, TRAMPOLINE_ADDRESS, current_root, forget_translations};
use hyperexo_hw::time::ticks;
use spin::Once;

/// The kernel, once there is one.
static SHARED: Once<SharedKernel> = Once::new();

/// Frames of the stack on which a core runs its loop, the guard page below included.
const STACK_FRAMES: u64 = 17;
/// How long a core may take to come up. A host that emulates many may be long in running one for the first
/// time.
const PATIENCE_US: u64 = 2_000_000;

/// Where a core that is being started finds its stacks: one run of frames, its loop's stack first.
const RUN_FRAMES: u64 = STACK_FRAMES + 3 * TRAP_STACK_FRAMES;

/// Shares the kernel with the cores that are waiting for it.
pub fn share(kernel: Kernel) -> &'static SharedKernel {
    let shared = SHARED.call_once(|| SharedKernel::new(kernel));
    (0..SIGNALS.cores()).for_each(|core| SIGNALS.wake(core));
    shared
}

/// Starts the other processors, at most as many as the settings allow; each that comes gets a vector of
/// slices.
pub fn start_all(kernel: &mut Kernel, machine: Option<&Machine>, apic: &LocalApic, settings: &Settings) {
    let Some(machine) = machine else { return };
    let limit = (settings.cores as usize).min(MAX_CORES);
    if machine.apic_ids().len() < 2 || limit < 2 || !set_trampoline(kernel, Access::All) {
        return;
    }
    if start_each(kernel, machine, apic, limit) {
        set_trampoline(kernel, Access::ReadWrite);
    }
}

/// Sets what may be done with the page of the trampoline. Returns whether that worked.
fn set_trampoline(kernel: &mut Kernel, access: Access) -> bool {
    let frame = TRAMPOLINE_ADDRESS >> FRAME_SHIFT;
    set_access(kernel, &[frame], access)
}

/// Sets what may be done with some pages of the kernel's own map. Returns whether that worked.
fn set_access(kernel: &mut Kernel, pages: &[u64], access: Access) -> bool {
    let (frames, memory) = (&mut kernel.pages.frames, kernel.pages.memory);
    let map = Map::new(memory, current_root());
    let done =
        pages.iter().all(|page| map.set(*page..*page + 1, access, || new_table(frames, memory)).is_ok());
    forget_translations();
    done
}

/// Makes the lowest page of each stack in a core's run of frames a guard. Returns whether that worked.
fn guard_stacks(kernel: &mut Kernel, run: u64) -> bool {
    let trap = |number| run + STACK_FRAMES + number * TRAP_STACK_FRAMES;
    set_access(kernel, &[run, trap(0), trap(1), trap(2)], Access::Nothing)
}

/// Returns whether nobody can come any more: one that did not come in time may still, by the trampoline.
fn start_each(kernel: &mut Kernel, machine: &Machine, apic: &LocalApic, limit: usize) -> bool {
    let own = apic.id();
    for apic_id in machine.apic_ids().iter().copied().filter(|id| *id != own) {
        if kernel.slices.len() >= limit {
            break;
        }
        let Some(run) = take_run(&mut kernel.pages.frames, RUN_FRAMES) else {
            log!("warning: no memory for the stacks of processor {apic_id}");
            break;
        };
        if !guard_stacks(kernel, run) {
            log!("warning: no memory for the page tables of the stacks of processor {apic_id}");
            break;
        }
        let before = SIGNALS.cores();
        let deadline_of = |us| ticks().saturating_add(kernel.clock.ticks_of_us(us));
        let pause = |us| {
            let deadline = deadline_of(us);
            while ticks() < deadline {}
        };
        let base = run << FRAME_SHIFT;
        let stack = (run + STACK_FRAMES) << FRAME_SHIFT;
        let birth = Birth { root: current_root(), entry: enter, argument: base, stack };
        // SAFETY: ring 0, identity map, page tables in the kernel's image; low memory is the firmware's, who
        // is done with it; the run of frames is the new core's alone; cores are started one at a time, and
        // one that does not come in time ends the loop.
        unsafe { hyperexo_hw::smp::start(apic, apic_id, &birth, pause) };
        let deadline = deadline_of(PATIENCE_US);
        while SIGNALS.cores() == before {
            if ticks() > deadline {
                log!("warning: processor {apic_id} did not start; going on with {before}");
                return false;
            }
        }
        kernel.slices.push(SliceVector::default());
    }
    true
}

/// First Rust code of a core. `base`: its run of frames.
extern "C" fn enter(base: u64) -> ! {
    let top = |number: u64| base + ((STACK_FRAMES + number * TRAP_STACK_FRAMES) << FRAME_SHIFT);
    // SAFETY: ring 0; the stacks are this core's; the APIC is mapped by identity.
    let (apic, backend) = unsafe {
        load_tables(TrapStacks { exception: top(1), interrupt: top(2), critical: top(3) });
        let apic = LocalApic::enable();
        (apic, virt::enable())
    };
    match backend {
        Ok(backend) => {
            let number = interrupt::install(apic);
            let shared = loop {
                match SHARED.get() {
                    Some(shared) => break shared,
                    None => interrupt::halt(),
                }
            };
            // One that came after it had been given up has no slices, and halts.
            if number < shared.lock().slices.len() {
                Core::new(number, apic, backend, shared).run(shared);
            }
        }
        Err(error) => log!("warning: a processor can't be used: {error}"),
    }
    loop {
        // SAFETY: halts this core with interrupts disabled, for good.
        unsafe { core::arch::asm!("cli", "hlt") };
    }
}
