//! Which format a trace is in.

use super::{Fault, Place};
use std::fmt;
use std::path::Path;

/// Formats of traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// libCacheSim's records of 24 bytes (.oracleGeneral)
    OracleGeneral,
    /// One block number a line, or the columns that --columns names
    Csv,
    /// Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime, as in the Microsoft Research traces
    Msr,
    /// One block number a line; lines that begin with * are comments
    Lirs,
    /// What `exo run --record-references` writes
    References,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::OracleGeneral => "oracle-general",
            Format::Csv => "csv",
            Format::Msr => "msr",
            Format::Lirs => "lirs",
            Format::References => "references",
        })
    }
}

/// Bytes that [`detect`] wants to see.
pub const ENOUGH: u64 = 4096;

/// First line of a file of references, without its version.
pub const REFERENCES_TITLE: &str = "# hyperexo references ";

/// The format of a file by its first bytes, or, where they say nothing, by the name.
pub(super) fn detect(path: &Path, start: &[u8]) -> Result<Format, Fault> {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name = name.trim_end_matches(".zst").trim_end_matches(".gz");
    if start.starts_with(REFERENCES_TITLE.as_bytes()) {
        return Ok(Format::References);
    }
    if name.contains("oraclegeneral") {
        return Ok(Format::OracleGeneral);
    }
    let text = start.iter().all(|byte| !byte.is_ascii_control() || matches!(byte, b'\t' | b'\n' | b'\r'));
    if !text {
        let fix = "name the format with --format; only oracle-general is binary";
        return if looks_like_records(start) {
            Ok(Format::OracleGeneral)
        } else {
            Err(Fault::new(Place::Byte(0), "is binary, but has no records of oracle-general", fix))
        };
    }
    if name.ends_with(".lirs") || name.ends_with(".trc") || start.starts_with(b"*") {
        return Ok(Format::Lirs);
    }
    let lines = start.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let first = lines.clone().find(|line| !line.is_empty() && !line.starts_with(b"#")).unwrap_or_default();
    if is_msr(first) {
        return Ok(Format::Msr);
    }
    if first.iter().all(u8::is_ascii_digit) {
        return Ok(Format::Csv);
    }
    let shown: String = String::from_utf8_lossy(first).chars().take(60).collect();
    let fix = "name the format with --format; for columns of other names, --columns block=NAME or \
               --columns offset=NAME,size=NAME";
    Err(Fault::new(Place::Line(1), format!("{shown:?} is of no format that is recognized"), fix))
}

/// Whether the first two records have what records have: the next access lies ahead, or there is none.
fn looks_like_records(start: &[u8]) -> bool {
    let next_access = |record: &[u8]| record[16..24].try_into().map(i64::from_le_bytes);
    let ahead = |number: usize, next: i64| {
        next < 0 || next == i64::MAX || (next > number as i64 && next < LONGEST_TRACE)
    };
    start.len() >= 24
        && start
            .chunks_exact(24)
            .take(2)
            .enumerate()
            .all(|(number, record)| next_access(record).is_ok_and(|next| ahead(number, next)))
}

/// No trace has so many references: a number as large is no position in one.
const LONGEST_TRACE: i64 = 1 << 40;

/// A line of seven fields, the fourth of which says what was done.
fn is_msr(line: &[u8]) -> bool {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).collect();
    let kinds: [&[u8]; 3] = [b"read", b"write", b"type"];
    fields.len() == 7 && kinds.iter().any(|kind| fields[3].eq_ignore_ascii_case(kind))
}
