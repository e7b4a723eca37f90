//! Arrays in anonymous memory of Linux.

use crate::memory::{Array, Memory, pages_touched, pages_within};
use crate::{PAGE_BYTES, PAGE_WORDS};
use memmap2::{Advice, MmapMut};
use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::vec::Vec;

/// Pages of a mapping. What is discarded goes when a whole mapping is: `madvise` with `DONTNEED` is no safe
/// call, a new mapping is. `COLD` is missing for the same reason.
const CHUNK: usize = 16;

/// Anonymous memory. Its mappings stay until the program ends, so that what is in memory can be counted.
pub struct Anonymous {
    /// Pages that may be in memory, if the program is told and listened to.
    told: Option<usize>,
    /// Which pages are in memory: /proc/self/pagemap.
    pagemap: Rc<File>,
    kept: RefCell<Vec<Rc<Chunks>>>,
}

impl Anonymous {
    /// With or without somebody who listens.
    ///
    /// # Errors
    ///
    /// If the kernel does not tell what is in memory.
    pub fn new(told: Option<usize>) -> io::Result<Anonymous> {
        let pagemap = Rc::new(File::open("/proc/self/pagemap")?);
        Ok(Anonymous { told, pagemap, kept: RefCell::default() })
    }
}

/// The mappings of an array.
struct Chunks {
    /// Borrowed for each access: the crate lends its bytes or takes advice, not both.
    mappings: RefCell<Vec<MmapMut>>,
    /// Pages of each mapping that were discarded and not written since: a bit each.
    discarded: RefCell<Vec<u16>>,
}

/// Makes a mapping.
fn mapping() -> MmapMut {
    let bytes = CHUNK * PAGE_BYTES;
    MmapMut::map_anon(bytes).unwrap_or_else(|error| panic!("{bytes} bytes of memory: {error}"))
}

/// Whether a page is in memory: bit 63 of its word (Linux, Documentation/admin-guide/mm/pagemap.rst).
fn is_present(pagemap: &File, address: usize) -> bool {
    let mut word = [0; 8];
    let read = pagemap.read_exact_at(&mut word, (address / PAGE_BYTES * 8) as u64);
    read.is_ok() && u64::from_le_bytes(word) >> 63 != 0
}

/// An array of its own mappings.
pub struct Mapped {
    chunks: Rc<Chunks>,
    words: usize,
    pagemap: Rc<File>,
    listens: bool,
}

impl Memory for Anonymous {
    type Array<'m> = Mapped;

    fn array(&self, words: usize) -> Mapped {
        let count = words.div_ceil(CHUNK * PAGE_WORDS);
        let mappings = RefCell::new((0..count).map(|_| mapping()).collect());
        let discarded = RefCell::new((0..count).map(|_| 0).collect());
        let chunks = Rc::new(Chunks { mappings, discarded });
        self.kept.borrow_mut().push(Rc::clone(&chunks));
        Mapped { chunks, words, pagemap: Rc::clone(&self.pagemap), listens: self.told.is_some() }
    }

    fn frames(&self) -> Option<usize> {
        self.told
    }
}

impl Mapped {
    fn advise(&self, pages: Range<u64>, advice: Advice) {
        if !self.listens {
            return;
        }
        let mappings = self.chunks.mappings.borrow();
        let (mut page, end) = (pages.start as usize, pages.end as usize);
        while page < end {
            let (chunk, first) = (page / CHUNK, page % CHUNK);
            let count = (CHUNK - first).min(end - page);
            // Advice that the kernel does not take costs nothing but time.
            let _ = mappings[chunk].advise_range(advice, first * PAGE_BYTES, count * PAGE_BYTES);
            page += count;
        }
    }
}

impl Array for Mapped {
    fn get(&self, at: usize) -> u64 {
        let mappings = self.chunks.mappings.borrow();
        let (chunk, word) = (at / (CHUNK * PAGE_WORDS), at % (CHUNK * PAGE_WORDS));
        u64::from_le_bytes(*mappings[chunk][word * 8..].first_chunk().expect("a word"))
    }

    fn set(&self, at: usize, word: u64) {
        let (chunk, offset) = (at / (CHUNK * PAGE_WORDS), at % (CHUNK * PAGE_WORDS));
        let discarded = &mut self.chunks.discarded.borrow_mut()[chunk];
        if *discarded != 0 {
            *discarded &= !(1 << (offset / PAGE_WORDS));
        }
        self.chunks.mappings.borrow_mut()[chunk][offset * 8..][..8].copy_from_slice(&word.to_le_bytes());
    }

    fn words(&self) -> usize {
        self.words
    }

    fn will_need(&self, words: Range<usize>) {
        self.advise(pages_touched(&words), Advice::WillNeed);
    }

    fn sequential(&self, words: Range<usize>) {
        self.advise(pages_touched(&words), Advice::Sequential);
    }

    fn looping(&self, words: Range<usize>) {
        self.advise(pages_touched(&words), Advice::Sequential);
    }

    fn normal(&self, words: Range<usize>) {
        self.advise(pages_touched(&words), Advice::Normal);
    }

    fn discard(&self, words: Range<usize>) {
        if !self.listens {
            return;
        }
        let pages = pages_within(&words);
        for page in pages.start as usize..pages.end as usize {
            let chunk = page / CHUNK;
            let bits = &mut self.chunks.discarded.borrow_mut()[chunk];
            *bits |= 1 << (page % CHUNK);
            if *bits == u16::MAX {
                *bits = 0;
                self.chunks.mappings.borrow_mut()[chunk] = mapping();
            }
        }
    }

    fn is_in_memory(&self, at: usize) -> Option<bool> {
        let mappings = self.chunks.mappings.borrow();
        let address = mappings[at / (CHUNK * PAGE_WORDS)].as_ptr() as usize;
        self.listens.then(|| is_present(&self.pagemap, address + at % (CHUNK * PAGE_WORDS) * 8))
    }
}
