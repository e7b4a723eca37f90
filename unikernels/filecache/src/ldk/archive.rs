//! Archives of object files, in the format of `ar` (System V and GNU variant).
//!
//! ```text
//!  "!<arch>\n" │ (header, 60 bytes │ member │ line feed if its length is odd) × n
//! ```

use crate::files::WorkFile;
use crate::workload::RunError;
use alloc::format;
use core::ops::Range;

const MAGIC: &[u8; 8] = b"!<arch>\n";
const HEADER_BYTES: u64 = 60;
/// Where the length stands in a header, in decimal digits.
const LENGTH: Range<usize> = 48..58;
/// What a header ends with.
const END: &[u8; 2] = b"`\n";

/// The members of an archive, one after the other, by their places in the file.
pub(super) struct Members<'f> {
    file: &'f WorkFile,
    path: &'f str,
    next: u64,
}

impl<'f> Members<'f> {
    pub(super) fn new(file: &'f WorkFile, path: &'f str) -> Members<'f> {
        Members { file, path, next: 0 }
    }

    /// Bytes of the file that hold the next member; `None` behind the last.
    pub(super) fn next(&mut self) -> Result<Option<Range<u64>>, RunError> {
        let failed = |error| RunError::file(self.path, error);
        if self.next == 0 {
            let mut magic = [0; MAGIC.len()];
            self.file.read_at(0, &mut magic).map_err(failed)?;
            if magic != *MAGIC {
                return Err(RunError::malformed(self.path, "no archive".into()));
            }
            self.next = MAGIC.len() as u64;
        }
        let mut header = [0; HEADER_BYTES as usize];
        let count = self.file.read_at(self.next, &mut header).map_err(failed)?;
        if count == 0 {
            return Ok(None);
        }
        let length = core::str::from_utf8(&header[LENGTH]).ok().and_then(|text| text.trim().parse().ok());
        let (Some(length), true) = (length, header.ends_with(END)) else {
            return Err(RunError::malformed(self.path, format!("no member at byte {}", self.next)));
        };
        let start = self.next + HEADER_BYTES;
        let end = start.checked_add(length).filter(|end| *end < u64::MAX - 1);
        let end = end.ok_or_else(|| RunError::malformed(self.path, format!("member of {length} bytes")))?;
        self.next = end.next_multiple_of(2);
        Ok(Some(start..end))
    }
}
