//! The serial line: the kernel's own words, and lines of environments.
//!
//! Every line says whose it is: `hyperexo: …` or `NAME| …`. Lines of environments come out whole, never
//! mixed.

use core::fmt::{self, Write};
use hyperexo_hw::serial::Serial;
use spin::Mutex;

/// Longest line of an environment that comes out whole.
pub const LINE_BYTES: usize = 1024;

static SERIAL: Mutex<Option<Serial>> = Mutex::new(None);

/// Makes the serial port the console.
pub fn install(serial: Serial) {
    *SERIAL.lock() = Some(serial);
}

/// Writes a line of the kernel. Use [`crate::log!`].
pub fn kernel_line(text: fmt::Arguments<'_>) {
    if let Some(serial) = SERIAL.lock().as_mut() {
        // The serial port never fails.
        let _ = writeln!(serial, "hyperexo: {text}");
    }
}

/// Writes a line of an environment.
pub fn environment_line(name: &str, text: &[u8]) {
    if let Some(serial) = SERIAL.lock().as_mut() {
        serial.write(name.as_bytes());
        serial.write(b"| ");
        serial.write(text);
        serial.write(b"\n");
    }
}

/// Waits until everything is on the wire.
pub fn drain() {
    if let Some(serial) = SERIAL.lock().as_mut() {
        serial.drain();
    }
}

/// Lets a panic write whatever the console was doing.
///
/// # Safety
///
/// The caller never returns to code that holds the console.
pub unsafe fn break_lock() {
    // SAFETY: by the caller's promise.
    unsafe { SERIAL.force_unlock() };
}

/// Writes a line of the kernel, formatted like `println!`.
#[macro_export]
macro_rules! log {
    ($($argument:tt)*) => { $crate::console::kernel_line(format_args!($($argument)*)) };
}

/// Collects what an environment writes until a line is complete.
pub struct LineBuffer {
    bytes: [u8; LINE_BYTES],
    used: usize,
}

impl Default for LineBuffer {
    fn default() -> Self {
        LineBuffer { bytes: [0; LINE_BYTES], used: 0 }
    }
}

impl LineBuffer {
    /// Adds text, handing each complete line, or a full buffer, to `emit`. Control characters other than tab
    /// become spaces: an environment must not be able to make the console look like somebody else's.
    pub fn add(&mut self, text: &[u8], mut emit: impl FnMut(&[u8])) {
        for byte in text {
            match byte {
                b'\n' => self.flush_always(&mut emit),
                _ => {
                    if self.used == LINE_BYTES {
                        self.flush_always(&mut emit);
                    }
                    // C1 controls are two bytes in UTF-8: both go.
                    let c1 = (0x80..0xa0).contains(byte)
                        && self.bytes[..self.used].last().is_none_or(|lead| *lead == 0xc2);
                    if c1 && self.used != 0 {
                        self.bytes[self.used - 1] = b' ';
                    }
                    let control = *byte != b'\t' && (*byte < b' ' || *byte == 0x7f) || c1;
                    self.bytes[self.used] = if control { b' ' } else { *byte };
                    self.used += 1;
                }
            }
        }
    }

    fn flush_always(&mut self, emit: &mut impl FnMut(&[u8])) {
        emit(&self.bytes[..self.used]);
        self.used = 0;
    }

    /// Hands out a last line without an end.
    pub fn flush(&mut self, mut emit: impl FnMut(&[u8])) {
        if self.used != 0 {
            self.flush_always(&mut emit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_whole_and_clean() {
        let mut lines = Vec::new();
        let mut buffer = LineBuffer::default();
        let mut emit = |line: &[u8]| lines.push(String::from_utf8(line.to_vec()).unwrap());
        buffer.add(b"one\ntw", &mut emit);
        buffer.add(b"o\n\nh\x1b[1m\rx", &mut emit);
        buffer.add("\n\u{9b}1m \u{e9}".as_bytes(), &mut emit);
        buffer.flush(&mut emit);
        buffer.flush(&mut emit);
        assert_eq!(lines, ["one", "two", "", "h [1m x", "  1m \u{e9}"]);
    }

    #[test]
    fn endless_lines_are_broken() {
        let mut sizes = Vec::new();
        let mut buffer = LineBuffer::default();
        buffer.add(&[b'x'; LINE_BYTES * 2 + 5], |line| sizes.push(line.len()));
        buffer.flush(|line| sizes.push(line.len()));
        assert_eq!(sizes, [LINE_BYTES, LINE_BYTES, 5]);
    }
}
