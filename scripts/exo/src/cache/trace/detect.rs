//! Which format a trace is in.

use super::fault::{Fault, Place, Read, shown};
use super::lines::{sample, without_mark};
use super::table::is_empty;
use super::{disk, libcachesim, unpack, vscsi};
use crate::recorded::TITLE;
use std::fmt;
use std::path::Path;

/// Formats of traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// libCacheSim's records of 24 bytes (.oracleGeneral)
    OracleGeneral,
    /// libCacheSim's records behind a head (.lcs)
    Lcs,
    /// CloudPhysics's records of 32 or 40 bytes (.vscsi)
    Vscsi,
    /// One block number a line, or the columns that --columns names
    Csv,
    /// Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime, as in the Microsoft Research traces
    Msr,
    /// ASU,LBA,Size,Opcode,Timestamp of the Storage Performance Council (.spc); addresses in sectors
    Spc,
    /// First block, blocks and two more numbers, as in the ARC paper's traces (.lis)
    Arc,
    /// One block number a line; lines that begin with * are comments
    Lirs,
    /// What `exo run --record-references` writes
    References,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::OracleGeneral => "oracle-general",
            Format::Lcs => "lcs",
            Format::Vscsi => "vscsi",
            Format::Csv => "csv",
            Format::Msr => "msr",
            Format::Spc => "spc",
            Format::Arc => "arc",
            Format::Lirs => "lirs",
            Format::References => "references",
        })
    }
}

/// Bytes that [`detect`] and those who look for a heading want to see.
pub(super) const ENOUGH: u64 = 1 << 16;

/// Bytes of a file, compressed or not, that show whether it is.
pub(super) const ENOUGH_PACKED: u64 = 64;

/// The first bytes of a file, after decompression.
#[derive(Clone, Copy)]
pub(super) struct Start<'s> {
    pub(super) bytes: &'s [u8],
    /// Whether there are no more.
    pub(super) whole: bool,
}

impl<'s> Start<'s> {
    /// The lines that say something.
    pub(super) fn lines(self) -> Vec<(&'s [u8], Place)> {
        let mut lines = sample(self.bytes, self.whole);
        lines.retain(|(line, _)| !is_empty(line));
        lines
    }

    fn is_text(self) -> bool {
        self.bytes.iter().all(|byte| !byte.is_ascii_control() || matches!(byte, b'\t' | b'\n' | b'\r'))
    }
}

/// What is wrong if a file's name promises a compression that its first bytes do not have.
pub(super) fn broken_promise(path: &Path, packed: &[u8]) -> Option<Fault> {
    let promise = unpack::promised(&lower_name(path)).0?;
    // The last character may be cut.
    let is_utf8 = std::str::from_utf8(packed).map_or_else(|error| error.error_len().is_none(), |_| true);
    let is_text = is_utf8 && Start { bytes: packed, whole: false }.is_text();
    let reason = format!("is no {}, though its name says so", promise.name);
    let fix = "fetch it again; if it is not compressed, give it another name";
    promise.is_broken(packed, is_text).then(|| Fault::new(Place::Byte(0), reason, fix))
}

fn lower_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default()
}

/// The format of a file by its first bytes, or, where they say nothing, by the name.
pub(super) fn detect(path: &Path, start: Start<'_>) -> Read<Format> {
    let name = lower_name(path);
    let name = unpack::promised(&name).1;
    if without_mark(start.bytes).starts_with(TITLE.as_bytes()) {
        return Ok(Format::References);
    }
    if start.bytes.starts_with(&libcachesim::LCS_MAGIC) {
        return Ok(Format::Lcs);
    }
    if name.contains("oraclegeneral") {
        return Ok(Format::OracleGeneral);
    }
    if name.ends_with(".vscsi") {
        return Ok(Format::Vscsi);
    }
    if !start.is_text() {
        return detect_binary(start);
    }
    let lines = start.lines();
    if name.ends_with(".lirs") || name.ends_with(".trc") || is_lirs(&lines) {
        return Ok(Format::Lirs);
    }
    let first = lines.first().map(|(line, _)| *line).unwrap_or_default();
    if disk::is_msr(first) {
        return Ok(Format::Msr);
    }
    if disk::is_spc(first) {
        return Ok(Format::Spc);
    }
    if name.ends_with(".lis") && disk::is_arc(first) {
        return Ok(Format::Arc);
    }
    if first.trim_ascii().iter().all(u8::is_ascii_digit) {
        return Ok(Format::Csv);
    }
    let place = lines.first().map_or(Place::Line(1), |(_, place)| *place);
    let fix = if disk::is_arc(first) {
        "for the traces of the ARC paper, --format arc; for other columns, --columns block=1"
    } else {
        "name the format with --format; for columns of other names, --columns block=NAME or \
         --columns offset=NAME,size=NAME; for keys of text, --columns key=NAME"
    };
    Err(Fault::new(place, format!("{} is of no format that is known", shown(first)), fix))
}

fn detect_binary(start: Start<'_>) -> Read<Format> {
    if vscsi::looks_like_vscsi(start.bytes, start.whole) {
        return Ok(Format::Vscsi);
    }
    if libcachesim::looks_like_oracle_general(start.bytes, start.whole) {
        return Ok(Format::OracleGeneral);
    }
    let fix =
        "name the format with --format; oracle-general, lcs and vscsi are binary; convert others to text";
    Err(Fault::new(Place::Byte(0), "is binary, and of no format that is known", fix))
}

/// Whether these are numbers with marks between them.
fn is_lirs(lines: &[(&[u8], Place)]) -> bool {
    let is_mark = |line: &[u8]| line.starts_with(b"*");
    let is_number = |line: &[u8]| line.iter().all(u8::is_ascii_digit);
    let texts = || lines.iter().map(|(line, _)| line.trim_ascii());
    texts().next().is_some_and(is_mark)
        || texts().any(is_mark) && texts().all(|line| is_mark(line) || is_number(line))
}
