//! The console: text, collected to lines.
//!
//! What one `print!` prints stays together, whatever other cores print meanwhile.
//!
//! Each line is one call to the platform, as an exit costs as much as thousands of instructions. A line
//! without its end is written when the buffer is full or when the unikernel ends.
#![forbid(unsafe_code)]

use crate::cpu::lock::{self, Claimed, Holder, Masked};
use crate::{memory, platform};
use core::fmt::{self, Write};
use hyperexo_abi::{FRAME_BYTES, Page};
use hyperexo_hw::descriptor::core_number;

static LINE: Masked<Line> = Masked::new(Line { text: Page([0; FRAME_BYTES]), length: 0 });

/// Collects text while the other line is held for ever: by a core that failed while it wrote. Its report
/// comes through here.
static SPARE: Masked<Line> = Masked::new(Line { text: Page([0; FRAME_BYTES]), length: 0 });

/// Calls `act` with the line. Invariant: the holder of a line only copies text and passes it to the platform,
/// so it lets go unless a trap stops its core for good.
fn with_line(act: impl FnOnce(&mut Line)) {
    let line = lock::lock_within(&LINE, lock::PATIENCE_TURNS);
    // If both lines are held, there is no way left to report a failure.
    if let Some(mut line) = line.or_else(|| lock::lock_within(&SPARE, lock::PATIENCE_TURNS)) {
        act(&mut line);
    }
}

/// The core whose turn it is to print. Its handlers, and values whose formatting prints, may print in
/// between.
static TURN: Holder = Holder::nobody();

/// The turn of this core, until it is dropped.
struct Turn {
    /// Whether it was nobody's turn before.
    outermost: bool,
}

impl Turn {
    fn take() -> Turn {
        loop {
            match TURN.claim(core_number()) {
                Claimed::Now => return Turn { outermost: true },
                Claimed::Before => return Turn { outermost: false },
                Claimed::ByAnother => lock::relax(),
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.outermost {
            TURN.release();
        }
    }
}

/// Ends the turn of this core, if it has it. For a core that will not go on.
pub(crate) fn give_up_turn() {
    if TURN.claim(core_number()) != Claimed::ByAnother {
        TURN.release();
    }
}

/// Text not yet written. Fills a page, so that its physical addresses are adjacent.
struct Line {
    text: Page,
    length: usize,
}

impl Line {
    /// Adds text. Gives full buffers and finished lines to `write`.
    fn add(&mut self, mut text: &[u8], mut write: impl FnMut(&[u8])) {
        while !text.is_empty() {
            let room = FRAME_BYTES - self.length;
            let line = text.iter().position(|byte| *byte == b'\n').map_or(text.len(), |end| end + 1);
            let (taken, rest) = text.split_at(line.min(room));
            self.text.0[self.length..self.length + taken.len()].copy_from_slice(taken);
            self.length += taken.len();
            if self.length == FRAME_BYTES || taken.ends_with(b"\n") {
                self.flush(&mut write);
            }
            text = rest;
        }
    }

    fn flush(&mut self, mut write: impl FnMut(&[u8])) {
        if self.length > 0 {
            write(&self.text.0[..self.length]);
            self.length = 0;
        }
    }
}

/// Writes text that lies in this image.
fn write(text: &[u8]) {
    if let Some(physical) = memory::physical_address(text.as_ptr() as u64) {
        platform::current().console_write(physical, text.len() as u64);
    }
}

/// The console as a destination for `write!`. All values are the same console.
///
/// The lock is held for one piece of text at a time, so a value whose formatting prints or panics does no
/// harm.
#[derive(Clone, Copy, Debug, Default)]
pub struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        with_line(|line| line.add(text.as_bytes(), write));
        Ok(())
    }
}

/// Writes what is left of a line without its end.
pub fn flush() {
    with_line(|line| line.flush(write));
}

/// Ends a line that has begun, if there is one, so that the next text starts a new one.
pub(crate) fn start_line() {
    with_line(|line| {
        if line.length > 0 {
            line.add(b"\n", write);
        }
    });
}

/// What [`crate::print!`] does.
#[doc(hidden)]
pub fn print(arguments: fmt::Arguments<'_>) {
    let _turn = Turn::take();
    // The console never fails. An error can only come from a value's own formatting, and nobody wants it.
    let _ = Console.write_fmt(arguments);
}

/// Prints to the console. See [`console`](crate::console) for when the text appears.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => {
        $crate::console::print(::core::format_args!($($argument)*))
    };
}

/// Prints to the console, with a line end.
#[macro_export]
macro_rules! println {
    () => {
        $crate::print!("\n")
    };
    ($format:literal $($argument:tt)*) => {
        $crate::print!("{}\n", ::core::format_args!($format $($argument)*))
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{string::String, vec, vec::Vec};

    fn calls(pieces: &[&str]) -> (Vec<String>, usize) {
        let mut line = Line { text: Page([0; FRAME_BYTES]), length: 0 };
        let mut calls = Vec::new();
        for piece in pieces {
            line.add(piece.as_bytes(), |text| calls.push(String::from_utf8(text.to_vec()).unwrap()));
        }
        (calls, line.length)
    }

    #[test]
    fn a_call_a_line() {
        assert_eq!(
            calls(&["one ", "line\ntwo\n", "\nrest"]),
            (vec!["one line\n".into(), "two\n".into(), "\n".into()], 4)
        );
    }

    #[test]
    fn long_lines_are_cut_at_the_buffer() {
        let long = "x".repeat(FRAME_BYTES + 5) + "\n";
        let (calls, left) = calls(&[&long]);
        assert_eq!(calls.iter().map(String::len).collect::<Vec<_>>(), [FRAME_BYTES, 6]);
        assert_eq!(left, 0);
        assert_eq!(calls.concat(), long);
    }
}
