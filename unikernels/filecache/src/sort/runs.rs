//! The first half of an external sort: sorted runs, as large as memory allows.

use super::Sorter;
use super::writer::LineWriter;
use crate::files::WorkFile;
use crate::lines::{self, LineBatches};
use crate::workload::{RunError, blocks_of};
use alloc::vec::Vec;

/// Lines in memory.
struct Chunk {
    bytes: Vec<u8>,
    limit: usize,
}

impl Chunk {
    /// Whether `batch` fits as well. An empty chunk takes anything: a line has to go somewhere.
    fn has_room_for(&self, batch: &[u8]) -> bool {
        self.bytes.is_empty() || self.bytes.len() + batch.len() <= self.limit
    }

    /// The lines, in order.
    fn sorted(&self) -> Vec<&[u8]> {
        let mut lines: Vec<&[u8]> = lines::lines(&self.bytes).collect();
        lines.sort_unstable();
        lines
    }
}

impl Sorter<'_> {
    /// Reads `input` once and writes it as sorted runs. Returns their paths and the digest of the input.
    pub(super) fn form_runs(&mut self, path: &str, input: &WorkFile) -> Result<(Vec<u32>, u64), RunError> {
        let mut runs = Vec::new();
        let mut chunk = Chunk { bytes: Vec::with_capacity(self.memory_bytes), limit: self.memory_bytes };
        let mut batches = LineBatches::new(input);
        self.will_read(input, 0..blocks_of(input)).map_err(|error| RunError::file(path, error))?;
        while let Some(batch) = batches.next_batch().map_err(|error| RunError::file(path, error))? {
            if !chunk.has_room_for(batch) {
                runs.push(self.write_run(&chunk)?);
                chunk.bytes.clear();
            }
            chunk.bytes.extend_from_slice(batch);
            self.has_read(input, batches.last_read());
        }
        if !chunk.bytes.is_empty() {
            runs.push(self.write_run(&chunk)?);
        }
        Ok((runs, batches.digest()))
    }

    fn write_run(&mut self, chunk: &Chunk) -> Result<u32, RunError> {
        let number = self.new_run();
        let path = Sorter::run_path(number);
        let mut writer = LineWriter::new(self.create(&path)?);
        chunk
            .sorted()
            .into_iter()
            .try_for_each(|line| writer.write(line))
            .and_then(|()| writer.finish())
            .map_err(|error| RunError::file(&path, error))?;
        Ok(number)
    }
}
