//! Open files.

use super::ahead::Tally;
use super::fetch::{Fetched, Want};
use super::names::Spot;
use super::{FileState, Shared};
use crate::cache::ReplacementPolicy;
use crate::device::BLOCK_BYTES;
use crate::error::FsError;
use crate::file_id::FileId;
use alloc::sync::Arc;
use core::sync::atomic::Ordering::{Acquire, Relaxed};

/// An open file of a [`SharedVolume`](super::SharedVolume). Cores can share one, but it counts the hits it
/// has and follows what is read in order: a clone for each core spares them writing to the same memory, and
/// has read-ahead follow each of them.
pub struct SharedFile<P> {
    shared: Arc<Shared<P>>,
    state: Arc<FileState>,
    tally: Arc<Tally>,
}

impl<P> SharedFile<P> {
    pub(super) fn new(shared: &Arc<Shared<P>>, state: Arc<FileState>) -> SharedFile<P> {
        let tally = Arc::new(Tally::default());
        shared.tallies.lock().of_open.push(Arc::clone(&tally));
        SharedFile { shared: Arc::clone(shared), state, tally }
    }

    /// Its number, by which the cache knows it; see [`reference()`](crate::cache::reference()).
    pub fn id(&self) -> FileId {
        self.state.id
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.state.bytes.load(Acquire)
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<P> Clone for SharedFile<P> {
    fn clone(&self) -> Self {
        SharedFile::new(&self.shared, Arc::clone(&self.state))
    }
}

impl<P> Drop for SharedFile<P> {
    fn drop(&mut self) {
        let tallies = &mut *self.shared.tallies.lock();
        tallies.of_open.retain(|tally| !Arc::ptr_eq(tally, &self.tally));
        tallies.of_closed += self.tally.hits();
        self.shared.release(&self.state);
    }
}

impl<P: ReplacementPolicy> SharedFile<P> {
    /// Reads from an offset in bytes. Returns how many bytes there were: fewer than asked for only at the end
    /// of the file. Bytes that were never written are zeros. Sleeps if a block is not in memory.
    ///
    /// # Errors
    ///
    /// [`FsError::Device`] or [`FsError::Checksum`]; `into` holds anything then. [`FsError::Removed`] if the
    /// file is gone. If there was no room, what writing the block that has to make it says.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<usize, FsError> {
        self.shared.look_for_the_end();
        let left = self.len().saturating_sub(offset);
        let bytes = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut into = &mut into[..bytes];
        let end = offset + bytes as u64;
        while !into.is_empty() {
            let done = self.read_some(end - into.len() as u64, into)?;
            into = &mut into[done..];
        }
        if self.state.removed.load(Acquire) {
            return Err(FsError::Removed);
        }
        // It may have been cut meanwhile.
        let left = self.len().saturating_sub(offset);
        Ok(bytes.min(usize::try_from(left).unwrap_or(usize::MAX)))
    }

    /// Reads the beginning of what is wanted: the rest of a block, or as many blocks as one request brings.
    /// Returns how many bytes; none if the block is to be looked up again.
    fn read_some(&self, at: u64, into: &mut [u8]) -> Result<usize, FsError> {
        let shared = &*self.shared;
        let (block, offset, there) = match shared.names.spot(self.state.id, at) {
            Spot::Block { block, offset, bytes } => (block, offset, bytes),
            Spot::Zeros(bytes) => {
                let bytes = into.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
                into[..bytes].fill(0);
                return Ok(bytes);
            }
        };
        let wanted = into.len().min(usize::try_from(there).unwrap_or(usize::MAX));
        let into = &mut into[..wanted];
        let bytes = into.len().min(BLOCK_BYTES - offset);
        let run = self.tally.follow(block);
        if let Some(frame) = shared.index.get(block)
            && shared.frames.copy(frame as usize, block, offset, &mut into[..bytes])
        {
            self.tally.hit();
            shared.note_reference(block);
            return Ok(bytes);
        }
        let certain = (offset + into.len()).div_ceil(BLOCK_BYTES) as u64;
        let certain = certain.min(shared.max_request_blocks);
        let ahead = shared.read_ahead().blocks(run, shared.max_request_blocks);
        match shared.fetch(&Want { block, certain, ahead, offset }, into)? {
            Fetched::Copied(bytes) => Ok(bytes),
            Fetched::Hit => {
                self.tally.hit();
                Ok(bytes)
            }
            Fetched::Again => Ok(0),
            Fetched::Hole => {
                into[..bytes].fill(0);
                Ok(bytes)
            }
        }
    }

    /// Has something done that changes the file, with nobody else doing so.
    fn alone<R>(
        &self,
        change: impl FnOnce(&Shared<P>, &FileState) -> Result<R, FsError>,
    ) -> Result<R, FsError> {
        let shared = &*self.shared;
        shared.look_for_the_end();
        let _inside = shared.changes.enter(&*shared.sleep);
        let _alone = self.state.writing.close(&*shared.sleep);
        shared.writable()?;
        if self.state.removed.load(Relaxed) {
            return Err(FsError::Removed);
        }
        change(shared, &self.state)
    }

    /// Writes all of `from` at an offset in bytes; the file grows as needed. Other cores that write to the
    /// file wait, those that read it see it block by block.
    ///
    /// # Errors
    ///
    /// [`FsError::ReadOnly`] on ext4 and on a device that can't be written. After an error, bytes from the
    /// offset on may have been written and the rest not.
    pub fn write_at(&self, offset: u64, from: &[u8]) -> Result<(), FsError> {
        self.alone(|shared, state| shared.write_at(state, offset, from))
    }

    /// Writes at the end of the file, behind what other cores append; returns the offset.
    ///
    /// # Errors
    ///
    /// As [`SharedFile::write_at`].
    pub fn append(&self, from: &[u8]) -> Result<u64, FsError> {
        self.alone(|shared, state| {
            let offset = state.bytes.load(Acquire);
            shared.write_at(state, offset, from)?;
            Ok(offset)
        })
    }

    /// Makes the file this long: cuts it, or adds zeros. A core that reads meanwhile what is cut gets its old
    /// bytes, zeros or fewer.
    ///
    /// # Errors
    ///
    /// As [`SharedFile::write_at`].
    pub fn truncate(&self, bytes: u64) -> Result<(), FsError> {
        self.alone(|shared, state| shared.truncate(state, bytes))
    }

    /// Makes all that was written permanent, on stable storage. Commits the whole volume: a state that holds
    /// for one file only does not exist.
    ///
    /// # Errors
    ///
    /// Those of [`SharedVolume::commit`](super::SharedVolume::commit).
    pub fn sync(&self) -> Result<(), FsError> {
        self.shared.commit()
    }
}
