//! The machine itself as the host: QEMU, KVM, or whatever boots by PVH or Multiboot2, without the exokernel.
//!
//! ```text
//! boot loader ─ boot_entry! ─ start ─ memory, clock, processors looked up ─ crate::entry, as under HyperExo
//!                           on the boot stack, first 4 GiB mapped by identity and at LINEAR_BASE
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`options`] | the command line |
//! | [`console`] | the serial line, or virtio-console |
//! | [`frames`] | free memory |
//! | [`clock`] | time stamp counter and timer |
//! | [`cores`] | the other processors, and calls between them |
//! | [`devices`] | where devices are, and how they interrupt |
//! | [`disk`] | virtio-blk |
//! | [`net`] | virtio-net |
//! | [`random`] | virtio-rng |
//!
//! The page tables of the boot code are kept: other processors start with them ([`cores`]).

mod clock;
mod console;
mod cores;
mod devices;
mod disk;
mod frames;
mod net;
mod options;
mod random;

use super::{Area, CoreEntry, Cores, Facts, FrameRun, Host, OpenDisk, Platform};
use crate::disk::DiskError;
use crate::lock::Masked;
use crate::net::{NetError, NetPort};
use crate::random::RandomError;
use alloc::boxed::Box;
use clock::Clock;
use frames::FreeFrames;
use hyperexo_abi::accounting::Accounting;
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::net::Filter;
use hyperexo_abi::upcall::Cause;
use hyperexo_abi::{ANY, FRAME_BYTES, FRAME_SHIFT, LINEAR_BASE, STACK_TOP};
use hyperexo_hw::apic::{LocalApic, SPURIOUS_VECTOR};
use hyperexo_hw::boot::{BootInfo, IDENTITY_BYTES, Region};
use hyperexo_hw::sleep::PowerOff;
use hyperexo_hw::smp::TRAMPOLINE_ADDRESS;
use hyperexo_hw::{acpi, linear, power, smp, time};
use options::{End, Options};
use spin::Once;

/// Vectors of this platform, from the one of upcalls on.
mod vector {
    use hyperexo_abi::upcall;

    /// Another core calls.
    pub const WAKE: u8 = upcall::VECTOR;
    /// The local APIC's timer.
    pub const TIMER: u8 = WAKE + 1;
    /// The disk.
    pub const DISK: u8 = WAKE + 2;
    /// The unikernel has ended on another core.
    pub const HALT: u8 = WAKE + 3;
    /// The network device.
    pub const NET: u8 = WAKE + 4;
    /// Where the masked 8259s would interrupt.
    pub const LEGACY: core::ops::RangeInclusive<u8> = 0x20..=0x2f;
}

/// Most physical memory that is used: as far as the top entry of the linear map reaches.
const MOST_FRAMES: u64 = 1 << 27;
/// Bytes of a large page.
const LARGE_BYTES: u64 = crate::paging::LARGE_BYTES;

unsafe extern "C" {
    // The boot stack, from `boot_entry!`. Only the addresses mean anything.
    static boot_stack: u8;
    static boot_stack_end: u8;
}

/// What is known of the machine.
struct Machine {
    options: Options,
    apic: LocalApic,
    clock: Clock,
    processors: cores::Processors,
    devices: devices::Places,
    /// How it is switched off.
    power_off: Option<PowerOff>,
    /// Physical address of the boot code's top page table.
    boot_root: u64,
}

static MACHINE: Once<Machine> = Once::new();
static FRAMES: Masked<FreeFrames> = Masked::new(FreeFrames::new());
/// Counted as HyperExo does; there are no exits to count.
static ACCOUNTING: Once<Accounting> = Once::new();

/// The host as a value.
struct Direct;

fn machine() -> &'static Machine {
    MACHINE.get().expect("runs directly on a machine")
}

/// Why the unikernel can't start.
enum StartError {
    Boot(hyperexo_hw::boot::BootError),
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

/// Looks the machine up and makes it the platform. If that is not possible, says so and ends.
///
/// # Safety
/// Called once, by the code of `boot_entry!`, with what it was given. `name` is the unikernel's unless the
/// command line gives another.
pub(crate) unsafe fn start(protocol: u64, information: u64, name: &'static str) {
    let boot_tsc = time::ticks();
    let boot_root = smp::current_root();
    // SAFETY: privilege level 0, on the tables of the boot code, which are ours and mapped by identity; they
    // get a second way to the first 4 GiB, which is all that is used before there are tables of our own. The
    // port is nobody else's.
    unsafe {
        let top = boot_root as *mut u64;
        top.add(crate::paging::root_index(LINEAR_BASE)).write_volatile(top.read_volatile());
        linear::set_base(LINEAR_BASE);
        console::start();
    }
    // SAFETY: by the caller's promise; nothing of the loader's has been overwritten, as `take_memory` keeps
    // it.
    let facts = unsafe { look_up(protocol, information, name, boot_tsc, boot_root) };
    match facts {
        Ok(facts) => super::set(&Direct, facts),
        Err(error) => {
            console::complain(format_args!("error: {error}"));
            finish(End::Exit, 2);
        }
    }
}

/// # Safety
/// As [`start`].
unsafe fn look_up(
    protocol: u64,
    information: u64,
    name: &'static str,
    boot_tsc: u64,
    boot_root: u64,
) -> Result<Facts, StartError> {
    // SAFETY: by the caller's promise.
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
    *FRAMES.lock() = frames;
    ACCOUNTING.call_once(Accounting::default);
    // SAFETY: the firmware's tables lie below 4 GiB, mapped. Privilege level 0, interrupts disabled; all
    // vectors get handlers before they are enabled.
    let (tables, apic) = unsafe { (acpi::Machine::read(boot.rsdp), LocalApic::enable_best()) };
    // SAFETY: privilege level 0, and nobody else uses the timers.
    let clock = unsafe { Clock::start(&apic) };
    let machine = MACHINE.call_once(|| Machine {
        options,
        apic,
        clock,
        processors: cores::Processors::new(tables.as_ref(), apic.id(), options.cores),
        devices: devices::Places::new(tables.as_ref(), command_line),
        power_off: tables.as_ref().and_then(acpi::Machine::power_off),
        boot_root,
    });
    let count = machine.processors.count();
    console::note(format_args!(
        "{quota_frames} frames free, {count} core{}, tsc {} MHz by {}",
        if count == 1 { "" } else { "s" },
        clock.tsc_hz / 1_000_000,
        clock.source,
    ));
    Ok(facts(&boot, &options, &clock, boot_tsc, quota_frames, memory_end_frame))
}

/// Text that is now reached by its physical address, where it can be reached later too.
///
/// # Safety
/// The linear map shows it, for good, and nobody changes it.
unsafe fn at_linear_address(text: &str) -> &'static str {
    // SAFETY: by the caller's promise; the bytes are the same, hence UTF-8.
    unsafe {
        let bytes = core::slice::from_raw_parts(linear::pointer(text.as_ptr() as u64), text.len());
        core::str::from_utf8_unchecked(bytes)
    }
}

fn facts(
    boot: &BootInfo,
    options: &Options,
    clock: &Clock,
    boot_tsc: u64,
    quota_frames: u64,
    memory_end_frame: u64,
) -> Facts {
    let image = crate::memory::image();
    let (stack, stack_end) = (&raw const boot_stack as u64, &raw const boot_stack_end as u64);
    let low =
        boot.memory.as_slice().iter().map(|region| region.end).filter(|end| *end <= IDENTITY_BYTES).max();
    let low_end = low.unwrap_or(0).next_multiple_of(LARGE_BYTES);
    Facts {
        name: options.name,
        command_line: options.words,
        tsc_hz: clock.tsc_hz,
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

/// The free memory: what the loader calls usable, without the image, the loader's own data, the page at 0,
/// and the one in which other processors start.
fn take_memory(boot: &BootInfo) -> FreeFrames {
    let image = crate::memory::image();
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
    if free.lost() + (boot.memory.dropped as u64) > 0 {
        console::complain(format_args!("warning: memory in too many pieces, some of it is not used"));
    }
    free
}

/// Fills a frame of ours with zeros.
fn clear(frame: u64) {
    // SAFETY: callers pass frames just taken from the free ones: RAM in the linear map, used by nobody.
    unsafe { linear::pointer::<[u8; FRAME_BYTES]>(frame << FRAME_SHIFT).write_bytes(0, 1) };
}

/// Ends the machine, or halts it for ever. `status` becomes QEMU's exit status 2S + 1.
fn finish(end: End, status: u8) -> ! {
    console::drain();
    if end == End::Exit {
        let off = MACHINE.get().and_then(|machine| machine.power_off.as_ref());
        // SAFETY: privilege level 0; the registers of devices are mapped, by the boot code's tables and by
        // ours.
        unsafe { power::end(status, off) };
    }
    cores::halt()
}

impl Platform for Direct {
    fn host(&self) -> Host {
        Host::Machine
    }

    fn settle(&self) {
        // SAFETY: descriptor tables are loaded, in which NMIs have a handler and a stack.
        unsafe { machine().apic.accept_nmi() };
        console::settle(machine());
    }

    fn console_write(&self, physical: u64, bytes: u64) {
        // SAFETY: the text lies in memory of this image, in the linear map, and the caller lends it.
        console::write(unsafe { core::slice::from_raw_parts(linear::pointer(physical), bytes as usize) });
    }

    fn exit(&self, code: u32) -> ! {
        let machine = machine();
        cores::halt_others();
        console::note(format_args!("{} ended: exit code {}", machine.options.name, code as i32));
        let most = crate::memory::quota_frames() - self.free_frames();
        console::note(format_args!("{}", self.accounting().report(machine.options.name, most)));
        console::note(format_args!("finished: status {}", u8::from(code != 0)));
        // Seven bits are left of it; what is no success must stay so.
        finish(machine.options.end, if code == 0 { 0 } else { ((code & 0x7f) as u8).max(1) })
    }

    fn allocate_frames(&self, count: u64, alignment: u64) -> Result<u64, Status> {
        let first = FRAMES.lock().take(count, alignment).ok_or(Status::Exhausted)?;
        (first..first + count).for_each(clear);
        Ok(first)
    }

    fn take_frames(&self, first: u64, count: u64, alignment: u64) -> Result<FrameRun, Status> {
        if count == 0 || !alignment.is_power_of_two() || first != ANY && !first.is_multiple_of(alignment) {
            return Err(Status::BadArgument);
        }
        let first = if first == ANY {
            self.allocate_frames(count, alignment)?
        } else {
            FRAMES.lock().take_at(first, count, crate::platform::facts().memory_end_frame)?;
            (first..first + count).for_each(clear);
            first
        };
        Ok(FrameRun { first, count, capability: None })
    }

    unsafe fn give_back_frames(&self, run: &FrameRun) {
        // A gap too many for the list stays unused, as frames do that HyperExo refuses to take back.
        FRAMES.lock().add(run.first..run.first + run.count);
    }

    fn free_frames(&self) -> u64 {
        FRAMES.lock().count()
    }

    fn accounting(&self) -> &'static Accounting {
        ACCOUNTING.call_once(Accounting::default)
    }

    fn set_timer(&self, ticks: u64) {
        clock::set_timer(machine(), ticks);
    }

    fn interrupt(&self, number: u8) -> Option<u64> {
        let causes = match number {
            vector::WAKE => Cause::Wake as u64,
            vector::TIMER => clock::timer_fired(machine()),
            vector::DISK => {
                disk::interrupted();
                Cause::Disk as u64
            }
            vector::NET => {
                net::interrupted();
                Cause::Net as u64
            }
            vector::HALT => cores::halt(),
            // These want no acknowledgement.
            SPURIOUS_VECTOR => return Some(0),
            number if vector::LEGACY.contains(&number) => return Some(0),
            _ => return None,
        };
        machine().apic.end_of_interrupt();
        Some(causes)
    }

    fn cores(&self) -> Cores {
        Cores { count: machine().processors.count() as u64, first: 0 }
    }

    unsafe fn start_core(&self, number: usize, core: u64, entry: CoreEntry) -> Result<(), Status> {
        // SAFETY: by the caller's promise.
        unsafe { cores::start(machine(), number, core, entry) }
    }

    fn core_ready(&self, number: usize) -> bool {
        cores::ready(number)
    }

    unsafe fn core_runs(&self, number: usize) {
        // SAFETY: by the caller's promise.
        unsafe { cores::runs(number) }
    }

    fn call_core(&self, number: usize) {
        cores::call(machine(), number);
    }

    fn open_disk(&self) -> Result<OpenDisk, DiskError> {
        disk::open(machine())
    }

    fn open_network(&self, _filters: &[Filter]) -> Result<Box<dyn NetPort>, NetError> {
        Ok(Box::new(net::open(machine())?))
    }

    fn random_bytes(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
        random::fill(machine(), bytes)
    }
}
