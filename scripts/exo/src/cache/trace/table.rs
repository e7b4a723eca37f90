//! Text with columns: which column holds what, and the references of each line.

use super::fault::{Fault, Place, Read, shown};
use super::fields::{Fields, Separator, number};
use super::lines::Lines;
use super::recorder::{Names, Recorder};
use std::io::BufRead;

/// Longest line.
const LONGEST_LINE: u64 = 1 << 16;

/// How a file with columns is read.
pub(super) struct Table {
    pub(super) separator: Separator,
    pub(super) positions: Positions,
    /// How many fields each line has, if that is known: exactly, or at least.
    pub(super) fields: Option<Count>,
    /// The line that is a heading.
    pub(super) heading: Option<Place>,
    /// Whether the user is told of the heading.
    pub(super) noted: bool,
}

/// How many fields a line has.
#[derive(Clone, Copy, Debug)]
pub(super) enum Count {
    Exactly(usize),
    AtLeast(usize),
}

/// Where in a line the values are.
pub(super) struct Positions {
    pub(super) address: Address,
    pub(super) length: Length,
    /// Names of the file or disk; none if there is but one.
    pub(super) files: Vec<usize>,
    /// What was done, and the words there are for it.
    pub(super) kind: Option<(usize, &'static [&'static str])>,
}

/// Where the address is, and what it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// Blocks.
    Block(usize),
    /// Units of so many bytes.
    Offset { at: usize, unit: u64 },
    /// Nothing: it is text, and the same text is the same block.
    Key(usize),
}

/// Where the length is, and what it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// Nowhere: one block or byte.
    One,
    Bytes(usize),
    /// What the address counts.
    Units(usize),
}

/// What to do about a line that has no such value.
const NO_VALUE: &str = "correct or remove the line, or name other columns";

impl Table {
    /// Reads all lines.
    pub(super) fn read(&self, input: &mut dyn BufRead, recorder: &mut Recorder) -> Read<()> {
        if let Some(heading) = self.heading.filter(|_| self.noted) {
            recorder.note(format!("{} is taken for a heading", heading.to_string().trim_start_matches(", ")));
        }
        if let Address::Key(at) = self.positions.address {
            recorder.note(format!("column {} is taken for keys: each distinct text is a block", at + 1));
        }
        let mut lines = Lines::new(input, LONGEST_LINE);
        let (mut fields, mut names) = (Fields::default(), Names::default());
        while let Some((line, place)) = lines.next()? {
            if is_empty(line) || self.heading == Some(place) {
                continue;
            }
            fields.split(line, self.separator, place)?;
            self.judge(&fields, place)?;
            self.positions.record(&fields, place, &mut names, recorder)?;
        }
        Ok(())
    }

    /// Whether a line is of this table at all.
    fn judge(&self, fields: &Fields, place: Place) -> Read<()> {
        let wrong = match self.fields {
            Some(Count::Exactly(count)) if fields.len() != count => Some(format!("{count}")),
            Some(Count::AtLeast(count)) if fields.len() < count => Some(format!("at least {count}")),
            _ => None,
        };
        if let Some(count) = wrong {
            let reason = format!("{} fields instead of {count}", fields.len());
            let fix = "correct or remove the line; of another csv, name the columns with --columns";
            return Err(Fault::new(place, reason, fix));
        }
        if let Some((at, words)) = self.positions.kind {
            let field = fields.get(at).unwrap_or_default();
            if !words.iter().any(|word| field.eq_ignore_ascii_case(word.as_bytes())) {
                let reason =
                    format!("column {} has {}, which is not {}", at + 1, shown(field), words.join(" or "));
                return Err(Fault::new(place, reason, NO_VALUE));
            }
        }
        Ok(())
    }
}

/// Whether a line says nothing: it is empty or a comment.
pub(super) fn is_empty(line: &[u8]) -> bool {
    let text = line.trim_ascii_start();
    text.is_empty() || text.starts_with(b"#")
}

impl Positions {
    /// Records what a line refers to.
    fn record(&self, fields: &Fields, place: Place, names: &mut Names, recorder: &mut Recorder) -> Read<()> {
        let value = |at: usize| {
            let field = fields.get(at).unwrap_or_default();
            number(field).ok_or_else(|| {
                let reason = format!("column {} has {}, which is no number below 2^64", at + 1, shown(field));
                Fault::new(place, reason, NO_VALUE)
            })
        };
        let files = self.files.iter().map(|at| fields.get(*at).unwrap_or_default());
        match self.address {
            Address::Key(at) => {
                let key = key(fields.get(at).unwrap_or_default(), at, place)?;
                recorder.key(names, files.chain([key]), place)
            }
            Address::Block(at) => {
                let count = match self.length {
                    Length::Units(at) => value(at)?,
                    Length::One | Length::Bytes(_) => 1,
                };
                let first = value(at)?;
                let file = (!self.files.is_empty()).then(|| names.number(files));
                recorder.run(file, first, count, place)
            }
            Address::Offset { at, unit } => {
                let bytes = |units: u64| {
                    let reason = format!("{units} units of {unit} bytes: that is beyond 2^64");
                    units.checked_mul(unit).ok_or_else(|| Fault::new(place, reason, NO_VALUE))
                };
                let length = match self.length {
                    Length::One => 1,
                    Length::Bytes(at) => value(at)?,
                    Length::Units(at) => bytes(value(at)?)?,
                };
                recorder.bytes(names.number(files), bytes(value(at)?)?, length, place)
            }
        }
    }
}

/// A key, which must be there and be text.
fn key(field: &[u8], at: usize, place: Place) -> Read<&[u8]> {
    let text = std::str::from_utf8(field).ok();
    let is_key = text.is_some_and(|text| !text.is_empty() && !text.chars().any(char::is_control));
    if is_key {
        return Ok(field);
    }
    Err(Fault::new(place, format!("column {} has {}, which is no key", at + 1, shown(field)), NO_VALUE))
}
