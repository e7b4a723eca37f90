//! Files of records that all have the same length.

use super::fault::{Fault, Place, Read};
use std::io::{BufRead, ErrorKind};

/// Reads records one by one.
pub(super) struct Records<'i> {
    input: &'i mut dyn BufRead,
    record: Vec<u8>,
    offset: u64,
}

impl<'i> Records<'i> {
    /// Records of so many bytes, the first of which is at `offset` in the file.
    pub(super) fn new(input: &'i mut dyn BufRead, bytes: usize, offset: u64) -> Records<'i> {
        Records { input, record: vec![0; bytes], offset }
    }

    /// The next record, and where it is.
    pub(super) fn next(&mut self) -> Read<Option<(&[u8], Place)>> {
        let (offset, place) = (self.offset, Place::Byte(self.offset));
        let filled = fill(self.input, &mut self.record).map_err(|error| Fault::unreadable(place, &error))?;
        if filled == 0 {
            return Ok(None);
        }
        if filled < self.record.len() {
            let bytes = self.record.len();
            let reason = format!("the file ends after {filled} of the {bytes} bytes of a record");
            let fix = format!("fetch it again, or cut it there with `head -c {offset}`");
            return Err(Fault::new(place, reason, fix));
        }
        self.offset += filled as u64;
        Ok(Some((&self.record, place)))
    }
}

/// Fills `bytes` as far as the stream goes.
pub(super) fn fill(input: &mut dyn BufRead, bytes: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match input.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
