//! Where each page of an address space is: page-table structures to choose from. The processor's own tables
//! are a cache of what stands here: they know the pages that are mapped now, and a fault asks.
//!
//! D. R. Engler, M. F. Kaashoek, J. O'Toole, "Exokernel", SOSP 1995, §7.2 swaps structures in the same
//! way, an inverted one among them; M. Talluri, M. D. Hill, Y. A. Khalidi, "A new page table for 64-bit
//! address spaces", SOSP 1995, compares such structures by bytes and lines touched.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use core::str::FromStr;

/// A map from pages to slots.
pub trait Translation {
    /// The slot of a page.
    fn get(&self, page: u64) -> Option<u32>;

    /// Enters a page that is not there, in a slot that no other page has.
    fn insert(&mut self, page: u64, slot: u32);

    /// Takes a page out.
    fn remove(&mut self, page: u64) -> Option<u32>;

    /// Calls `each` with all pages of a range that are there, and their slots, in the order of pages or not.
    fn each(&self, pages: Range<u64>, each: &mut dyn FnMut(u64, u32));

    /// Bytes that it takes now.
    fn bytes(&self) -> usize;
}

/// The structures there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TranslationKind {
    /// A tree of tables, indexed by parts of the page number: [`Radix`].
    #[default]
    Radix,
    /// A hash table over slots: [`Hashed`].
    Hashed,
    /// A B-tree of runs of pages: [`Ranges`].
    Ranges,
}

impl TranslationKind {
    /// All of them.
    pub const ALL: [TranslationKind; 3] =
        [TranslationKind::Radix, TranslationKind::Hashed, TranslationKind::Ranges];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            TranslationKind::Radix => "radix",
            TranslationKind::Hashed => "hashed",
            TranslationKind::Ranges => "ranges",
        }
    }

    /// Makes one for so many slots.
    pub fn build(self, slots: usize) -> Box<dyn Translation> {
        match self {
            TranslationKind::Radix => Box::new(Radix::default()),
            TranslationKind::Hashed => Box::new(Hashed::new(slots)),
            TranslationKind::Ranges => Box::new(Ranges::default()),
        }
    }
}

/// No structure has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownTranslation;

impl fmt::Display for UnknownTranslation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown page-table structure, there are: radix, hashed, ranges")
    }
}

impl core::error::Error for UnknownTranslation {}

impl FromStr for TranslationKind {
    type Err = UnknownTranslation;

    fn from_str(name: &str) -> Result<TranslationKind, UnknownTranslation> {
        TranslationKind::ALL.into_iter().find(|kind| kind.name() == name).ok_or(UnknownTranslation)
    }
}

/// Nothing.
const NONE: u32 = u32::MAX;
/// Bits of a page number that index a table.
const BITS: u32 = 9;
/// Entries of a table.
const ENTRIES: usize = 1 << BITS;
/// Levels below the root: 4 × 9 bits are all pages of 48-bit addresses.
const LEVELS: u32 = 4;

/// As the processor's own tables: four levels of 512 entries, made where there are pages. A look-up is four
/// loads; a page by itself, far from others, costs up to 14 KiB.
#[derive(Default)]
pub struct Radix {
    root: Option<Box<Node>>,
    nodes: usize,
    leaves: usize,
}

enum Node {
    Inner(Box<[Option<Box<Node>>; ENTRIES]>),
    Leaf { slots: Box<[u32; ENTRIES]>, used: u32 },
}

fn index(page: u64, level: u32) -> usize {
    (page >> (BITS * level)) as usize % ENTRIES
}

impl Radix {
    fn leaf(&self, page: u64) -> Option<&Node> {
        let mut node = self.root.as_deref()?;
        for level in (1..LEVELS).rev() {
            match node {
                Node::Inner(below) => node = below[index(page, level)].as_deref()?,
                Node::Leaf { .. } => return None,
            }
        }
        Some(node)
    }

    /// Removes below a node; whether it is empty then, is told by the second.
    fn remove_below(node: &mut Node, page: u64, level: u32, freed: &mut [usize; 2]) -> (Option<u32>, bool) {
        match node {
            Node::Leaf { slots, used } => {
                let slot = core::mem::replace(&mut slots[index(page, 0)], NONE);
                *used -= u32::from(slot != NONE);
                ((slot != NONE).then_some(slot), *used == 0)
            }
            Node::Inner(below) => {
                let place = &mut below[index(page, level)];
                let Some(next) = place else { return (None, false) };
                let (slot, empty) = Radix::remove_below(next, page, level - 1, freed);
                if empty {
                    freed[usize::from(level == 1)] += 1;
                    *place = None;
                }
                (slot, empty && below.iter().all(Option::is_none))
            }
        }
    }

    fn each_below(node: &Node, first: u64, level: u32, pages: &Range<u64>, each: &mut dyn FnMut(u64, u32)) {
        let bytes = 1u64 << (BITS * level);
        for entry in 0..ENTRIES {
            let start = first + entry as u64 * bytes;
            if start >= pages.end {
                return;
            }
            if start + bytes <= pages.start {
                continue;
            }
            match node {
                Node::Leaf { slots, .. } if slots[entry] != NONE => each(start, slots[entry]),
                Node::Leaf { .. } => (),
                Node::Inner(below) => {
                    if let Some(node) = &below[entry] {
                        Radix::each_below(node, start, level - 1, pages, each);
                    }
                }
            }
        }
    }
}

impl Translation for Radix {
    fn get(&self, page: u64) -> Option<u32> {
        match self.leaf(page)? {
            Node::Leaf { slots, .. } => Some(slots[index(page, 0)]).filter(|slot| *slot != NONE),
            Node::Inner(_) => None,
        }
    }

    fn insert(&mut self, page: u64, slot: u32) {
        let inner = || Box::new(Node::Inner(Box::new([const { None }; ENTRIES])));
        let nodes = &mut self.nodes;
        let mut node = &mut **self.root.get_or_insert_with(|| {
            *nodes += 1;
            inner()
        });
        for level in (1..LEVELS).rev() {
            let Node::Inner(below) = node else { return };
            node = below[index(page, level)].get_or_insert_with(|| {
                if level == 1 {
                    self.leaves += 1;
                    return Box::new(Node::Leaf { slots: Box::new([NONE; ENTRIES]), used: 0 });
                }
                self.nodes += 1;
                inner()
            });
        }
        if let Node::Leaf { slots, used } = node {
            *used += u32::from(slots[index(page, 0)] == NONE);
            slots[index(page, 0)] = slot;
        }
    }

    fn remove(&mut self, page: u64) -> Option<u32> {
        let mut freed = [0; 2];
        let (slot, empty) = Radix::remove_below(self.root.as_mut()?, page, LEVELS - 1, &mut freed);
        if empty {
            freed[0] += 1;
            self.root = None;
        }
        self.nodes -= freed[0];
        self.leaves -= freed[1];
        slot
    }

    fn each(&self, pages: Range<u64>, each: &mut dyn FnMut(u64, u32)) {
        if let Some(root) = &self.root {
            Radix::each_below(root, 0, LEVELS - 1, &pages, each);
        }
    }

    fn bytes(&self) -> usize {
        let node = size_of::<Node>();
        size_of::<Radix>()
            + self.nodes * (node + ENTRIES * size_of::<Option<Box<Node>>>())
            + self.leaves * (node + ENTRIES * size_of::<u32>())
    }
}

/// An inverted page table: an entry for each slot, found by a hash of the page's number (A. Chang & M. F.
/// Mergen, "801 storage: architecture and programming", TOCS 1988). Its size is that of memory, not of the
/// address space. A range is looked up page by page, or by going through all entries.
pub struct Hashed {
    /// First slot of each chain; twice as many as slots, a power of two.
    anchors: Vec<u32>,
    /// Page and next slot of the chain.
    entries: Vec<(u64, u32)>,
    shift: u32,
}

impl Hashed {
    /// For so many slots.
    pub fn new(slots: usize) -> Hashed {
        let anchors = (2 * slots.max(1)).next_power_of_two();
        let shift = 64 - anchors.trailing_zeros();
        Hashed { anchors: vec![NONE; anchors], entries: vec![(u64::MAX, NONE); slots], shift }
    }

    /// The chain of a page: multiplicative hashing (Knuth vol. 3, §6.4).
    fn anchor(&self, page: u64) -> usize {
        (page.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }
}

impl Translation for Hashed {
    fn get(&self, page: u64) -> Option<u32> {
        let mut slot = self.anchors[self.anchor(page)];
        while slot != NONE {
            let (found, next) = self.entries[slot as usize];
            if found == page {
                return Some(slot);
            }
            slot = next;
        }
        None
    }

    fn insert(&mut self, page: u64, slot: u32) {
        let anchor = self.anchor(page);
        self.entries[slot as usize] = (page, self.anchors[anchor]);
        self.anchors[anchor] = slot;
    }

    fn remove(&mut self, page: u64) -> Option<u32> {
        let anchor = self.anchor(page);
        let (mut before, mut slot) = (NONE, self.anchors[anchor]);
        while slot != NONE {
            let (found, next) = self.entries[slot as usize];
            if found == page {
                match self.entries.get_mut(before as usize) {
                    Some(before) => before.1 = next,
                    None => self.anchors[anchor] = next,
                }
                self.entries[slot as usize] = (u64::MAX, NONE);
                return Some(slot);
            }
            (before, slot) = (slot, next);
        }
        None
    }

    fn each(&self, pages: Range<u64>, each: &mut dyn FnMut(u64, u32)) {
        if pages.end.saturating_sub(pages.start) <= self.entries.len() as u64 {
            return pages.for_each(|page| {
                if let Some(slot) = self.get(page) {
                    each(page, slot);
                }
            });
        }
        for (slot, (page, _)) in self.entries.iter().enumerate() {
            if pages.contains(page) {
                each(*page, slot as u32);
            }
        }
    }

    fn bytes(&self) -> usize {
        size_of::<Hashed>()
            + self.anchors.len() * size_of::<u32>()
            + self.entries.len() * size_of::<(u64, u32)>()
    }
}

/// Runs of adjacent pages in adjacent slots, in a B-tree: small where pages come in order, and ranges cost no
/// more than the runs in them.
#[derive(Default)]
pub struct Ranges {
    /// By first page: pages and first slot.
    runs: BTreeMap<u64, (u64, u32)>,
}

impl Ranges {
    fn run(&self, page: u64) -> Option<(u64, u64, u32)> {
        let (start, (pages, slot)) = self.runs.range(..=page).next_back()?;
        (page - start < *pages).then_some((*start, *pages, *slot))
    }
}

impl Translation for Ranges {
    fn get(&self, page: u64) -> Option<u32> {
        self.run(page).map(|(start, _, slot)| slot + (page - start) as u32)
    }

    fn insert(&mut self, page: u64, slot: u32) {
        let before = page.checked_sub(1).and_then(|before| self.run(before));
        let before =
            before.filter(|(start, pages, first)| start + pages == page && first + *pages as u32 == slot);
        let after = self.runs.get(&(page + 1)).copied().filter(|(_, first)| *first == slot + 1);
        let (start, mut pages, first) = before.unwrap_or((page, 0, slot));
        pages += 1;
        if let Some((more, _)) = after {
            self.runs.remove(&(page + 1));
            pages += more;
        }
        self.runs.insert(start, (pages, first));
    }

    fn remove(&mut self, page: u64) -> Option<u32> {
        let (start, pages, first) = self.run(page)?;
        let before = page - start;
        if before == 0 {
            self.runs.remove(&start);
        } else {
            self.runs.insert(start, (before, first));
        }
        if before + 1 < pages {
            self.runs.insert(page + 1, (pages - before - 1, first + before as u32 + 1));
        }
        Some(first + before as u32)
    }

    fn each(&self, pages: Range<u64>, each: &mut dyn FnMut(u64, u32)) {
        let first = self.run(pages.start).map_or(pages.start, |(start, ..)| start);
        for (start, (count, slot)) in self.runs.range(first..pages.end) {
            for page in pages.start.max(*start)..pages.end.min(start + count) {
                each(page, slot + (page - start) as u32);
            }
        }
    }

    /// An estimate: nodes of a B-tree are between half full and full, three quarters on average.
    fn bytes(&self) -> usize {
        let entry = size_of::<u64>() + size_of::<(u64, u32)>();
        size_of::<Ranges>() + self.runs.len() * entry * 4 / 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libos_fs::device::fault::Dice;

    /// Every structure does what a map does, in random order, for pages near and far.
    #[test]
    fn all_structures_are_maps() {
        const SLOTS: usize = 40;
        for kind in TranslationKind::ALL {
            let (mut map, mut dice) = (kind.build(SLOTS), Dice::new(7));
            let empty = map.bytes();
            let mut expected: BTreeMap<u64, u32> = BTreeMap::new();
            let mut free: Vec<u32> = (0..SLOTS as u32).rev().collect();
            for step in 0..20_000 {
                let far = [0, 512, 1 << 18, (1 << 36) - 64][dice.below(4) as usize];
                let page = far + dice.below(64);
                assert_eq!(map.get(page), expected.get(&page).copied(), "{} step {step}", kind.name());
                match (expected.contains_key(&page), dice.below(3), free.pop()) {
                    (false, 0 | 1, Some(slot)) => {
                        map.insert(page, slot);
                        expected.insert(page, slot);
                    }
                    (_, _, slot) => {
                        free.extend(slot);
                        let removed = expected.remove(&page);
                        assert_eq!(map.remove(page), removed, "{} step {step}", kind.name());
                        free.extend(removed);
                    }
                }
                let start = far + dice.below(64);
                let range = start..start + dice.below(100);
                let mut found = BTreeMap::new();
                map.each(range.clone(), &mut |page, slot| assert_eq!(found.insert(page, slot), None));
                assert!(found.iter().eq(expected.range(range)), "{} step {step}", kind.name());
            }
            expected.keys().for_each(|page| assert!(map.remove(*page).is_some()));
            assert_eq!(map.bytes(), empty, "{}: nothing is left", kind.name());
        }
    }

    #[test]
    fn each_is_smallest_somewhere() {
        let bytes = |pages: &dyn Fn(u32) -> u64| {
            TranslationKind::ALL.map(|kind| {
                let mut map = kind.build(4096);
                (0..4096).for_each(|slot| map.insert(pages(slot), slot));
                map.bytes()
            })
        };
        let [radix, hashed, ranges] = bytes(&|slot| u64::from(slot));
        assert!(ranges < 1000 && radix < hashed, "in order: {radix}, {hashed}, {ranges}");
        // In the order of a hash, in one place.
        let [radix, hashed, ranges] = bytes(&|slot| u64::from(slot.wrapping_mul(0x9e37_79b1) % 4096));
        assert!(radix < hashed && hashed < ranges, "in no order: {radix}, {hashed}, {ranges}");
        // Far from each other.
        let [radix, hashed, ranges] = bytes(&|slot| u64::from(slot) << 20);
        assert!(hashed < ranges && ranges < radix, "far: {radix}, {hashed}, {ranges}");
    }
}
