//! Writes: to blocks in the cache, and from there to the device.

use super::desk::Desk;
use super::fetch::{Fetched, Want};
use super::{FileState, Shared};
use crate::cache::{ReplacementPolicy, reference};
use crate::device::BLOCK_BYTES;
use crate::error::FsError;
use crate::extent_fs::{MAX_NUMBER, Metadata, Piece, blocks_of, pieces};
use crate::lock::RwLock;
use core::ops::Range;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Blocks that are taken from a file under the lock at a time.
const CUT: u64 = 256;

/// All numbers of blocks of a file, or those of a range.
pub(super) fn numbers(state: &FileState, blocks: Range<u64>) -> Range<u64> {
    let first = reference(state.id, 0);
    first + blocks.start.min(MAX_NUMBER)..first + blocks.end.min(MAX_NUMBER)
}

/// Changes to the contents of a file. The caller is alone with it, but for readers.
impl<P: ReplacementPolicy> Shared<P> {
    pub(super) fn write_at(&self, state: &FileState, offset: u64, from: &[u8]) -> Result<(), FsError> {
        let end = offset.saturating_add(from.len() as u64);
        if end > MAX_NUMBER * BLOCK_BYTES as u64 {
            return Err(FsError::FileTooLarge(end));
        }
        let old_bytes = state.bytes.load(Acquire);
        if from.is_empty() {
            return Ok(());
        }
        if offset > old_bytes {
            self.clear_tail(state, old_bytes)?;
        }
        let last = (end - 1) / BLOCK_BYTES as u64;
        let mut from = from;
        for piece in pieces(offset, from.len()) {
            let (part, rest) = from.split_at(piece.bytes);
            from = rest;
            self.write_piece(state, &piece, 1 + last - piece.block, part)?;
            let reached = piece.block * BLOCK_BYTES as u64 + (piece.offset + piece.bytes) as u64;
            if reached > old_bytes {
                self.set_bytes(state, reached)?;
            }
        }
        Ok(())
    }

    pub(super) fn truncate(&self, state: &FileState, bytes: u64) -> Result<(), FsError> {
        if bytes > MAX_NUMBER * BLOCK_BYTES as u64 {
            return Err(FsError::FileTooLarge(bytes));
        }
        let old_bytes = state.bytes.load(Acquire);
        if bytes > old_bytes {
            self.clear_tail(state, old_bytes)?;
            return self.set_bytes(state, bytes);
        }
        // First, so that readers do not fetch again what is cut.
        self.set_bytes(state, bytes)?;
        self.cut(state, blocks_of(bytes)..blocks_of(old_bytes))
    }

    fn set_bytes(&self, state: &FileState, bytes: u64) -> Result<(), FsError> {
        self.names.changeable()?.write().set_file_bytes(state.id, bytes);
        state.bytes.store(bytes, Release);
        Ok(())
    }

    /// Makes the rest of the last block zeros, before the file grows over it.
    fn clear_tail(&self, state: &FileState, bytes: u64) -> Result<(), FsError> {
        let offset = (bytes % BLOCK_BYTES as u64) as usize;
        let block = bytes / BLOCK_BYTES as u64;
        if offset == 0 || self.names.changeable()?.read().disk_block(state.id, block).is_none() {
            return Ok(());
        }
        let piece = Piece { block, offset, bytes: BLOCK_BYTES - offset };
        self.write_piece(state, &piece, 1, &[0; BLOCK_BYTES][offset..])
    }

    /// Drops blocks of a file, when nothing of them is on its way any more.
    pub(super) fn cut(&self, state: &FileState, blocks: Range<u64>) -> Result<(), FsError> {
        let metadata = self.names.changeable()?;
        let mut start = blocks.start;
        while start < blocks.end {
            let part = start..blocks.end.min(start + CUT);
            self.collect();
            let mut desk = self.desk.lock();
            if let Some(tag) = desk.on_its_way(numbers(state, part.clone())) {
                self.wait_for(desk, tag, &self.sleep.waker());
                continue;
            }
            metadata.write().unmap(state.id, part.clone());
            self.forget(&mut desk, numbers(state, part.clone()));
            drop(desk);
            start = part.end;
        }
        Ok(())
    }

    /// Drops blocks that nobody asks for any more, and of which nothing is on its way.
    pub(super) fn forget(&self, desk: &mut Desk, blocks: Range<u64>) {
        for block in blocks.clone() {
            if let Some(frame) = self.index.remove(block) {
                desk.vacate(frame as usize);
            }
        }
        let dropped = desk.dirty.forget(blocks.clone());
        self.counters.dropped_dirty.fetch_add(dropped, Relaxed);
        let unused = desk.staging.forget(blocks);
        desk.staged_wasted += unused;
    }

    /// Changes part of one block. `want` blocks will follow.
    fn write_piece(&self, state: &FileState, piece: &Piece, want: u64, from: &[u8]) -> Result<(), FsError> {
        let metadata = self.names.changeable()?;
        let block = reference(state.id, piece.block);
        // Whether this piece has been counted as a reference.
        let mut counted = false;
        loop {
            self.write_displaced()?;
            let mut desk = self.desk.lock();
            if let Some(tag) = desk.on_its_way(block..block + 1) {
                self.wait_for(desk, tag, &self.sleep.waker());
                continue;
            }
            let written = self.write_in_memory(&mut desk, metadata, (state, piece, want), from, counted);
            drop(desk);
            if let Some(written) = written {
                // What could not be written is still displaced, and who takes room next will be told.
                let _ = self.write_displaced_but(Some(block));
                return written;
            }
            let wish = Want { block, certain: 1, ahead: 0, offset: 0 };
            match self.fetch(&wish, &mut [])? {
                Fetched::Copied(_) => counted = true,
                Fetched::Hit => {
                    self.counters.write_hits.fetch_add(1, Relaxed);
                    counted = true;
                }
                Fetched::Again | Fetched::Hole => {}
            }
        }
    }

    /// Changes a block that is in memory, or whose old contents do not matter. Nothing, if it must be
    /// fetched.
    fn write_in_memory(
        &self,
        desk: &mut Desk,
        metadata: &RwLock<Metadata>,
        (state, piece, want): (&FileState, &Piece, u64),
        from: &[u8],
        counted: bool,
    ) -> Option<Result<(), FsError>> {
        let block = reference(state.id, piece.block);
        let resident = self.index.peek(block);
        let in_memory = resident.is_some() || desk.dirty.contains(block) || desk.staging.contains(block);
        let is_new =
            piece.bytes == BLOCK_BYTES || metadata.read().disk_block(state.id, piece.block).is_none();
        if !in_memory && !is_new {
            return None;
        }
        let staged = match (resident, in_memory) {
            (None, true) => match self.take_from_memory(desk, block) {
                Some(Ok(page)) => Some(page),
                Some(Err(error)) => return Some(Err(error)),
                // Its contents were wrong. If they matter, they are read again.
                None if is_new => None,
                None => return None,
            },
            _ => None,
        };
        let placed = metadata.write().place(state.id, piece.block, want);
        let disk = match (placed, staged) {
            (Ok(disk), Some(mut page)) => {
                page.0[piece.offset..piece.offset + piece.bytes].copy_from_slice(from);
                self.keep(desk, block, &page);
                desk.give_back([page]);
                disk
            }
            (Ok(disk), None) => {
                match resident {
                    Some(frame) => self.overwrite(desk, block, frame as usize, piece, from, counted),
                    None => {
                        self.counters.allocated.fetch_add(1, Relaxed);
                        let mut page = desk.page();
                        page.0.fill(0);
                        page.0[piece.offset..piece.offset + piece.bytes].copy_from_slice(from);
                        self.keep(desk, block, &page);
                        desk.give_back([page]);
                    }
                }
                disk
            }
            (Err(error), Some(page)) => {
                self.keep(desk, block, &page);
                desk.give_back([page]);
                return Some(Err(error));
            }
            (Err(error), None) => return Some(Err(error)),
        };
        desk.dirty.insert(block, disk);
        Some(Ok(()))
    }

    /// Changes a block in its frame, or in another one if somebody reads there.
    fn overwrite(
        &self,
        desk: &mut Desk,
        block: u64,
        frame: usize,
        piece: &Piece,
        from: &[u8],
        counted: bool,
    ) {
        if !counted {
            self.index.get(block);
            self.note_reference(block);
            self.counters.write_hits.fetch_add(1, Relaxed);
        }
        if self.frames.change(frame, piece.offset, from) {
            return;
        }
        let mut page = desk.page();
        self.frames.copy(frame, block, 0, &mut page.0);
        page.0[piece.offset..piece.offset + piece.bytes].copy_from_slice(from);
        let other = desk.fill_vacant(&self.frames, block, &page);
        desk.give_back([page]);
        self.index.set(block, other as u64);
        desk.vacate(frame);
    }
}
