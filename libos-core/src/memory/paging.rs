//! Page tables as data: four levels are built in a run of adjacent frames, and read.
//!
//! Nothing here touches the processor. [`Tables`] works on a slice of [`Table`]s, wherever that lies. Frame
//! numbers are counted from the number of the slice's first frame.
//!
//! Invariant: every entry that points to a lower table points into the slice, and [`Tables::map`] alone
//! writes entries.
#![forbid(unsafe_code)]

use hyperexo_abi::{FRAME_BYTES, FRAME_SHIFT};

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const WRITE_THROUGH: u64 = 1 << 3;
const CACHE_DISABLE: u64 = 1 << 4;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Bytes of a large page.
pub const LARGE_BYTES: u64 = 2 << 20;

/// One table of 512 entries.
#[derive(Clone)]
#[repr(C, align(4096))]
pub struct Table(pub [u64; 512]);

impl Table {
    /// A table that maps nothing.
    pub const EMPTY: Table = Table([0; 512]);
}

/// What a mapping allows. Everything mapped can be read; nothing is both writable and executable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read.
    Read,
    /// Read and execute.
    Execute,
    /// Read and write.
    Write,
    /// Read and write, not cached: registers of devices.
    Device,
}

impl Access {
    fn bits(self) -> u64 {
        match self {
            Access::Read => PRESENT | NO_EXECUTE,
            Access::Execute => PRESENT,
            Access::Write => PRESENT | WRITABLE | NO_EXECUTE,
            Access::Device => PRESENT | WRITABLE | NO_EXECUTE | WRITE_THROUGH | CACHE_DISABLE,
        }
    }
}

/// What is allowed on a page of a window: see [`super::window`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Protection {
    /// Nothing: every access faults.
    None = 0,
    /// Read.
    Read = PRESENT,
    /// Read and write.
    Write = PRESENT | WRITABLE,
}

/// How the processor's caches treat a page of a window (SDM vol. 3 §12.12; APM vol. 2 §7.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// Reads and writes are cached.
    WriteBack,
    /// Reads are cached; writes go to memory at once, too.
    WriteThrough,
    /// Nothing is cached, and accesses stay in order.
    Uncached,
    /// Nothing is cached; writes are gathered and may pass each other.
    WriteCombining,
}

impl Caching {
    /// The entry of the page attribute table that it is: as after a reset, but for [`Caching::PAT`].
    fn index(self) -> u64 {
        match self {
            Caching::WriteBack => 0,
            Caching::WriteThrough => 1,
            Caching::Uncached => 3,
            Caching::WriteCombining => 4,
        }
    }

    /// Page attributes as after a reset, but that entry 4, which is 0 twice over then, is write-combining.
    pub(super) const PAT: u64 = 0x0007_0401_0007_0406;
}

/// An entry of a lowest table that is changed while it is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry(pub u64);

impl Entry {
    /// Set by the processor when it uses the page.
    pub const USED: u64 = 1 << 5;
    /// Set by the processor when it writes the page.
    pub const WRITTEN: u64 = 1 << 6;

    /// A page at a physical address.
    pub fn new(physical: u64, protection: Protection) -> Entry {
        Entry(physical & ADDRESS).with(protection)
    }

    /// A lower table at a physical address. It allows everything; the lowest table decides.
    pub fn table(physical: u64) -> Entry {
        Entry(physical & ADDRESS | PRESENT | WRITABLE)
    }

    /// The same page with another protection.
    pub fn with(self, protection: Protection) -> Entry {
        // Each protection is its bits, so that ranges are changed without a branch for each page.
        Entry(self.0 & !(PRESENT | WRITABLE) | NO_EXECUTE | protection as u64)
    }

    /// A large page at a physical address.
    pub fn large(physical: u64, protection: Protection) -> Entry {
        Entry(Entry::new(physical, protection).0 | LARGE)
    }

    /// Whether an entry that may lead to a table is one for a large page.
    pub fn is_large(self) -> bool {
        self.0 & LARGE != 0
    }

    /// The same page, cached in another way. `large`: it is one; then the third bit is elsewhere.
    pub fn cached(self, caching: Caching, large: bool) -> Entry {
        /// Bit of the third index bit in an entry for a large page; for a small one it is that which tells
        /// large pages from tables.
        const THIRD_OF_LARGE: u64 = 1 << 12;
        let third = if large { THIRD_OF_LARGE } else { LARGE };
        let index = caching.index();
        let bit = |number: u64, bit: u64| if index >> number & 1 != 0 { bit } else { 0 };
        let kept = self.0 & !(WRITE_THROUGH | CACHE_DISABLE | third);
        Entry(kept | bit(0, WRITE_THROUGH) | bit(1, CACHE_DISABLE) | bit(2, third))
    }

    /// Where the page is.
    pub fn physical(self) -> u64 {
        self.0 & ADDRESS
    }

    /// Whether it was used.
    pub fn used(self) -> bool {
        self.0 & Entry::USED != 0
    }

    /// Whether it was written.
    pub fn written(self) -> bool {
        self.0 & Entry::WRITTEN != 0
    }
}

/// Size of the pages of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageSize {
    /// 4 KiB.
    Small,
    /// 2 MiB.
    Large,
}

impl PageSize {
    /// Bytes of one page.
    pub const fn bytes(self) -> u64 {
        match self {
            PageSize::Small => FRAME_BYTES as u64,
            PageSize::Large => LARGE_BYTES,
        }
    }
}

/// A run of virtual addresses and the run of physical ones behind it. Addresses and length are multiples of
/// the page size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First virtual address.
    pub virtual_start: u64,
    /// First physical address.
    pub physical_start: u64,
    /// Length.
    pub bytes: u64,
    /// What it allows.
    pub access: Access,
    /// Size of its pages.
    pub size: PageSize,
}

/// Why a mapping can't be entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// An address or the length is not a multiple of the page size.
    Misaligned(Mapping),
    /// This virtual address is mapped already.
    Occupied(u64),
    /// All tables of the slice are in use.
    OutOfTables,
}

/// The tables of one address space, in adjacent frames; the first is the root.
pub struct Tables<'a> {
    tables: &'a mut [Table],
    first_frame: u64,
    used: usize,
}

/// Index into the table of a level (3 = root, 0 = small pages).
fn index(address: u64, level: u32) -> usize {
    (address >> (FRAME_SHIFT + 9 * level)) as usize & 511
}

/// Index of the root table's entry for an address.
pub fn root_index(address: u64) -> usize {
    index(address, 3)
}

/// Tables below the root that an area needs if it shares none with others.
pub fn tables_needed(start: u64, bytes: u64, size: PageSize) -> u64 {
    if bytes == 0 {
        return 0;
    }
    let last = start + (bytes - 1);
    let lowest_shift = match size {
        PageSize::Small => 21,
        PageSize::Large => 30,
    };
    (lowest_shift..=39).step_by(9).map(|shift| (last >> shift) - (start >> shift) + 1).sum()
}

impl<'a> Tables<'a> {
    /// An address space that maps nothing. `tables` lies in the frames from `first_frame`; its content does
    /// not matter.
    ///
    /// # Panics
    ///
    /// If `tables` is empty.
    pub fn new(tables: &'a mut [Table], first_frame: u64) -> Tables<'a> {
        tables[0] = Table::EMPTY;
        Tables { tables, first_frame, used: 1 }
    }

    /// Frame of the root table.
    pub fn root_frame(&self) -> u64 {
        self.first_frame
    }

    /// Enters a mapping. On an error, pages before the one that failed stay mapped.
    pub fn map(&mut self, mapping: Mapping) -> Result<(), MapError> {
        let page = mapping.size.bytes();
        if !(mapping.virtual_start | mapping.physical_start | mapping.bytes).is_multiple_of(page) {
            return Err(MapError::Misaligned(mapping));
        }
        let (leaf_level, leaf_bits) = match mapping.size {
            PageSize::Small => (0, mapping.access.bits()),
            PageSize::Large => (1, mapping.access.bits() | LARGE),
        };
        for offset in (0..mapping.bytes).step_by(page as usize) {
            let address = mapping.virtual_start + offset;
            let table = self.table_of(address, leaf_level)?;
            let entry = &mut self.tables[table].0[index(address, leaf_level)];
            if *entry & PRESENT != 0 {
                return Err(MapError::Occupied(address));
            }
            *entry = (mapping.physical_start + offset) | leaf_bits;
        }
        Ok(())
    }

    /// The table of `leaf_level` for an address, made if it is missing.
    fn table_of(&mut self, address: u64, leaf_level: u32) -> Result<usize, MapError> {
        let mut table = 0;
        for level in (leaf_level + 1..=3).rev() {
            let entry = self.tables[table].0[index(address, level)];
            if entry & LARGE != 0 {
                return Err(MapError::Occupied(address));
            }
            table = if entry & PRESENT != 0 {
                ((entry & ADDRESS) >> FRAME_SHIFT).wrapping_sub(self.first_frame) as usize
            } else {
                let new = self.used;
                *self.tables.get_mut(new).ok_or(MapError::OutOfTables)? = Table::EMPTY;
                self.used += 1;
                // Upper levels allow everything; the leaf decides.
                self.tables[table].0[index(address, level)] =
                    (self.first_frame + new as u64) << FRAME_SHIFT | PRESENT | WRITABLE;
                new
            };
        }
        Ok(table)
    }
}

/// The physical address behind a virtual one, and what is allowed there. `None` if nothing is mapped. `read`
/// returns the word of the tables at a physical address.
pub fn translate(root_frame: u64, address: u64, read: impl Fn(u64) -> u64) -> Option<(u64, Access)> {
    let mut table = root_frame << FRAME_SHIFT;
    for level in (0..=3).rev() {
        let entry = read(table + 8 * index(address, level) as u64);
        if entry & PRESENT == 0 {
            return None;
        }
        if level == 0 || entry & LARGE != 0 {
            let page = 1u64 << (FRAME_SHIFT + 9 * level);
            let access = match (entry & WRITABLE != 0, entry & NO_EXECUTE != 0) {
                (true, _) if entry & CACHE_DISABLE != 0 => Access::Device,
                (true, _) => Access::Write,
                (false, true) => Access::Read,
                (false, false) => Access::Execute,
            };
            return Some((entry & ADDRESS & !(page - 1) | address & (page - 1), access));
        }
        table = entry & ADDRESS;
    }
    None
}

/// Calls `visit` with the frame of every table (not page) of an address space, the root last. `read` is as in
/// [`translate`]. A table that has been visited is not read any more.
pub fn visit_tables(root_frame: u64, read: &impl Fn(u64) -> u64, visit: &mut impl FnMut(u64)) {
    visit_level(root_frame, 3, read, visit);
}

fn visit_level(frame: u64, level: u32, read: &impl Fn(u64) -> u64, visit: &mut impl FnMut(u64)) {
    if level > 0 {
        for slot in 0..512 {
            let entry = read((frame << FRAME_SHIFT) + 8 * slot);
            if entry & PRESENT != 0 && entry & LARGE == 0 {
                visit_level((entry & ADDRESS) >> FRAME_SHIFT, level - 1, read, visit);
            }
        }
    }
    visit(frame);
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{vec, vec::Vec};
    use hyperexo_abi::{LINEAR_BASE, STACK_TOP};

    const FIRST_FRAME: u64 = 0x345;
    const SMALL: PageSize = PageSize::Small;

    fn reader(tables: &[Table]) -> impl Fn(u64) -> u64 {
        |address| tables[((address >> 12) - FIRST_FRAME) as usize].0[(address & 0xfff) as usize / 8]
    }

    fn mapping(virtual_start: u64, physical_start: u64, bytes: u64, access: Access) -> Mapping {
        Mapping { virtual_start, physical_start, bytes, access, size: SMALL }
    }

    #[test]
    fn an_address_space_like_ours() {
        let needed = 1
            + tables_needed(0x10_0000, 0x5000, SMALL)
            + tables_needed(STACK_TOP - 0x8000, 0x8000, SMALL)
            + tables_needed(LINEAR_BASE, 16 << 20, PageSize::Large);
        assert_eq!(needed, 9);
        let mut memory = vec![Table([u64::MAX; 512]); needed as usize];
        let mut tables = Tables::new(&mut memory, FIRST_FRAME);
        tables.map(mapping(0x10_0000, 0x40_0000, 0x3000, Access::Execute)).unwrap();
        tables.map(mapping(0x10_3000, 0x40_3000, 0x1000, Access::Read)).unwrap();
        tables.map(mapping(0x10_4000, 0x40_4000, 0x1000, Access::Write)).unwrap();
        tables.map(mapping(STACK_TOP - 0x8000, 0x50_0000, 0x8000, Access::Write)).unwrap();
        let linear = Mapping { size: PageSize::Large, ..mapping(LINEAR_BASE, 0, 16 << 20, Access::Write) };
        tables.map(linear).unwrap();
        assert_eq!(tables.used as u64, needed, "the estimate is exact");

        let at = |address| translate(FIRST_FRAME, address, reader(&memory));
        assert_eq!(at(0), None);
        assert_eq!(at(0xf_ffff), None);
        assert_eq!(at(0x10_2fff), Some((0x40_2fff, Access::Execute)));
        assert_eq!(at(0x10_3000), Some((0x40_3000, Access::Read)));
        assert_eq!(at(0x10_4fff), Some((0x40_4fff, Access::Write)));
        assert_eq!(at(0x10_5000), None);
        assert_eq!(at(STACK_TOP - 0x8001), None, "guard page");
        assert_eq!(at(STACK_TOP - 1), Some((0x50_7fff, Access::Write)));
        assert_eq!(at(LINEAR_BASE + 0xab_cdef), Some((0xab_cdef, Access::Write)));
        assert_eq!(at(LINEAR_BASE + (16 << 20)), None);

        let mut visited = Vec::new();
        visit_tables(FIRST_FRAME, &reader(&memory), &mut |frame| visited.push(frame));
        assert_eq!(visited.last(), Some(&FIRST_FRAME));
        visited.sort_unstable();
        assert!(visited.iter().copied().eq(FIRST_FRAME..FIRST_FRAME + needed));
    }

    #[test]
    fn entries_of_windows_keep_what_the_processor_noted() {
        let entry = Entry::new(0x5000, Protection::Write);
        assert_eq!((entry.0, entry.used(), entry.written()), (0x5003 | NO_EXECUTE, false, false));
        let used = Entry(entry.0 | Entry::USED | Entry::WRITTEN).with(Protection::None);
        assert_eq!((used.0 & PRESENT, used.physical()), (0, 0x5000));
        assert!(used.used() && used.written());
        assert_eq!(used.with(Protection::Read).0 & (PRESENT | WRITABLE), PRESENT);
        assert_eq!(Entry::table(0x7000).0, 0x7003);
        // A large page's address has none of the bits that say how it is cached.
        let at = |large| Entry::new(if large { 0x20_0000 } else { 0x5000 }, Protection::Write);
        let cached = |caching, large| at(large).cached(caching, large).0 & !NO_EXECUTE;
        assert_eq!(cached(Caching::Uncached, false), 0x501b);
        assert_eq!(cached(Caching::WriteThrough, true), 0x20_000b);
        assert_eq!(
            (cached(Caching::WriteCombining, false), cached(Caching::WriteCombining, true)),
            (0x5083, 0x20_0003 | 1 << 12)
        );
        assert_eq!(entry.cached(Caching::Uncached, false).cached(Caching::WriteBack, false), entry);
        assert_eq!(Entry::large(0x20_0000, Protection::Read).0, 0x20_0081 | NO_EXECUTE);
    }

    #[test]
    fn errors_name_what_is_wrong() {
        let mut memory = vec![Table::EMPTY; 4];
        let mut tables = Tables::new(&mut memory, FIRST_FRAME);
        let odd = mapping(0x1000, 0x10, 0x1000, Access::Read);
        assert_eq!(tables.map(odd), Err(MapError::Misaligned(odd)));
        tables.map(mapping(0x1000, 0x1000, 0x1000, Access::Read)).unwrap();
        assert_eq!(
            tables.map(mapping(0, 0x8000, 0x3000, Access::Write)),
            Err(MapError::Occupied(0x1000)),
            "overlap"
        );
        assert_eq!(tables.map(mapping(LARGE_BYTES, 0, 0x1000, Access::Read)), Err(MapError::OutOfTables));
    }

    #[test]
    fn a_small_page_under_a_large_one_is_refused() {
        let mut memory = vec![Table::EMPTY; 4];
        let mut tables = Tables::new(&mut memory, FIRST_FRAME);
        let large = Mapping { size: PageSize::Large, ..mapping(0, 0, LARGE_BYTES, Access::Write) };
        tables.map(large).unwrap();
        assert_eq!(tables.map(mapping(0x3000, 0, 0x1000, Access::Read)), Err(MapError::Occupied(0x3000)));
    }

    #[test]
    fn tables_for_areas_across_borders() {
        assert_eq!(tables_needed(0, 0, SMALL), 0);
        assert_eq!(tables_needed(LARGE_BYTES - 0x1000, 0x2000, SMALL), 4);
        assert_eq!(tables_needed((1 << 30) - LARGE_BYTES, 2 * LARGE_BYTES, PageSize::Large), 3);
    }
}
