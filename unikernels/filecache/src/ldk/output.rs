//! The program, written in whole blocks, segment by segment.

use super::layout::{BASE, Lengths, PAGE_BYTES, Segment};
use crate::files::{FileError, WorkFile};
use alloc::vec::Vec;

/// Bytes written at a time.
const WRITE_BYTES: usize = 32 * PAGE_BYTES as usize;

/// Bytes that follow each other in the output file.
struct Stream {
    /// Where the buffer goes.
    offset: u64,
    buffer: Vec<u8>,
    /// Bytes appended so far.
    length: u64,
}

impl Stream {
    fn new(offset: u64) -> Stream {
        Stream { offset, buffer: Vec::new(), length: 0 }
    }

    /// Appends zeros up to an offset in the stream, then bytes.
    fn append(&mut self, file: &WorkFile, at: u64, bytes: &[u8]) -> Result<(), FileError> {
        let zeros = at.saturating_sub(self.length) as usize;
        self.buffer.resize(self.buffer.len() + zeros, 0);
        self.buffer.extend_from_slice(bytes);
        self.length += (zeros + bytes.len()) as u64;
        if self.buffer.len() >= WRITE_BYTES {
            let whole = self.buffer.len() / PAGE_BYTES as usize * PAGE_BYTES as usize;
            self.write(file, whole)?;
        }
        Ok(())
    }

    /// Writes what is left, as whole blocks.
    fn finish(&mut self, file: &WorkFile) -> Result<(), FileError> {
        let whole = self.buffer.len().next_multiple_of(PAGE_BYTES as usize);
        self.buffer.resize(whole, 0);
        self.write(file, whole)
    }

    fn write(&mut self, file: &WorkFile, bytes: usize) -> Result<(), FileError> {
        if bytes > 0 {
            file.write_at(self.offset, &self.buffer[..bytes])?;
            self.offset += bytes as u64;
            self.buffer.drain(..bytes);
        }
        Ok(())
    }
}

/// The output file.
pub(super) struct Output<'f> {
    file: &'f WorkFile,
    segments: [Stream; Segment::IN_FILE.len()],
    /// Offset of the global offset table.
    table_offset: u64,
    /// The entries of the table.
    table: Vec<u64>,
}

impl<'f> Output<'f> {
    /// An empty program of this layout.
    pub(super) fn new(file: &'f WorkFile, lengths: &Lengths) -> Output<'f> {
        Output {
            file,
            segments: Segment::IN_FILE.map(|segment| Stream::new(lengths.file_offset(segment))),
            table_offset: lengths.table_offset(),
            table: Vec::new(),
        }
    }

    /// Adds the contents of a section. Sections of a segment come in the order of their offsets.
    pub(super) fn add(&mut self, segment: Segment, offset: u64, contents: &[u8]) -> Result<(), FileError> {
        self.segments[segment as usize].append(self.file, offset, contents)
    }

    /// Adds an entry to the global offset table; returns its number.
    pub(super) fn add_entry(&mut self, value: u64) -> u64 {
        self.table.push(value);
        self.table.len() as u64 - 1
    }

    /// The address of an entry.
    pub(super) fn entry_address(&self, number: u64) -> u64 {
        BASE + self.table_offset + 8 * number
    }

    /// Writes what is left.
    pub(super) fn finish(mut self) -> Result<(), FileError> {
        for segment in &mut self.segments {
            segment.finish(self.file)?;
        }
        let mut table = Stream::new(self.table_offset);
        for entry in &self.table {
            table.append(self.file, 0, &entry.to_le_bytes())?;
        }
        table.finish(self.file)
    }
}
