//! What is known of the machine, and what is counted on it.
#![forbid(unsafe_code)]

use super::clock::Clock;
use super::options::Options;
use super::places::Places;
use super::processors::Processors;
use core::sync::atomic::{AtomicU64, Ordering};
use hyperexo_abi::accounting::Accounting;
use hyperexo_hw::apic::LocalApic;
use hyperexo_hw::button::Button;
use hyperexo_hw::sleep::PowerOff;
use spin::Once;

/// The machine.
pub(super) struct Machine {
    /// The platform's part of the command line.
    pub options: Options,
    /// The way to each core's own local APIC.
    pub apic: LocalApic,
    /// What time is.
    pub clock: Clock,
    /// The processors.
    pub processors: Processors,
    /// Where devices may be.
    pub devices: Places,
    /// How the machine is switched off.
    pub power_off: Option<PowerOff>,
    /// Its power button.
    pub button: Option<Button>,
    /// Physical address of the boot code's top page table.
    pub boot_root: u64,
}

static MACHINE: Once<Machine> = Once::new();
/// Counted as HyperExo does. There are no exits to count.
static ACCOUNTING: Once<Accounting> = Once::new();

/// Notes the machine. Only the first call counts.
pub(super) fn set(machine: Machine) -> &'static Machine {
    MACHINE.call_once(|| machine)
}

/// The machine, once it has been looked up.
pub(super) fn known() -> Option<&'static Machine> {
    MACHINE.get()
}

/// The machine.
///
/// # Panics
///
/// Before it has been looked up.
pub(super) fn machine() -> &'static Machine {
    known().expect("runs directly on a machine")
}

/// The counters of this unikernel.
pub(super) fn accounting() -> &'static Accounting {
    ACCOUNTING.call_once(Accounting::default)
}

/// Adds to a counter of this unikernel.
pub(super) fn count(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}
