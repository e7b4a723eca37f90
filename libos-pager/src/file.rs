//! Pages of a file.

use crate::pager::{PageFailure, Pager, PagerError};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;
use hyperexo_abi::{BLOCK_BYTES, Page};
use libos_fs::{File, FsError, Volume};

/// A file in memory: pages come from it and, if they were written, go back. The file does not grow: what is
/// beyond its end comes as zeros and is not kept.
///
/// The cache of the volume is told that it need not keep what was paged in or out: it gives those blocks up
/// first, so that there are no two copies for long.
pub struct MappedFile {
    volume: Volume,
    file: File,
    bytes: u64,
}

impl MappedFile {
    /// Over an open file of a volume.
    ///
    /// # Errors
    ///
    /// If its length can't be had.
    pub fn new(volume: &Volume, file: File) -> Result<MappedFile, FsError> {
        let bytes = file.len()?;
        Ok(MappedFile { volume: volume.clone(), file, bytes })
    }

    /// Pages that the file fills.
    pub fn pages(&self) -> u64 {
        self.bytes.div_ceil(BLOCK_BYTES as u64)
    }

    /// Bytes of the file in a page.
    fn bytes_of(&self, page: u64) -> usize {
        self.bytes.saturating_sub(page * BLOCK_BYTES as u64).min(BLOCK_BYTES as u64) as usize
    }

    fn let_go(&self, pages: Range<u64>) {
        // If the file is another manager's, its cache keeps a copy as long as it likes.
        let _ = self.volume.manager().done_with(&self.file, pages);
    }
}

impl Pager for MappedFile {
    fn name(&self) -> &'static str {
        "file"
    }

    fn holds(&self, page: u64) -> bool {
        page < self.pages()
    }

    fn most_pages(&self) -> usize {
        /// Enough for a request, as the cache below clusters.
        const PAGES: usize = 16;
        PAGES
    }

    fn page_in(&mut self, first: u64, mut pages: Vec<Box<Page>>) -> Result<Vec<Box<Page>>, PageFailure> {
        for (number, page) in (first..).zip(&mut pages) {
            let length = self.bytes_of(number);
            page.0[length..].fill(0);
            if let Err(error) = self.file.read_at(number * BLOCK_BYTES as u64, &mut page.0[..length]) {
                return Err(PageFailure { pages, error: PagerError::File(error) });
            }
        }
        self.let_go(first..first + pages.len() as u64);
        Ok(pages)
    }

    fn page_out(&mut self, first: u64, pages: Vec<Box<Page>>) -> Result<Vec<Box<Page>>, PageFailure> {
        for (number, page) in (first..).zip(&pages) {
            let length = self.bytes_of(number);
            if let Err(error) = self.file.write_at(number * BLOCK_BYTES as u64, &page.0[..length]) {
                return Err(PageFailure { pages, error: PagerError::File(error) });
            }
        }
        self.let_go(first..first + pages.len() as u64);
        Ok(pages)
    }

    /// What is in the file stays there.
    fn discard(&mut self, _: Range<u64>) {}

    /// Commits the volume.
    fn sync(&mut self) -> Result<(), PagerError> {
        self.file.sync().map_err(PagerError::File)
    }
}
