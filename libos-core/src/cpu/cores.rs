//! More cores: a function started on another core runs there as on the first, at the same time.
//!
//! ```text
//! start(core, f, argument) ─ virtual CPU made on the core ─┐            ┌─ wakes joiners
//!                            (or the parked one called)    └─ f(argument)┴─ parked until the next start
//! ```
//!
//! The platform gives at most one virtual CPU on a core, and never takes it away: when its function has
//! returned, it halts and costs nothing. All virtual CPUs share address space, heap, console and trap
//! handlers. Each has its own stack of [`STACK_BYTES`] with a guard page, its own trap stacks, timer
//! ([`crate::time::sleep`]) and upcalls: a handler of [`crate::upcall`] runs on the virtual CPU that is
//! called.
//!
//! The unikernel ends, on all cores, when `main` returns or anybody calls [`crate::exit`] or panics.
//!
//! To wait for a function, sleep ([`CoreHandle::join`]) rather than spin: under an emulator whose cores are
//! threads, a core that spins slows the others.

use super::lock::{self, Masked};
use super::{trap, upcall};
use crate::memory::{self, CoreStacks};
use crate::platform;
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
    /// There are no frames for the stacks.
    NoMemory(Status),
    /// The platform refuses a virtual CPU, or the processor did not start.
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

/// A function to run.
#[derive(Clone, Copy)]
struct Job {
    function: fn(u64),
    argument: u64,
}

const _: () = assert!(MAX_VIRTUAL_CPUS <= u64::BITS as usize, "a bit for each in `Vcpu::joiners`");

/// A virtual CPU.
struct Vcpu {
    /// Its core; meaningless before it is started.
    core: AtomicU64,
    /// What it runs next.
    job: Masked<Option<Job>>,
    /// Functions it was given.
    given: AtomicU64,
    /// Functions that have returned.
    returned: AtomicU64,
    /// Numbers of the virtual CPUs to wake at the next return, as a bit set.
    joiners: AtomicU64,
}

/// The virtual CPUs by number: 0 runs `main`, the others count in the order of their starts. The kernel's
/// index of a virtual CPU is another number, which the platform keeps.
static VCPUS: [Vcpu; MAX_VIRTUAL_CPUS] = [const {
    Vcpu {
        core: AtomicU64::new(0),
        job: Masked::new(None),
        given: AtomicU64::new(0),
        returned: AtomicU64::new(0),
        joiners: AtomicU64::new(0),
    }
}; MAX_VIRTUAL_CPUS];

/// What a virtual CPU needs before it starts.
struct Provision {
    number: usize,
    stacks: CoreStacks,
    tables: CoreTables,
}

/// The virtual CPUs that have been started.
struct Started {
    /// Numbers in use.
    numbers: usize,
    /// Made for a start that the platform refused. The next start takes it.
    spare: Option<Box<Provision>>,
}

static STARTED: Masked<Started> = Masked::new(Started { numbers: 1, spare: None });

/// Cores of the machine.
///
/// # Panics
///
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

/// Calls a function on another core, with `argument`, and returns without waiting for it.
///
/// The function shares data with the caller through statics; the argument may be an index into one. So the
/// types keep it safe.
///
/// # Errors
///
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
        None => create(&mut started, core, job)?,
    };
    Ok(CoreHandle { number, ticket: VCPUS[number].given.load(Ordering::Relaxed) })
}

/// Gives a parked virtual CPU a function to run.
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

/// Makes a virtual CPU and returns its number.
fn create(started: &mut Started, core: u64, job: Job) -> Result<usize, StartError> {
    let number = started.numbers;
    if number == MAX_VIRTUAL_CPUS {
        return Err(StartError::TooMany);
    }
    let provision = match started.spare.take() {
        Some(provision) => provision,
        None => {
            let stacks = memory::map_core_stacks(number).map_err(StartError::NoMemory)?;
            Box::new(Provision { number, stacks, tables: CoreTables::new() })
        }
    };
    let vcpu = &VCPUS[number];
    vcpu.core.store(core, Ordering::Relaxed);
    *vcpu.job.lock() = Some(job);
    let stack = provision.stacks.stack.end;
    let provision = Box::into_raw(provision);
    let entry = platform::CoreEntry {
        instruction: enter as *const () as u64,
        stack,
        root: memory::root_address(),
        argument: provision as u64,
    };
    // SAFETY: `enter` gets what it needs: a stack of its own, mapped by the tables that all cores use, and a
    // `Provision`.
    if let Err(status) = unsafe { platform::current().start_core(number, core, entry) } {
        // SAFETY: the pointer comes from a box, and there is no virtual CPU that would use it.
        started.spare = Some(unsafe { Box::from_raw(provision) });
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
        "call {run}",
        "ud2",
        run = sym run,
    )
}

/// Runs functions on another virtual CPU, one after the other, for ever.
///
/// # Safety
///
/// `provision` comes from [`create`], for this virtual CPU, which runs on the stack that it names.
unsafe extern "C" fn run(provision: *mut Provision) -> ! {
    // SAFETY: by the caller's promise the box is this virtual CPU's; it is never freed.
    let Provision { number, stacks, tables } = unsafe { &mut *provision };
    // SAFETY: called once for each `Provision`; its stacks are mapped for good and have no other use.
    unsafe {
        memory::protect();
        trap::load(tables, stacks.traps, *number, stacks.stack.clone());
        platform::current().core_runs(*number);
    }
    // The starter still has to hear from the platform how to call this virtual CPU.
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

/// The numbers of the bits of `set` that are 1.
fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let bit = (set != 0).then(|| set.trailing_zeros() as usize)?;
        set &= set - 1;
        Some(bit)
    })
}

/// Raises [`hyperexo_abi::upcall::Cause::Wake`] on the virtual CPU that this unikernel has on a core. If it
/// sleeps in [`upcall::wait_until`], it looks at its condition again.
///
/// # Errors
///
/// [`StartError::NoSuchCore`] if the unikernel has no virtual CPU there.
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
    /// Functions that the virtual CPU had been given, this one included.
    ticket: u64,
}

impl CoreHandle {
    /// The core.
    pub fn core(&self) -> u64 {
        VCPUS[self.number].core.load(Ordering::Relaxed)
    }

    /// Whether the function has returned. If so, the caller sees what it wrote.
    pub fn is_done(&self) -> bool {
        VCPUS[self.number].returned.load(Ordering::SeqCst) >= self.ticket
    }

    /// Sleeps until the function has returned.
    ///
    /// # Panics
    ///
    /// With interrupts disabled, see [`upcall::wait_until`].
    pub fn join(&self) {
        let own = 1 << core_number();
        upcall::wait_until(|| {
            // The wish comes before the look: a function that returns in between sees the wish.
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
