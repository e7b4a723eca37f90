//! A heap of objects in two generations, collected by copying (Cheney, CACM'70; Lieberman and Hewitt,
//! CACM'83).
//!
//! ```text
//! word 0          young                 old                    old, the other half
//! │ never used    │ new objects ──▶     │ survivors ──▶        │ where a full collection copies to
//! ```
//!
//! A small collection copies what is reachable of the young generation behind the old one, and looks at
//! nothing of the old one but where it may have been made to refer to young objects. A *write barrier* tells
//! where that is:
//!
//! | [`Barrier`] | cost of a write | what a small collection looks at |
//! |---|---|---|
//! | `Software` | a comparison; if an old object is made to refer to a young one, a note | exactly the fields noted |
//! | `Protection` | nothing, but the first write to each old page is a trap | pages that trapped |
//! | `Dirty` | nothing | pages that the processor marked as written |
//!
//! An object is a header, references to others, and words of data. References are numbers of words; 0 refers
//! to nothing. A program keeps its own references as [`Root`]s, because a collection moves objects.
//!
//! Invariant: between collections, each field of an old object that refers to a young one is in `fields`
//! (`Software`), or on a page that the memory has noted or marked (the others).

use crate::memory::{Memory, PAGE_WORDS};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

/// How a collection learns which old objects refer to young ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
    /// By code at each write of a reference.
    Software,
    /// By the trap of the first write to a page.
    Protection,
    /// By the processor's mark of written pages.
    Dirty,
}

impl Barrier {
    /// All of them.
    pub const ALL: [Barrier; 3] = [Barrier::Software, Barrier::Protection, Barrier::Dirty];

    /// As in results.
    pub fn name(self) -> &'static str {
        match self {
            Barrier::Software => "software",
            Barrier::Protection => "protection",
            Barrier::Dirty => "dirty",
        }
    }
}

/// There is no room for an object, even after a full collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Words asked for.
    pub words: usize,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no room for an object of {} words", self.words)
    }
}

impl core::error::Error for Full {}

/// A reference that the program holds. It stays valid, and its object alive, until it is dropped with
/// [`Heap::truncate_roots`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root(usize);

/// What collections have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collections {
    /// Small ones.
    pub small: u64,
    /// Full ones.
    pub full: u64,
    /// Words copied.
    pub copied_words: u64,
    /// Pages of the old generation that small ones looked at.
    pub pages_scanned: u64,
    /// Fields noted by the software barrier.
    pub fields_noted: u64,
}

/// Bit of a header that says that the object has moved; the rest is its new place.
const MOVED: u64 = 1 << 63;

fn header(references: usize, data: usize) -> u64 {
    (references as u64) << 32 | data as u64
}

/// Number of references, and words of data.
fn parts(header: u64) -> (usize, usize) {
    ((header >> 32) as usize & 0x7fff_ffff, header as u32 as usize)
}

/// Half of the old generation.
struct Space {
    words: Range<usize>,
    /// The first free word.
    top: usize,
    /// By page: where the object begins that its first word belongs to; 0 if none does.
    starts: Vec<usize>,
}

impl Space {
    fn new(words: Range<usize>) -> Space {
        let pages = words.len() / PAGE_WORDS;
        Space { top: words.start, words, starts: vec![0; pages] }
    }

    fn first_page(&self) -> usize {
        self.words.start / PAGE_WORDS
    }

    /// Pages in use.
    fn pages(&self) -> Range<usize> {
        self.first_page()..self.top.div_ceil(PAGE_WORDS)
    }

    fn room(&self) -> usize {
        self.words.end - self.top
    }

    /// Takes room. The caller knows that there is enough.
    fn take(&mut self, words: usize) -> usize {
        let at = self.top;
        self.top += words;
        for page in at.div_ceil(PAGE_WORDS)..self.top.div_ceil(PAGE_WORDS) {
            self.starts[page - self.words.start / PAGE_WORDS] = at;
        }
        at
    }

    fn clear(&mut self) {
        self.top = self.words.start;
        self.starts.fill(0);
    }
}

/// The heap. `SOFTWARE` says whether writes of references are looked at by code.
pub struct Heap<M: Memory, const SOFTWARE: bool> {
    memory: M,
    barrier: Barrier,
    young: Range<usize>,
    young_top: usize,
    old: Space,
    other: Space,
    roots: Vec<u64>,
    /// Fields of old objects that refer to young ones, by the software barrier.
    fields: Vec<usize>,
    done: Collections,
    /// The clock of pauses, and what it showed: of the longest pause, and of all.
    clock: fn() -> u64,
    pauses: [u64; 2],
}

impl<M: Memory, const SOFTWARE: bool> Heap<M, SOFTWARE> {
    /// A heap in memory of `pages` pages, of which `young` are for new objects. `clock` is asked before and
    /// after each collection.
    ///
    /// # Panics
    ///
    /// If there are fewer than `young` + 3 pages, or the barrier is the software one and `SOFTWARE` says
    /// otherwise.
    pub fn new(memory: M, pages: usize, young: usize, barrier: Barrier, clock: fn() -> u64) -> Self {
        assert_eq!(barrier == Barrier::Software, SOFTWARE, "the barrier of the type");
        let half = (pages - young - 1) / 2;
        assert!(young > 0 && half > 0, "{pages} pages, {young} of them young");
        let words = |first: usize, count: usize| first * PAGE_WORDS..(first + count) * PAGE_WORDS;
        let (young, old) = (words(1, young), young + 1);
        Heap {
            memory,
            barrier,
            young_top: young.start,
            young,
            old: Space::new(words(old, half)),
            other: Space::new(words(old + half, half)),
            roots: Vec::new(),
            fields: Vec::new(),
            done: Collections::default(),
            clock,
            pauses: [0; 2],
        }
    }

    /// What collections have done so far.
    pub fn collections(&self) -> Collections {
        self.done
    }

    /// The longest pause, and all pauses together, by the clock.
    pub fn pauses(&self) -> [u64; 2] {
        self.pauses
    }

    /// The memory.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// Makes an object of so many references, all to nothing, and so many words of data, all 0. References
    /// that are no roots are lost.
    ///
    /// # Errors
    ///
    /// [`Full`].
    pub fn allocate(&mut self, references: usize, data: usize) -> Result<Root, Full> {
        let words = 1 + references + data;
        let at = if words > self.young.len() / 4 {
            self.allocate_old(words)?
        } else {
            if self.young.end - self.young_top < words {
                self.collect(words)?;
            }
            let at = self.young_top;
            self.young_top += words;
            at
        };
        self.memory.set(at, header(references, data));
        (at + 1..at + words).for_each(|word| self.memory.set(word, 0));
        Ok(self.root(at as u64))
    }

    /// Room for a large object, which is old from the beginning. Its pages are not guarded, so they count as
    /// written.
    fn allocate_old(&mut self, words: usize) -> Result<usize, Full> {
        if self.old.room() < words {
            self.collect_all(words)?;
        }
        let guarded = self.old.pages().end;
        let at = self.old.take(words);
        if self.barrier == Barrier::Protection {
            // Writing it traps on each of its pages, and so each is noted.
            self.memory.guard(guarded..self.old.pages().end);
        }
        Ok(at)
    }

    /// Keeps a reference.
    pub fn root(&mut self, reference: u64) -> Root {
        self.roots.push(reference);
        Root(self.roots.len() - 1)
    }

    /// What a root refers to; until the next allocation.
    pub fn at(&self, root: Root) -> u64 {
        self.roots[root.0]
    }

    /// Makes a root refer to something else.
    pub fn set_root(&mut self, root: Root, reference: u64) {
        self.roots[root.0] = reference;
    }

    /// Number of roots, for [`Heap::truncate_roots`].
    pub fn roots(&self) -> usize {
        self.roots.len()
    }

    /// Drops the roots made since there were `count`.
    pub fn truncate_roots(&mut self, count: usize) {
        self.roots.truncate(count);
    }

    /// A reference of an object.
    ///
    /// # Panics
    ///
    /// If the object has no such part. So do the next three.
    pub fn reference(&self, object: u64, number: usize) -> u64 {
        let (references, _) = parts(self.memory.get(object as usize));
        assert!(number < references, "reference {number} of {references}");
        self.memory.get(object as usize + 1 + number)
    }

    /// Makes an object refer to another one.
    #[inline]
    pub fn set_reference(&mut self, object: u64, number: usize, to: u64) {
        let (references, _) = parts(self.memory.get(object as usize));
        assert!(number < references, "reference {number} of {references}");
        let field = object as usize + 1 + number;
        if SOFTWARE && field >= self.young.end && self.is_young(to) {
            // A field that refers to a young object already has been noted.
            if !self.is_young(self.memory.get(field)) {
                self.fields.push(field);
                self.done.fields_noted += 1;
            }
        }
        self.memory.set(field, to);
    }

    /// A word of data of an object.
    pub fn data(&self, object: u64, number: usize) -> u64 {
        self.memory.get(self.data_at(object, number))
    }

    /// Changes a word of data.
    pub fn set_data(&mut self, object: u64, number: usize, word: u64) {
        let at = self.data_at(object, number);
        self.memory.set(at, word);
    }

    fn data_at(&self, object: u64, number: usize) -> usize {
        let (references, data) = parts(self.memory.get(object as usize));
        assert!(number < data, "word {number} of {data}");
        object as usize + 1 + references + number
    }

    fn is_young(&self, reference: u64) -> bool {
        self.young.contains(&(reference as usize))
    }

    /// Makes room for a young object of so many words.
    fn collect(&mut self, words: usize) -> Result<(), Full> {
        // Everything may survive.
        if self.old.room() < self.young_top - self.young.start {
            return self.collect_all(words);
        }
        let start = (self.clock)();
        let first_new = self.old.top;
        let tail = first_new / PAGE_WORDS..self.old.words.end / PAGE_WORDS;
        let mut written = Vec::new();
        match self.barrier {
            Barrier::Software => {}
            Barrier::Protection => {
                self.memory.take_noted(&mut |page| written.push(page));
                self.memory.release(tail);
            }
            Barrier::Dirty => self.memory.take_written(self.old.pages(), &mut |page| written.push(page)),
        }
        for number in 0..self.roots.len() {
            self.roots[number] = self.survivor(self.roots[number]);
        }
        for field in core::mem::take(&mut self.fields) {
            self.keep_field(field);
        }
        self.done.pages_scanned += written.len() as u64;
        written.into_iter().for_each(|page| self.scan_page(page, first_new));
        self.scan_from(first_new);
        self.young_top = self.young.start;
        self.begin_anew();
        self.done.small += 1;
        self.paused(start);
        Ok(())
    }

    fn paused(&mut self, start: u64) {
        let pause = (self.clock)() - start;
        self.pauses = [self.pauses[0].max(pause), self.pauses[1] + pause];
    }

    /// From now on writes to old objects count.
    fn begin_anew(&mut self) {
        match self.barrier {
            Barrier::Software => {}
            Barrier::Protection => {
                self.memory.take_noted(&mut |_| {});
                self.memory.guard(self.old.pages());
            }
            Barrier::Dirty => self.memory.take_written(self.old.pages(), &mut |_| {}),
        }
    }

    /// Where a young object is after it has been copied; others stay where they are.
    fn survivor(&mut self, reference: u64) -> u64 {
        if !self.is_young(reference) {
            return reference;
        }
        self.copy(reference)
    }

    /// Copies an object to the end of the old generation, if that has not been done.
    fn copy(&mut self, reference: u64) -> u64 {
        let from = reference as usize;
        let head = self.memory.get(from);
        if head & MOVED != 0 {
            return head & !MOVED;
        }
        let (references, data) = parts(head);
        let words = 1 + references + data;
        let to = self.old.take(words);
        (0..words).for_each(|word| self.memory.set(to + word, self.memory.get(from + word)));
        self.memory.set(from, MOVED | to as u64);
        self.done.copied_words += words as u64;
        to as u64
    }

    fn keep_field(&mut self, field: usize) {
        let reference = self.memory.get(field);
        let kept = self.survivor(reference);
        if kept != reference {
            self.memory.set(field, kept);
        }
    }

    /// Looks at the fields on a page of objects that are older than this collection.
    fn scan_page(&mut self, page: usize, first_new: usize) {
        let (start, end) = (page * PAGE_WORDS, ((page + 1) * PAGE_WORDS).min(first_new));
        let mut object = match self.old.starts.get(page - self.old.first_page()) {
            Some(0) | None => return,
            Some(object) => *object,
        };
        while object < end {
            let (references, data) = parts(self.memory.get(object));
            let fields = object + 1..object + 1 + references;
            (fields.start.max(start)..fields.end.min(end)).for_each(|field| self.keep_field(field));
            object += 1 + references + data;
        }
    }

    /// Looks at copied objects, and at those copied because of them.
    fn scan_from(&mut self, first: usize) {
        let mut object = first;
        while object < self.old.top {
            let (references, data) = parts(self.memory.get(object));
            (object + 1..object + 1 + references).for_each(|field| self.keep_field(field));
            object += 1 + references + data;
        }
    }

    /// Copies all that is reachable to the other half. `words` must be free afterwards.
    fn collect_all(&mut self, words: usize) -> Result<(), Full> {
        let start = (self.clock)();
        let all = self.young.start / PAGE_WORDS..self.other.words.end.max(self.old.words.end) / PAGE_WORDS;
        if self.barrier == Barrier::Protection {
            self.memory.release(all);
        }
        core::mem::swap(&mut self.old, &mut self.other);
        self.fields.clear();
        let live = self.copy_reachable();
        self.other.clear();
        self.young_top = self.young.start;
        self.begin_anew();
        self.done.full += 1;
        self.paused(start);
        live.filter(|()| self.old.room() >= words).ok_or(Full { words })
    }

    /// `None` if they do not fit: then the heap is of no use any more.
    fn copy_reachable(&mut self) -> Option<()> {
        let first = self.old.top;
        for number in 0..self.roots.len() {
            self.roots[number] = self.moved(self.roots[number])?;
        }
        let mut object = first;
        while object < self.old.top {
            let (references, data) = parts(self.memory.get(object));
            for field in object + 1..object + 1 + references {
                let kept = self.moved(self.memory.get(field))?;
                self.memory.set(field, kept);
            }
            object += 1 + references + data;
        }
        Some(())
    }

    /// Where an object is after a full collection.
    fn moved(&mut self, reference: u64) -> Option<u64> {
        if reference == 0 {
            return Some(0);
        }
        let head = self.memory.get(reference as usize);
        let (references, data) = parts(head);
        if head & MOVED == 0 && self.old.room() < 1 + references + data {
            return None;
        }
        Some(self.copy(reference))
    }
}

#[cfg(test)]
mod tests;
