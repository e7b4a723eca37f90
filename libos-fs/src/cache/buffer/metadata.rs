//! Blocks that the file system itself reads and writes: past the cache, through the same device, counted
//! apart.

use super::transfer::BufferCache;
use crate::device::{Finished, Operation, zeroed_page};
use crate::error::FsError;
use alloc::boxed::Box;
use alloc::vec::Vec;
use hyperexo_abi::Page;

/// Requests for metadata that are in flight at the same time.
const DEPTH: usize = 8;

impl BufferCache {
    /// Reads blocks into fresh buffers, in the given order: adjacent ones in one request, several requests in
    /// flight.
    pub(crate) fn read_metadata(&self, blocks: &[u64]) -> Result<Vec<Box<Page>>, FsError> {
        let most = self.max_request_blocks();
        let mut requests: Vec<(u64, usize)> = Vec::new();
        for &block in blocks {
            match requests.last_mut() {
                Some((first, count)) if *first + *count as u64 == block && *count < most => *count += 1,
                _ => requests.push((block, 1)),
            }
        }
        let mut pages = Vec::with_capacity(blocks.len());
        for batch in requests.chunks(DEPTH) {
            let tags: Vec<u64> = batch
                .iter()
                .map(|(first, count)| {
                    let buffers = (0..*count).map(|_| zeroed_page()).collect();
                    self.submit_metadata(Operation::Read, *first, buffers)
                })
                .collect();
            let mut result = Ok(());
            for (tag, (first, count)) in tags.into_iter().zip(batch) {
                // Waits for all of them, also after an error: their tags would never be asked for again.
                let finished = self.wait_for_metadata(tag);
                let outcome = self.count_metadata(Operation::Read, *first, *count, finished);
                match outcome {
                    Ok(buffers) => pages.extend(buffers),
                    Err(error) => result = result.and(Err(error)),
                }
            }
            result?;
        }
        Ok(pages)
    }

    /// Writes blocks, several requests in flight, and waits for the end of all. Adjacent blocks should follow
    /// each other.
    pub(crate) fn write_metadata(&self, blocks: Vec<(u64, Box<Page>)>) -> Result<(), FsError> {
        let most = self.max_request_blocks();
        let mut requests: Vec<(u64, Vec<Box<Page>>)> = Vec::new();
        for (block, page) in blocks {
            match requests.last_mut() {
                Some((first, pages)) if *first + pages.len() as u64 == block && pages.len() < most => {
                    pages.push(page);
                }
                _ => requests.push((block, Vec::from([page]))),
            }
        }
        let mut tags = Vec::with_capacity(requests.len());
        for (first, pages) in requests {
            let count = pages.len();
            tags.push((first, count, self.submit_metadata(Operation::Write, first, pages)));
        }
        let mut result = Ok(());
        for (first, count, tag) in tags {
            let finished = self.wait_for_metadata(tag);
            let outcome = self.count_metadata(Operation::Write, first, count, finished);
            result = result.and(outcome.map(drop));
        }
        result
    }

    fn count_metadata(
        &self,
        operation: Operation,
        block: u64,
        count: usize,
        finished: Finished,
    ) -> Result<Vec<Box<Page>>, FsError> {
        let state = &mut *self.state();
        let mounting = state.is_mounting();
        let counters = state.counters();
        let (blocks, requests) = match operation {
            Operation::Read if mounting => (&mut counters.mount_reads, &mut counters.mount_read_requests),
            Operation::Read => (&mut counters.metadata_reads, &mut counters.metadata_read_requests),
            _ => (&mut counters.metadata_writes, &mut counters.metadata_write_requests),
        };
        *requests += 1;
        match finished.result {
            Ok(()) => {
                *blocks += count as u64;
                Ok(finished.buffers)
            }
            Err(error) => {
                match operation {
                    Operation::Read => counters.read_errors += 1,
                    _ => counters.write_errors += 1,
                }
                Err(FsError::Device { operation, block, blocks: count as u64, error })
            }
        }
    }
}
