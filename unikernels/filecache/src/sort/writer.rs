//! Lines into a file, in pieces of whole blocks.

use crate::files::{FileError, WorkFile};
use crate::lines::BLOCK_BYTES;
use alloc::vec::Vec;

/// Bytes written at a time: a request of 32 blocks, for the case that they leave the cache at once.
const WRITE_BYTES: usize = 32 * BLOCK_BYTES;

/// Writes lines to a file from its start, [`WRITE_BYTES`] at a time, so that every block is written once and
/// whole.
pub struct LineWriter {
    file: WorkFile,
    offset: u64,
    buffer: Vec<u8>,
}

impl LineWriter {
    /// Starts at the first byte of `file`.
    pub fn new(file: WorkFile) -> LineWriter {
        LineWriter { file, offset: 0, buffer: Vec::with_capacity(2 * WRITE_BYTES) }
    }

    /// Appends a line and a line feed.
    pub fn write(&mut self, line: &[u8]) -> Result<(), FileError> {
        self.buffer.extend_from_slice(line);
        self.buffer.push(b'\n');
        while self.buffer.len() >= WRITE_BYTES {
            self.write_out(WRITE_BYTES)?;
        }
        Ok(())
    }

    /// Writes what is left.
    pub fn finish(mut self) -> Result<(), FileError> {
        self.write_out(self.buffer.len())
    }

    fn write_out(&mut self, count: usize) -> Result<(), FileError> {
        self.file.write_at(self.offset, &self.buffer[..count])?;
        self.offset += count as u64;
        self.buffer.drain(..count);
        Ok(())
    }
}
