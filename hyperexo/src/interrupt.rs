//! Interrupts and exceptions of the kernel itself.
//!
//! Handlers only note what happened; the kernel's loop acts on it. So nothing is ever interrupted halfway through a table, and
//! no lock is needed between handlers and the rest.

use crate::log;
use core::sync::atomic::{AtomicU32, Ordering};
use hyperexo_hw::apic::LocalApic;
use hyperexo_hw::trap::{self, TrapFrame};
use spin::Once;

/// Vector of the timer.
pub const TIMER_VECTOR: u8 = 0x30;
/// Vector of the disk.
pub const DISK_VECTOR: u8 = 0x31;

/// The disk has something to say.
pub const DISK: u32 = 1 << 0;
/// Time has come.
pub const TIMER: u32 = 1 << 1;

const NON_MASKABLE: u64 = 2;
const FIRST_INTERRUPT: u64 = 32;

static PENDING: AtomicU32 = AtomicU32::new(0);
static APIC: Once<LocalApic> = Once::new();

/// Makes this module the handler of all traps; interrupts are acknowledged at `apic`.
pub fn install(apic: LocalApic) {
    APIC.call_once(|| apic);
    trap::set_dispatcher(dispatch);
}

/// Whether something has been noted since the last time; asking clears it.
pub fn take(what: u32) -> bool {
    PENDING.fetch_and(!what, Ordering::Acquire) & what != 0
}

/// Notes something that no hardware interrupt tells, to be acted on like one.
pub fn note(what: u32) {
    PENDING.fetch_or(what, Ordering::Release);
}

/// Halts until an interrupt has been noted; interrupts are disabled before and after.
pub fn wait() {
    if PENDING.load(Ordering::Acquire) & DISK == 0 {
        // SAFETY: descriptor tables are loaded before the first environment is made, and no handler waits for anything.
        unsafe { trap::wait_for_interrupt() };
    }
}

fn dispatch(frame: &mut TrapFrame) {
    let note = match frame.vector {
        NON_MASKABLE => return,
        vector if vector < FIRST_INTERRUPT => fatal(frame),
        vector if vector == u64::from(TIMER_VECTOR) => TIMER,
        vector if vector == u64::from(DISK_VECTOR) => DISK,
        // Spurious ones, of the local APIC or of the masked 8259s, want no acknowledgement.
        _ => return,
    };
    PENDING.fetch_or(note, Ordering::Release);
    if let Some(apic) = APIC.get() {
        apic.end_of_interrupt();
    }
}

/// An exception in the kernel is a bug in the kernel.
fn fatal(frame: &TrapFrame) -> ! {
    log!("registers: {frame:x?}");
    panic!(
        "{} (error code {:#x}, address {:#x}) at rip {:#x}",
        trap::vector_name(frame.vector as u8),
        frame.error_code,
        trap::fault_address(),
        frame.rip
    );
}
