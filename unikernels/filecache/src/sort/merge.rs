//! The second half of an external sort: runs are merged until one is left.

use super::Sorter;
use super::writer::LineWriter;
use crate::files::{FileError, WorkFile};
use crate::lines::{BLOCK_BYTES, LineBatches, READ_BYTES};
use crate::workload::{RunError, open};
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

/// Blocks of a run that are read next when its current batch ends.
const BLOCKS_AHEAD: u64 = (READ_BYTES / BLOCK_BYTES) as u64;

/// A run that is being merged, at its current line.
struct Cursor<'f> {
    file: &'f WorkFile,
    path: &'f str,
    batches: LineBatches<'f, WorkFile>,
    /// Where the current line is in the batch, without its line feed.
    line: Range<usize>,
}

impl<'f> Cursor<'f> {
    /// Stands on the first line. `None` if there is none.
    fn new(sorter: &Sorter<'_>, path: &'f str, file: &'f WorkFile) -> Result<Option<Cursor<'f>>, FileError> {
        let mut cursor = Cursor { file, path, batches: LineBatches::new(file), line: 0..0 };
        Ok(if cursor.next_batch(sorter)? { Some(cursor) } else { None })
    }

    fn line(&self) -> &[u8] {
        &self.batches.batch()[self.line.clone()]
    }

    /// Goes to the next line. `false` if there is none.
    fn advance(&mut self, sorter: &Sorter<'_>) -> Result<bool, FileError> {
        if self.line.end + 1 >= self.batches.batch().len() {
            return self.next_batch(sorter);
        }
        self.find_line(self.line.end + 1);
        Ok(true)
    }

    fn next_batch(&mut self, sorter: &Sorter<'_>) -> Result<bool, FileError> {
        if self.batches.next_batch()?.is_none() {
            return Ok(false);
        }
        let read = self.batches.last_read();
        sorter.will_read(self.file, read.end..read.end + BLOCKS_AHEAD)?;
        sorter.has_read(self.file, read);
        self.find_line(0);
        Ok(true)
    }

    fn find_line(&mut self, start: usize) {
        let batch = self.batches.batch();
        let end = memchr::memchr(b'\n', &batch[start..]).map_or(batch.len(), |feed| start + feed);
        self.line = start..end;
    }
}

impl Sorter<'_> {
    /// Merges `runs`, removing each once it has been read, into `output`.
    pub(super) fn merge_all(&mut self, runs: Vec<u32>, output: &str) -> Result<(), RunError> {
        let mut runs = VecDeque::from(runs);
        while runs.len() > self.fan_in {
            let group: Vec<u32> = runs.drain(..self.fan_in).collect();
            let merged = self.new_run();
            let path = Sorter::run_path(merged);
            let file = self.create(&path)?;
            self.merge(&group, &path, file)?;
            runs.push_back(merged);
        }
        let file = self.create(output)?;
        self.merge(&Vec::from(runs), output, file)
    }

    fn merge(&self, group: &[u32], output_path: &str, output: WorkFile) -> Result<(), RunError> {
        let paths: Vec<String> = group.iter().map(|number| Sorter::run_path(*number)).collect();
        let files = paths.iter().map(|path| open(self.context, path)).collect::<Result<Vec<_>, _>>()?;
        let mut cursors = Vec::new();
        for (path, file) in paths.iter().zip(&files) {
            self.will_read(file, 0..BLOCKS_AHEAD).map_err(|error| RunError::file(path, error))?;
        }
        for (path, file) in paths.iter().zip(&files) {
            cursors.extend(Cursor::new(self, path, file).map_err(|error| RunError::file(path, error))?);
        }
        let mut writer = LineWriter::new(output);
        while let Some(first) = (0..cursors.len()).min_by_key(|index| cursors[*index].line()) {
            let cursor = &mut cursors[first];
            writer.write(cursor.line()).map_err(|error| RunError::file(output_path, error))?;
            if !cursor.advance(self).map_err(|error| RunError::file(cursor.path, error))? {
                cursors.swap_remove(first);
            }
        }
        writer.finish().map_err(|error| RunError::file(output_path, error))?;
        drop(cursors);
        paths.iter().try_for_each(|path| self.remove(path))
    }
}
