//! Looks the machine up at the start: memory, clock, processors, and what the loader tells.

use super::clock::Clock;
use super::console;
use super::frames::{FREE, FreeFrames};
use super::machine::{self, Machine};
use super::options::Options;
use super::places::Places;
use super::processors::Processors;
use crate::memory::{self, paging};
use crate::platform::{Area, Facts};
use hyperexo_abi::{FRAME_BYTES, FRAME_SHIFT, LINEAR_BASE, STACK_TOP};
use hyperexo_hw::apic::LocalApic;
use hyperexo_hw::boot::{BootError, BootInfo, IDENTITY_BYTES, Region};
use hyperexo_hw::smp::{self, TRAMPOLINE_ADDRESS};
use hyperexo_hw::{acpi, linear, time};

/// Most physical memory that is used: as far as the top entry of the linear map reaches.
const MOST_FRAMES: u64 = 1 << 27;

unsafe extern "C" {
    // The boot stack, from `boot_entry!`. Only the addresses mean anything.
    static boot_stack: u8;
    static boot_stack_end: u8;
}

/// Why the unikernel can't start.
pub(super) enum StartError {
    /// What the loader tells can't be read.
    Boot(BootError),
    /// There is no free memory.
    NoMemory,
}

impl core::fmt::Display for StartError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            StartError::Boot(error) => error.fmt(f),
            StartError::NoMemory => {
                f.write_str("the machine has no memory besides the image: give it more (QEMU's -m)")
            }
        }
    }
}

/// Starts the console and looks the machine up. The unikernel is called `name` unless the command line gives
/// another name.
///
/// # Safety
///
/// Called once, by the code of `boot_entry!`, with what it was given.
pub(super) unsafe fn look_up(
    protocol: u64,
    information: u64,
    name: &'static str,
) -> Result<Facts, StartError> {
    let boot_tsc = time::ticks();
    let boot_root = smp::current_root();
    // SAFETY: privilege level 0, on the tables of the boot code, which are ours and mapped by identity. They
    // get a second way to the first 4 GiB, and nothing else is used before there are tables of our own. The
    // port is nobody else's.
    unsafe {
        let top = boot_root as *mut u64;
        top.add(paging::root_index(LINEAR_BASE)).write_volatile(top.read_volatile());
        linear::set_base(LINEAR_BASE);
        console::start();
    }
    // SAFETY: by the caller's promise. Nothing of the loader's has been overwritten: `take_memory` keeps it.
    let boot = unsafe { BootInfo::read(protocol, information) }.map_err(StartError::Boot)?;
    // SAFETY: the loader's text is kept for good (`take_memory`), and its linear address outlives the boot
    // code's tables.
    let command_line = unsafe { at_linear_address(boot.command_line) };
    let options = Options::parse(command_line, name, |word| {
        console::complain(format_args!("warning: option '{word}' is not known"));
    });
    console::obey(&options);
    let frames = take_memory(&boot);
    if frames.count() == 0 {
        return Err(StartError::NoMemory);
    }
    let (quota_frames, memory_end_frame) = (frames.count(), frames.end());
    *FREE.lock() = frames;
    machine::accounting();
    // SAFETY: privilege level 0, interrupts disabled, and the firmware's tables lie below 4 GiB, mapped.
    let machine = unsafe { find_machine(&boot, options, command_line, boot_root) };
    Ok(facts(&boot, machine, boot_tsc, quota_frames, memory_end_frame))
}

/// Finds the machine's parts, and says what they are.
///
/// # Safety
///
/// Called once, at privilege level 0 with interrupts disabled, while the firmware's tables are mapped.
unsafe fn find_machine(
    boot: &BootInfo,
    options: Options,
    command_line: &'static str,
    boot_root: u64,
) -> &'static Machine {
    // SAFETY: by the caller's promise. All vectors get handlers before interrupts are enabled.
    let (tables, apic) = unsafe { (acpi::Machine::read(boot.rsdp), LocalApic::enable_best()) };
    // SAFETY: privilege level 0, and nobody else uses the timers.
    let clock = unsafe { Clock::start(&apic) };
    let machine = machine::set(Machine {
        options,
        apic,
        clock,
        processors: Processors::new(tables.as_ref(), apic.id(), options.cores),
        devices: Places::new(tables.as_ref(), command_line),
        power_off: tables.as_ref().and_then(|tables| tables.power_off),
        button: tables.as_ref().and_then(|tables| tables.button),
        boot_root,
    });
    let count = machine.processors.count();
    console::note(format_args!(
        "{} frames free, {count} core{}, tsc {} MHz by {}",
        FREE.lock().count(),
        if count == 1 { "" } else { "s" },
        clock.tsc_hz / 1_000_000,
        clock.source,
    ));
    machine
}

/// The linear address of a text that is now reached by its physical address.
///
/// # Safety
///
/// The linear map shows it, for good, and nobody changes it.
unsafe fn at_linear_address(text: &str) -> &'static str {
    // SAFETY: by the caller's promise. The bytes are the same, hence UTF-8.
    unsafe {
        let bytes = core::slice::from_raw_parts(linear::pointer(text.as_ptr() as u64), text.len());
        core::str::from_utf8_unchecked(bytes)
    }
}

fn facts(
    boot: &BootInfo,
    machine: &Machine,
    boot_tsc: u64,
    quota_frames: u64,
    memory_end_frame: u64,
) -> Facts {
    let image = memory::image();
    let (stack, stack_end) = (&raw const boot_stack as u64, &raw const boot_stack_end as u64);
    let low =
        boot.memory.as_slice().iter().map(|region| region.end).filter(|end| *end <= IDENTITY_BYTES).max();
    let low_end = low.unwrap_or(0).next_multiple_of(paging::LARGE_BYTES);
    Facts {
        name: machine.options.name,
        command_line: machine.options.words,
        tsc_hz: machine.clock.tsc_hz,
        boot_tsc,
        memory_end_frame,
        quota_frames,
        // The loader put it where it is linked.
        image: Area {
            virtual_start: image.start,
            physical_start: image.start,
            bytes: image.end - image.start,
        },
        stack: Area {
            virtual_start: STACK_TOP - (stack_end - stack),
            physical_start: stack,
            bytes: stack_end - stack,
        },
        devices: low_end.max(linear::DEVICE_REGISTERS.start)..linear::DEVICE_REGISTERS.end,
        keeps_start_tables: true,
        unused_frames: 0..0,
    }
}

/// The free memory: what the loader calls usable, except for the image, the loader's own data, the page at 0,
/// and the page in which other processors start.
fn take_memory(boot: &BootInfo) -> FreeFrames {
    let image = memory::image();
    let mut free = FreeFrames::new();
    let frame = FRAME_BYTES as u64;
    for region in boot.memory.as_slice() {
        let first = region.start.div_ceil(frame);
        free.add(first..(region.end / frame).min(MOST_FRAMES).max(first));
    }
    let page = |address: u64| Region { start: address, end: address + frame };
    let own = [Region { start: image.start, end: image.end }, page(0), page(TRAMPOLINE_ADDRESS)];
    let told = boot.loader.as_slice().iter().chain(boot.modules.as_slice());
    for region in own.iter().chain(told) {
        free.remove(region.start / frame..region.end.div_ceil(frame));
    }
    let beyond = boot.bytes_beyond(MOST_FRAMES << FRAME_SHIFT) >> 20;
    if beyond > 0 {
        console::complain(format_args!(
            "warning: {beyond} MiB of memory are not used: they lie above 512 GiB"
        ));
    }
    if free.lost() + (boot.memory.dropped as u64) > 0 {
        console::complain(format_args!("warning: memory in too many pieces, some of it is not used"));
    }
    free
}
