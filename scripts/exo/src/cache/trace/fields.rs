//! The fields of a line: what separates them, and quotes (RFC 4180).

use super::fault::{Fault, Place, Read};
use std::fmt;
use std::str::FromStr;

/// What separates the fields of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Separator {
    /// One character, each time it appears outside quotes.
    Byte(u8),
    /// Any run of blanks and tabs; quotes mean nothing.
    Space,
}

impl FromStr for Separator {
    type Err = String;

    fn from_str(text: &str) -> Result<Separator, String> {
        Ok(match text {
            "comma" => Separator::Byte(b','),
            "semicolon" => Separator::Byte(b';'),
            "tab" | "\\t" => Separator::Byte(b'\t'),
            "pipe" => Separator::Byte(b'|'),
            "space" | " " => Separator::Space,
            _ => match text.as_bytes() {
                [byte] if *byte != b'"' && (byte.is_ascii_punctuation() || *byte == b'\t') => {
                    Separator::Byte(*byte)
                }
                _ => {
                    return Err(format!(
                        "{text:?} is no separator; there are comma, semicolon, tab, pipe, space (any white space), \
                         or a character such as :"
                    ));
                }
            },
        })
    }
}

impl fmt::Display for Separator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Separator::Byte(b'\t') => f.write_str("tab"),
            Separator::Byte(byte) => write!(f, "{:?}", char::from(*byte)),
            Separator::Space => f.write_str("white space"),
        }
    }
}

impl Separator {
    /// Those that [`Separator::detect`] knows. White space is last: it is in texts, too.
    const KNOWN: [Separator; 4] =
        [Separator::Byte(b','), Separator::Byte(b'\t'), Separator::Byte(b';'), Separator::Space];

    /// What separates the fields of these lines: what gives all of them the same number of fields, the more
    /// the better; white space only if nothing else does. Where nothing does, what appears in the first line.
    pub(super) fn detect(lines: &[&[u8]]) -> Separator {
        let fields = |separator: Separator| {
            let counts = lines.iter().map(|line| separator.count(line));
            let mut counts = counts.map(|count| count.unwrap_or(0));
            let first = counts.next().unwrap_or(0);
            (first > 1 && counts.all(|count| count == first)).then_some(first)
        };
        let [marks @ .., space] = Separator::KNOWN;
        let mut best = None;
        for separator in marks {
            let count = fields(separator);
            if count > best.map(|(count, _)| count) {
                best = count.map(|count| (count, separator));
            }
        }
        let by_count = best.map(|(_, separator)| separator).or(fields(space).map(|_| space));
        let first = lines.first().copied().unwrap_or_default();
        let by_sight = || {
            Separator::KNOWN
                .into_iter()
                .find(|separator| separator.count(first).is_some_and(|count| count > 1))
        };
        by_count.or_else(by_sight).unwrap_or(Separator::Byte(b','))
    }

    /// Fields of a line; `None` if its quotes are wrong.
    fn count(self, line: &[u8]) -> Option<usize> {
        let mut fields = Fields::default();
        fields.split(line, self, Place::File).ok().map(|()| fields.len())
    }
}

/// The fields of one line, without their quotes. It is made once and used for all lines.
#[derive(Default)]
pub(super) struct Fields {
    text: Vec<u8>,
    /// Where each field ends in `text`.
    ends: Vec<usize>,
}

impl Fields {
    /// Takes a line apart. A quoted field must end on its line: a quote that does not would swallow the lines
    /// that follow.
    pub(super) fn split(&mut self, line: &[u8], separator: Separator, place: Place) -> Read<()> {
        self.text.clear();
        self.ends.clear();
        let Separator::Byte(separator) = separator else {
            for word in line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
                self.push(word);
            }
            return Ok(());
        };
        let mut rest = line;
        loop {
            let after = match without_blanks(rest).strip_prefix(b"\"") {
                Some(quoted) => self.quoted(quoted, separator, place)?,
                None => {
                    let end = rest.iter().position(|byte| *byte == separator).unwrap_or(rest.len());
                    self.push(rest[..end].trim_ascii());
                    &rest[end..]
                }
            };
            match after {
                [] => return Ok(()),
                [_, next @ ..] => rest = next,
            }
        }
    }

    /// A field behind its opening quote; two quotes stand for one. Returns what follows: nothing, or the
    /// separator and more.
    fn quoted<'l>(&mut self, mut rest: &'l [u8], separator: u8, place: Place) -> Read<&'l [u8]> {
        let fix = "correct the line: a quoted field ends with a quote on the same line, before the separator";
        loop {
            let Some(quote) = rest.iter().position(|byte| *byte == b'"') else {
                return Err(Fault::new(place, "has a quote that does not end", fix));
            };
            self.text.extend_from_slice(&rest[..quote]);
            rest = &rest[quote + 1..];
            if let Some(more) = rest.strip_prefix(b"\"") {
                self.text.push(b'"');
                rest = more;
                continue;
            }
            self.ends.push(self.text.len());
            let after = without_blanks(rest);
            return match after.first() {
                Some(byte) if *byte != separator => {
                    Err(Fault::new(place, "has text behind the closing quote of a field", fix))
                }
                _ => Ok(after),
            };
        }
    }

    fn push(&mut self, field: &[u8]) {
        self.text.extend_from_slice(field);
        self.ends.push(self.text.len());
    }

    /// Number of fields.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// A field by its position from 0.
    pub(super) fn get(&self, position: usize) -> Option<&[u8]> {
        let start = if position == 0 { 0 } else { *self.ends.get(position - 1)? };
        Some(&self.text[start..*self.ends.get(position)?])
    }

    /// All fields.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).filter_map(|position| self.get(position))
    }
}

/// What follows the blanks at the start. A tab may be a separator, and stays.
fn without_blanks(text: &[u8]) -> &[u8] {
    let blanks = text.iter().take_while(|byte| **byte == b' ').count();
    &text[blanks..]
}

/// A decimal number.
pub(super) fn number(field: &[u8]) -> Option<u64> {
    let digits = field.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(field).ok().filter(|_| digits)?.parse().ok()
}

/// Whether a field is some number, if perhaps none that a trace can have: negative, a fraction, too large.
pub(super) fn is_numeric(field: &[u8]) -> bool {
    let text = std::str::from_utf8(field).unwrap_or_default();
    let begins = text.trim_start_matches(['-', '+', '.']).starts_with(|first: char| first.is_ascii_digit());
    begins && text.parse::<f64>().is_ok()
}
