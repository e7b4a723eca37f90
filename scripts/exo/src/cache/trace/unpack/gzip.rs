//! gzip: members one behind the other.

use super::damaged;
use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, Read};

/// The contents of all members.
pub(super) struct Members<R> {
    /// `None` after the last member or an error.
    decoder: Option<GzDecoder<R>>,
}

impl<R: BufRead> Members<R> {
    /// Reads from the first byte of the first member on.
    pub(super) fn new(input: R) -> Members<R> {
        Members { decoder: Some(GzDecoder::new(input)) }
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = &mut self.decoder {
            // The decoder compares CRC and size before it says that there is no more.
            let count = decoder.read(bytes)?;
            if count > 0 || bytes.is_empty() {
                return Ok(count);
            }
            let rest = self.decoder.take().map(GzDecoder::into_inner);
            self.decoder = rest.map(next_member).transpose()?.flatten();
        }
        Ok(0)
    }
}

/// The member that follows, if one does. Zeros may follow the last one: tapes and disks end in whole blocks.
fn next_member<R: BufRead>(mut input: R) -> io::Result<Option<GzDecoder<R>>> {
    let start = input.fill_buf()?;
    if start.first().is_some_and(|byte| *byte != 0) {
        return Ok(Some(GzDecoder::new(input)));
    }
    loop {
        let rest = input.fill_buf()?;
        if rest.is_empty() {
            return Ok(None);
        }
        if rest.iter().any(|byte| *byte != 0) {
            return Err(damaged("something follows the zeros behind the end of the gzip data"));
        }
        let length = rest.len();
        input.consume(length);
    }
}
