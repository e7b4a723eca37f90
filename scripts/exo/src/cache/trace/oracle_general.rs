//! libCacheSim's format "oracleGeneral": records of 24 bytes, little-endian, without a head.
//!
//! | bytes | what |
//! |---|---|
//! | 0–3 | time in seconds, `u32` |
//! | 4–11 | object, `u64` |
//! | 12–15 | its size in bytes, `u32` |
//! | 16–23 | when it is next referred to, as a position in the trace, `i64`; negative or the largest number if never |
//!
//! The object is taken for a block, whatever its size: caches of this project hold blocks of one size. The
//! next reference is not believed: `opt` works it out.

use super::{Fault, Place, Recorder};
use std::io::BufRead;
use zerocopy::FromBytes;
use zerocopy::byteorder::little_endian::{I64, U32, U64};

/// A record.
#[derive(FromBytes, zerocopy::KnownLayout, zerocopy::Immutable)]
#[repr(C)]
struct Record {
    _time_s: U32,
    object: U64,
    _bytes: U32,
    _next: I64,
}

const RECORD_BYTES: usize = size_of::<Record>();

/// Reads all records.
pub(super) fn read(input: &mut dyn BufRead, recorder: &mut Recorder) -> Result<(), Fault> {
    let mut bytes = [0; RECORD_BYTES];
    let mut offset = 0;
    loop {
        let place = Place::Byte(offset);
        let filled = fill(input, &mut bytes).map_err(|error| Fault::unreadable(place, &error))?;
        match (filled, Record::read_from_bytes(&bytes)) {
            (0, _) => return Ok(()),
            (RECORD_BYTES, Ok(record)) => recorder.block(record.object.get(), place)?,
            _ => {
                let reason = format!("the file ends after {filled} of the {RECORD_BYTES} bytes of a record");
                let fix = format!("fetch it again, or cut it there with `head -c {offset}`");
                return Err(Fault::new(place, reason, fix));
            }
        }
        offset += RECORD_BYTES as u64;
    }
}

/// Fills `bytes` as far as the stream goes.
fn fill(input: &mut dyn BufRead, bytes: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match input.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
