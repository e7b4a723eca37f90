//! Text with one block number a line, in three dialects.

use super::fault::{Fault, Place, Read, shown};
use super::fields::number;
use super::lines::Lines;
use super::recorder::Recorder;
use crate::recorded::{TITLE, VERSIONS, parse_call, title as recorded_title};
use std::io::BufRead;

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

/// Longest line; a block number has 20 digits at most.
const LONGEST_LINE: u64 = 1024;

/// Reads all lines.
pub(super) fn read(input: &mut dyn BufRead, dialect: Dialect, recorder: &mut Recorder) -> Read<()> {
    let mut lines = Lines::new(input, LONGEST_LINE);
    while let Some((line, place)) = lines.next()? {
        let text = line.trim_ascii();
        if dialect == Dialect::References && place == Place::Line(1) {
            title(text)?;
            continue;
        }
        let comment = if dialect == Dialect::Lirs { b'*' } else { b'#' };
        if text.is_empty() || text.first() == Some(&comment) {
            continue;
        }
        match (dialect, parse_call(text)) {
            (Dialect::References, Some((first, blocks))) => {
                (0..blocks).try_for_each(|position| recorder.block(first + position, place))?;
            }
            _ => recorder.block(block(text, place)?, place)?,
        }
    }
    Ok(())
}

/// A block number.
fn block(text: &[u8], place: Place) -> Read<u64> {
    if let Some(number) = number(text) {
        return Ok(number);
    }
    if text.iter().all(u8::is_ascii_digit) {
        let reason = format!("block number {} is larger than {}", shown(text), u64::MAX);
        return Err(Fault::new(place, reason, "number the blocks from 0"));
    }
    let fix = if text.starts_with(b"*") {
        "lines that begin with * are marks in the traces of LIRS: try --format lirs"
    } else if text.iter().any(|byte| b",;\t ".contains(byte)) {
        "name the column with --columns block=NAME, or --columns offset=NAME for bytes; for the ARC paper's \
         traces, --format arc"
    } else {
        "write decimal numbers, one a line; for keys of text, --columns key=1"
    };
    Err(Fault::new(place, format!("{} is no block number", shown(text)), fix))
}

/// Judges the first line of a file of references.
fn title(text: &[u8]) -> Read<()> {
    let version = text.strip_prefix(TITLE.as_bytes());
    let fault = |reason: String, fix| Err(Fault::new(Place::Line(1), reason, fix));
    match version.map(<[u8]>::trim_ascii) {
        Some(version) if VERSIONS.iter().any(|known| version == known.as_bytes()) => Ok(()),
        Some(version) => {
            let reason = format!("references of version {}", String::from_utf8_lossy(version));
            fault(reason, "this exo reads versions 1 and 2: use the exo that recorded them, or record again")
        }
        None => {
            let reason = format!("the first line is not {:?}", recorded_title());
            fault(reason, "for block numbers without a title, --format csv")
        }
    }
}
