//! From an ELF file to a plan for its pages.
//!
//! Everything in the file is a claim of somebody untrusted. [`ImagePlan::parse`] checks it against itself and
//! against the rules of [`hyperexo_abi`]; what comes out can be carried out without further doubt.
#![forbid(unsafe_code)]

use ::core::fmt;
use ::core::ops::Range;
use elf::ElfBytes;
use elf::abi::{EM_X86_64, ET_EXEC, PF_R, PF_W, PF_X, PT_LOAD};
use elf::endian::LittleEndian;
use hyperexo_abi::FRAME_BYTES;
use hyperexo_abi::capability::Rights;

/// Most loadable segments of an image.
pub const MAX_SEGMENTS: usize = 8;
/// Lowest virtual address of an image: the page at 0 stays unmapped.
pub const LOWEST: u64 = FRAME_BYTES as u64;
/// One past the highest virtual address of an image.
pub const HIGHEST: u64 = 1 << 30;

const PAGE: u64 = FRAME_BYTES as u64;

/// A loadable segment, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins in virtual memory.
    pub address: u64,
    /// Bytes in memory; what the file does not fill is zero.
    pub bytes: u64,
    /// Bytes in the file.
    pub file: Range<usize>,
    /// What the image may do with its pages.
    pub rights: Rights,
}

impl Segment {
    fn first_page(&self) -> u64 {
        self.address / PAGE
    }

    fn end_page(&self) -> u64 {
        (self.address + self.bytes).div_ceil(PAGE)
    }
}

/// What is wrong with an image. `segment` counts program headers of type `PT_LOAD` from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// Not an ELF file, or its headers lie outside it.
    NotElf,
    /// ELF, but not a statically linked x86-64 executable.
    WrongKind,
    /// Nothing to load.
    NoSegments,
    /// More than [`MAX_SEGMENTS`].
    TooManySegments,
    /// The segment claims bytes that the file does not have.
    OutsideFile {
        /// Number of the segment.
        segment: usize,
    },
    /// The segment has more bytes in the file than in memory.
    FileExceedsMemory {
        /// Number of the segment.
        segment: usize,
    },
    /// The segment lies outside [`LOWEST`]..[`HIGHEST`].
    OutsideRange {
        /// Number of the segment.
        segment: usize,
        /// Where it wants to be.
        address: u64,
        /// Its size in memory.
        bytes: u64,
    },
    /// Two segments share a page, so that its rights would be ambiguous.
    Overlap {
        /// Number of the later segment.
        segment: usize,
    },
    /// The entry point is not inside an executable segment.
    BadEntry {
        /// Where it points.
        address: u64,
    },
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ImageError::NotElf => f.write_str("not an ELF file, or its headers are damaged"),
            ImageError::WrongKind => f.write_str("not a static x86-64 executable"),
            ImageError::NoSegments => f.write_str("nothing to load: no PT_LOAD segment"),
            ImageError::TooManySegments => write!(f, "more than {MAX_SEGMENTS} PT_LOAD segments"),
            ImageError::OutsideFile { segment } => write!(f, "segment {segment} lies outside the file"),
            ImageError::FileExceedsMemory { segment } => {
                write!(f, "segment {segment} is larger in the file than in memory")
            }
            ImageError::OutsideRange { segment, address, bytes } => write!(
                f,
                "segment {segment} ({bytes:#x} bytes at {address:#x}) lies outside {LOWEST:#x}..{HIGHEST:#x}"
            ),
            ImageError::Overlap { segment } => write!(f, "segment {segment} shares a page with another"),
            ImageError::BadEntry { address } => {
                write!(f, "entry point {address:#x} is not in an executable segment")
            }
        }
    }
}

/// How an image is laid out in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagePlan {
    segments: [Option<Segment>; MAX_SEGMENTS],
    /// Virtual address of the first instruction.
    pub entry: u64,
    /// First page (virtual address divided by the page size).
    pub first_page: u64,
    /// Pages from the first to the last, gaps included.
    pub pages: u64,
}

impl ImagePlan {
    /// Reads and checks an ELF file.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with it.
    pub fn parse(file: &[u8]) -> Result<ImagePlan, ImageError> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(|_| ImageError::NotElf)?;
        if elf.ehdr.e_type != ET_EXEC || elf.ehdr.e_machine != EM_X86_64 {
            return Err(ImageError::WrongKind);
        }
        let headers = elf.segments().ok_or(ImageError::NoSegments)?;
        let mut plan =
            ImagePlan { segments: Default::default(), entry: elf.ehdr.e_entry, first_page: 0, pages: 0 };
        let loadable = headers.iter().filter(|header| header.p_type == PT_LOAD && header.p_memsz != 0);
        for (count, header) in loadable.enumerate() {
            if count == MAX_SEGMENTS {
                return Err(ImageError::TooManySegments);
            }
            let segment = check_segment(&header, file.len(), count)?;
            if plan.segments().any(|other| {
                segment.first_page() < other.end_page() && other.first_page() < segment.end_page()
            }) {
                return Err(ImageError::Overlap { segment: count });
            }
            plan.segments[count] = Some(segment);
        }
        let first = plan.segments().map(Segment::first_page).min().ok_or(ImageError::NoSegments)?;
        let end = plan.segments().map(Segment::end_page).max().ok_or(ImageError::NoSegments)?;
        let runs = |segment: &Segment| {
            segment.rights.contains(Rights::EXECUTE)
                && (segment.address..segment.address + segment.bytes).contains(&plan.entry)
        };
        if !plan.segments().any(runs) {
            return Err(ImageError::BadEntry { address: plan.entry });
        }
        plan.first_page = first;
        plan.pages = end - first;
        Ok(plan)
    }

    /// The segments, in the order of the file.
    pub fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().flatten()
    }

    /// Rights of a page (counted from `first_page`); `None` in a gap between segments.
    pub fn page_rights(&self, index: u64) -> Option<Rights> {
        let page = self.first_page + index;
        self.segments()
            .find(|segment| (segment.first_page()..segment.end_page()).contains(&page))
            .map(|segment| segment.rights)
    }
}

fn check_segment(
    header: &elf::segment::ProgramHeader,
    file_bytes: usize,
    segment: usize,
) -> Result<Segment, ImageError> {
    let end = header.p_offset.checked_add(header.p_filesz).filter(|end| *end <= file_bytes as u64);
    let end = end.ok_or(ImageError::OutsideFile { segment })?;
    if header.p_filesz > header.p_memsz {
        return Err(ImageError::FileExceedsMemory { segment });
    }
    let (address, bytes) = (header.p_vaddr, header.p_memsz);
    let inside = address >= LOWEST && address.checked_add(bytes).is_some_and(|end| end <= HIGHEST);
    if !inside {
        return Err(ImageError::OutsideRange { segment, address, bytes });
    }
    let mut rights = Rights::default();
    for (flag, right) in [(PF_R, Rights::READ), (PF_W, Rights::WRITE), (PF_X, Rights::EXECUTE)] {
        if header.p_flags & flag != 0 {
            rights = rights.union(right);
        }
    }
    Ok(Segment { address, bytes, file: header.p_offset as usize..end as usize, rights })
}

/// A minimal ELF file, for tests: header, program headers (flags, offset, address, bytes in the file and in
/// memory), 64 bytes of contents.
#[cfg(test)]
pub fn model(entry: u64, segments: &[(u32, u64, u64, u64, u64)]) -> std::vec::Vec<u8> {
    let mut bytes = std::vec::Vec::new();
    bytes.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    bytes.extend_from_slice(&2u16.to_le_bytes());
    bytes.extend_from_slice(&62u16.to_le_bytes());
    bytes.extend_from_slice(&1u32.to_le_bytes());
    for word in [entry, 64, 0] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.extend_from_slice(&0u32.to_le_bytes());
    for half in [64u16, 56, segments.len() as u16, 64, 0, 0] {
        bytes.extend_from_slice(&half.to_le_bytes());
    }
    for (flags, offset, address, filesz, memsz) in segments {
        bytes.extend_from_slice(&1u32.to_le_bytes());
        bytes.extend_from_slice(&flags.to_le_bytes());
        for word in [*offset, *address, *address, *filesz, *memsz, 4096] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
    }
    bytes.extend_from_slice(&[0xcc; 64]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::model as file;
    use super::*;
    use proptest::prelude::*;

    const TEXT: (u32, u64, u64, u64, u64) = (5, 0, 0x10_0000, 100, 100);

    #[test]
    fn a_good_image_is_laid_out() {
        let plan = ImagePlan::parse(&file(0x10_0010, &[TEXT, (6, 0, 0x10_2000, 50, 0x2001)])).unwrap();
        assert_eq!((plan.first_page, plan.pages, plan.entry), (0x100, 5, 0x10_0010));
        assert_eq!(plan.page_rights(0), Some(Rights::READ.union(Rights::EXECUTE)));
        assert_eq!(plan.page_rights(1), None);
        assert_eq!(plan.page_rights(4), Some(Rights::READ_WRITE));
        assert_eq!(plan.page_rights(5), None);
    }

    #[test]
    fn each_fault_has_its_name() {
        let check = |entry, segments: &[_]| ImagePlan::parse(&file(entry, segments)).unwrap_err();
        assert_eq!(ImagePlan::parse(b"#!/bin/sh\n"), Err(ImageError::NotElf));
        assert_eq!(check(0, &[]), ImageError::NoSegments);
        assert_eq!(
            check(0x10_0000, &[(5, 0, 0x10_0000, 9999, 9999)]),
            ImageError::OutsideFile { segment: 0 }
        );
        assert_eq!(
            check(0x10_0000, &[(5, u64::MAX, 0x10_0000, 9, 9)]),
            ImageError::OutsideFile { segment: 0 }
        );
        assert_eq!(
            check(0x10_0000, &[(5, 0, 0x10_0000, 9, 8)]),
            ImageError::FileExceedsMemory { segment: 0 }
        );
        assert!(matches!(check(0, &[(5, 0, 0, 9, 9)]), ImageError::OutsideRange { segment: 0, .. }));
        assert!(matches!(
            check(0x10_0000, &[TEXT, (6, 0, u64::MAX - 5, 9, 9)]),
            ImageError::OutsideRange { segment: 1, .. }
        ));
        assert!(matches!(
            check(0x10_0000, &[(5, 0, 0x10_0000, 9, 1 << 40)]),
            ImageError::OutsideRange { segment: 0, .. }
        ));
        assert_eq!(check(0x10_0000, &[TEXT, (6, 0, 0x10_0800, 9, 9)]), ImageError::Overlap { segment: 1 });
        assert_eq!(check(0x10_0064, &[TEXT]), ImageError::BadEntry { address: 0x10_0064 });
        assert_eq!(check(0x10_0000, &[(6, 0, 0x10_0000, 9, 9)]), ImageError::BadEntry { address: 0x10_0000 });
        let many: Vec<_> = (0..9).map(|index| (5, 0, 0x10_0000 + index * 0x1000, 9, 9)).collect();
        assert_eq!(check(0x10_0000, &many), ImageError::TooManySegments);
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic(place in 0usize..240, value: u8, cut in 0usize..300) {
            let mut bytes = file(0x10_0010, &[TEXT, (6, 0, 0x10_2000, 50, 0x2001)]);
            if let Some(byte) = bytes.get_mut(place) { *byte = value; }
            bytes.truncate(cut);
            if let Ok(plan) = ImagePlan::parse(&bytes) {
                for segment in plan.segments() {
                    prop_assert!(segment.file.end <= bytes.len());
                    prop_assert!(segment.address >= LOWEST && segment.address + segment.bytes <= HIGHEST);
                }
            }
        }
    }
}
