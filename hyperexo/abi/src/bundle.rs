//! Several unikernel images in one file: what the host tool packs and the kernel unpacks.
//!
//! ```text
//! Header            32 bytes
//! Entry × count     ENTRY_BYTES each
//! images            each at its entry's offset
//! ```
//!
//! The header's CRC-32 covers header (with the field zero) and entries, each entry's CRC-32 covers its image:
//! a truncated or damaged bundle is told from a good one before anything in it runs.

use crate::start::{COMMAND_LINE_BYTES, NAME_BYTES};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// First bytes of a bundle.
pub const MAGIC: [u8; 8] = *b"HXBUNDLE";
/// Version of the format.
pub const VERSION: u32 = 4;
/// Images that a bundle can hold.
pub const MAX_ENTRIES: usize = 32;

/// First bytes of the file.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: u32,
    /// Number of entries.
    pub count: u32,
    /// Bytes of the whole file.
    pub total_bytes: u64,
    /// CRC-32 (IEEE) of this header with the field zero, followed by all entries.
    pub crc: u32,
    /// Zero.
    pub reserved: u32,
}

/// One image and what its environment gets: the manifest.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Entry {
    /// Name of the environment, padded with zeros.
    pub name: [u8; NAME_BYTES],
    /// Offset of the ELF image in the file.
    pub offset: u64,
    /// Bytes of the ELF image.
    pub bytes: u64,
    /// Frames that the environment may own.
    pub quota_frames: u64,
    /// Bytes of the start-up stack.
    pub stack_bytes: u64,
    /// First block of the disk extent it gets.
    pub disk_first: u64,
    /// Blocks of that extent; 0 for none, [`crate::ANY`] for all from `disk_first` to the end of the disk.
    pub disk_count: u64,
    /// Rights to the extent: bits of [`crate::capability::Rights`].
    pub disk_rights: u32,
    /// Time slices in the core's vector; 0 counts as 1.
    pub slices: u32,
    /// Core of the first virtual CPU.
    pub core: u32,
    /// Disk space that it may allocate besides the extent, in MiB.
    pub disk_quota_mib: u32,
    /// 1 if it may use the network; 0 if not.
    pub network: u32,
    /// Cores on which it may have virtual CPUs: bit `n` for core `n`; its own always counts, 0: no other.
    pub cores: u32,
    /// CRC-32 (IEEE) of the image.
    pub crc: u32,
    /// Bytes of `command_line` in use.
    pub command_line_bytes: u32,
    /// Command line, UTF-8.
    pub command_line: [u8; COMMAND_LINE_BYTES],
}

/// Bytes of an [`Entry`] in the file.
pub const ENTRY_BYTES: usize = size_of::<Entry>();

/// Default of [`Entry::stack_bytes`].
pub const DEFAULT_STACK_BYTES: u64 = 64 * 1024;

/// What is wrong with a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BundleError {
    /// Too short for a header, or the first bytes are not [`MAGIC`].
    NotABundle,
    /// A version this code does not know.
    Version(u32),
    /// No entries, or more than [`MAX_ENTRIES`].
    Count(u32),
    /// The file should have `expected` bytes and has `actual`.
    Truncated {
        /// Bytes that the header (or the entry table) promises.
        expected: u64,
        /// Bytes there are.
        actual: u64,
    },
    /// The checksum of header and entries is wrong.
    TableChecksum,
    /// Entry number `index` (from 0) lies outside the file, or its text fields are not text.
    BadEntry(usize),
    /// The checksum of image number `index` (from 0) is wrong.
    ImageChecksum(usize),
}

impl core::fmt::Display for BundleError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            BundleError::NotABundle => f.write_str("not a bundle: wrong magic"),
            BundleError::Version(version) => write!(f, "bundle version {version}, expected {VERSION}"),
            BundleError::Count(count) => {
                write!(f, "bundle has {count} images, allowed are 1 to {MAX_ENTRIES}")
            }
            BundleError::Truncated { expected, actual } => {
                write!(f, "bundle is truncated: {actual} bytes of {expected}")
            }
            BundleError::TableChecksum => f.write_str("bundle is corrupt: checksum of its table is wrong"),
            BundleError::BadEntry(index) => write!(f, "bundle is corrupt: entry {index} makes no sense"),
            BundleError::ImageChecksum(index) => {
                write!(f, "bundle is corrupt: checksum of image {index} is wrong")
            }
        }
    }
}

/// A bundle whose table has been checked.
#[derive(Clone, Copy)]
pub struct Bundle<'a> {
    bytes: &'a [u8],
    entries: &'a [Entry],
}

/// One image of a bundle.
#[derive(Clone, Copy)]
pub struct Image<'a> {
    /// Name of the environment.
    pub name: &'a str,
    /// Command line of the environment.
    pub command_line: &'a str,
    /// Manifest.
    pub entry: &'a Entry,
    /// ELF file, its checksum verified.
    pub elf: &'a [u8],
}

impl<'a> Bundle<'a> {
    /// Checks header and table. `bytes` must start at an address that is a multiple of 8; it may have bytes
    /// after the bundle's end.
    pub fn parse(bytes: &'a [u8]) -> Result<Bundle<'a>, BundleError> {
        let actual = bytes.len() as u64;
        let (header, rest) = Header::ref_from_prefix(bytes).map_err(|_| BundleError::NotABundle)?;
        if header.magic != MAGIC {
            return Err(BundleError::NotABundle);
        }
        if header.version != VERSION {
            return Err(BundleError::Version(header.version));
        }
        if header.count == 0 || header.count as usize > MAX_ENTRIES {
            return Err(BundleError::Count(header.count));
        }
        let table_bytes = (size_of::<Header>() + header.count as usize * ENTRY_BYTES) as u64;
        let expected = header.total_bytes.max(table_bytes);
        if actual < expected {
            return Err(BundleError::Truncated { expected, actual });
        }
        let (entries, _) = <[Entry]>::ref_from_prefix_with_elems(rest, header.count as usize)
            .map_err(|_| BundleError::NotABundle)?;
        if table_checksum(header, entries) != header.crc {
            return Err(BundleError::TableChecksum);
        }
        Ok(Bundle { bytes: &bytes[..header.total_bytes as usize], entries })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no images; never true of a bundle that [`Bundle::parse`] accepted.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Image number `index`, checked. An index out of range is a [`BundleError::BadEntry`].
    pub fn image(&self, index: usize) -> Result<Image<'a>, BundleError> {
        let bad = BundleError::BadEntry(index);
        let entry = self.entries.get(index).ok_or(bad)?;
        let end = entry.offset.checked_add(entry.bytes).ok_or(bad)?;
        let elf = self.bytes.get(entry.offset as usize..end as usize).ok_or(bad)?;
        if crc32fast::hash(elf) != entry.crc {
            return Err(BundleError::ImageChecksum(index));
        }
        let name_bytes = entry.name.iter().position(|byte| *byte == 0).unwrap_or(NAME_BYTES);
        let name = core::str::from_utf8(&entry.name[..name_bytes]).map_err(|_| bad)?;
        let line = entry.command_line.get(..entry.command_line_bytes as usize).ok_or(bad)?;
        let command_line = core::str::from_utf8(line).map_err(|_| bad)?;
        Ok(Image { name, command_line, entry, elf })
    }
}

/// The checksum that belongs into [`Header::crc`].
pub fn table_checksum(header: &Header, entries: &[Entry]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(Header { crc: 0, ..*header }.as_bytes());
    hasher.update(entries.as_bytes());
    hasher.finalize()
}
