//! More cores: a function started on another core runs there as on the first, at the same time.
//!
//! ```text
//! start(core, f, argument) ─ virtual CPU made on the core ─┐            ┌─ wakes who joins ─┐
//!                            (or the parked one called)    └─ f(argument)                   └─ parked, until the next start
//! ```
//!
//! The platform gives at most one virtual CPU on a core, and never takes it away: when its function has
//! returned it halts, and costs nothing. All virtual CPUs share address space, heap, console and trap
//! handlers. Each has a stack of [`STACK_BYTES`] with a guard page, trap stacks, a timer
//! ([`crate::time::sleep`]) and upcalls of its own: a handler of [`crate::upcall`] runs on the virtual CPU
//! that is called.
//!
//! The unikernel ends, on all cores, when `main` returns or anybody calls [`crate::exit`] or panics.
//!
//! Under an emulator whose cores are threads, spin with care: [`CoreHandle::join`] sleeps.

use crate::lock::Masked;
use crate::memory::{self, CoreStacks};
use crate::{lock, platform, trap, upcall};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};
use hyperexo_abi::hypercall::Status;
use hyperexo_hw::descriptor::{CoreTables, MAX_NUMBERS, core_number};
use hyperexo_hw::trap as hw;

/// Bytes of the stack of a started function.
pub const STACK_BYTES: u64 = memory::CORE_STACK_BYTES;

/// Virtual CPUs that this library manages, the first one included.
pub const MAX_VIRTUAL_CPUS: usize = MAX_NUMBERS;

/// Why a function could not be started on a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// The machine has no such core.
    NoSuchCore {
        /// The core.
        core: u64,
        /// Cores there are, counted from 0.
        cores: u64,
    },
    /// A function of this unikernel is running there: `main`, or one started before.
    Busy {
        /// The core.
        core: u64,
    },
    /// There are [`MAX_VIRTUAL_CPUS`] already.
    TooMany,
    /// No frames for the stacks.
    NoMemory(Status),
    /// The platform refuses a virtual CPU, or the processor did not come.
    Refused(Status),
}

impl core::fmt::Display for StartError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            StartError::NoSuchCore { core, cores } => {
                write!(f, "there is no core {core}: the machine has {cores}, counted from 0")
            }
            StartError::Busy { core } => write!(f, "core {core} runs a function of this unikernel already"),
            StartError::TooMany => write!(f, "more than {MAX_VIRTUAL_CPUS} virtual CPUs"),
            StartError::NoMemory(status) => write!(f, "no frames for the stacks of another core: {status}"),
            StartError::Refused(status) => write!(f, "no virtual CPU on the core: {status}"),
        }
    }
}

impl core::error::Error for StartError {}

/// Something to run.
#[derive(Clone, Copy)]
struct Job {
    function: fn(u64),
    argument: u64,
}

const _: () = assert!(MAX_VIRTUAL_CPUS <= u64::BITS as usize, "a bit for each in `Vcpu::joiners`");

/// What is known of a virtual CPU.
struct Vcpu {
    /// Its core; meaningless before it is started.
    core: AtomicU64,
    /// What it is to run next.
    job: Masked<Option<Job>>,
    /// Functions it was given.
    given: AtomicU64,
    /// Functions that have returned.
    returned: AtomicU64,
    /// Numbers of the virtual CPUs that want to be woken at the next return, as a bit set.
    joiners: AtomicU64,
}

/// By number: 0 runs `main`, others count in the order in which they were started. The kernel's index of a
/// virtual CPU is the platform's business.
static VCPUS: [Vcpu; MAX_VIRTUAL_CPUS] = [const {
    Vcpu {
        core: AtomicU64::new(0),
        job: Masked::new(None),
        given: AtomicU64::new(0),
        returned: AtomicU64::new(0),
        joiners: AtomicU64::new(0),
    }
}; MAX_VIRTUAL_CPUS];

/// What is made for a virtual CPU before it is started.
struct Birth {
    number: usize,
    stacks: CoreStacks,
    tables: CoreTables,
}

/// Who has been started.
struct Started {
    /// Numbers in use.
    numbers: usize,
    /// Made for a start that the kernel refused: the next one takes it.
    spare: Option<Box<Birth>>,
}

static STARTED: Masked<Started> = Masked::new(Started { numbers: 1, spare: None });

/// Cores of the machine.
///
/// # Panics
/// In a test program of the host. So do the other functions here.
pub fn count() -> u64 {
    platform::current().cores().count
}

/// The core on which the caller runs.
pub fn current() -> u64 {
    match core_number() {
        0 => platform::current().cores().first,
        number => VCPUS[number].core.load(Ordering::Relaxed),
    }
}

/// Has a function called on another core, with `argument`.
///
/// What the function needs comes through statics or, behind the argument, by indexes: the types keep it safe.
///
/// # Errors
/// [`StartError`]; nothing runs then.
pub fn start(core: u64, function: fn(u64), argument: u64) -> Result<CoreHandle, StartError> {
    let cores = platform::current().cores();
    if core >= cores.count {
        return Err(StartError::NoSuchCore { core, cores: cores.count });
    }
    if core == cores.first {
        return Err(StartError::Busy { core });
    }
    let job = Job { function, argument };
    let mut started = STARTED.lock();
    let known = (1..started.numbers).find(|number| VCPUS[*number].core.load(Ordering::Relaxed) == core);
    let number = match known {
        Some(number) => {
            call_again(number, job)?;
            number
        }
        None => give_birth(&mut started, core, job)?,
    };
    Ok(CoreHandle { number, ticket: VCPUS[number].given.load(Ordering::Relaxed) })
}

/// Gives a parked virtual CPU something to do.
fn call_again(number: usize, job: Job) -> Result<(), StartError> {
    let vcpu = &VCPUS[number];
    if vcpu.returned.load(Ordering::Acquire) != vcpu.given.load(Ordering::Relaxed) {
        return Err(StartError::Busy { core: vcpu.core.load(Ordering::Relaxed) });
    }
    vcpu.given.fetch_add(1, Ordering::Relaxed);
    *vcpu.job.lock() = Some(job);
    platform::current().call_core(number);
    Ok(())
}

/// Makes a virtual CPU; returns its number.
fn give_birth(started: &mut Started, core: u64, job: Job) -> Result<usize, StartError> {
    let number = started.numbers;
    if number == MAX_VIRTUAL_CPUS {
        return Err(StartError::TooMany);
    }
    let birth = match started.spare.take() {
        Some(birth) => birth,
        None => {
            let stacks = memory::map_core_stacks(number).map_err(StartError::NoMemory)?;
            Box::new(Birth { number, stacks, tables: CoreTables::new() })
        }
    };
    let vcpu = &VCPUS[number];
    vcpu.core.store(core, Ordering::Relaxed);
    *vcpu.job.lock() = Some(job);
    let entry = platform::CoreEntry {
        instruction: enter as *const () as u64,
        stack: birth.stacks.stack.end,
        root: memory::root_address(),
        argument: 0,
    };
    let birth = Box::into_raw(birth);
    let entry = platform::CoreEntry { argument: birth as u64, ..entry };
    // SAFETY: `enter` gets what it wants: a stack of its own, mapped by the tables that everybody uses, and a
    // `Birth`.
    if let Err(status) = unsafe { platform::current().start_core(number, core, entry) } {
        // SAFETY: the pointer comes from a box, and nobody was born who would use it.
        started.spare = Some(unsafe { Box::from_raw(birth) });
        *vcpu.job.lock() = None;
        return Err(StartError::Refused(status));
    }
    vcpu.given.store(1, Ordering::Relaxed);
    started.numbers += 1;
    Ok(number)
}

/// First instructions of another virtual CPU: a frame pointer that ends a walk, an aligned stack.
#[unsafe(naked)]
unsafe extern "C" fn enter() -> ! {
    core::arch::naked_asm!(
        "xor ebp, ebp",
        "and rsp, -16",
        "call {live}",
        "ud2",
        live = sym live,
    )
}

/// The life of another virtual CPU.
///
/// # Safety
/// `birth` comes from [`give_birth`], for this virtual CPU, which runs on the stack that it names.
unsafe extern "C" fn live(birth: *mut Birth) -> ! {
    // SAFETY: by the caller's promise the box is this virtual CPU's; it lives for ever.
    let Birth { number, stacks, tables } = unsafe { &mut *birth };
    // SAFETY: called once for each `Birth`; its stacks are mapped for good and have no other use.
    unsafe {
        memory::protect();
        trap::load(tables, stacks.traps, *number, stacks.stack.clone());
        platform::current().core_runs(*number);
    }
    // Who started us is about to hear from the platform how to call us.
    while !platform::current().core_ready(*number) {
        lock::relax();
    }
    // SAFETY: the descriptor tables are loaded, and nothing is held.
    unsafe { hw::enable_interrupts() };
    let vcpu = &VCPUS[*number];
    loop {
        let mut next = None;
        upcall::wait_until(|| {
            next = vcpu.job.lock().take();
            next.is_some()
        });
        if let Some(job) = next {
            (job.function)(job.argument);
            vcpu.returned.fetch_add(1, Ordering::SeqCst);
            bits(vcpu.joiners.swap(0, Ordering::SeqCst))
                .for_each(|number| platform::current().call_core(number));
        }
    }
}

/// The numbers of the bits that are set.
fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let bit = (set != 0).then(|| set.trailing_zeros() as usize)?;
        set &= set - 1;
        Some(bit)
    })
}

/// Raises [`hyperexo_abi::upcall::Cause::Wake`] on the virtual CPU that this unikernel has on a core, so that
/// what it waits for in [`upcall::wait_until`] is looked at again.
///
/// # Errors
/// [`StartError::NoSuchCore`] if it has none there; `cores` are those of the machine.
pub fn wake(core: u64) -> Result<(), StartError> {
    let cores = platform::current().cores();
    let number = match core == cores.first {
        true => Some(0),
        false => {
            let numbers = STARTED.lock().numbers;
            (1..numbers).find(|number| VCPUS[*number].core.load(Ordering::Relaxed) == core)
        }
    };
    platform::current().call_core(number.ok_or(StartError::NoSuchCore { core, cores: cores.count })?);
    Ok(())
}

/// A function that was started on another core. Dropping the value leaves it alone.
#[derive(Clone, Debug)]
pub struct CoreHandle {
    number: usize,
    /// How many functions the virtual CPU had been given, this one included.
    ticket: u64,
}

impl CoreHandle {
    /// The core.
    pub fn core(&self) -> u64 {
        VCPUS[self.number].core.load(Ordering::Relaxed)
    }

    /// Whether the function has returned. What it wrote can be seen then.
    pub fn is_done(&self) -> bool {
        VCPUS[self.number].returned.load(Ordering::SeqCst) >= self.ticket
    }

    /// Sleeps until the function has returned.
    ///
    /// # Panics
    /// With interrupts disabled, see [`upcall::wait_until`].
    pub fn join(&self) {
        let own = 1 << core_number();
        upcall::wait_until(|| {
            // First the wish, then the look: a return in between sees the wish.
            VCPUS[self.number].joiners.fetch_or(own, Ordering::SeqCst);
            self.is_done()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn bits_are_numbers() {
        assert_eq!(bits(0).count(), 0);
        assert_eq!(bits(1 | 1 << 5 | 1 << 63).collect::<Vec<_>>(), [0, 5, 63]);
    }
}
