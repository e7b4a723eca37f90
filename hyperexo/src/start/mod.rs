//! From the boot loader to running environments, and to the end of the machine.

pub mod cores;
pub mod devices;
pub mod early;
pub mod settings;

use crate::cores::Core;
use crate::environment::Environments;
use crate::environment::ending::Ending;
use crate::kernel::Kernel;
use crate::launch::Share;
use crate::log;
use crate::machine::clock::Clock;
use crate::machine::console;
use crate::machine::console::CONSOLE;
use crate::machine::interrupt::{self, SIGNALS};
use crate::machine::map::{Access, Map, OutOfFrames};
use crate::machine::memory::{self, PhysicalMemory};
use crate::machine::tables::{TRAP_STACK_FRAMES, load_tables};
use crate::resource::capability::Authority;
use crate::resource::frame::table::{FrameEntry, FrameTable, Owner, Region as FrameRegion, regions};
use crate::resource::frame::{FreeMap, Pages, Public};
use crate::resource::slice::SliceVector;
use crate::virt::{self, VirtualizationError};
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use core::sync::atomic::AtomicU64;
use early::{Bump, MAX_FRAMES, MAX_GAPS};
use hyperexo_abi::accounting::Owners;
use hyperexo_abi::attachment::Attachment;
use hyperexo_abi::bundle::Bundle;
use hyperexo_abi::{FRAME_BYTES, FRAME_SHIFT, LARGE_FRAMES};
use hyperexo_hw::acpi::Machine;
use hyperexo_hw::apic::LocalApic;
use hyperexo_hw::boot::{BootInfo, IDENTITY_BYTES, Region, Regions};
use hyperexo_hw::button;
use hyperexo_hw::descriptor::TrapStacks;
use hyperexo_hw::power;
use hyperexo_hw::random;
use hyperexo_hw::serial::Serial;
use hyperexo_hw::sleep::PowerOff;
use hyperexo_hw::smp::{current_root, forget_translations};
use hyperexo_hw::time;
use settings::{End, Settings};
use spin::Once;

/// Bytes of the kernel's own heap: a base, and a share of the machine's memory for what grows with it
/// (virtual CPUs, extents).
const HEAP_BASE_BYTES: u64 = 512 << 10;
const HEAP_SHARE: u64 = 64;
const HEAP_SHARE_LIMIT_BYTES: u64 = 64 << 20;
/// The part of the heap that filters of packets may take.
const FILTER_SHARE: u64 = 4;
/// Memory below 1 MiB is the firmware's, whatever the map says.
const FIRMWARE: Region = Region { start: 0, end: 1 << 20 };
/// How everything ended, as the machine's exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every environment exited with 0.
    Success = 0,
    /// Some environment did not.
    GuestFailure = 1,
    /// The kernel could not do its work.
    KernelError = 2,
}

/// A bundle in the kernel's own file. The host tool writes its place there after the kernel was linked, so no
/// value that the compiler knows may be assumed.
#[used]
static ATTACHMENT: Attachment = Attachment::new();

/// What the image knows of itself.
pub struct Image {
    /// Physical memory of the kernel: code, data, boot stack.
    pub memory: Range<u64>,
    /// Of that, the constants: whole pages.
    pub constants: Range<u64>,
    /// Of that, the code: whole pages.
    pub code: Range<u64>,
    /// Of that, the stack of the first core: whole pages.
    pub stack: Range<u64>,
    /// Gives the allocator its memory (address, bytes), once.
    pub give_heap: unsafe fn(*mut u8, usize),
}

/// Runs the kernel.
///
/// # Safety
///
/// Called once, by the code of `boot_entry!`, with what it was given; `image` tells the truth.
pub unsafe fn main(protocol: u64, information: u64, image: &Image) -> ! {
    let boot_tsc = time::ticks();
    // SAFETY: ring 0, and the kernel is the only one to use the port.
    console::install(unsafe { Serial::new() });
    // SAFETY: passed on to the caller; nothing has been overwritten yet, and `early_memory` keeps it so.
    let boot = match unsafe { BootInfo::read(protocol, information) } {
        Ok(boot) => with_attachment(boot),
        Err(error) => {
            log!("error: {error}");
            finish(Outcome::KernelError, End::Exit);
        }
    };
    let settings =
        Settings::parse(boot.command_line, |word| log!("warning: kernel option '{word}' is not known"));
    // SAFETY: passed on to the caller.
    let outcome = unsafe { run(&boot, &settings, boot_tsc, image) };
    finish(outcome, settings.end);
}

/// What the boot loader told, with the bundle in the kernel's own file, if there is one, as the first module.
fn with_attachment(boot: BootInfo) -> BootInfo {
    let Some(bundle) = ATTACHMENT.bytes() else { return boot };
    let mut modules = Regions::default();
    modules.push(Region { start: bundle.start, end: bundle.end });
    boot.modules.as_slice().iter().for_each(|module| modules.push(*module));
    BootInfo { modules, ..boot }
}

/// # Safety
///
/// As [`main`].
unsafe fn run(boot: &BootInfo, settings: &Settings, boot_tsc: u64, image: &Image) -> Outcome {
    // SAFETY: passed on to the caller.
    let mut start = match unsafe { build(boot, settings, boot_tsc, image) } {
        Ok(start) => start,
        Err(error) => {
            log!("error: {error}");
            return Outcome::KernelError;
        }
    };
    let Start { kernel, processors, apic, heap_bytes } = &mut start;
    cores::start_all(kernel, processors.as_ref(), apic, settings);
    let count = kernel.slices.len();
    log!(
        "{} frames free, {count} core{}, tsc {} MHz, {}",
        kernel.pages.frames.free_frames(),
        if count == 1 { "" } else { "s" },
        kernel.clock.tsc_hz / 1_000_000,
        kernel.backend,
    );
    if !launch_all(kernel, boot, *heap_bytes) {
        return Outcome::KernelError;
    }
    CONSOLE.drain();
    let Start { kernel, apic, .. } = start;
    let backend = kernel.backend;
    let kernel = cores::share(kernel);
    Core::new(0, apic, backend, kernel).run(kernel);
    report(&kernel.lock())
}

/// A machine that is ready to start environments.
struct Start {
    kernel: Kernel,
    /// Processors of the machine, as its tables tell.
    processors: Option<Machine>,
    /// The local APIC, at the same address on every core.
    apic: LocalApic,
    /// Bytes of the kernel's heap.
    heap_bytes: u64,
}

/// Why the kernel can't start.
enum StartError {
    Memory(&'static str),
    Virtualization(VirtualizationError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Memory(what) => {
                write!(f, "no room below 4 GiB for {what}: give more memory, or under 300 GiB (QEMU's -m)")
            }
            StartError::Virtualization(error) => {
                write!(
                    f,
                    "{error}: QEMU needs -cpu max with TCG, or a host with nested virtualization; Bochs a model with VMX"
                )
            }
        }
    }
}

/// # Safety
///
/// As [`main`].
unsafe fn build(
    boot: &BootInfo,
    settings: &Settings,
    boot_tsc: u64,
    image: &Image,
) -> Result<Start, StartError> {
    // SAFETY: passed on to the caller.
    let Early { mut frames, memory, free_map, heap_bytes } = unsafe { early_memory(boot, image) }?;
    // SAFETY: ring 0; the tables are leaked and the stacks in frames of the kernel's, hence valid for ever;
    // the APIC is mapped by identity.
    let apic = unsafe {
        load_tables(protect(&mut frames, memory, image)?);
        let apic = LocalApic::enable();
        interrupt::install(apic);
        apic
    };
    apic.run_free();
    // SAFETY: ring 0, and nobody else uses the timer.
    let calibration = unsafe { time::calibrate(|| apic.timer_count()) };
    apic.one_shot(interrupt::TIMER_VECTOR, 0);
    let clock = Clock { tsc_hz: calibration.tsc_hz, boot_tsc, apic_hz: calibration.other_hz };
    // SAFETY: firmware tables are mapped by identity.
    let processors = unsafe { Machine::read(boot.rsdp) };
    if let Some(machine) = &processors {
        machine.power_off.map(|off| POWER_OFF.call_once(|| off));
        // SAFETY: ring 0, registers mapped by identity, and nobody else uses the button.
        unsafe { button::listen(machine.button, machine.io_apics(), interrupt::POWER_VECTOR, apic.id()) };
    }
    // SAFETY: ring 0, tables loaded, interrupts disabled.
    let backend = unsafe { virt::enable() };
    let backend = backend.map_err(StartError::Virtualization)?;
    let disk = devices::find_disk(boot, &mut frames, memory, &clock, &apic, settings);
    let net = devices::find_network(&mut frames, memory, &clock, &apic, draw_key());
    let owners_frame = frames.take_any().ok_or(StartError::Memory("the page of owners"))?;
    memory.clear(owners_frame);
    // SAFETY: atomics only, in a frame that the kernel keeps for ever.
    let owners = unsafe { memory.shared::<Owners>(owners_frame) };
    let public = Public { free_map, owners, owners_frame };
    let kernel = Kernel {
        pages: Pages::new(memory, frames, public, backend.entry_format()),
        disk,
        net,
        slices: Vec::from([SliceVector::default()]),
        environments: Environments::default(),
        authority: Authority::new(draw_key()),
        clock,
        backend,
        signals: &SIGNALS,
        slice_ticks: clock.ticks_of_us(settings.slice_us),
        console: &CONSOLE,
    };
    Ok(Start { kernel, processors, apic, heap_bytes })
}

/// Memory, once it is known.
struct Early {
    frames: FrameTable,
    memory: PhysicalMemory,
    free_map: FreeMap,
    /// Bytes of the kernel's heap.
    heap_bytes: u64,
}

/// Finds out which RAM there is and sets up the frame table, the heap and the map of all memory.
///
/// # Safety
///
/// As [`main`].
unsafe fn early_memory(boot: &BootInfo, image: &Image) -> Result<Early, StartError> {
    let mut taken: Regions<32> = Regions::default();
    taken.push(FIRMWARE);
    taken.push(Region { start: image.memory.start, end: image.memory.end });
    boot.modules.as_slice().iter().chain(boot.loader.as_slice()).for_each(|region| taken.push(*region));
    let mut gaps: Regions<MAX_GAPS> = Regions::default();
    early::for_each_gap(boot.memory.as_slice(), taken.as_slice(), |gap| gaps.push(gap));
    let end_frame = early::end_frame(boot.memory.as_slice());
    let beyond = boot.bytes_beyond(MAX_FRAMES << FRAME_SHIFT) >> 20;
    if beyond > 0 {
        log!("warning: {beyond} MiB of memory are not used: they lie above 512 GiB");
    }
    let mut bump = Bump::new(&gaps, IDENTITY_BYTES);
    let bump_start = bump.position();
    let mut take = |bytes: u64, what| bump.take(bytes).ok_or(StartError::Memory(what));

    let heap_bytes = HEAP_BASE_BYTES + ((end_frame << FRAME_SHIFT) / HEAP_SHARE).min(HEAP_SHARE_LIMIT_BYTES);
    let heap = take(heap_bytes, "the kernel's heap")?;
    // SAFETY: a gap in RAM that nobody uses, handed out once.
    unsafe { (image.give_heap)(heap as *mut u8, heap_bytes as usize) };
    let end = end_frame << FRAME_SHIFT;
    if end > IDENTITY_BYTES {
        // One directory per GiB and one table of pointers per 512 GiB, counted generously.
        let tables = (end - IDENTITY_BYTES).div_ceil(1 << 30) + end.div_ceil(1 << 39) + 1;
        let mut next = take(tables << FRAME_SHIFT, "page tables")? >> FRAME_SHIFT;
        // SAFETY: frames from the bump allocator lie below the part mapped at boot and are the kernel's for
        // ever; they are cleared before use.
        unsafe {
            let low = PhysicalMemory::new(IDENTITY_BYTES >> FRAME_SHIFT);
            memory::extend_identity_map(end, || {
                low.clear(next);
                next += 1;
                next - 1
            });
        }
    }
    // SAFETY: all RAM is mapped by identity now.
    let memory = unsafe { PhysicalMemory::new(end_frame) };
    let entries = take(end_frame * size_of::<FrameEntry>() as u64, "the frame table")?;
    let region_bytes = regions(end_frame) * size_of::<FrameRegion>() as u64;
    let region_entries = take(region_bytes, "the table of regions")?;
    let map_frames = end_frame.div_ceil(8 * FRAME_BYTES as u64);
    let map = take(map_frames << FRAME_SHIFT, "the map of free frames")?;
    (0..map_frames).for_each(|frame| memory.clear((map >> FRAME_SHIFT) + frame));
    // SAFETY: fresh pieces of the bump allocator, large enough, used for nothing else; the entries are plain
    // integers and are all written by `FrameTable::new` before they are read; the map is zeroed.
    let mut frames = unsafe {
        let entries = core::slice::from_raw_parts_mut(entries as *mut FrameEntry, end_frame as usize);
        let regions =
            core::slice::from_raw_parts_mut(region_entries as *mut FrameRegion, regions(end_frame) as usize);
        let words = map_frames as usize * FRAME_BYTES / 8;
        FrameTable::new(entries, regions, core::slice::from_raw_parts(map as *const AtomicU64, words))
    };
    for region in boot.memory.as_slice() {
        frames.reserve(region.start.div_ceil(FRAME_BYTES as u64)..region.end >> FRAME_SHIFT);
    }
    for gap in gaps.as_slice() {
        frames.release_kernel(gap.start >> FRAME_SHIFT..gap.end >> FRAME_SHIFT);
    }
    let used = bump.used_since(bump_start);
    frames.reserve(used.start >> FRAME_SHIFT..used.end >> FRAME_SHIFT);
    let free_map = FreeMap { first_frame: map >> FRAME_SHIFT, frames: map_frames };
    Ok(Early { frames, memory, free_map, heap_bytes })
}

/// Gives the parts of the image the access that they are for (see [`crate::machine::map`]), and returns
/// guarded stacks for the traps of the first core.
///
/// # Safety
///
/// The boot page tables are in use, by this core only; `image` tells the truth.
unsafe fn protect(
    frames: &mut FrameTable,
    memory: PhysicalMemory,
    image: &Image,
) -> Result<TrapStacks, StartError> {
    let map = Map::new(memory, current_root());
    let all = |range: &Range<u64>| range.start >> FRAME_SHIFT..range.end >> FRAME_SHIFT;
    let no_memory = |_| StartError::Memory("the kernel's own stacks and page tables");
    let run = take_run(frames, 3 * TRAP_STACK_FRAMES).ok_or(no_memory(OutOfFrames))?;
    map.set(all(&image.code), Access::Code, || new_table(frames, memory)).map_err(no_memory)?;
    map.set(all(&image.constants), Access::Read, || new_table(frames, memory)).map_err(no_memory)?;
    // What shares large pages with them, and then all that is still in large pages.
    let start = all(&image.memory).start / LARGE_FRAMES * LARGE_FRAMES;
    let end = all(&image.memory).end.next_multiple_of(LARGE_FRAMES);
    for rest in [start..all(&image.constants).start, all(&image.code).end..end] {
        map.set(rest, Access::ReadWrite, || new_table(frames, memory)).map_err(no_memory)?;
    }
    map.forbid_execution(frames.len().max(IDENTITY_BYTES >> FRAME_SHIFT));
    let stack = |number: u64| run + number * TRAP_STACK_FRAMES;
    let guards = [all(&image.stack).start, stack(0), stack(1), stack(2)];
    for guard in guards {
        map.set(guard..guard + 1, Access::Nothing, || new_table(frames, memory)).map_err(no_memory)?;
    }
    forget_translations();
    let top = |number: u64| stack(number + 1) << FRAME_SHIFT;
    Ok(TrapStacks { exception: top(0), interrupt: top(1), critical: top(2) })
}

/// Adjacent frames for the kernel, for ever.
pub fn take_run(frames: &mut FrameTable, count: u64) -> Option<u64> {
    let first = frames.find(count, 1)?;
    let generation = frames.fresh_generation();
    frames.take(Owner::Kernel, first..first + count, generation).ok()?;
    Some(first)
}

/// A frame for a page table.
pub fn new_table(frames: &mut FrameTable, memory: PhysicalMemory) -> Option<u64> {
    let frame = frames.take_any()?;
    memory.clear(frame);
    Some(frame)
}

/// A key that nobody can guess: from the processor's generator, and from the moments at which its steps are
/// taken. Without a generator, or with a broken one, the moments alone must do, which is said: somebody who
/// knows this machine's timing could search for them.
fn draw_key() -> [u8; 16] {
    use core::hash::Hasher;
    let mut key = [0; 16];
    let mut generated = true;
    for half in key.chunks_exact_mut(8) {
        let mut hasher = siphasher::sip::SipHasher24::new();
        for _ in 0..64 {
            hasher.write_u64(time::ticks());
            match random::number() {
                Some(number) => hasher.write_u64(number),
                None => generated = false,
            }
        }
        half.copy_from_slice(&hasher.finish().to_le_bytes());
    }
    if !generated {
        log!("warning: no RDRAND that works: capabilities are sealed with a key drawn from timing alone");
    }
    key
}

/// Makes environments of all images in the bundle. Returns whether all is well.
fn launch_all(kernel: &mut Kernel, boot: &BootInfo, heap_bytes: u64) -> bool {
    let Some(module) = boot.modules.as_slice().first() else {
        log!("error: no bundle of images: pass one with -initrd (or as the first Multiboot2 module)");
        return false;
    };
    // SAFETY: the boot loader put the module there; its frames are the kernel's (`early_memory`) until they
    // are released below, when nothing refers to them any more.
    let bytes = unsafe {
        core::slice::from_raw_parts(module.start as *const u8, (module.end - module.start) as usize)
    };
    let bundle = match Bundle::parse(bytes) {
        Ok(bundle) => bundle,
        Err(error) => {
            log!("error: {error}");
            return false;
        }
    };
    let networked = (0..bundle.len())
        .filter_map(|index| bundle.image(index).ok())
        .filter(|image| image.entry.network != 0)
        .count();
    let share = Share { filter_bytes: (heap_bytes / FILTER_SHARE) as usize };
    if let Err(status) = kernel.expect(bundle.len(), networked, share) {
        log!("error: no room for {} environments: {status}", bundle.len());
        return false;
    }
    for index in 0..bundle.len() {
        let image = match bundle.image(index) {
            Ok(image) => image,
            Err(error) => {
                log!("error: {error}");
                return false;
            }
        };
        if let Err(error) = kernel.launch(&image) {
            log!("error: {}: {error}", image.name);
            return false;
        }
    }
    kernel.pages.frames.release_kernel(module.start.div_ceil(FRAME_BYTES as u64)..module.end >> FRAME_SHIFT);
    true
}

/// Writes the accounts. Returns what they amount to.
fn report(kernel: &Kernel) -> Outcome {
    let mut outcome = Outcome::Success;
    for environment in kernel.environments.iter() {
        let peak = kernel.pages.holding(environment.id).map_or(0, |holding| holding.peak_frames);
        log!("{}", environment.accounting.report(&environment.name, peak));
        // One line at a time: together they may be longer than the console's queue.
        CONSOLE.drain();
        if environment.ending != Some(Ending::Exited(0)) {
            outcome = Outcome::GuestFailure;
        }
    }
    outcome
}

/// How the machine is switched off, once its tables have been read.
static POWER_OFF: Once<PowerOff> = Once::new();

/// Ends the machine, or halts it for ever.
pub fn finish(outcome: Outcome, end: End) -> ! {
    log!("finished: status {}", outcome as u8);
    CONSOLE.drain();
    if end == End::Exit {
        // SAFETY: ring 0; registers in memory lie below 4 GiB, which is mapped by identity.
        unsafe { power::end(outcome as u8, POWER_OFF.get()) };
    }
    loop {
        // SAFETY: halts this core with interrupts disabled.
        unsafe { core::arch::asm!("cli", "hlt") };
    }
}
