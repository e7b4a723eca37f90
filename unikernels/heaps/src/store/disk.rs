//! Pages on a device, and commits that are whole or not there.
//!
//! ```text
//! block 0      1 … LOG             1 + LOG …
//! header of    new contents of     pages, each at its place
//! the log      pages
//! ```
//!
//! A commit writes the new contents and the header of the log, and flushes: from then on it is there, because
//! the header has a checksum of itself and of what it names. Then the pages go to their places, and there is
//! another flush, after which the log may be written again. Whoever opens the store writes what the log has
//! to its places (redo; Gray and Reuter, 1993, ch. 10). A log that is not whole belongs to a commit that
//! never was: then all pages are at their places as the one before left them.

use super::StoreError;
use super::page::{Words, block_of, words_of};
use crate::memory::PAGE_WORDS;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use hyperexo_abi::{FRAME_BYTES, Page};
use libos_fs::{BlockDevice, DeviceError, Operation, Rejection, Request};

/// Most pages of a commit: as many as a header names.
pub const LOG: usize = PAGE_WORDS - 4;

/// "HXSTORE1", little-endian.
const MAGIC: u64 = u64::from_le_bytes(*b"HXSTORE1");

/// A device with pages.
pub struct Disk {
    device: Box<dyn BlockDevice>,
    /// Number of the last commit.
    commit: u64,
}

impl Disk {
    /// Over a device. Its contents do not matter: [`Disk::commit`] makes it a store.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooSmall`].
    pub fn new(device: Box<dyn BlockDevice>) -> Result<Disk, StoreError> {
        let disk = Disk { device, commit: 0 };
        if disk.pages() == 0 {
            return Err(StoreError::TooSmall { blocks: disk.device.blocks() });
        }
        Ok(disk)
    }

    /// Completes the last commit, if its log is whole.
    ///
    /// # Errors
    ///
    /// Those of the device.
    pub fn recover(&mut self) -> Result<(), StoreError> {
        let header = words_of(&*self.read(0)?);
        let (count, pages) = (header[2] as usize, &header[4..]);
        if header[0] != MAGIC || count > LOG || pages[..count].iter().any(|page| *page >= self.pages()) {
            return Ok(());
        }
        let contents = (0..count).map(|at| self.read(1 + at as u64)).collect::<Result<Vec<_>, _>>()?;
        if header[3] != checksum(&header, contents.iter().map(|page| &**page)) {
            return Ok(());
        }
        self.commit = header[1];
        self.put_in_place(&pages[..count], contents)
    }

    /// Pages that there is room for.
    pub fn pages(&self) -> u64 {
        self.device.blocks().saturating_sub(1 + LOG as u64)
    }

    /// Reads a page.
    ///
    /// # Errors
    ///
    /// Those of the device.
    pub fn page(&mut self, page: u64) -> Result<Words, StoreError> {
        Ok(words_of(&*self.read(1 + LOG as u64 + page)?))
    }

    /// Makes these contents those of these pages, all or none.
    ///
    /// # Errors
    ///
    /// [`StoreError::CommitTooLarge`]; those of the device. After one of these nobody knows whether the
    /// commit is there: whoever opens the store again finds out.
    pub fn commit(&mut self, changed: &[(u64, Words)]) -> Result<(), StoreError> {
        if changed.len() > LOG {
            return Err(StoreError::CommitTooLarge { pages: changed.len(), most: LOG });
        }
        let contents: Vec<Box<Page>> = changed.iter().map(|(_, words)| Box::new(block_of(words))).collect();
        let mut header = [0; PAGE_WORDS];
        (header[0], header[1], header[2]) = (MAGIC, self.commit + 1, changed.len() as u64);
        for (word, (page, _)) in header[4..].iter_mut().zip(changed) {
            *word = *page;
        }
        header[3] = checksum(&header, contents.iter().map(|page| &**page));
        for (at, page) in contents.iter().enumerate() {
            self.write(1 + at as u64, Box::new(Page(page.0)))?;
        }
        self.write(0, Box::new(block_of(&header)))?;
        self.flush()?;
        self.commit += 1;
        self.put_in_place(&header[4..][..changed.len()], contents)
    }

    fn put_in_place(&mut self, pages: &[u64], contents: Vec<Box<Page>>) -> Result<(), StoreError> {
        for (page, content) in pages.iter().zip(contents) {
            self.write(1 + LOG as u64 + page, content)?;
        }
        self.flush()
    }

    fn read(&mut self, block: u64) -> Result<Box<Page>, StoreError> {
        let mut buffers = self.transfer(Operation::Read, block, vec![Box::new(Page([0; FRAME_BYTES]))])?;
        buffers.pop().ok_or(StoreError::Device { block, error: DeviceError::Io })
    }

    fn write(&mut self, block: u64, page: Box<Page>) -> Result<(), StoreError> {
        self.transfer(Operation::Write, block, vec![page]).map(drop)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.transfer(Operation::Flush, 0, Vec::new()).map(drop)
    }

    /// One request, to its end.
    fn transfer(
        &mut self,
        operation: Operation,
        block: u64,
        buffers: Vec<Box<Page>>,
    ) -> Result<Vec<Box<Page>>, StoreError> {
        let failure = |error| StoreError::Device { block, error };
        let request = Request { tag: 0, operation, block, buffers };
        self.device.submit(request).map_err(|rejected| match rejected.reason {
            // Nothing else is in flight.
            Rejection::QueueFull => failure(DeviceError::Io),
            Rejection::Refused(error) => failure(error),
        })?;
        loop {
            if let Some(completion) = self.device.poll() {
                return completion.result.map(|()| completion.buffers).map_err(failure);
            }
            self.device.wait();
        }
    }
}

/// Checksum of a header, without itself, and of what it names.
fn checksum<'p>(header: &Words, contents: impl Iterator<Item = &'p Page>) -> u64 {
    let mut hasher = crc32fast::Hasher::new();
    let mut header = *header;
    header[3] = 0;
    hasher.update(&block_of(&header).0);
    contents.for_each(|page| hasher.update(&page.0));
    u64::from(hasher.finalize())
}
