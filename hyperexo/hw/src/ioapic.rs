//! I/O APICs: where the interrupt pins of devices without MSI-X arrive (82093AA data sheet; ACPI 6.5
//! §5.2.12.3).

use crate::linear;

const SELECT: u64 = 0x00;
const WINDOW: u64 = 0x10;
/// Register with the number of the last pin in bits 16–23.
const VERSION: u32 = 1;
/// Register of the low half of pin 0; each pin has two.
const REDIRECTION: u32 = 0x10;
const LEVEL: u32 = 1 << 15;
const ACTIVE_LOW: u32 = 1 << 13;
const MASKED: u32 = 1 << 16;

/// An I/O APIC as the firmware describes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoApic {
    /// Physical address of its registers.
    pub address: u64,
    /// Number that its pin 0 has among all interrupt lines of the machine.
    pub first_line: u32,
}

/// How a line interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// For as long as it is high.
    High,
    /// For as long as it is low.
    Low,
    /// When it becomes high.
    Edge,
}

/// A pin of an I/O APIC that a device pulls and that is ours.
#[derive(Clone, Copy, Debug)]
pub struct Pin {
    chip: IoApic,
    index: u32,
    /// Low half of its entry, not masked.
    entry: u32,
}

impl Pin {
    /// Finds the chip that has a line and routes it to `vector` of the core with local APIC number `apic_id`.
    /// It starts masked.
    ///
    /// # Safety
    ///
    /// The chips are where they say, mapped ([`crate::linear`]) without caching or emulated; nobody else
    /// programs this line.
    pub unsafe fn route(chips: &[IoApic], line: u32, signal: Signal, vector: u8, apic_id: u8) -> Option<Pin> {
        let mode = match signal {
            Signal::High => LEVEL,
            Signal::Low => LEVEL | ACTIVE_LOW,
            Signal::Edge => 0,
        };
        for chip in chips {
            let Some(index) = line.checked_sub(chip.first_line) else { continue };
            // SAFETY: by the caller's promise.
            unsafe {
                let last = read(chip, VERSION) >> 16 & 0xff;
                if index > last {
                    continue;
                }
                let pin = Pin { chip: *chip, index, entry: mode | u32::from(vector) };
                write(chip, REDIRECTION + 2 * index, pin.entry | MASKED);
                write(chip, REDIRECTION + 2 * index + 1, u32::from(apic_id) << 24);
                return Some(pin);
            }
        }
        None
    }

    /// Lets the pin interrupt, or not. A level that is held while the pin is masked interrupts when it is not
    /// any more.
    pub fn set_masked(&self, masked: bool) {
        let mask = if masked { MASKED } else { 0 };
        // SAFETY: `route` was promised that the chip is there and the line ours.
        unsafe { write(&self.chip, REDIRECTION + 2 * self.index, self.entry | mask) };
    }
}

/// # Safety
///
/// The chip is mapped, and nobody else uses it at the same time.
unsafe fn read(chip: &IoApic, register: u32) -> u32 {
    // SAFETY: by the caller's promise.
    unsafe {
        linear::pointer::<u32>(chip.address + SELECT).write_volatile(register);
        linear::pointer::<u32>(chip.address + WINDOW).read_volatile()
    }
}

/// # Safety
///
/// As [`read`].
unsafe fn write(chip: &IoApic, register: u32, value: u32) {
    // SAFETY: by the caller's promise.
    unsafe {
        linear::pointer::<u32>(chip.address + SELECT).write_volatile(register);
        linear::pointer::<u32>(chip.address + WINDOW).write_volatile(value);
    }
}
