//! Objects that outlive the program: faulted in page by page, committed atomically.
//!
//! A program reads and writes objects at addresses of memory, without a test whether they are there: the page
//! of an object that was not touched yet faults, is read, and its references are *swizzled*, from places in
//! the store into addresses (Wilson and Kakkad, 1992). A page that is referred to for the first time gets an
//! address then, but is not read. A commit asks which pages were written (Appel and Li's DIRTY), unswizzles
//! their copies, and hands them to [`disk`], which makes them permanent, all or none.
//!
//! ```text
//! store: page 7, word 3 ── 7 is at page 2 of memory ──▶ word 2 · 512 + 3
//! ```
//!
//! Objects that nothing refers to are not collected.
//!
//! Invariant: `of_store` and `of_memory` are inverse to each other; a page of memory that is there holds only
//! addresses, one on the disk only places.

pub mod disk;
pub mod frames;
pub mod page;

use crate::memory::PAGE_WORDS;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use disk::Disk;
use frames::Frames;
use libos_fs::{BlockDevice, DeviceError};
use page::{Words, change_references, header, parts};

/// Why a store does not do what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The device failed.
    Device {
        /// The block.
        block: u64,
        /// What it said.
        error: DeviceError,
    },
    /// The device has too few blocks for any page.
    TooSmall {
        /// Its blocks.
        blocks: u64,
    },
    /// A page is not what was written.
    Damaged {
        /// The page.
        page: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// Device or memory have no room for another page.
    Full,
    /// An object that is larger than a page.
    ObjectTooLarge {
        /// Its words.
        words: usize,
    },
    /// More pages than a commit can have.
    CommitTooLarge {
        /// Pages written.
        pages: usize,
        /// Most that there may be.
        most: usize,
    },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Device { block, error } => write!(f, "block {block} of the store: {error}"),
            StoreError::TooSmall { blocks } => {
                write!(f, "a device of {blocks} blocks is too small for a store")
            }
            StoreError::Damaged { page, what } => write!(f, "page {page} of the store is damaged: {what}"),
            StoreError::Full => f.write_str("the store is full"),
            StoreError::ObjectTooLarge { words } => {
                write!(f, "an object of {words} words: {} are possible", page::MOST_WORDS)
            }
            StoreError::CommitTooLarge { pages, most } => {
                write!(f, "{pages} pages were written since the last commit: commit after {most} at most")
            }
        }
    }
}

impl core::error::Error for StoreError {}

/// What the handler of faults and the store share.
struct Shared {
    disk: RefCell<Disk>,
    /// Where pages of the store are in memory.
    of_store: RefCell<BTreeMap<u64, usize>>,
    /// Which pages of the store the pages of memory are.
    of_memory: RefCell<Vec<u64>>,
    /// Pages of memory that there can be.
    most: usize,
    /// Pages read.
    brought: Cell<u64>,
}

impl Shared {
    /// Where a page of the store is in memory, from now on if it was nowhere.
    fn address_of(&self, page: u64) -> Result<usize, StoreError> {
        if let Some(at) = self.of_store.borrow().get(&page) {
            return Ok(*at);
        }
        let mut of_memory = self.of_memory.borrow_mut();
        if of_memory.len() == self.most || page >= self.disk.borrow().pages() {
            return Err(StoreError::Full);
        }
        of_memory.push(page);
        self.of_store.borrow_mut().insert(page, of_memory.len() - 1);
        Ok(of_memory.len() - 1)
    }

    /// The page that belongs at a page of memory, with addresses.
    fn bring(&self, at: usize) -> Result<Words, StoreError> {
        let page = self.of_memory.borrow()[at];
        let mut words = self.disk.borrow_mut().page(page)?;
        page::unseal(&mut words, page)?;
        let most = self.disk.borrow().pages();
        change_references(&mut words, |place| {
            let to = place / PAGE_WORDS as u64;
            if to >= most {
                return Err(StoreError::Damaged { page, what: "a reference leads out of the store" });
            }
            Ok(self.address_of(to)? as u64 * PAGE_WORDS as u64 + place % PAGE_WORDS as u64)
        })?;
        self.brought.set(self.brought.get() + 1);
        Ok(words)
    }

    /// A page with places instead of addresses, as it goes to the disk.
    fn placed(&self, mut words: Words) -> Words {
        let of_memory = self.of_memory.borrow();
        let place = |address: u64| -> Result<u64, core::convert::Infallible> {
            let page = of_memory[(address / PAGE_WORDS as u64) as usize];
            Ok(page * PAGE_WORDS as u64 + address % PAGE_WORDS as u64)
        };
        match change_references(&mut words, place) {
            Ok(()) => {}
            Err(never) => match never {},
        }
        page::seal(&mut words);
        words
    }
}

/// A store that is open.
pub struct Store<F: Frames> {
    frames: F,
    shared: Rc<Shared>,
    /// The page of memory that new objects go to.
    filling: Cell<usize>,
}

/// The object of the store itself, on its page 0: a reference to the root, and how many pages are in use.
const HEAD: usize = 1;

impl<F: Frames> Store<F> {
    /// Makes an empty store of a device, and commits it.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn create(device: Box<dyn BlockDevice>, frames: F) -> Result<Store<F>, StoreError> {
        let mut words = page::empty();
        (words[HEAD], words[HEAD + 2], words[0]) = (header(1, 1), 1, HEAD as u64 + 3);
        let mut disk = Disk::new(device)?;
        let mut sealed = words;
        page::seal(&mut sealed);
        disk.commit(&[(0, sealed)])?;
        Store::over(disk, frames)
    }

    /// Opens a store, as the last commit that is whole has left it.
    ///
    /// # Errors
    ///
    /// [`StoreError`]. A page that is damaged or can't be read later on ends the program with a report.
    pub fn open(device: Box<dyn BlockDevice>, frames: F) -> Result<Store<F>, StoreError> {
        let mut disk = Disk::new(device)?;
        disk.recover()?;
        let mut words = disk.page(0)?;
        page::unseal(&mut words, 0)?;
        if words[HEAD] != header(1, 1) {
            return Err(StoreError::Damaged { page: 0, what: "it is not the first of a store" });
        }
        Store::over(disk, frames)
    }

    fn over(disk: Disk, mut frames: F) -> Result<Store<F>, StoreError> {
        let shared = Rc::new(Shared {
            disk: RefCell::new(disk),
            of_store: RefCell::default(),
            of_memory: RefCell::default(),
            most: frames.pages(),
            brought: Cell::new(0),
        });
        shared.address_of(0)?;
        let bringing = Rc::clone(&shared);
        frames.set_bring(Box::new(move |at| match bringing.bring(at) {
            Ok(words) => words,
            Err(error) => panic!("{error}"),
        }));
        Ok(Store { frames, shared, filling: Cell::new(0) })
    }

    /// Pages read so far.
    pub fn brought(&self) -> u64 {
        self.shared.brought.get()
    }

    /// The object that all others are reached from; 0 if there is none.
    pub fn root(&self) -> u64 {
        self.frames.get(HEAD + 1)
    }

    /// Makes an object the root.
    pub fn set_root(&self, object: u64) {
        self.frames.set(HEAD + 1, object);
    }

    /// Makes an object of so many references, all to nothing, and so many words of data, all 0.
    ///
    /// # Errors
    ///
    /// [`StoreError::ObjectTooLarge`], [`StoreError::Full`].
    pub fn allocate(&self, references: usize, data: usize) -> Result<u64, StoreError> {
        let words = 1 + references + data;
        if words > page::MOST_WORDS {
            return Err(StoreError::ObjectTooLarge { words });
        }
        let mut start = self.filling.get() * PAGE_WORDS;
        if self.frames.get(start) as usize + words > PAGE_WORDS {
            let page = self.frames.get(HEAD + 2);
            let at = self.shared.address_of(page)?;
            self.frames.set(HEAD + 2, page + 1);
            self.frames.insert(at, &page::empty());
            self.filling.set(at);
            start = at * PAGE_WORDS;
        }
        let top = self.frames.get(start) as usize;
        self.frames.set(start + top, header(references, data));
        (1..words).for_each(|word| self.frames.set(start + top + word, 0));
        self.frames.set(start, (top + words) as u64);
        Ok((start + top) as u64)
    }

    /// A reference of an object.
    ///
    /// # Panics
    ///
    /// If the object has no such part. So do the next three.
    pub fn reference(&self, object: u64, number: usize) -> u64 {
        self.frames.get(self.reference_at(object, number))
    }

    /// Makes an object refer to another one, or to nothing (0).
    pub fn set_reference(&self, object: u64, number: usize, to: u64) {
        self.frames.set(self.reference_at(object, number), to);
    }

    /// A word of data of an object.
    pub fn data(&self, object: u64, number: usize) -> u64 {
        self.frames.get(self.data_at(object, number))
    }

    /// Changes a word of data.
    pub fn set_data(&self, object: u64, number: usize, word: u64) {
        self.frames.set(self.data_at(object, number), word);
    }

    fn reference_at(&self, object: u64, number: usize) -> usize {
        let (references, _) = parts(self.frames.get(object as usize));
        assert!(number < references, "reference {number} of {references}");
        object as usize + 1 + number
    }

    fn data_at(&self, object: u64, number: usize) -> usize {
        let (references, data) = parts(self.frames.get(object as usize));
        assert!(number < data, "word {number} of {data}");
        object as usize + 1 + references + number
    }

    /// Makes all changes since the last commit permanent, or none of them. Returns how many pages it wrote.
    ///
    /// # Errors
    ///
    /// [`StoreError`]. What was changed is not known to be written then: open the store again.
    pub fn commit(&self) -> Result<usize, StoreError> {
        let mut changed = vec![];
        self.frames.take_written(&mut |at| {
            let page = self.shared.of_memory.borrow()[at];
            changed.push((page, self.shared.placed(self.frames.copy(at))));
        });
        if !changed.is_empty() {
            self.shared.disk.borrow_mut().commit(&changed)?;
        }
        Ok(changed.len())
    }
}

#[cfg(test)]
mod tests;
