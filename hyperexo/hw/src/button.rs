//! The power button: who presses it asks for an orderly end.
//!
//! On PC hardware it is a bit of the PM1 event registers (ACPI 6.5 §4.8.3.1), on hardware-reduced machines of
//! QEMU a bit of the generic event device (§5.6.9), whose register stands in the DSDT as QEMU writes it down.
//! Both interrupt by a line of an I/O APIC.

use crate::ioapic::{IoApic, Pin, Signal};
use crate::{linear, power};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use x86::io::{inw, outw};

/// PM1 status and enable registers: the power button.
const FIXED: u16 = 1 << 8;
/// QEMU's event register: the power button.
const GENERIC: u32 = 1 << 1;

/// Where a press shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// PM1a_STS and PM1b_STS, at I/O ports; each enable register lies `apart` bytes behind its status
    /// register.
    Fixed {
        /// The status registers there are.
        status: [Option<u16>; 2],
        /// Distance.
        apart: u16,
        /// PM1a_CNT.
        control: u16,
        /// Port and value by which the firmware hands the registers over.
        handover: Option<(u16, u8)>,
    },
    /// The event register at this physical address. Reading takes what is there.
    Generic(u64),
}

/// A power button.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Button {
    /// Where a press shows.
    pub register: Register,
    /// The interrupt line.
    pub line: u32,
    /// How it interrupts.
    pub signal: Signal,
}

/// The machine's button, once [`listen`] has found it.
static BUTTON: AtomicPtr<(Button, Pin)> = AtomicPtr::new(core::ptr::null_mut());
/// It has been pressed, and nobody has taken note.
static PRESSED: AtomicBool = AtomicBool::new(false);

/// Has the machine's button, if it has one, interrupt with `vector`, at the core with local APIC number
/// `apic_id`. Its handler calls [`interrupted`].
///
/// # Safety
///
/// Ring 0; registers in memory are mapped ([`linear`]), button and chips are where the firmware's tables say.
/// Called once, and nobody else uses the button.
pub unsafe fn listen(button: Option<Button>, chips: &[IoApic], vector: u8, apic_id: u8) {
    let Some(button) = button else { return };
    // SAFETY: the chips are where the firmware says, and the line is the button's.
    let pin = unsafe { Pin::route(chips, button.line, button.signal, vector, apic_id) };
    let Some(pin) = pin else { return };
    if let Register::Fixed { status, apart, control, handover } = button.register {
        // SAFETY: by the caller's promise, the registers are where the tables say. Only the button
        // interrupts.
        unsafe {
            power::take_over(control, handover);
            for port in status.into_iter().flatten() {
                outw(port, FIXED);
                outw(port + apart, FIXED);
            }
        }
    }
    BUTTON.store(Box::into_raw(Box::new((button, pin))), Ordering::Release);
    pin.set_masked(false);
}

/// Takes note of a press, if there was one. A line that somebody else pulls is masked from then on: it would
/// interrupt for ever.
pub fn interrupted() {
    // SAFETY: `listen` stores a value that lives for ever.
    let Some((button, pin)) = (unsafe { BUTTON.load(Ordering::Acquire).as_ref() }) else { return };
    // SAFETY: the registers are the button's (`listen`).
    let pressed = unsafe {
        match button.register {
            Register::Generic(address) => linear::pointer::<u32>(address).read_volatile() & GENERIC != 0,
            Register::Fixed { status, .. } => status.into_iter().flatten().fold(false, |before, port| {
                let here = inw(port) & FIXED != 0;
                if here {
                    outw(port, FIXED);
                }
                before | here
            }),
        }
    };
    PRESSED.fetch_or(pressed, Ordering::Release);
    pin.set_masked(!pressed && button.signal != Signal::Edge);
}

/// Whether it has been pressed since the last time.
pub fn take_press() -> bool {
    PRESSED.swap(false, Ordering::Acquire)
}
