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
//! | [`vector`] | interrupt vectors |
//! | [`frames`] | free memory |
//! | [`clock`] | time stamp counter and timer |
//! | [`processors`] | which processors there are |
//! | [`places`] | where devices may be |
//! | [`machine`] | all that, known once the machine has been looked up |
//! | [`devices`] | finds devices and connects their interrupts |
//! | [`console`] | the serial line, or virtio-console |
//! | [`cores`] | starts the other processors, and calls them |
//! | [`disk`] | virtio-blk |
//! | [`net`] | virtio-net |
//! | [`random`] | virtio-rng |
//! | [`virtio`] | the drivers of these that the exokernel has no use for |
//! | [`start`](mod@start) | looks the machine up |
//!
//! The page tables of the boot code are kept, as other processors start with them ([`cores`]).

mod clock;
mod console;
mod cores;
mod devices;
mod disk;
mod frames;
mod machine;
mod net;
mod options;
mod places;
mod processors;
mod random;
mod start;
mod vector;
mod virtio;

use crate::memory;
use crate::platform::{
    self, CoreEntry, Cores, DiskError, FrameRun, Host, NetError, NetPort, OpenDisk, Platform, RandomError,
};
use alloc::boxed::Box;
use frames::FREE;
use hyperexo_abi::accounting::Accounting;
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::net::Filter;
use hyperexo_abi::upcall::Cause;
use hyperexo_abi::{ANY, FRAME_BYTES, FRAME_SHIFT};
use hyperexo_hw::apic::SPURIOUS_VECTOR;
use hyperexo_hw::{button, linear, power};
use machine::{Machine, machine};
use options::End;

/// Looks the machine up and makes it the platform. If that is not possible, says so and ends.
///
/// # Safety
///
/// As for [`start::look_up`].
pub(crate) unsafe fn start(protocol: u64, information: u64, name: &'static str) {
    // SAFETY: by the caller's promise.
    match unsafe { start::look_up(protocol, information, name) } {
        Ok(facts) => platform::set(&Direct, facts),
        Err(error) => {
            console::complain(format_args!("error: {error}"));
            finish(End::Exit, 2);
        }
    }
}

/// Says that a loader entered where only HyperExo may, and ends the machine.
///
/// # Safety
///
/// Privilege level 0, interrupts disabled, and nobody else uses the machine.
pub(crate) unsafe fn refuse() -> ! {
    // SAFETY: by the caller's promise.
    unsafe { console::start() };
    console::complain(format_args!(
        "error: entered at its ELF entry, which is for HyperExo: the loader must speak PVH or Multiboot2"
    ));
    finish(End::Exit, 2)
}

/// The host as a value.
struct Direct;

/// Fills a frame of ours with zeros.
fn clear(frame: u64) {
    // SAFETY: the frame was just taken from the free ones, so it is RAM in the linear map, used by nobody.
    unsafe { linear::pointer::<[u8; FRAME_BYTES]>(frame << FRAME_SHIFT).write_bytes(0, 1) };
}

/// Ends the machine, or halts it for ever. QEMU's exit status becomes 2 · `status` + 1.
fn finish(end: End, status: u8) -> ! {
    console::drain();
    if end == End::Exit {
        let off = machine::known().and_then(|machine| machine.power_off.as_ref());
        // SAFETY: privilege level 0. The boot code's tables and ours map the registers of devices.
        unsafe { power::end(status, off) };
    }
    cores::halt()
}

impl Platform for Direct {
    fn host(&self) -> Host {
        Host::Machine
    }

    fn settle(&self) {
        // SAFETY: descriptor tables are loaded, and NMIs have a handler and a stack there.
        unsafe { machine().apic.accept_nmi() };
        console::settle(machine());
        let Machine { button, devices, processors, .. } = machine();
        let target = processors.apic_id(0).unwrap_or_default();
        // SAFETY: privilege level 0, the registers of devices are mapped, and nobody else uses the button.
        unsafe { button::listen(*button, devices.io_apics(), vector::POWER, target) };
    }

    fn console_write(&self, physical: u64, bytes: u64) {
        // SAFETY: the text lies in memory of this image, in the linear map, and the caller lends it.
        console::write(unsafe { core::slice::from_raw_parts(linear::pointer(physical), bytes as usize) });
    }

    fn exit(&self, code: u32) -> ! {
        let machine = machine();
        cores::halt_others();
        console::note(format_args!("{} ended: exit code {}", machine.options.name, code as i32));
        let most = memory::quota_frames() - self.free_frames();
        console::note(format_args!("{}", self.accounting().report(machine.options.name, most)));
        console::note(format_args!("finished: status {}", u8::from(code != 0)));
        // Only seven bits of the code are left. A failure must not become 0.
        finish(machine.options.end, if code == 0 { 0 } else { ((code & 0x7f) as u8).max(1) })
    }

    fn allocate_frames(&self, count: u64, alignment: u64) -> Result<u64, Status> {
        let first = FREE.lock().take(count, alignment).ok_or(Status::Exhausted)?;
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
            FREE.lock().take_at(first, count, platform::facts().memory_end_frame)?;
            (first..first + count).for_each(clear);
            first
        };
        Ok(FrameRun { first, count, capability: None })
    }

    unsafe fn give_back_frames(&self, run: &FrameRun) {
        // If the list is full, the frames stay unused, as do frames that HyperExo refuses to take back.
        FREE.lock().add(run.first..run.first + run.count);
    }

    fn free_frames(&self) -> u64 {
        FREE.lock().count()
    }

    fn accounting(&self) -> &'static Accounting {
        machine::accounting()
    }

    fn set_timer(&self, ticks: u64) {
        let machine = machine();
        clock::set_timer(&machine.apic, &machine.clock, ticks);
    }

    fn interrupt(&self, number: u8) -> Option<u64> {
        let causes = match number {
            vector::WAKE => Cause::Wake as u64,
            vector::TIMER => clock::timer_fired(&machine().apic, &machine().clock),
            vector::DISK => {
                disk::interrupted();
                Cause::Disk as u64
            }
            vector::NET => {
                net::interrupted();
                Cause::Net as u64
            }
            vector::POWER => {
                button::interrupted();
                if button::take_press() { Cause::Power as u64 } else { 0 }
            }
            vector::HALT => cores::halt(),
            // These need no acknowledgement.
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
