//! The first serial port (16550), written by polling.
//!
//! The one way out for text that works everywhere: QEMU, Bochs, bare metal. A port that never becomes ready
//! (there is none) is given up after a bounded wait, so that nothing hangs on it.

use x86::io::{inb, outb};

const COM1: u16 = 0x3f8;
const LINE_CONTROL: u16 = COM1 + 3;
const FIFO_CONTROL: u16 = COM1 + 2;
const MODEM_CONTROL: u16 = COM1 + 4;
const LINE_STATUS: u16 = COM1 + 5;
/// Keeps what is written to it.
const SCRATCH: u16 = COM1 + 7;
/// A port of the firmware's that nothing depends on.
const ELSEWHERE: u16 = 0x80;
/// Line status: transmitter holding register is empty.
const HOLDING_EMPTY: u8 = 1 << 5;
/// Line status: everything has left the transmitter.
const TRANSMITTER_EMPTY: u8 = 1 << 6;
const PATIENCE: u32 = 1_000_000;

/// The port. Whoever holds it may write to it.
pub struct Serial(());

impl Serial {
    /// Sets the port to 115200 baud, 8 data bits, no parity, one stop bit, no interrupts.
    ///
    /// # Safety
    ///
    /// The caller runs with I/O privilege, and nobody else uses the port.
    pub unsafe fn new() -> Serial {
        // SAFETY: the caller owns the port; these are the registers of a 16550.
        unsafe {
            outb(COM1 + 1, 0);
            outb(LINE_CONTROL, 0x80);
            outb(COM1, 1);
            outb(COM1 + 1, 0);
            outb(LINE_CONTROL, 0x03);
            outb(FIFO_CONTROL, 0xc7);
            outb(MODEM_CONTROL, 0x03);
        }
        Serial(())
    }

    /// The port as it is, for somebody who can't wait for its owner.
    ///
    /// # Safety
    ///
    /// The caller runs with I/O privilege; the port has been set ([`Serial::new`]), and whoever else uses it
    /// bears foreign bytes between its own.
    pub unsafe fn in_use() -> Serial {
        Serial(())
    }

    /// Whether there is a port, so that what is written to it goes somewhere. The 8250, which has no scratch
    /// register, counts as none.
    pub fn is_there(&self) -> bool {
        [0x5a, 0xa5].into_iter().all(|value| {
            // SAFETY: the port is ours, and the other write has no effect: it is there because some monitors
            // answer for an absent port with what was written last.
            unsafe {
                outb(SCRATCH, value);
                outb(ELSEWHERE, !value);
                inb(SCRATCH) == value
            }
        })
    }

    /// Whether the port takes a byte at once.
    pub fn is_ready(&self) -> bool {
        // SAFETY: `self` shows that the port is ours.
        unsafe { inb(LINE_STATUS) & HOLDING_EMPTY != 0 }
    }

    /// Gives the port a byte; it is lost unless the port [is ready](Serial::is_ready).
    pub fn put(&mut self, byte: u8) {
        // SAFETY: `self` shows that the port is ours.
        unsafe { outb(COM1, byte) };
    }

    fn wait_for(&self, bit: u8) {
        for _ in 0..PATIENCE {
            // SAFETY: `self` shows that the port is ours.
            if unsafe { inb(LINE_STATUS) } & bit != 0 {
                return;
            }
        }
    }

    /// Writes bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.wait_for(HOLDING_EMPTY);
            // SAFETY: as above.
            unsafe { outb(COM1, *byte) };
        }
    }

    /// Waits until the last byte is on the wire: emulators lose what is still in the FIFO when they end.
    pub fn drain(&mut self) {
        self.wait_for(TRANSMITTER_EMPTY);
    }
}

impl core::fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.write(text.as_bytes());
        Ok(())
    }
}
