//! libCacheSim's binary formats, little-endian: "oracleGeneral", which is records without a head, and LCS,
//! which has a head of 8,192 bytes before them.
//!
//! | bytes of a record | what |
//! |---|---|
//! | 0–3 | time in seconds, `u32` |
//! | 4–11 | object, `u64` |
//! | 12–15 | its size in bytes, `u32`; LCS from version 3 on has an `i64` here, the rest 4 bytes later |
//! | LCS from version 2 on: 4 | operation and tenant |
//! | LCS from version 3 on: 4 | time to live in seconds |
//! | 8 | when it is next referred to, as a position in the trace, `i64`; -1 or the largest number if never |
//! | LCS from version 4 on | 1, 2, 4, 8, 16 further numbers of 4 bytes |
//!
//! | bytes of LCS's head | what |
//! |---|---|
//! | 0–7, 8184–8191 | magic number |
//! | 8–15 | version, 1 to 8 |
//! | 24–31 | number of records, `i64`; 0 if not known |
//!
//! The object is taken for a block, whatever its size: caches of this project hold blocks of one size. The
//! next reference is not believed: `opt` works it out. But it must be possible, for random bytes seldom are.

use super::binary::{Records, fill};
use super::fault::{Fault, Place, Read};
use super::recorder::Recorder;
use std::io::BufRead;

/// Where the values of a record are.
struct Layout {
    bytes: usize,
    size_bytes: usize,
    next_at: usize,
}

const ORACLE_GENERAL: Layout = Layout { bytes: 24, size_bytes: 4, next_at: 16 };

/// Those of LCS, by version from 1 on.
const LCS: [Layout; 8] = [
    ORACLE_GENERAL,
    Layout { bytes: 28, size_bytes: 4, next_at: 20 },
    Layout { bytes: 36, size_bytes: 8, next_at: 28 },
    Layout { bytes: 40, size_bytes: 8, next_at: 28 },
    Layout { bytes: 44, size_bytes: 8, next_at: 28 },
    Layout { bytes: 52, size_bytes: 8, next_at: 28 },
    Layout { bytes: 68, size_bytes: 8, next_at: 28 },
    Layout { bytes: 100, size_bytes: 8, next_at: 28 },
];

/// How an LCS file begins, and how its head ends.
pub(super) const LCS_MAGIC: [u8; 8] = 0x1234_5678_9abc_def0_u64.to_le_bytes();

/// Bytes of the head of an LCS file.
const LCS_HEAD_BYTES: usize = 8192;

/// No trace has so many references: a number as large is no position in one.
const LONGEST_TRACE: i64 = 1 << 40;

/// Who says that a file has records of a format without a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The user.
    User,
    /// The first records, or the file's name.
    Guess,
}

/// The values of a record that are judged.
struct Record {
    time_s: u32,
    object: u64,
    size: i64,
    next: i64,
}

impl Layout {
    /// A record from its bytes, of which there are enough.
    fn record(&self, bytes: &[u8]) -> Record {
        Record {
            time_s: little_endian(&bytes[..4]) as u32,
            object: little_endian(&bytes[4..12]),
            size: little_endian(&bytes[12..12 + self.size_bytes]) as i64,
            next: little_endian(&bytes[self.next_at..self.next_at + 8]) as i64,
        }
    }
}

/// A number of at most 8 bytes.
fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl Record {
    /// What no record at this position has, whoever says that it is one.
    fn impossible(&self, position: i64) -> Option<String> {
        let never = matches!(self.next, -1 | i64::MAX);
        if !never && (self.next <= position || self.next >= LONGEST_TRACE) {
            return Some(format!("the next reference after number {position} would be number {}", self.next));
        }
        (self.size < 0).then(|| format!("an object of {} bytes", self.size))
    }

    /// What is possible, but speaks against a guess.
    fn unlikely(&self, last_time_s: u32) -> Option<String> {
        if self.time_s < last_time_s {
            return Some(format!("the time falls from {last_time_s} to {}", self.time_s));
        }
        (self.size == 0).then(|| "an object of 0 bytes".to_owned())
    }
}

/// Whether the first bytes of a file, or all of them, are records of oracleGeneral.
pub(super) fn looks_like_oracle_general(start: &[u8], whole: bool) -> bool {
    let records = start.chunks_exact(ORACLE_GENERAL.bytes);
    if records.len() == 0 || whole && !records.remainder().is_empty() {
        return false;
    }
    let mut last_time_s = 0;
    (0..).zip(records).all(|(position, bytes)| {
        let record = ORACLE_GENERAL.record(bytes);
        let fine = record.impossible(position).or_else(|| record.unlikely(last_time_s)).is_none();
        last_time_s = record.time_s;
        fine
    })
}

/// Reads records of oracleGeneral.
pub(super) fn read_oracle_general(
    input: &mut dyn BufRead,
    source: Source,
    recorder: &mut Recorder,
) -> Read<()> {
    read(&ORACLE_GENERAL, Records::new(input, ORACLE_GENERAL.bytes, 0), source, recorder).map(|_| ())
}

/// Reads an LCS file.
pub(super) fn read_lcs(input: &mut dyn BufRead, recorder: &mut Recorder) -> Read<()> {
    const CONVERT: &str =
        "fetch it again; or convert it with libCacheSim's traceConv, to lcs or oracleGeneral";
    let mut head = vec![0; LCS_HEAD_BYTES];
    let filled = fill(input, &mut head).map_err(|error| Fault::unreadable(Place::Byte(0), &error))?;
    if filled < 8 || head[..8] != LCS_MAGIC {
        return Err(Fault::new(Place::Byte(0), "does not begin as LCS does", "name another --format"));
    }
    if filled < LCS_HEAD_BYTES || head[LCS_HEAD_BYTES - 8..] != LCS_MAGIC {
        let reason =
            format!("LCS without a head of {LCS_HEAD_BYTES} bytes: it is cut off, or of an early version");
        return Err(Fault::new(Place::Byte(0), reason, CONVERT));
    }
    let version = little_endian(&head[8..16]);
    let layout = usize::try_from(version).ok().and_then(|version| LCS.get(version.checked_sub(1)?));
    let Some(layout) = layout else {
        return Err(Fault::new(
            Place::Byte(8),
            format!("LCS of version {version}; exo reads 1 to 8"),
            CONVERT,
        ));
    };
    let records = Records::new(input, layout.bytes, LCS_HEAD_BYTES as u64);
    // The head has shown what it is: times may fall, and sizes may be 0.
    let count = read(layout, records, Source::User, recorder)?;
    let stated = little_endian(&head[24..32]);
    if stated != 0 && stated != count {
        let reason = format!("LCS with {count} records, though its head says {stated}");
        return Err(Fault::new(Place::File, reason, CONVERT));
    }
    Ok(())
}

/// Reads records. Returns how many there are.
fn read(layout: &Layout, mut records: Records<'_>, source: Source, recorder: &mut Recorder) -> Read<u64> {
    let (mut position, mut last_time_s) = (0, 0);
    while let Some((bytes, place)) = records.next()? {
        let record = layout.record(bytes);
        if let Some(reason) = record.impossible(position) {
            let fix = "fetch or record the file again; of another format, name it with --format";
            return Err(Fault::new(place, format!("is no record of libCacheSim's: {reason}"), fix));
        }
        if let Some(reason) = record.unlikely(last_time_s).filter(|_| source == Source::Guess) {
            let fix = "if it is one nevertheless, say --format oracle-general";
            return Err(Fault::new(place, format!("is hardly a record of oracle-general: {reason}"), fix));
        }
        recorder.block(record.object, place)?;
        (position, last_time_s) = (position + 1, record.time_s);
    }
    Ok(position as u64)
}
