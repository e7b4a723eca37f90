//! The console of a machine: the first serial port.

use super::options::Lines;
use crate::lock::{self, Masked};
use core::fmt::{self, Write};
use hyperexo_hw::serial::Serial;

/// What the platform's own lines begin with, where lines are labelled.
const PLATFORM: &str = "direct: ";

static CONSOLE: Masked<Console> = Masked::new(Console { port: None, label: None, within_line: false });

struct Console {
    port: Option<Serial>,
    /// Name in front of the program's lines.
    label: Option<&'static str>,
    /// Whether a line has been begun.
    within_line: bool,
}

impl Console {
    fn put(&mut self, text: &[u8]) {
        if let Some(port) = &mut self.port {
            port.write(text);
        }
    }

    /// Text of the program, with the label in front of each line.
    fn write(&mut self, text: &[u8]) {
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            if let Some(label) = self.label.filter(|_| !self.within_line) {
                self.put(label.as_bytes());
                self.put(b"| ");
            }
            self.put(line);
            self.within_line = !line.ends_with(b"\n");
        }
    }

    /// A line of the platform.
    fn note(&mut self, text: fmt::Arguments<'_>) {
        if self.within_line {
            self.put(b"\n");
            self.within_line = false;
        }
        // Writing to the port never fails.
        if let Some(port) = &mut self.port {
            let _ = writeln!(port, "{PLATFORM}{text}");
        }
    }
}

/// Turns that somebody waits for the console, who may be its holder: a failure while it writes reports itself.
const PATIENCE: usize = 1 << 16;

/// Has the console for a moment. Without it, if whoever has it does not let go.
fn with(act: impl FnOnce(&mut Console)) {
    for _ in 0..PATIENCE {
        if let Some(mut console) = CONSOLE.try_lock() {
            return act(&mut console);
        }
        lock::relax();
    }
}

/// Takes the port.
///
/// # Safety
/// Privilege level 0; nobody else uses the port.
pub(super) unsafe fn start() {
    // SAFETY: by the caller's promise.
    let port = unsafe { Serial::new() };
    with(|console| console.port = Some(port));
}

/// How lines are written from now on.
pub(super) fn set_lines(lines: Lines, name: &'static str) {
    with(|console| console.label = (lines == Lines::Labelled).then_some(name));
}

/// Writes text of the program.
pub(super) fn write(text: &[u8]) {
    with(|console| console.write(text));
}

/// Writes a line of the platform, whatever the program's lines look like: an error.
pub(super) fn complain(text: fmt::Arguments<'_>) {
    with(|console| console.note(text));
}

/// Writes a line of the platform if lines are labelled.
pub(super) fn note(text: fmt::Arguments<'_>) {
    with(|console| {
        if console.label.is_some() {
            console.note(text);
        }
    });
}

/// Waits until all has left the port: emulators lose what is still in it when they end.
pub(super) fn drain() {
    with(|console| {
        if let Some(port) = &mut console.port {
            port.drain();
        }
    });
}
