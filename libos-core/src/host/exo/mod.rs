//! HyperExo as the host: hypercalls, and pages that the kernel shares with the environment.
//!
//! | module | what |
//! |---|---|
//! | [`hypercall`] | the kernel's calls, one function each |
//! | `information` | what the kernel tells at the start, and pages that it keeps up to date |
//! | `frames` | frames allocated and bound at once |
//! | `disk` | the ring of disk requests |
//! | `net` | the rings of packets |
//! | [`view`] | memory that only code entered through a gate reaches |
//! | [`faults`] | accesses without a binding, handled |
//!
//! A program that uses this runs under HyperExo only. Elsewhere every call is refused.

pub(crate) mod disk;
pub mod faults;
mod frames;
pub mod hypercall;
mod information;
mod net;
pub mod view;

pub use information::{free_map, owners, start_info};

use crate::platform::{
    self, CoreEntry, Cores, DiskError, FrameRun, Host, NetError, NetPort, OpenDisk, Platform, RandomError,
};
use alloc::boxed::Box;
use core::ops::Range;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use hyperexo_abi::accounting::Accounting;
use hyperexo_abi::capability::{Capability, Rights};
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::net::Filter;
use hyperexo_abi::start::HYPERCALL_VMMCALL;
use hyperexo_abi::upcall::{Doorbell, VECTOR};
use hyperexo_abi::{ANY, FRAME_SHIFT, LINEAR_BASE};
use hyperexo_hw::descriptor::{MAX_NUMBERS, core_number};
use hyperexo_hw::time::ticks;

/// What the kernel told of a virtual CPU.
struct Vcpu {
    /// Its index.
    index: AtomicU64,
    /// Where the kernel notes its upcalls. Null as long as there is no such virtual CPU; any other pointer is
    /// valid for ever.
    doorbell: AtomicPtr<Doorbell>,
}

static VCPUS: [Vcpu; MAX_NUMBERS] =
    [const { Vcpu { index: AtomicU64::new(0), doorbell: AtomicPtr::new(core::ptr::null_mut()) } };
        MAX_NUMBERS];

/// The address of the doorbell in a frame that the kernel keeps bound for ever. Any bits are a doorbell.
fn doorbell(frame: u64) -> *mut Doorbell {
    (LINEAR_BASE + (frame << FRAME_SHIFT)) as *mut Doorbell
}

/// The host as a value.
struct Exo;

/// Reads the start information and makes HyperExo the platform.
///
/// Returns `false` if `magic` (register `rsi` at entry) or the page itself says that this is not HyperExo.
///
/// # Safety
///
/// As for [`information::read`].
pub(crate) unsafe fn start(physical: u64, magic: u64) -> bool {
    // SAFETY: by the caller's promise.
    let Some(start) = (unsafe { information::read(physical, magic) }) else { return false };
    VCPUS[0].doorbell.store(doorbell(start.doorbell_frame), Ordering::Release);
    hypercall::choose_instruction(start.hypercall == HYPERCALL_VMMCALL);
    platform::set(&Exo, information::facts(start));
    true
}

impl Platform for Exo {
    fn host(&self) -> Host {
        Host::HyperExo { environment: start_info().environment }
    }

    fn console_write(&self, physical: u64, bytes: u64) {
        /// How long a console that takes nothing is waited for before the rest is given up, in seconds.
        const PATIENCE_S: u64 = 2;
        let patience = PATIENCE_S * start_info().tsc_hz;
        let (mut at, end) = (physical, physical + bytes);
        let mut since = ticks();
        while at < end {
            match hypercall::console_write(at, end - at) {
                Ok(taken) if taken > 0 => (at, since) = (at + taken, ticks()),
                Ok(_) | Err(Status::Busy) if ticks().saturating_sub(since) < patience => {
                    // Others may use the core until there is room.
                    let _ = hypercall::yield_to(ANY);
                }
                // If the console refuses, there is nowhere to say so.
                _ => return,
            }
        }
    }

    fn exit(&self, code: u32) -> ! {
        hypercall::exit(code)
    }

    fn allocate_frames(&self, count: u64, alignment: u64) -> Result<u64, Status> {
        frames::allocate(count, alignment)
    }

    fn take_frames(&self, first: u64, count: u64, alignment: u64) -> Result<FrameRun, Status> {
        let capability = hypercall::page_alloc(first, count, alignment)?;
        let first = frames::bind_fresh(&capability)?;
        Ok(FrameRun { first, count, capability: Some(capability) })
    }

    unsafe fn give_back_frames(&self, run: &FrameRun) {
        // By the caller's promise no Rust object lies in them.
        run.capability.iter().for_each(frames::give_back);
    }

    unsafe fn bind_frames(&self, capability: &Capability, write: bool) -> Result<Range<u64>, Status> {
        let claim = capability.claim().ok_or(Status::BadArgument)?;
        // SAFETY: by the caller's promise nothing but words that others may change is made of the frames.
        unsafe { hypercall::page_bind(capability, if write { Rights::READ_WRITE } else { Rights::READ })? };
        Ok(claim.first..claim.first + claim.count)
    }

    unsafe fn unbind_frames(&self, frames: Range<u64>) {
        // SAFETY: by the caller's promise nobody uses them. If the kernel refuses, their owner has ended it.
        let _ = unsafe { hypercall::page_unbind(frames.start, frames.end - frames.start) };
    }

    fn lend_frames(&self, run: &FrameRun, write: bool) -> Result<Capability, Status> {
        let capability = run.capability.as_ref().ok_or(Status::NoSuch)?;
        let rights = if write { Rights::READ_WRITE } else { Rights::READ };
        hypercall::derive(capability, run.first, run.count, rights)
    }

    fn set_timer(&self, ticks: u64) {
        // The call has no argument that the kernel could refuse.
        let _ = hypercall::timer_set(ticks);
    }

    fn free_frames(&self) -> u64 {
        owners().free_frames.load(Ordering::Relaxed)
    }

    fn accounting(&self) -> &'static Accounting {
        information::accounting()
    }

    fn interrupt(&self, vector: u8) -> Option<u64> {
        if vector != VECTOR {
            return None;
        }
        let doorbell = VCPUS[core_number()].doorbell.load(Ordering::Acquire);
        // SAFETY: a pointer that is not null is valid for ever.
        Some(unsafe { doorbell.as_ref() }.map_or(0, |doorbell| doorbell.pending.swap(0, Ordering::AcqRel)))
    }

    fn cores(&self) -> Cores {
        Cores { count: start_info().cores, first: start_info().core }
    }

    unsafe fn start_core(&self, number: usize, core: u64, entry: CoreEntry) -> Result<(), Status> {
        let CoreEntry { instruction, stack, root, argument } = entry;
        // SAFETY: by the caller's promise.
        let made = unsafe { hypercall::vcpu_start(core, instruction, stack, root, argument)? };
        VCPUS[number].index.store(made.index, Ordering::Relaxed);
        VCPUS[number].doorbell.store(doorbell(made.doorbell_frame), Ordering::Release);
        Ok(())
    }

    fn core_ready(&self, number: usize) -> bool {
        !VCPUS[number].doorbell.load(Ordering::Acquire).is_null()
    }

    unsafe fn core_runs(&self, _number: usize) {}

    fn call_core(&self, number: usize) {
        if self.core_ready(number) {
            // The kernel refuses only an index that it has not given.
            let _ = hypercall::vcpu_wake(VCPUS[number].index.load(Ordering::Relaxed));
        }
    }

    fn open_disk(&self) -> Result<OpenDisk, DiskError> {
        disk::open()
    }

    fn open_network(&self, filters: &[Filter]) -> Result<Box<dyn NetPort>, NetError> {
        Ok(Box::new(net::open(filters)?))
    }

    /// HyperExo has no such device to give. The environment can use the processor's generator.
    fn random_bytes(&self, _bytes: &mut [u8]) -> Result<(), RandomError> {
        Err(RandomError::NoSource)
    }
}
