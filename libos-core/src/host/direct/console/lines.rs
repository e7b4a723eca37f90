//! What lines look like on the console, and text kept until there is a console.
#![forbid(unsafe_code)]

use core::fmt::{self, Write};

/// What the platform's own lines begin with, where lines are labelled.
const PLATFORM: &str = "direct: ";

/// The state of the line on the console.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines {
    /// Name in front of the program's lines.
    pub label: Option<&'static str>,
    /// Whether a line has begun.
    within_line: bool,
}

impl Lines {
    /// At the start of a line.
    pub const fn new(label: Option<&'static str>) -> Lines {
        Lines { label, within_line: false }
    }

    /// Text of the program, with the label in front of each line. Its pieces go to `put`.
    pub fn program(&mut self, text: &[u8], mut put: impl FnMut(&[u8])) {
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            if let Some(label) = self.label.filter(|_| !self.within_line) {
                put(label.as_bytes());
                put(b"| ");
            }
            put(line);
            self.within_line = !line.ends_with(b"\n");
        }
    }

    /// A line of the platform.
    pub fn platform(&mut self, text: fmt::Arguments<'_>, mut put: impl FnMut(&[u8])) {
        if self.within_line {
            put(b"\n");
            self.within_line = false;
        }
        // Putting never fails.
        let _ = writeln!(Pieces(&mut put), "{PLATFORM}{text}");
    }
}

/// Formatted text as pieces.
struct Pieces<P>(P);

impl<P: FnMut(&[u8])> Write for Pieces<P> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        (self.0)(text.as_bytes());
        Ok(())
    }
}

/// Bytes that are kept: enough for warnings about every word of a long command line.
const EARLY_BYTES: usize = 2048;

/// Text from before the console was found.
#[derive(Debug)]
pub(super) struct Early {
    text: [u8; EARLY_BYTES],
    length: usize,
    lost: usize,
}

impl Early {
    /// No text.
    pub const fn new() -> Early {
        Early { text: [0; EARLY_BYTES], length: 0, lost: 0 }
    }

    /// Keeps text. Counts the bytes that do not fit.
    pub fn keep(&mut self, text: &[u8]) {
        let kept = text.len().min(EARLY_BYTES - self.length);
        self.text[self.length..self.length + kept].copy_from_slice(&text[..kept]);
        self.length += kept;
        self.lost += text.len() - kept;
    }

    /// What was kept, and how many bytes did not fit.
    pub fn take(&mut self) -> (&[u8], usize) {
        let length = core::mem::take(&mut self.length);
        (&self.text[..length], core::mem::take(&mut self.lost))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec::Vec;

    fn shown(label: Option<&'static str>, act: impl FnOnce(&mut Lines, &mut dyn FnMut(&[u8]))) -> String {
        let mut lines = Lines::new(label);
        let mut bytes = Vec::new();
        act(&mut lines, &mut |piece| bytes.extend_from_slice(piece));
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn labels_stand_in_front_of_lines() {
        let both = |lines: &mut Lines, put: &mut dyn FnMut(&[u8])| {
            lines.program(b"a\nb", &mut *put);
            lines.program(b"c\n\nd", &mut *put);
            lines.platform(format_args!("note {}", 1), &mut *put);
            lines.program(b"e\n", &mut *put);
        };
        assert_eq!(shown(Some("x"), both), "x| a\nx| bc\nx| \nx| d\ndirect: note 1\nx| e\n");
        assert_eq!(shown(None, both), "a\nbc\n\nd\ndirect: note 1\ne\n");
    }

    #[test]
    fn early_text_is_kept_in_order_and_counted_beyond() {
        let mut early = Early::new();
        early.keep(b"one ");
        early.keep(b"two");
        assert_eq!(early.take(), (&b"one two"[..], 0));
        assert_eq!(early.take(), (&b""[..], 0));
        early.keep(&[b'x'; EARLY_BYTES - 1]);
        early.keep(b"yz");
        let (text, lost) = early.take();
        assert_eq!((text.len(), text.last(), lost), (EARLY_BYTES, Some(&b'y'), 1));
    }
}
