//! The binary traces of virtual disks that CloudPhysics published (C. Waldspurger et al., "Efficient MRC
//! construction with SHARDS", FAST 2015), little-endian, in two versions without a head:
//!
//! | version 1, bytes | version 2, bytes | what |
//! |---|---|---|
//! | 0–3 | 4–7 | serial number |
//! | 4–7 | 8–11 | length in bytes |
//! | 8–11 | 12–15 | entries of the scatter-gather list |
//! | 12–13 | 0–1 | SCSI command |
//! | 14–15 | 2–3 | version, in the upper byte |
//! | 16–23 | 16–23 | address in sectors |
//! | 24–31 | 24–31 | time in microseconds |
//! | | 32–39 | response time |
//!
//! All blocks that a request touches are referred to, in order.

use super::binary::Records;
use super::disk::SECTOR_BYTES;
use super::fault::{Fault, Place, Read};
use super::recorder::Recorder;
use std::io::BufRead;

/// Where the values of a record are.
#[derive(Clone, Copy)]
struct Layout {
    version: u8,
    bytes: usize,
    version_at: usize,
    length_at: usize,
}

const LAYOUTS: [Layout; 2] = [
    Layout { version: 1, bytes: 32, version_at: 14, length_at: 4 },
    Layout { version: 2, bytes: 40, version_at: 2, length_at: 8 },
];

/// Where the address is, in both.
const ADDRESS_AT: usize = 16;

/// The longest request that a guess believes in.
const LONGEST_REQUEST: u32 = 1 << 30;

impl Layout {
    /// What speaks against a record.
    fn impossible(self, record: &[u8]) -> Option<String> {
        let version = record[self.version_at + 1];
        if version != self.version {
            return Some(format!("version {version} after version {}", self.version));
        }
        let length = self.length(record);
        let whole = u64::from(length).is_multiple_of(SECTOR_BYTES) && length <= LONGEST_REQUEST;
        (!whole).then(|| format!("a request of {length} bytes"))
    }

    fn length(self, record: &[u8]) -> u32 {
        record[self.length_at..][..4].iter().rev().fold(0, |length, byte| length << 8 | u32::from(*byte))
    }
}

/// The version of the records that these first bytes are, or all bytes, if they are records.
fn layout(start: &[u8], whole: bool) -> Option<Layout> {
    LAYOUTS.into_iter().find(|layout| {
        let mut records = start.chunks_exact(layout.bytes);
        let ends = records.remainder().is_empty() || !whole;
        // A file of zeros would pass for one of requests without a length; the version is not zero.
        records.len() > 0 && ends && records.all(|record| layout.impossible(record).is_none())
    })
}

/// Whether these are the first bytes, or all, of such a trace.
pub(super) fn looks_like_vscsi(start: &[u8], whole: bool) -> bool {
    layout(start, whole).is_some()
}

/// Reads all records, of which `start` has the first. Addresses count `unit` bytes.
pub(super) fn read(input: &mut dyn BufRead, start: &[u8], unit: u64, recorder: &mut Recorder) -> Read<()> {
    const FIX: &str = "fetch the file again; of another format, name it with --format";
    let first = LAYOUTS
        .into_iter()
        .find(|layout| start.get(..layout.bytes).is_some_and(|record| layout.impossible(record).is_none()));
    let Some(layout) = first else {
        return Err(Fault::new(Place::Byte(0), "is no record of vscsi, version 1 or 2", FIX));
    };
    let mut records = Records::new(input, layout.bytes, 0);
    while let Some((record, place)) = records.next()? {
        if let Some(reason) = layout.impossible(record) {
            return Err(Fault::new(place, format!("is no record of vscsi: {reason}"), FIX));
        }
        let address = record[ADDRESS_AT..][..8].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let offset = address.checked_mul(unit).ok_or_else(|| {
            Fault::new(place, format!("a request at {address} times {unit} bytes, which is beyond 2^64"), FIX)
        })?;
        recorder.bytes(0, offset, layout.length(record).into(), place)?;
    }
    Ok(())
}
