//! What can be said to the kernel's page cache: `posix_fadvise` (POSIX.1-2017).

use super::memory::{Budget, MemoryUse};
use crate::files::{FileError, Hints, WorkFile};
use crate::lines::BLOCK_BYTES;
use crate::workload::RunError;
use libos_fs::FileId;
use libos_fs::cache::reference;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::ops::Range;
use std::rc::{Rc, Weak};

/// Blocks that are in the cache besides those that a loop keeps: what the kernel reads ahead (128 KiB), what
/// has just been read, and what is on its way to the lists.
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
    /// Blocks that are to be given up, the one used longest ago first; as many as may stay a while.
    leaving: VecDeque<(FileId, u64)>,
    late_by: usize,
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
        if read {
            for (id, given_up) in self.loops.borrow_mut().given_up(id, blocks) {
                self.advise(id, given_up, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
            }
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
    /// Blocks of a file have just been read. Returns what is given up now: blocks that there is no room for
    /// and that were read long enough ago, adjacent ones together. Reads go from front to back, so that the
    /// first blocks stay.
    fn given_up(&mut self, id: FileId, blocks: Range<u64>) -> Vec<(FileId, Range<u64>)> {
        if !self.files.contains(&id) {
            return Vec::new();
        }
        for number in blocks {
            let key = reference(id, number);
            if self.kept.len() < self.room {
                self.kept.insert(key);
            }
            if !self.kept.contains(&key) {
                self.leaving.retain(|leaving| *leaving != (id, number));
                self.leaving.push_back((id, number));
            }
        }
        let mut given_up: Vec<(FileId, Range<u64>)> = Vec::new();
        for (id, number) in self.leaving.drain(..self.leaving.len().saturating_sub(self.late_by)) {
            match given_up.last_mut() {
                Some((last, range)) if (*last, range.end) == (id, number) => range.end += 1,
                _ => given_up.push((id, number..number + 1)),
            }
        }
        given_up
    }
}

impl Hints for PageCache {
    fn done_with(&self, file: &WorkFile, blocks: Range<u64>) {
        self.advise(FileId::from(file), blocks, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    }

    fn read_in_loops(&self, files: &[&WorkFile], reserved: u64, late_by: usize) {
        let loops = &mut *self.loops.borrow_mut();
        loops.files.extend(files.iter().map(|file| FileId::from(*file)));
        loops.room = self.blocks.get().saturating_sub(reserved + IN_TRANSIT) as usize;
        loops.late_by = late_by;
    }

    fn read_at_random(&self, file: &WorkFile) {
        // A length of 0 is all of the file.
        self.advise(FileId::from(file), 0..0, PosixFadviseAdvice::POSIX_FADV_RANDOM);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loops(room: usize, late_by: usize) -> Loops {
        Loops { files: HashSet::from([FileId(1)]), room, late_by, ..Loops::default() }
    }

    #[test]
    fn a_loop_keeps_what_it_read_first() {
        let mut loops = loops(6, 0);
        assert_eq!(loops.given_up(FileId(1), 0..4), []);
        assert_eq!(loops.given_up(FileId(1), 4..8), [(FileId(1), 6..8)]);
        assert_eq!(loops.given_up(FileId(1), 8..9), [(FileId(1), 8..9)]);
        assert_eq!(loops.given_up(FileId(1), 2..6), [], "the next pass finds them");
        assert_eq!(loops.given_up(FileId(2), 0..4), [], "another file");
    }

    #[test]
    fn what_is_used_again_soon_stays_a_while() {
        let mut loops = loops(2, 3);
        assert_eq!(loops.given_up(FileId(1), 0..5), [], "two are kept, three may stay");
        assert_eq!(loops.given_up(FileId(1), 2..3), [], "used again: it is the last to leave");
        assert_eq!(loops.given_up(FileId(1), 9..11), [(FileId(1), 3..5)]);
        assert_eq!(loops.given_up(FileId(1), 11..12), [(FileId(1), 2..3)]);
    }
}
