//! The end of a machine.

use x86::io::{inb, outb};

/// Port of QEMU's `isa-debug-exit` (`iobase=0xf4`).
const DEBUG_EXIT_PORT: u16 = 0xf4;
/// Port of Bochs's debug output.
const BOCHS_E9_PORT: u16 = 0xe9;
/// Port at which Bochs listens for the word "Shutdown".
const BOCHS_SHUTDOWN_PORT: u16 = 0x8900;
/// Port of the keyboard controller's commands, and the one that resets the machine.
const KEYBOARD_COMMAND_PORT: u16 = 0x64;
const RESET: u8 = 0xfe;

/// Ends an emulator that offers it: QEMU with status 2S + 1, Bochs with 0 if `status` is, else with 1. Returns where there
/// is none.
///
/// # Safety
///
/// Ring 0.
pub unsafe fn end_emulator(status: u8) {
    // SAFETY: where there is no such device nobody listens.
    unsafe {
        outb(DEBUG_EXIT_PORT, status);
        end_bochs(status);
    }
}

/// Ends the machine if it is Bochs (with `port_e9_hack`, which answers with its own number): after 'D' its debugger reads the
/// next command, which is expected to be `q` (status 0); without a debugger, or if not all went well, "Shutdown" ends
/// it (status 1).
///
/// # Safety
///
/// Ring 0.
unsafe fn end_bochs(status: u8) {
    // SAFETY: the first port is Bochs's, or QEMU's debug console, or nobody's; the second is used on Bochs only.
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

/// Resets the machine by its keyboard controller: monitors without any other way to end (Firecracker, QEMU with
/// `-no-reboot`) take that for one. Returns where there is none.
///
/// # Safety
///
/// Ring 0.
pub unsafe fn reset() {
    // SAFETY: where there is no such device nobody listens.
    unsafe { outb(KEYBOARD_COMMAND_PORT, RESET) };
}
