//! The end of a machine.

use crate::linear;
use crate::sleep::{PowerOff, Register};
use core::arch::asm;
use x86::io::{inb, inw, outb, outw};

/// Port of QEMU's `isa-debug-exit` (`iobase=0xf4`).
const DEBUG_EXIT_PORT: u16 = 0xf4;
/// Port of Bochs's debug output.
const BOCHS_E9_PORT: u16 = 0xe9;
/// Port at which Bochs listens for the word "Shutdown".
const BOCHS_SHUTDOWN_PORT: u16 = 0x8900;
/// Port of the keyboard controller's commands, and the one that resets the machine.
const KEYBOARD_COMMAND_PORT: u16 = 0x64;
const RESET: u8 = 0xfe;
/// Port that takes some time to read and has no effect (the firmware's progress codes).
const DELAY_PORT: u16 = 0x80;
/// Reads of [`DELAY_PORT`] for which a machine may go on after it was told to end: about a second.
const PATIENCE: u32 = 1_000_000;

/// PM1_CNT (ACPI 6.5 §4.8.3.2.1): the registers are ours, not the firmware's.
const SCI_ENABLE: u16 = 1;
/// PM1_CNT: where the type of the sleep state stands.
const TYPE_SHIFT: u32 = 10;
/// PM1_CNT: sleep now.
const SLEEP_ENABLE: u16 = 1 << 13;
/// The same in the sleep control register (§4.8.3.7).
const REDUCED_TYPE_SHIFT: u32 = 2;
const REDUCED_SLEEP_ENABLE: u8 = 1 << 5;

/// Ends the machine: an emulator with its status (QEMU: 2S + 1), else any machine by switching it off as its
/// ACPI tables say (`off`), else by a reset.
///
/// A reset comes last because a hypervisor that has no orders for it starts the machine anew.
///
/// # Safety
///
/// Ring 0; a register in memory is mapped ([`linear`]).
pub unsafe fn end(status: u8, off: Option<&PowerOff>) -> ! {
    // SAFETY: passed on to the caller.
    unsafe {
        end_emulator(status);
        if let Some(off) = off {
            switch_off(off);
        }
        reset()
    }
}

/// Switches the machine off, and waits: the processor may go on for a while, and must do nothing else then.
///
/// # Safety
///
/// As [`end`].
unsafe fn switch_off(off: &PowerOff) {
    // SAFETY: the registers are where the firmware's tables say, and nobody else uses them.
    unsafe {
        match *off {
            PowerOff::Control { a, b, types, handover } => {
                take_over(a, handover);
                enter_sleep(a, types.a);
                if let Some(b) = b {
                    enter_sleep(b, types.b);
                }
            }
            PowerOff::Reduced { register, types } => {
                let value = types.a << REDUCED_TYPE_SHIFT | REDUCED_SLEEP_ENABLE;
                match register {
                    Register::Port(port) => outb(port, value),
                    Register::Memory(address) => linear::pointer::<u8>(address).write_volatile(value),
                }
            }
        }
        (0..PATIENCE).for_each(|_| _ = inb(DELAY_PORT));
    }
}

/// Asks the firmware for the control registers, if it still has them.
///
/// # Safety
///
/// Ring 0; `control` is PM1a_CNT, and `handover` what the FADT says.
pub(crate) unsafe fn take_over(control: u16, handover: Option<(u16, u8)>) {
    let Some((port, value)) = handover else { return };
    // SAFETY: by the caller's promise.
    unsafe {
        if inw(control) & SCI_ENABLE != 0 {
            return;
        }
        outb(port, value);
        for _ in 0..PATIENCE {
            if inw(control) & SCI_ENABLE != 0 {
                return;
            }
        }
    }
}

/// Writes a PM1 control register: the type first, then the order.
///
/// # Safety
///
/// Ring 0; it is one.
unsafe fn enter_sleep(control: u16, kind: u8) {
    // SAFETY: by the caller's promise.
    unsafe {
        let others = inw(control) & !(7 << TYPE_SHIFT | SLEEP_ENABLE);
        let value = others | u16::from(kind) << TYPE_SHIFT;
        outw(control, value);
        outw(control, value | SLEEP_ENABLE);
    }
}

/// Ends an emulator that offers a port for it: QEMU with status 2S + 1, Bochs with 0 if `status` is, else
/// with 1. Returns where there is none.
///
/// # Safety
///
/// Ring 0.
unsafe fn end_emulator(status: u8) {
    // SAFETY: where there is no such device nobody listens.
    unsafe {
        outb(DEBUG_EXIT_PORT, status);
        end_bochs(status);
    }
}

/// Ends the machine if it is Bochs (with `port_e9_hack`, which answers with its own number): after 'D' its
/// debugger reads the next command, which is expected to be `q` (status 0); without a debugger, or if not all
/// went well, "Shutdown" ends it (status 1).
///
/// # Safety
///
/// Ring 0.
unsafe fn end_bochs(status: u8) {
    // SAFETY: the first port is Bochs's, or QEMU's debug console, or nobody's; the second is used on Bochs
    // only.
    unsafe {
        if inb(BOCHS_E9_PORT) != BOCHS_E9_PORT as u8 {
            return;
        }
        if status == 0 {
            outb(BOCHS_SHUTDOWN_PORT, b'D');
        }
        b"Shutdown".iter().for_each(|byte| outb(BOCHS_SHUTDOWN_PORT, *byte));
    }
}

/// Resets the machine by its keyboard controller: monitors without any other way to end (Firecracker, QEMU
/// with `-no-reboot`) take that for one. Where there is none (QEMU's `microvm`), by a triple fault, which
/// every processor has.
///
/// # Safety
///
/// Ring 0.
unsafe fn reset() -> ! {
    /// Operand of `lidt`: a table without a gate.
    static NO_GATES: [u8; 10] = [0; 10];
    // SAFETY: where there is no such device nobody listens, and the machine is to end: no handler is needed
    // any more.
    unsafe {
        outb(KEYBOARD_COMMAND_PORT, RESET);
        (0..PATIENCE).for_each(|_| _ = inb(DELAY_PORT));
        asm!("cli", "lidt [{}]", "ud2", in(reg) &NO_GATES, options(noreturn))
    }
}
