//! HyperExo as the host: everything by hypercall and by the pages that [`StartInfo`] names.

pub(crate) mod disk;
mod net;

use super::{Area, CoreEntry, Cores, Facts, FrameRun, Host, OpenDisk, Platform};
use crate::disk::DiskError;
use crate::net::{NetError, NetPort};
use crate::random::RandomError;
use crate::{hypercall, memory};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use hyperexo_abi::accounting::{Accounting, Owners};
use hyperexo_abi::capability::{Capability, Rights};
use hyperexo_abi::hypercall::{MAX_ALLOCATION_FRAMES, Status};
use hyperexo_abi::net::Filter;
use hyperexo_abi::start::{HYPERCALL_VMMCALL, MAGIC, StartInfo};
use hyperexo_abi::upcall::{Doorbell, VECTOR};
use hyperexo_abi::{ANY, FRAME_SHIFT, LINEAR_BASE, STACK_TOP};
use hyperexo_hw::descriptor::{MAX_NUMBERS, core_number};
use hyperexo_hw::time::ticks;
use spin::Once;

/// The pages that the kernel shares with this environment.
struct Pages {
    start: &'static StartInfo,
    accounting: &'static Accounting,
    owners: &'static Owners,
    free_map: &'static [AtomicU64],
}

static PAGES: Once<Pages> = Once::new();

/// What the kernel told of a virtual CPU.
struct Vcpu {
    /// Its index.
    index: AtomicU64,
    /// Where it is called; null as long as there is no such virtual CPU. A pointer that is not null is valid
    /// for ever.
    doorbell: AtomicPtr<Doorbell>,
}

static VCPUS: [Vcpu; MAX_NUMBERS] =
    [const { Vcpu { index: AtomicU64::new(0), doorbell: AtomicPtr::new(core::ptr::null_mut()) } };
        MAX_NUMBERS];

/// The host as a value.
struct Exo;

/// Reads the start information and makes HyperExo the platform.
///
/// `false` if `magic` (register `rsi` at entry) or the page itself say that this is not HyperExo.
///
/// # Safety
/// If `magic` is [`MAGIC`], the state must be that described in [`hyperexo_abi::start`]: `physical` is the
/// address of a [`StartInfo`], and the linear map reaches it and the frames it names.
pub(crate) unsafe fn start(physical: u64, magic: u64) -> bool {
    if magic != MAGIC {
        return false;
    }
    let linear = |frame: u64| LINEAR_BASE + (frame << FRAME_SHIFT);
    // SAFETY: by the caller's promise there is a `StartInfo` in the linear map, in a frame of this
    // environment that nobody writes any more.
    let start = unsafe { &*((LINEAR_BASE + physical) as *const StartInfo) };
    if start.magic != MAGIC {
        return false;
    }
    // SAFETY: the kernel has bound these frames for the life of the environment, and writes them through
    // atomics only; all bit patterns are valid for the types.
    let pages = unsafe {
        Pages {
            start,
            accounting: &*(linear(start.accounting_frame) as *const Accounting),
            owners: &*(linear(start.owners_frame) as *const Owners),
            free_map: core::slice::from_raw_parts(
                linear(start.free_map_first_frame) as *const AtomicU64,
                (start.free_map_frames << FRAME_SHIFT) as usize / size_of::<AtomicU64>(),
            ),
        }
    };
    VCPUS[0].doorbell.store(linear(start.doorbell_frame) as *mut Doorbell, Ordering::Release);
    PAGES.call_once(|| pages);
    hypercall::choose_instruction(start.hypercall == HYPERCALL_VMMCALL);
    super::set(&Exo, facts(start));
    true
}

/// Text in a field that is padded with zeros; what is not UTF-8 is left out.
fn text(bytes: &'static [u8]) -> &'static str {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    match core::str::from_utf8(&bytes[..end]) {
        Ok(text) => text,
        Err(error) => core::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    }
}

fn facts(start: &'static StartInfo) -> Facts {
    // What a boot loader would need of the image, the kernel has done.
    let boot = memory::boot_area();
    let frame_of = |address: u64| (start.image_address + (address - start.image_virtual)) >> FRAME_SHIFT;
    let line_bytes = (start.command_line_bytes as usize).min(start.command_line.len());
    Facts {
        name: text(&start.name),
        command_line: text(&start.command_line[..line_bytes]),
        tsc_hz: start.tsc_hz.max(1),
        boot_tsc: start.boot_tsc,
        memory_end_frame: start.memory_end_frame,
        quota_frames: start.quota_frames,
        image: Area {
            virtual_start: start.image_virtual,
            physical_start: start.image_address,
            bytes: start.image_bytes,
        },
        stack: Area {
            virtual_start: STACK_TOP - start.stack_bytes,
            physical_start: start.stack_address,
            bytes: start.stack_bytes,
        },
        devices: 0..0,
        keeps_start_tables: false,
        unused_frames: frame_of(boot.start)..frame_of(boot.end),
    }
}

fn pages() -> &'static Pages {
    PAGES.get().expect("runs only as an environment of HyperExo")
}

/// What the kernel told this environment at its start.
///
/// # Panics
/// If the image does not run as an environment of HyperExo. So do the other functions of this module.
pub fn start_info() -> &'static StartInfo {
    pages().start
}

/// Frames and blocks held by each environment.
pub fn owners() -> &'static Owners {
    pages().owners
}

/// The free-frame bitmap: bit `n % 64` of word `n / 64` is set when frame `n` belongs to nobody.
pub fn free_map() -> &'static [AtomicU64] {
    pages().free_map
}

/// Binds frames that have just been allocated, read-write; returns the first. Those that can't be bound are
/// given back.
fn bind_fresh(capability: &Capability) -> Result<u64, Status> {
    let claim = capability.claim().ok_or(Status::BadArgument)?;
    // SAFETY: the frames are fresh: no Rust object lies in them.
    match unsafe { hypercall::page_bind(capability, Rights::READ_WRITE) } {
        Ok(()) => Ok(claim.first),
        Err(status) => {
            give_back(capability);
            Err(status)
        }
    }
}

/// Gives frames back that nobody uses.
fn give_back(capability: &Capability) {
    // SAFETY: callers pass frames in which no Rust object lies: fresh ones, or those of somebody who promises
    // it. If the kernel refuses, they stay ours, unused.
    let _ = unsafe { hypercall::page_free(capability) };
}

/// Allocates more adjacent frames than one call gives: finds them in the map of free frames, and takes them
/// by number. If somebody else takes one of them first, looks again.
fn allocate_long_run(count: u64, alignment: u64) -> Result<u64, Status> {
    /// Times that others may be faster.
    const TRIES: usize = 8;
    if count > start_info().quota_frames {
        return Err(Status::QuotaExceeded);
    }
    let mut last = Status::Exhausted;
    for _ in 0..TRIES {
        let words = free_map().iter().map(|word| word.load(Ordering::Relaxed));
        let first = free_run(words, count, alignment).ok_or(Status::Exhausted)?;
        match take_run(first, count) {
            Ok(()) => return Ok(first),
            Err(Status::InUse) => last = Status::InUse,
            Err(status) => return Err(status),
        }
    }
    Err(last)
}

/// Allocates and binds particular frames, part by part; on an error none of them. The heap calls this to
/// grow, so the parts are remembered on the stack: a level for each, of which a gigabyte makes 64.
fn take_run(first: u64, count: u64) -> Result<(), Status> {
    let part = MAX_ALLOCATION_FRAMES.min(count);
    let capability = hypercall::page_alloc(first, part, 1)?;
    bind_fresh(&capability)?;
    if part == count {
        return Ok(());
    }
    take_run(first + part, count - part).inspect_err(|_| give_back(&capability))
}

/// The lowest run of `count` frames that are free by the words of a map, whose first is a multiple of
/// `alignment`.
fn free_run(words: impl Iterator<Item = u64>, count: u64, alignment: u64) -> Option<u64> {
    let bits = words.flat_map(|word| (0..64).map(move |bit| word >> bit & 1 != 0));
    let mut first = None;
    for (frame, free) in (0u64..).zip(bits) {
        if !free {
            first = None;
        } else if first.is_none() && frame.is_multiple_of(alignment) {
            first = Some(frame);
        }
        if let Some(first) = first.filter(|first| frame - first + 1 == count) {
            return Some(first);
        }
    }
    None
}

impl Platform for Exo {
    fn host(&self) -> Host {
        Host::HyperExo { environment: pages().start.environment }
    }

    fn console_write(&self, physical: u64, bytes: u64) {
        /// How long a console that takes nothing is waited for before the rest is given up, in seconds.
        const PATIENCE_S: u64 = 2;
        let patience = PATIENCE_S * pages().start.tsc_hz;
        let (mut at, end) = (physical, physical + bytes);
        let mut since = ticks();
        while at < end {
            match hypercall::console_write(at, end - at) {
                Ok(taken) if taken > 0 => {
                    at += taken;
                    since = ticks();
                    continue;
                }
                Ok(_) | Err(Status::Busy) if ticks().saturating_sub(since) < patience => {
                    // Others may use the core until there is room.
                    let _ = hypercall::yield_to(ANY);
                }
                // A console that refuses can't be told about.
                _ => return,
            }
        }
    }

    fn exit(&self, code: u32) -> ! {
        hypercall::exit(code)
    }

    fn allocate_frames(&self, count: u64, alignment: u64) -> Result<u64, Status> {
        if count > MAX_ALLOCATION_FRAMES {
            return allocate_long_run(count, alignment);
        }
        let capability = hypercall::page_alloc(ANY, count, alignment)?;
        bind_fresh(&capability)
    }

    fn take_frames(&self, first: u64, count: u64, alignment: u64) -> Result<FrameRun, Status> {
        let capability = hypercall::page_alloc(first, count, alignment)?;
        let first = bind_fresh(&capability)?;
        Ok(FrameRun { first, count, capability: Some(capability) })
    }

    unsafe fn give_back_frames(&self, run: &FrameRun) {
        // By the caller's promise they are what this wants.
        run.capability.iter().for_each(give_back);
    }

    fn set_timer(&self, ticks: u64) {
        // The call has no argument that it could refuse.
        let _ = hypercall::timer_set(ticks);
    }

    fn free_frames(&self) -> u64 {
        owners().free_frames.load(Ordering::Relaxed)
    }

    fn accounting(&self) -> &'static Accounting {
        pages().accounting
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
        Cores { count: pages().start.cores, first: pages().start.core }
    }

    unsafe fn start_core(&self, number: usize, core: u64, entry: CoreEntry) -> Result<(), Status> {
        let CoreEntry { instruction, stack, root, argument } = entry;
        // SAFETY: by the caller's promise.
        let made = unsafe { hypercall::vcpu_start(core, instruction, stack, root, argument)? };
        VCPUS[number].index.store(made.index, Ordering::Relaxed);
        // The kernel keeps the frame bound for ever, and any bits are a doorbell.
        let doorbell = (LINEAR_BASE + (made.doorbell_frame << FRAME_SHIFT)) as *mut Doorbell;
        VCPUS[number].doorbell.store(doorbell, Ordering::Release);
        Ok(())
    }

    fn core_ready(&self, number: usize) -> bool {
        !VCPUS[number].doorbell.load(Ordering::Acquire).is_null()
    }

    unsafe fn core_runs(&self, _number: usize) {}

    fn call_core(&self, number: usize) {
        if self.core_ready(number) {
            // The kernel refuses only what it has not made itself.
            let _ = hypercall::vcpu_wake(VCPUS[number].index.load(Ordering::Relaxed));
        }
    }

    fn open_disk(&self) -> Result<OpenDisk, DiskError> {
        disk::open()
    }

    fn open_network(&self, filters: &[Filter]) -> Result<Box<dyn NetPort>, NetError> {
        Ok(Box::new(net::open(filters)?))
    }

    /// HyperExo has no such device to give; the processor's generator is the environment's too.
    fn random_bytes(&self, _bytes: &mut [u8]) -> Result<(), RandomError> {
        Err(RandomError::NoSource)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found_in_the_map() {
        // Frames 3 to 69 and from 72 on are free.
        let map = [!0 << 3, !(0b11 << 6), !0];
        let find = |count, alignment| free_run(map.into_iter(), count, alignment);
        assert_eq!(find(1, 1), Some(3));
        assert_eq!(find(67, 1), Some(3));
        assert_eq!(find(68, 1), Some(72));
        assert_eq!(find(64, 64), Some(128));
        assert_eq!(find(65, 64), None);
        assert_eq!(find(60, 4), Some(4));
        assert_eq!(find(66, 4), Some(4));
        assert_eq!(find(67, 4), Some(72));
        assert_eq!(find(64, 32), Some(96));
        assert_eq!(find(121, 1), None);
    }

    #[test]
    fn text_ends_at_zero_or_at_damage() {
        assert_eq!(text(b"hello\0\0x"), "hello");
        assert_eq!(text(b"full"), "full");
        assert_eq!(text(b"ab\xff\xfe"), "ab");
    }
}
