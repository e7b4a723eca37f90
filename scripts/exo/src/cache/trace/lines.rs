//! Lines of text, with their numbers.

use super::fault::{Fault, Place, Read};
use std::io::{BufRead, Read as _};

/// How UTF-8 text may begin: the byte order mark is no part of the text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads lines one by one.
pub(super) struct Lines<'i> {
    input: &'i mut dyn BufRead,
    /// Bytes of the longest line: what has no line ends is no text, and must not fill the memory.
    longest: u64,
    number: u64,
    line: Vec<u8>,
}

impl<'i> Lines<'i> {
    /// Lines of so many bytes at most.
    pub(super) fn new(input: &'i mut dyn BufRead, longest: u64) -> Lines<'i> {
        Lines { input, longest, number: 0, line: Vec::new() }
    }

    /// The next line, without its end, and where it is.
    pub(super) fn next(&mut self) -> Read<Option<(&[u8], Place)>> {
        self.number += 1;
        let place = Place::Line(self.number);
        self.line.clear();
        let length = (&mut *self.input).take(self.longest).read_until(b'\n', &mut self.line);
        if length.map_err(|error| Fault::unreadable(place, &error))? == 0 {
            return Ok(None);
        }
        if self.line.len() as u64 == self.longest && !self.line.ends_with(b"\n") {
            let reason = format!("is longer than {} bytes", self.longest);
            return Err(Fault::new(place, reason, "a trace has a reference a line: name its --format"));
        }
        if self.line.contains(&0) {
            let fix = "the file is damaged: fetch or record it again; of a binary file, name the --format";
            return Err(Fault::new(place, "holds a byte of zero, which no text does", fix));
        }
        let line = if self.number == 1 { without_mark(&self.line) } else { &self.line };
        Ok(Some((without_end(line), place)))
    }
}

/// Text without its byte order mark.
pub(super) fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The lines at the start of a text, as [`Lines`] gives them. The last is left out unless the start is the
/// whole text: it may be cut.
pub(super) fn sample(start: &[u8], whole: bool) -> Vec<(&[u8], Place)> {
    let text = without_mark(start);
    let complete = if whole { Some(text.len()) } else { text.iter().rposition(|byte| *byte == b'\n') };
    let text = &text[..complete.unwrap_or(0)];
    (1..)
        .zip(text.split(|byte| *byte == b'\n'))
        .map(|(number, line)| (without_end(line), Place::Line(number)))
        .collect()
}
