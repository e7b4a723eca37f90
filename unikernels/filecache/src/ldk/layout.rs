//! Where everything goes.
//!
//! ```text
//!  BASE        text │ constants │ initialised thread-local data │ data │ global offset table     in the output file
//!  ZERO_BASE   zeros                                                                             not in it
//! ```
//!
//! Within a segment, sections follow each other in the order of archives, members and section headers, each
//! at the next address that its alignment permits; segments start at pages.

use elf::abi;
use elf::section::SectionHeader;

/// Address of the first byte of the output file.
pub const BASE: u64 = 0x40_0000;
/// Address of what is zero at the start and not in the file: out of the way of the table, whose length shows
/// last.
pub const ZERO_BASE: u64 = 0x4000_0000;
/// What segments are aligned to.
pub const PAGE_BYTES: u64 = 4096;

/// Kinds of sections, each a segment of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// Instructions.
    Text,
    /// Constants.
    Constants,
    /// What a thread's own data start with.
    ThreadData,
    /// Data.
    Data,
    /// Data that are zero at the start.
    Zero,
    /// A thread's own data that are zero at the start.
    ThreadZero,
}

impl Segment {
    /// Those that are in the output file, in order.
    pub const IN_FILE: [Segment; 4] = [Segment::Text, Segment::Constants, Segment::ThreadData, Segment::Data];

    /// The segment of a section; `None` if it is not part of a program in memory.
    pub(super) fn of(section: &SectionHeader) -> Option<Segment> {
        let has = |flag: u32| section.sh_flags & u64::from(flag) != 0;
        if !has(abi::SHF_ALLOC) {
            return None;
        }
        Some(match (section.sh_type == abi::SHT_NOBITS, has(abi::SHF_TLS)) {
            (true, true) => Segment::ThreadZero,
            (true, false) => Segment::Zero,
            (false, true) => Segment::ThreadData,
            (false, false) if has(abi::SHF_EXECINSTR) => Segment::Text,
            (false, false) if has(abi::SHF_WRITE) => Segment::Data,
            (false, false) => Segment::Constants,
        })
    }
}

/// Lengths of the segments, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lengths([u64; 6]);

/// A place in a segment, in bytes from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: Segment,
    pub(super) offset: u64,
}

impl Lengths {
    fn of(&self, segment: Segment) -> u64 {
        self.0[segment as usize]
    }

    /// Adds so many bytes at the next multiple of `align`. `None` if there is no room in the address space.
    pub(super) fn add(&mut self, segment: Segment, bytes: u64, align: u64) -> Option<Place> {
        let length = &mut self.0[segment as usize];
        let offset = length.checked_next_multiple_of(align.max(1))?;
        *length = offset.checked_add(bytes).filter(|end| *end < ZERO_BASE - BASE)?;
        Some(Place { segment, offset })
    }

    /// Offset of a segment in the output file. Behind the last is the global offset table.
    pub(super) fn file_offset(&self, segment: Segment) -> u64 {
        let before = Segment::IN_FILE.into_iter().filter(|other| *other < segment);
        before.map(|other| self.of(other).next_multiple_of(PAGE_BYTES)).sum()
    }

    /// Offset of the global offset table in the output file.
    pub(super) fn table_offset(&self) -> u64 {
        self.file_offset(Segment::Zero)
    }

    /// The address of a place; for thread-local data, its distance to the thread pointer, which stands behind
    /// them (variant II of U. Drepper, "ELF handling for thread-local storage").
    pub(super) fn address(&self, place: Place) -> u64 {
        let Place { segment, offset } = place;
        match segment {
            Segment::Zero => ZERO_BASE + offset,
            Segment::ThreadData | Segment::ThreadZero => {
                self.in_thread(place).wrapping_sub(self.thread_bytes())
            }
            _ => BASE + self.file_offset(segment) + offset,
        }
    }

    /// Offset of a place in the thread-local data.
    fn in_thread(&self, place: Place) -> u64 {
        let zeros = self.of(Segment::ThreadData).next_multiple_of(THREAD_ALIGN);
        if place.segment == Segment::ThreadZero { zeros + place.offset } else { place.offset }
    }

    /// Bytes of all thread-local data.
    fn thread_bytes(&self) -> u64 {
        let zeros = self.of(Segment::ThreadData).next_multiple_of(THREAD_ALIGN);
        (zeros + self.of(Segment::ThreadZero)).next_multiple_of(THREAD_ALIGN)
    }
}

/// What the parts of the thread-local data are aligned to.
pub const THREAD_ALIGN: u64 = 64;
