//! A file as batches of whole lines: how every workload reads.
//!
//! [`LineBatches`] asks the file for [`READ_BYTES`] at a time, at offsets that are multiples of it, so the
//! cache below sees every block of the file once, in order, whatever the policy. Lines that straddle two
//! reads are put together.

use crate::digest::Digest;
use alloc::vec::Vec;
use core::ops::Range;

/// Bytes in a block of the cache.
pub const BLOCK_BYTES: usize = 4096;
/// Bytes asked for at a time: four blocks.
pub const READ_BYTES: usize = 4 * BLOCK_BYTES;

/// Something with bytes in it: a file, or memory in tests.
pub trait Source {
    /// What can go wrong.
    type Error;

    /// Length in bytes.
    fn length(&self) -> u64;

    /// Reads at `offset` (in bytes) into `buffer`; returns how many bytes there were, fewer than asked only
    /// at the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Self::Error>;
}

impl Source for [u8] {
    type Error = core::convert::Infallible;

    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        let start = (offset as usize).min(self.len());
        let count = buffer.len().min(self.len() - start);
        buffer[..count].copy_from_slice(&self[start..start + count]);
        Ok(count)
    }
}

/// Reads a [`Source`] from its start to its end, in batches of whole lines.
pub struct LineBatches<'s, S: ?Sized> {
    source: &'s S,
    /// Next byte to read from the source: a multiple of [`READ_BYTES`] until the end.
    offset: u64,
    /// `buffer[..line_end]` has been handed out, `buffer[line_end..filled]` starts an unfinished line.
    buffer: Vec<u8>,
    line_end: usize,
    filled: usize,
    ended: bool,
    digest: Digest,
    last_read: Range<u64>,
}

impl<'s, S: Source + ?Sized> LineBatches<'s, S> {
    /// Starts at the first byte of `source`.
    pub fn new(source: &'s S) -> Self {
        LineBatches {
            source,
            offset: 0,
            buffer: alloc::vec![0; 2 * READ_BYTES],
            line_end: 0,
            filled: 0,
            ended: false,
            digest: Digest::default(),
            last_read: 0..0,
        }
    }

    /// The next lines, each ended by a line feed, except that the file's last line may lack it. `None` at the
    /// end.
    pub fn next_batch(&mut self) -> Result<Option<&[u8]>, S::Error> {
        self.buffer.copy_within(self.line_end..self.filled, 0);
        self.filled -= self.line_end;
        self.line_end = 0;
        let first_block = self.offset / BLOCK_BYTES as u64;
        while self.line_end == 0 && !self.ended {
            self.read_more()?;
        }
        self.last_read = first_block..self.offset.div_ceil(BLOCK_BYTES as u64);
        Ok((self.line_end > 0).then(|| self.batch()))
    }

    fn read_more(&mut self) -> Result<(), S::Error> {
        if self.buffer.len() < self.filled + READ_BYTES {
            self.buffer.resize(self.filled + READ_BYTES, 0);
        }
        let target = &mut self.buffer[self.filled..self.filled + READ_BYTES];
        let count = self.source.read_at(self.offset, target)?;
        let fresh = &target[..count];
        self.digest.update(fresh);
        let last_feed = memchr::memrchr(b'\n', fresh);
        if let Some(position) = last_feed {
            self.line_end = self.filled + position + 1;
        }
        self.filled += count;
        self.offset += count as u64;
        if count < READ_BYTES || self.offset == self.source.length() {
            self.ended = true;
            self.line_end = self.filled;
        }
        Ok(())
    }

    /// The last batch again.
    pub fn batch(&self) -> &[u8] {
        &self.buffer[..self.line_end]
    }

    /// Blocks of the file from which the last batch's bytes were read for the first time.
    pub fn last_read(&self) -> Range<u64> {
        self.last_read.clone()
    }

    /// Digest of all bytes read so far.
    pub fn digest(&self) -> u64 {
        self.digest.finish()
    }
}

/// The lines of a batch, without their line feeds.
pub fn lines(batch: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = batch;
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let line = &rest[..end];
        rest = &rest[(end + 1).min(rest.len())..];
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_batches(bytes: &[u8]) -> (Vec<u8>, Vec<Range<u64>>, u64) {
        let mut batches = LineBatches::new(bytes);
        let (mut seen, mut reads) = (Vec::new(), Vec::new());
        loop {
            let Ok(batch) = batches.next_batch();
            let Some(batch) = batch else { break };
            assert!(!batch.is_empty());
            seen.extend_from_slice(batch);
            if seen.len() < bytes.len() {
                assert_eq!(seen.last(), Some(&b'\n'));
            }
            reads.push(batches.last_read());
        }
        (seen, reads, batches.digest())
    }

    #[test]
    fn batches_are_the_file_in_whole_lines() {
        let mut long = alloc::vec![b'x'; 3 * READ_BYTES];
        long.extend_from_slice(b"\nend");
        let mut exact = alloc::vec![b'a'; READ_BYTES - 1];
        exact.push(b'\n');
        let many: Vec<u8> = (0..20_000u32).flat_map(|n| alloc::format!("line {n}\n").into_bytes()).collect();
        for bytes in [&b""[..], b"\n", b"no feed", b"one\ntwo", &long, &exact, &many] {
            let (seen, reads, digest) = all_batches(bytes);
            assert_eq!(seen, bytes);
            assert_eq!(digest, crate::digest::digest(bytes));
            let mut next = 0;
            for range in reads.into_iter().filter(|range| !range.is_empty()) {
                assert_eq!(range.start, next, "every block is read once, in order");
                next = range.end;
            }
            assert_eq!(next, bytes.len().div_ceil(BLOCK_BYTES) as u64);
        }
    }

    #[test]
    fn lines_are_split_at_feeds() {
        let split = |bytes| lines(bytes).collect::<Vec<&[u8]>>();
        assert_eq!(split(b"a\n\nb\n"), [&b"a"[..], b"", b"b"]);
        assert_eq!(split(b"a\nb"), [b"a", b"b"]);
        assert!(split(b"").is_empty());
    }
}
