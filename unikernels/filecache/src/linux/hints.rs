//! What can be said to the kernel's page cache: `posix_fadvise` (POSIX.1-2017).

use super::memory::{Budget, MemoryUse};
use crate::files::{FileError, Hints, WorkFile};
use crate::lines::BLOCK_BYTES;
use crate::workload::RunError;
use libos_fs::FileId;
use libos_fs::cache::reference;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::ops::Range;
use std::rc::{Rc, Weak};

/// Blocks that are in the cache besides those that a loop keeps: what the kernel reads ahead (128 KiB), what has just been
/// read, and what is on its way to the lists.
const IN_TRANSIT: u64 = 48;

/// Reads and writes after which the limit is set anew.
const USES_PER_LOOK: u64 = 32;

/// The page cache as seen from here: open files, what they were asked for, and what is kept of loops.
pub(super) struct PageCache {
    budget: RefCell<Budget>,
    /// Reads and writes so far.
    uses: Cell<u64>,
    blocks: Cell<u64>,
    files: RefCell<HashMap<FileId, Weak<File>>>,
    references: Cell<u64>,
    recorded: RefCell<Option<Vec<u64>>>,
    loops: RefCell<Loops>,
}

/// Files that are read in loops.
#[derive(Default)]
struct Loops {
    files: HashSet<FileId>,
    /// Blocks to keep.
    kept: HashSet<u64>,
    /// How many there may be.
    room: usize,
}

impl PageCache {
    /// Nothing is known yet.
    pub(super) fn new(budget: Budget, record: bool) -> PageCache {
        PageCache {
            budget: RefCell::new(budget),
            uses: Cell::new(0),
            blocks: Cell::new(0),
            files: RefCell::default(),
            references: Cell::new(0),
            recorded: RefCell::new(record.then(Vec::new)),
            loops: RefCell::default(),
        }
    }

    /// From now on it may hold so many blocks.
    pub(super) fn start(&self, blocks: u64) -> Result<(), RunError> {
        self.blocks.set(blocks);
        self.budget.borrow_mut().start(blocks)
    }

    /// What became of the memory.
    pub(super) fn memory(&self) -> Result<MemoryUse, RunError> {
        self.budget.borrow().result()
    }

    /// A file has been opened.
    pub(super) fn opened(&self, id: FileId, file: &Rc<File>) {
        self.files.borrow_mut().insert(id, Rc::downgrade(file));
    }

    /// References to blocks so far.
    pub(super) fn references(&self) -> u64 {
        self.references.get()
    }

    /// The references, if they were to be recorded.
    pub(super) fn take_recorded(&self) -> Vec<u64> {
        self.recorded.take().unwrap_or_default()
    }

    /// Bytes of a file have been read or written.
    pub(super) fn touched(&self, id: FileId, offset: u64, bytes: u64, read: bool) -> Result<(), FileError> {
        let block = BLOCK_BYTES as u64;
        let blocks = offset / block..(offset + bytes).div_ceil(block);
        self.references.set(self.references.get() + (blocks.end - blocks.start));
        if let Some(recorded) = &mut *self.recorded.borrow_mut() {
            recorded.extend(blocks.clone().map(|number| reference(id, number)));
        }
        if read && let Some(given_up) = self.loops.borrow_mut().given_up(id, blocks) {
            self.advise(id, given_up, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        }
        self.uses.set(self.uses.get() + 1);
        if self.uses.get().is_multiple_of(USES_PER_LOOK) {
            let adjusted = self.budget.borrow_mut().adjust();
            adjusted.map_err(|error| FileError::Host(error.to_string()))?;
        }
        Ok(())
    }

    /// Advice is advice: if the kernel does not take it, nothing is lost but time.
    fn advise(&self, id: FileId, blocks: Range<u64>, advice: PosixFadviseAdvice) {
        let Some(file) = self.files.borrow().get(&id).and_then(Weak::upgrade) else { return };
        let bytes = |blocks: u64| i64::try_from(blocks * BLOCK_BYTES as u64).unwrap_or(i64::MAX);
        let _ = posix_fadvise(&*file, bytes(blocks.start), bytes(blocks.end - blocks.start), advice);
    }
}

impl Loops {
    /// Of blocks of a file that have just been read, those that there is no room for: the last of them, as reads go from
    /// front to back. `None` if they are no part of a loop or all are kept.
    fn given_up(&mut self, id: FileId, blocks: Range<u64>) -> Option<Range<u64>> {
        if !self.files.contains(&id) {
            return None;
        }
        let mut first = None;
        for number in blocks.clone() {
            let key = reference(id, number);
            if self.kept.len() < self.room {
                self.kept.insert(key);
            }
            if !self.kept.contains(&key) {
                first.get_or_insert(number);
            }
        }
        first.map(|first| first..blocks.end)
    }
}

impl Hints for PageCache {
    fn done_with(&self, file: &WorkFile, blocks: Range<u64>) {
        self.advise(FileId::from(file), blocks, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    }

    fn read_in_loops(&self, files: &[&WorkFile], reserved: u64) {
        let loops = &mut *self.loops.borrow_mut();
        loops.files.extend(files.iter().map(|file| FileId::from(*file)));
        loops.room = self.blocks.get().saturating_sub(reserved + IN_TRANSIT) as usize;
    }

    fn read_at_random(&self, file: &WorkFile) {
        // A length of 0 is all of the file.
        self.advise(FileId::from(file), 0..0, PosixFadviseAdvice::POSIX_FADV_RANDOM);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_keeps_what_it_read_first() {
        let mut loops = Loops { files: HashSet::from([FileId(1)]), kept: HashSet::new(), room: 6 };
        assert_eq!(loops.given_up(FileId(1), 0..4), None);
        assert_eq!(loops.given_up(FileId(1), 4..8), Some(6..8));
        assert_eq!(loops.given_up(FileId(1), 8..9), Some(8..9));
        assert_eq!(loops.given_up(FileId(1), 2..6), None, "the next pass finds them");
        assert_eq!(loops.given_up(FileId(2), 0..4), None, "another file");
    }
}
