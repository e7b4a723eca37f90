//! Interrupts and exceptions of the kernel itself.
//!
//! Handlers only note what happened; the kernel's loop acts on it. So nothing is ever interrupted halfway
//! through a table, and no lock is needed between handlers and the rest.

use crate::cores::Patience;
use crate::log;
use crate::resource::page::EnvironmentId;
use core::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use hyperexo_hw::apic::LocalApic;
use hyperexo_hw::trap::{self, TrapFrame};
use spin::Once;
use spin::relax::RelaxStrategy;

/// Vector of the timer.
pub const TIMER_VECTOR: u8 = 0x30;
/// Vector of the disk.
pub const DISK_VECTOR: u8 = 0x31;
/// Vector by which cores call each other: it wakes from `HLT` and takes a guest out, and says no more.
pub const CALL_VECTOR: u8 = 0x32;
/// Vector of the network device.
pub const NET_VECTOR: u8 = 0x33;

/// Most cores that are used.
pub const MAX_CORES: usize = 16;

const NON_MASKABLE: u64 = 2;
const FIRST_INTERRUPT: u64 = 32;
/// In [`PerCore::guest`]: no guest is running.
const NO_GUEST: u16 = 0;

/// What interrupt handlers and other cores must know of a core.
struct PerCore {
    apic_id: AtomicU16,
    /// An interrupt has been handled since the core last looked around.
    noticed: AtomicBool,
    /// The timer has fired.
    timer: AtomicBool,
    /// Environment whose guest is running, from before the lock is released until after the exit.
    guest: AtomicU16,
}

static CORES: [PerCore; MAX_CORES] = [const {
    PerCore {
        apic_id: AtomicU16::new(u16::MAX),
        noticed: AtomicBool::new(false),
        timer: AtomicBool::new(false),
        guest: AtomicU16::new(NO_GUEST),
    }
}; MAX_CORES];
/// Cores that have called [`install`].
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// The disk has something to say.
static DISK: AtomicBool = AtomicBool::new(false);
/// The network device has something to say.
static NET: AtomicBool = AtomicBool::new(false);
static APIC: Once<LocalApic> = Once::new();

/// Makes this module the handler of all traps of the calling core, whose number it returns. Cores come one by
/// one.
///
/// # Panics
///
/// On more than [`MAX_CORES`] cores.
pub fn install(apic: LocalApic) -> usize {
    APIC.call_once(|| apic);
    trap::set_dispatcher(dispatch);
    let number = COUNT.load(Ordering::Acquire);
    CORES[number].apic_id.store(apic.id().into(), Ordering::Release);
    COUNT.store(number + 1, Ordering::Release);
    number
}

/// Cores that have come up.
pub fn cores() -> usize {
    COUNT.load(Ordering::Acquire)
}

fn all() -> impl Iterator<Item = &'static PerCore> {
    CORES[..cores()].iter()
}

/// Whether the disk has said something since the last time; asking clears it.
pub fn take_disk() -> bool {
    DISK.swap(false, Ordering::Acquire)
}

/// Whether the disk has said something that nobody has taken yet.
pub fn disk_pending() -> bool {
    DISK.load(Ordering::Acquire)
}

/// Whether the network device has said something since the last time; asking clears it.
pub fn take_net() -> bool {
    NET.swap(false, Ordering::Acquire)
}

/// Whether a core has handled an interrupt since [`take_notice`].
pub fn noticed(core: usize) -> bool {
    CORES[core].noticed.load(Ordering::Acquire)
}

/// Says that a core is looking at all that interrupts may have brought.
pub fn take_notice(core: usize) {
    CORES[core].noticed.store(false, Ordering::Release);
}

/// Whether a core's timer has fired since the last time; asking clears it.
pub fn timer_fired(core: usize) -> bool {
    CORES[core].timer.swap(false, Ordering::Acquire)
}

/// Says, in place of an interrupt, that the disk has something to say.
pub fn note_disk() {
    DISK.store(true, Ordering::Release);
}

/// Halts until an interrupt comes; interrupts are disabled before and after. Whatever came since they were
/// disabled ends the halt at once. Devices speak to the first core.
pub fn wait(core: usize) {
    if core != 0 || !DISK.load(Ordering::Acquire) && !NET.load(Ordering::Acquire) {
        // SAFETY: descriptor tables are loaded before a core gets here, and no handler waits for anything.
        unsafe { trap::wait_for_interrupt() };
    }
}

/// Notes that a core is about to run a guest of this environment. The caller holds the kernel's lock.
pub fn entering(core: usize, environment: EnvironmentId) {
    CORES[core].guest.store(environment, Ordering::SeqCst);
}

/// Notes that a core runs no guest any more.
pub fn left(core: usize) {
    CORES[core].guest.store(NO_GUEST, Ordering::SeqCst);
}

/// Wakes a core, or takes its guest out; nothing if it is the calling one.
pub fn wake(core: usize) {
    if let (Some(apic), Some(target)) = (APIC.get(), CORES[..cores()].get(core)) {
        let target = target.apic_id.load(Ordering::Acquire);
        if target != u16::from(apic.id()) {
            apic.send(target as u8, CALL_VECTOR);
        }
    }
}

/// Takes the guests of an environment out on all other cores, and waits until they are out. The caller holds
/// the kernel's lock, so that none goes in again before it is done.
pub fn fetch_back(environment: EnvironmentId) {
    for (number, core) in all().enumerate() {
        if core.guest.load(Ordering::SeqCst) == environment {
            wake(number);
            while core.guest.load(Ordering::SeqCst) == environment {
                Patience::relax();
            }
        }
    }
}

fn dispatch(frame: &mut TrapFrame) {
    match frame.vector {
        NON_MASKABLE => return,
        vector if vector < FIRST_INTERRUPT => fatal(frame),
        vector if vector == u64::from(TIMER_VECTOR) => note(|core| core.timer.store(true, Ordering::Release)),
        vector if vector == u64::from(DISK_VECTOR) => note(|_| DISK.store(true, Ordering::Release)),
        vector if vector == u64::from(NET_VECTOR) => note(|_| NET.store(true, Ordering::Release)),
        vector if vector == u64::from(CALL_VECTOR) => note(|_| {}),
        // Spurious ones, of the local APIC or of the masked 8259s, want no acknowledgement.
        _ => return,
    }
    if let Some(apic) = APIC.get() {
        apic.end_of_interrupt();
    }
}

/// Notes on this core that something has come; `what` notes the rest, first.
fn note(what: impl FnOnce(&PerCore)) {
    let Some(id) = APIC.get().map(|apic| u16::from(apic.id())) else { return };
    if let Some(core) = all().find(|core| core.apic_id.load(Ordering::Relaxed) == id) {
        what(core);
        core.noticed.store(true, Ordering::Release);
    }
}

/// An exception in the kernel is a bug in the kernel.
fn fatal(frame: &TrapFrame) -> ! {
    // SAFETY: nothing that was interrupted goes on after this.
    unsafe { crate::console::break_lock() };
    log!("registers: {frame:x?}");
    panic!(
        "{} (error code {:#x}, address {:#x}) at rip {:#x}",
        trap::vector_name(frame.vector as u8),
        frame.error_code,
        trap::fault_address(),
        frame.rip
    );
}
