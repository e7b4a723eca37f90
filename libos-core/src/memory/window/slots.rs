//! Places of windows in the address space, each an entry of the top table, and the tables below.

use crate::cpu::lock::Masked;
use crate::cpu::section;
use crate::memory::level::{self, ENTRIES, Level};
use crate::memory::paging::{self, Entry};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use hyperexo_abi::FRAME_SHIFT;

/// Windows that there can be at a time.
pub const MOST_WINDOWS: usize = 16;
/// Most pages of a window: half of what an entry of the top table maps. The rest guards the next one.
pub const MOST_WINDOW_PAGES: u64 = SPACING >> (FRAME_SHIFT + 1);

/// Where windows lie.
const WINDOWS: u64 = 0x0000_5000_0000_0000;
/// Bytes that an entry of the top table maps.
const SPACING: u64 = 1 << 39;
/// Distance from there to the first page: a guard.
const FIRST_PAGE: u64 = paging::LARGE_BYTES;

/// Why there is no window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowError {
    /// No pages, or more than [`MOST_WINDOW_PAGES`].
    Pages {
        /// Pages asked for.
        pages: u64,
    },
    /// There are [`MOST_WINDOWS`] already.
    TooMany,
}

impl fmt::Display for WindowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WindowError::Pages { pages } => {
                write!(f, "a window of {pages} pages: 1 to {MOST_WINDOW_PAGES} are possible")
            }
            WindowError::TooMany => write!(f, "more than {MOST_WINDOWS} windows"),
        }
    }
}

impl core::error::Error for WindowError {}

/// The tables of a place. They are never freed, so that no processor walks memory that has become something
/// else: the next window at this place takes them over.
struct Tables {
    top: &'static Level,
    directories: Vec<&'static Level>,
    leaves: Arc<Vec<&'static Level>>,
}

impl Tables {
    fn new() -> Tables {
        Tables { top: Level::leak(), directories: Vec::new(), leaves: Arc::default() }
    }

    /// Makes the tables that so many pages need.
    fn reach(&mut self, pages: u64) {
        let (first, count) = (FIRST_PAGE / paging::LARGE_BYTES, pages.div_ceil(ENTRIES));
        let mut leaves = self.leaves.to_vec();
        for number in leaves.len() as u64..count {
            let at = first + number;
            let directory = (at / ENTRIES) as usize;
            while self.directories.len() <= directory {
                let new = Level::leak();
                self.top.0[self.directories.len()].store(Entry::table(new.physical()).0, Ordering::Release);
                self.directories.push(new);
            }
            let leaf = Level::leak();
            self.directories[directory].0[(at % ENTRIES) as usize]
                .store(Entry::table(leaf.physical()).0, Ordering::Release);
            leaves.push(leaf);
        }
        self.leaves = Arc::new(leaves);
    }
}

/// A place.
enum Place {
    /// Never used.
    Fresh,
    /// Used before; nothing is mapped.
    Free(Tables),
    /// A window's.
    Taken,
}

static PLACES: Masked<[Place; MOST_WINDOWS]> = Masked::new([const { Place::Fresh }; MOST_WINDOWS]);

/// The place whose entry of the top table maps an address.
#[inline(always)]
pub(super) fn number_of(address: u64) -> Option<usize> {
    let number = (address / SPACING).wrapping_sub(WINDOWS / SPACING);
    (number < MOST_WINDOWS as u64).then_some(number as usize)
}

/// A place that a window has.
pub(super) struct Slot {
    number: usize,
    pages: u64,
    /// `None` only while it is dropped.
    tables: Option<Tables>,
    view: View,
}

impl Slot {
    /// Takes a place for so many pages.
    pub fn take(pages: u64) -> Result<Slot, WindowError> {
        if pages == 0 || pages > MOST_WINDOW_PAGES {
            return Err(WindowError::Pages { pages });
        }
        let found = {
            let mut places = PLACES.lock();
            // One that has tables is preferred.
            let free = places.iter().position(|place| matches!(place, Place::Free(_)));
            let free = free.or_else(|| places.iter().position(|place| matches!(place, Place::Fresh)));
            free.map(|number| (number, core::mem::replace(&mut places[number], Place::Taken)))
        };
        let (number, place) = found.ok_or(WindowError::TooMany)?;
        let mut tables = match place {
            Place::Free(tables) => tables,
            Place::Fresh | Place::Taken => {
                let tables = Tables::new();
                level::enter(WINDOWS + number as u64 * SPACING, tables.top);
                tables
            }
        };
        tables.reach(pages);
        let base = WINDOWS + number as u64 * SPACING + FIRST_PAGE;
        let view = View { base, pages, leaves: Arc::clone(&tables.leaves) };
        // Other cores may remember what this place showed them: see the module of windows.
        section::pin();
        Ok(Slot { number, pages, tables: Some(tables), view })
    }

    /// Its number.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Pages of the window.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// The entry of a page.
    pub fn entry(&self, page: u64) -> &'static AtomicU64 {
        &self.view.leaves[(page / ENTRIES) as usize].0[(page % ENTRIES) as usize]
    }

    /// The entries of adjacent pages, those of one table at a time, and the pages that they are for: of a
    /// large page the one entry that it has, whichever of its pages are asked for.
    ///
    /// # Panics
    ///
    /// If the window has no such pages.
    pub fn entries(&self, pages: &Range<u64>) -> impl Iterator<Item = (Range<u64>, &'static [AtomicU64])> {
        assert!(pages.start <= pages.end && pages.end <= self.pages, "pages {pages:?} of {}", self.pages);
        let pages = pages.clone();
        let tables = pages.start / ENTRIES..pages.end.div_ceil(ENTRIES);
        tables.map(move |number| {
            let first = number * ENTRIES;
            let part = pages.start.max(first)..pages.end.min(first + ENTRIES);
            let directory = self.directory_entry(first);
            if let Some(large) = directory.filter(|entry| Entry(entry.load(Ordering::Relaxed)).is_large()) {
                return (part, core::slice::from_ref(large));
            }
            let leaf = self.view.leaves[number as usize];
            let within = (part.start - first) as usize..(part.end - first) as usize;
            (part, &leaf.0[within])
        })
    }

    /// The address of a page.
    pub fn address(&self, page: u64) -> u64 {
        self.view.address(page)
    }

    /// The entry that leads to the table in which a page's is: a large page can stand there instead. `None`
    /// while the slot is dropped.
    pub fn directory_entry(&self, page: u64) -> Option<&'static AtomicU64> {
        let at = FIRST_PAGE / paging::LARGE_BYTES + page / ENTRIES;
        let directory = self.tables.as_ref()?.directories.get((at / ENTRIES) as usize)?;
        Some(&directory.0[(at % ENTRIES) as usize])
    }

    /// What stands there when it leads to the table.
    pub fn table_entry(&self, page: u64) -> Entry {
        Entry::table(self.view.leaves[(page / ENTRIES) as usize].physical())
    }

    /// What may be seen from everywhere.
    pub fn clone_view(&self) -> View {
        self.view.clone()
    }
}

/// The pages have been taken out before.
impl Drop for Slot {
    fn drop(&mut self) {
        section::unpin();
        if let Some(tables) = self.tables.take() {
            PLACES.lock()[self.number] = Place::Free(tables);
        }
    }
}

/// Entries of a window's pages.
#[derive(Clone)]
pub(super) struct View {
    base: u64,
    pages: u64,
    leaves: Arc<Vec<&'static Level>>,
}

impl View {
    /// The entry of a page.
    pub fn entry(&self, page: u64) -> Option<&'static AtomicU64> {
        let entry = || &self.leaves[(page / ENTRIES) as usize].0[(page % ENTRIES) as usize];
        (page < self.pages).then(entry)
    }

    /// The address of a page.
    pub fn address(&self, page: u64) -> u64 {
        self.base + (page << FRAME_SHIFT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::boxed::Box;

    #[test]
    fn addresses_lead_to_places() {
        assert_eq!(number_of(WINDOWS - 1), None);
        assert_eq!(number_of(WINDOWS), Some(0));
        assert_eq!(number_of(WINDOWS + 3 * SPACING - 1), Some(2));
        assert_eq!(number_of(WINDOWS + MOST_WINDOWS as u64 * SPACING), None);
        // Not where the stacks of other cores lie.
        assert!(WINDOWS + MOST_WINDOWS as u64 * SPACING <= 0x0000_6000_0000_0000);
    }

    #[test]
    fn entries_of_adjacent_pages_across_tables() {
        let leaves: Vec<&'static Level> = (0..3)
            .map(|table: u64| {
                let entry = |at: usize| AtomicU64::new(table * ENTRIES + at as u64);
                &*Box::leak(Box::new(Level(core::array::from_fn(entry))))
            })
            .collect();
        let view = View { base: 0, pages: 1300, leaves: Arc::new(leaves) };
        let slot = Slot { number: 0, pages: 1300, tables: None, view };
        for pages in [0..1300, 511..513, 512..1024, 5..5, 1024..1024, 1200..1300] {
            let mut found = Vec::new();
            for (part, entries) in slot.entries(&pages) {
                let numbers = entries.iter().map(|entry| entry.load(Ordering::Relaxed));
                assert!(numbers.clone().eq(part));
                found.extend(numbers);
            }
            assert_eq!(found, pages.collect::<Vec<_>>());
        }
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        for pages in [0, MOST_WINDOW_PAGES + 1] {
            assert_eq!(Slot::take(pages).err(), Some(WindowError::Pages { pages }));
        }
    }
}
