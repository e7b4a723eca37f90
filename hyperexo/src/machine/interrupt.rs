//! Interrupts and exceptions of the kernel itself, and how cores call each other.
//!
//! Handlers only note what happened; the kernel's loop acts on it. So nothing is ever interrupted halfway
//! through a table, and no lock is needed between handlers and the rest.

use crate::log;
use crate::machine::id::EnvironmentId;
use crate::machine::spin::Patience;
use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicUsize, Ordering};
use hyperexo_hw::apic::LocalApic;
use hyperexo_hw::button;
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

/// Vector of the power button.
pub const POWER_VECTOR: u8 = 0x34;

/// Most cores that are used.
pub const MAX_CORES: usize = 16;

const NON_MASKABLE: u64 = 2;
const FIRST_INTERRUPT: u64 = 32;
/// In [`PerCore::guest`]: no guest is running.
const NO_GUEST: u32 = 0;

/// What interrupt handlers and other cores must know of a core.
struct PerCore {
    apic_id: AtomicU16,
    /// An interrupt has been handled since the core last looked around.
    pending: AtomicBool,
    /// The timer has fired.
    timer: AtomicBool,
    /// Environment whose guest is running, from before the lock is released until after the exit.
    guest: AtomicU32,
}

impl PerCore {
    /// A core that has not come up.
    const fn new() -> PerCore {
        PerCore {
            apic_id: AtomicU16::new(u16::MAX),
            pending: AtomicBool::new(false),
            timer: AtomicBool::new(false),
            guest: AtomicU32::new(NO_GUEST),
        }
    }
}

/// What has come that nobody has acted on yet, and who runs where.
pub struct Signals {
    cores: [PerCore; MAX_CORES],
    /// Cores that have come up.
    count: AtomicUsize,
    /// The disk has something to say.
    disk: AtomicBool,
    /// The network device has something to say.
    net: AtomicBool,
    /// Sends [`CALL_VECTOR`] to a core.
    call: fn(&Signals, usize),
}

/// The machine's.
pub static SIGNALS: Signals = Signals::new(send_call);
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
    SIGNALS.add_core(apic.id().into())
}

/// Halts until an interrupt comes; interrupts are disabled before and after. Whatever came since they were
/// disabled ends the halt at once.
pub fn halt() {
    // SAFETY: descriptor tables are loaded before a core gets here, and no handler waits for anything.
    unsafe { trap::wait_for_interrupt() };
}

/// By the local APIC.
fn send_call(signals: &Signals, core: usize) {
    if let Some(apic) = APIC.get() {
        let target = signals.cores[core].apic_id.load(Ordering::Acquire);
        if target != u16::from(apic.id()) {
            apic.send(target as u8, CALL_VECTOR);
        }
    }
}

impl Signals {
    /// Nothing has come; no core is up. `call` takes a core out of its guest or its halt.
    pub const fn new(call: fn(&Signals, usize)) -> Signals {
        Signals {
            cores: [const { PerCore::new() }; MAX_CORES],
            count: AtomicUsize::new(0),
            disk: AtomicBool::new(false),
            net: AtomicBool::new(false),
            call,
        }
    }

    /// A core has come up; returns its number.
    ///
    /// # Panics
    ///
    /// On more than [`MAX_CORES`] cores.
    pub fn add_core(&self, apic_id: u16) -> usize {
        let number = self.count.load(Ordering::Acquire);
        self.cores[number].apic_id.store(apic_id, Ordering::Release);
        self.count.store(number + 1, Ordering::Release);
        number
    }

    /// Cores that have come up.
    pub fn cores(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    fn all(&self) -> impl Iterator<Item = &PerCore> {
        self.cores[..self.cores()].iter()
    }

    /// Says that the disk has something to say.
    pub fn note_disk(&self) {
        self.disk.store(true, Ordering::Release);
    }

    /// Whether the disk has said something since the last time; asking clears it.
    pub fn take_disk(&self) -> bool {
        self.disk.swap(false, Ordering::Acquire)
    }

    /// Says that the network device has something to say.
    pub fn note_net(&self) {
        self.net.store(true, Ordering::Release);
    }

    /// Whether the network device has said something since the last time; asking clears it.
    pub fn take_net(&self) -> bool {
        self.net.swap(false, Ordering::Acquire)
    }

    /// Whether a device has said something that nobody has taken yet.
    pub fn devices_pending(&self) -> bool {
        self.disk.load(Ordering::Acquire) || self.net.load(Ordering::Acquire)
    }

    /// Whether a core has handled an interrupt since [`Signals::take_pending`].
    pub fn pending(&self, core: usize) -> bool {
        self.cores[core].pending.load(Ordering::Acquire)
    }

    /// Says that a core is looking at all that interrupts may have brought.
    pub fn take_pending(&self, core: usize) {
        self.cores[core].pending.store(false, Ordering::Release);
    }

    /// Whether a core's timer has fired since the last time; asking clears it.
    pub fn timer_fired(&self, core: usize) -> bool {
        self.cores[core].timer.swap(false, Ordering::Acquire)
    }

    /// Notes that a core is about to run a guest of this environment. The caller holds the kernel's lock.
    pub fn entering(&self, core: usize, environment: EnvironmentId) {
        self.cores[core].guest.store(environment.to_bits(), Ordering::SeqCst);
    }

    /// Notes that a core runs no guest any more.
    pub fn left(&self, core: usize) {
        self.cores[core].guest.store(NO_GUEST, Ordering::SeqCst);
    }

    /// Whether a core is running a guest of this environment.
    pub fn runs(&self, core: usize, environment: EnvironmentId) -> bool {
        self.cores[core].guest.load(Ordering::SeqCst) == environment.to_bits()
    }

    /// Whether a core is running no guest: it halts, or is in the kernel.
    pub fn is_idle(&self, core: usize) -> bool {
        self.cores[core].guest.load(Ordering::SeqCst) == NO_GUEST
    }

    /// Wakes a core, or takes its guest out; nothing if it is the calling one.
    pub fn wake(&self, core: usize) {
        if core < self.cores() {
            (self.call)(self, core);
        }
    }

    /// Takes the guests of an environment out on all other cores, and waits until they are out. The caller
    /// holds the kernel's lock, so that none goes in again before it is done.
    pub fn shoot_down(&self, environment: EnvironmentId) {
        for core in 0..self.cores() {
            if self.runs(core, environment) {
                self.wake(core);
                while self.runs(core, environment) {
                    Patience::relax();
                }
            }
        }
    }
}

fn dispatch(frame: &mut TrapFrame) {
    match frame.vector {
        NON_MASKABLE => return,
        vector if vector < FIRST_INTERRUPT => fatal(frame),
        vector if vector == u64::from(TIMER_VECTOR) => note(|core| core.timer.store(true, Ordering::Release)),
        vector if vector == u64::from(DISK_VECTOR) => note(|_| SIGNALS.note_disk()),
        vector if vector == u64::from(NET_VECTOR) => note(|_| SIGNALS.note_net()),
        vector if vector == u64::from(POWER_VECTOR) => note(|_| button::interrupted()),
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
    if let Some(core) = SIGNALS.all().find(|core| core.apic_id.load(Ordering::Relaxed) == id) {
        what(core);
        core.pending.store(true, Ordering::Release);
    }
}

/// An exception in the kernel is a bug in the kernel.
fn fatal(frame: &TrapFrame) -> ! {
    // SAFETY: nothing that was interrupted goes on after this.
    unsafe { crate::machine::console::CONSOLE.break_locks() };
    log!("registers: {frame:x?}");
    panic!(
        "{} (error code {:#x}, address {:#x}) at rip {:#x}",
        trap::vector_name(frame.vector as u8),
        frame.error_code,
        trap::fault_address(),
        frame.rip
    );
}

/// Signals of a machine that tests play: a core that is called leaves its guest at once.
#[cfg(test)]
pub fn model(cores: usize) -> &'static Signals {
    let signals = Box::leak(Box::new(Signals::new(|signals, core| {
        signals.cores[core].pending.store(true, Ordering::Release);
        signals.left(core);
    })));
    (0..cores).for_each(|core| {
        signals.add_core(core as u16);
    });
    signals
}
