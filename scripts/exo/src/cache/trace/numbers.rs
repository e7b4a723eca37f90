//! Text with one block number a line, in three dialects.

use super::detect::REFERENCES_TITLE;
use super::{Fault, Place, Recorder};
use std::io::{BufRead, Read};

/// What else a line may hold. Empty lines may be everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Comments begin with `#`.
    Csv,
    /// Comments begin with `*`, as in the traces of the LIRS simulator.
    Lirs,
    /// The first line is a title with the version; comments begin with `#`.
    References,
}

/// Version of the format `references` that is written and read: after the title, one decimal number a line,
/// which is file number × 2^32 + block.
pub const REFERENCES_VERSION: &str = "1";

/// Longest line; a block number has 20 digits at most.
const LONGEST_LINE: u64 = 1024;

/// Reads all lines.
pub(super) fn read(input: &mut dyn BufRead, dialect: Dialect, recorder: &mut Recorder) -> Result<(), Fault> {
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        number += 1;
        let place = Place::Line(number);
        line.clear();
        let length = Read::take(&mut *input, LONGEST_LINE).read_until(b'\n', &mut line);
        if length.map_err(|error| Fault::unreadable(place, &error))? == 0 {
            return Ok(());
        }
        if line.len() as u64 == LONGEST_LINE && !line.ends_with(b"\n") {
            let reason = format!("is longer than {LONGEST_LINE} bytes");
            return Err(Fault::new(place, reason, "a trace has one block number a line: name its --format"));
        }
        let text = line.trim_ascii();
        if number == 1 && dialect == Dialect::References {
            title(text)?;
            continue;
        }
        let comment = if dialect == Dialect::Lirs { b'*' } else { b'#' };
        if text.is_empty() || text.first() == Some(&comment) {
            continue;
        }
        recorder.block(block(text, place)?, place)?;
    }
}

/// A block number.
fn block(text: &[u8], place: Place) -> Result<u64, Fault> {
    let shown = || String::from_utf8_lossy(text).chars().take(60).collect::<String>();
    let number = std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let Some(number) = number else {
        let fix = if text.contains(&b',') {
            "name the column with --columns block=NAME, or --columns offset=NAME for bytes"
        } else {
            "write decimal numbers, one a line"
        };
        return Err(Fault::new(place, format!("{:?} is no block number", shown()), fix));
    };
    number.parse().map_err(|_| {
        let reason = format!("block number {} is larger than {}", shown(), u64::MAX);
        Fault::new(place, reason, "number the blocks from 0")
    })
}

/// Judges the first line of a file of references.
fn title(text: &[u8]) -> Result<(), Fault> {
    let version = text.strip_prefix(REFERENCES_TITLE.as_bytes());
    let fault = |reason: String, fix| Err(Fault::new(Place::Line(1), reason, fix));
    match version.map(<[u8]>::trim_ascii) {
        Some(version) if version == REFERENCES_VERSION.as_bytes() => Ok(()),
        Some(version) => {
            let reason = format!("references of version {}", String::from_utf8_lossy(version));
            fault(reason, "this exo reads version 1: use the exo that recorded them, or record again")
        }
        None => {
            let reason =
                format!("the first line is not {:?}", format!("{REFERENCES_TITLE}{REFERENCES_VERSION}"));
            fault(reason, "for block numbers without a title, --format csv")
        }
    }
}
