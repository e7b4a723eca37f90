//! ELF images: what is booted is cut down to its segments; what stays on the host keeps the symbols.

use crate::error::{Error, Result};
use object::elf::{EM_X86_64, ET_DYN, ET_EXEC, FileHeader64, PT_LOAD, PT_NOTE};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, NativeEndian};
use std::path::{Path, PathBuf};

/// An image ready to be booted.
#[derive(Clone, Debug)]
pub struct Image {
    /// What it is called.
    pub name: String,
    /// The unstripped ELF file, for symbols.
    pub elf: PathBuf,
    /// The ELF cut down to its segments.
    pub bytes: Vec<u8>,
    /// Bytes that its segments take in memory.
    pub memory_bytes: u64,
}

impl Image {
    /// CRC-32 of what is booted.
    pub fn checksum(&self) -> u32 {
        crc32fast::hash(&self.bytes)
    }

    /// Reads an ELF file and cuts it down.
    pub fn read(name: &str, elf: &Path) -> Result<Image> {
        let bytes = std::fs::read(elf).map_err(Error::io("read", elf))?;
        let wrong = |reason: String| Error::Elf { path: elf.to_path_buf(), reason };
        let (bytes, memory_bytes) = cut_down(&bytes).map_err(wrong)?;
        Ok(Image { name: name.to_owned(), elf: elf.to_path_buf(), bytes, memory_bytes })
    }

    /// Takes a file as it is: whether the kernel refuses a malformed image is the kernel's affair.
    pub fn read_verbatim(name: &str, elf: &Path) -> Result<Image> {
        let bytes = std::fs::read(elf).map_err(Error::io("read", elf))?;
        Ok(Image { name: name.to_owned(), elf: elf.to_path_buf(), bytes, memory_bytes: 0 })
    }
}

/// The first address behind all that an ELF file has in memory; `None` if it is no such file.
pub fn memory_end(file: &[u8]) -> Option<u64> {
    let header = FileHeader64::<Endianness>::parse(file).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, file).ok()?;
    let loaded = segments.iter().filter(|segment| segment.p_type(endian) == PT_LOAD);
    loaded.filter_map(|segment| segment.p_paddr(endian).checked_add(segment.p_memsz(endian))).max()
}

/// Drops everything behind the last byte of the last segment (section headers, symbols, debug information),
/// and returns the rest with the bytes it takes in memory. Offsets stay as they are.
pub fn cut_down(file: &[u8]) -> std::result::Result<(Vec<u8>, u64), String> {
    let header = FileHeader64::<Endianness>::parse(file).map_err(|error| error.to_string())?;
    let endian = header.endian().map_err(|error| error.to_string())?;
    if !matches!(header.e_type(endian), ET_EXEC | ET_DYN) || header.e_machine(endian) != EM_X86_64 {
        return Err("not an executable for x86-64".into());
    }
    let segments = header.program_headers(endian, file).map_err(|error| error.to_string())?;
    let headers_end = header.e_phoff.get(endian)
        + u64::from(header.e_phentsize.get(endian)) * u64::from(header.e_phnum.get(endian));
    let mut end = headers_end.max(size_of::<FileHeader64<NativeEndian>>() as u64);
    let mut memory_bytes = 0;
    for segment in segments.iter().filter(|segment| matches!(segment.p_type(endian), PT_LOAD | PT_NOTE)) {
        let segment_end = segment.p_offset(endian).checked_add(segment.p_filesz(endian));
        let segment_end = segment_end
            .filter(|end| *end <= file.len() as u64)
            .ok_or("a segment reaches beyond the end of the file")?;
        end = end.max(segment_end);
        if segment.p_type(endian) == PT_LOAD {
            memory_bytes += segment.p_memsz(endian);
        }
    }
    if memory_bytes == 0 {
        return Err("it has no loadable segment".into());
    }
    let mut bytes = file[..end as usize].to_vec();
    // Offset of the section table (8 bytes at 40); its entry count and its string table's index (from 60).
    bytes[40..48].fill(0);
    bytes[60..64].fill(0);
    Ok((bytes, memory_bytes))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A minimal ELF: one loadable segment of `filesz` bytes at file offset 0x1000, 4096 bytes of debris
    /// behind it.
    pub(crate) fn sample(filesz: u64, memsz: u64) -> Vec<u8> {
        let mut file = vec![0u8; 0x1000 + filesz as usize + 4096];
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        let put16 = |file: &mut Vec<u8>, at: usize, value: u16| {
            file[at..at + 2].copy_from_slice(&value.to_le_bytes())
        };
        let put64 = |file: &mut Vec<u8>, at: usize, value: u64| {
            file[at..at + 8].copy_from_slice(&value.to_le_bytes())
        };
        put16(&mut file, 16, ET_EXEC);
        put16(&mut file, 18, EM_X86_64);
        file[20] = 1;
        put64(&mut file, 24, 0x10_0000); // entry
        put64(&mut file, 32, 64); // program headers
        put64(&mut file, 40, 0x1000 + filesz); // section headers
        put16(&mut file, 52, 64);
        put16(&mut file, 54, 56);
        put16(&mut file, 56, 1);
        put16(&mut file, 58, 64);
        put16(&mut file, 60, 3);
        file[64] = PT_LOAD as u8;
        file[68] = 5;
        put64(&mut file, 72, 0x1000); // offset
        put64(&mut file, 80, 0x10_0000);
        put64(&mut file, 88, 0x10_0000);
        put64(&mut file, 96, filesz);
        put64(&mut file, 104, memsz);
        put64(&mut file, 112, 4096);
        file
    }

    #[test]
    fn what_lies_behind_the_segments_goes() {
        let (cut, memory) = cut_down(&sample(100, 8192)).unwrap();
        assert_eq!(cut.len(), 0x1000 + 100);
        assert_eq!(memory, 8192);
        let header = FileHeader64::<Endianness>::parse(&*cut).unwrap();
        assert_eq!(header.e_shnum.get(Endianness::Little), 0);
        assert_eq!(header.e_shoff.get(Endianness::Little), 0);
        assert_eq!(cut_down(&cut).unwrap().0, cut, "cutting twice changes nothing");
    }

    #[test]
    fn memory_ends_behind_the_last_segment() {
        assert_eq!(memory_end(&sample(100, 8192)), Some(0x10_0000 + 8192));
        assert_eq!(memory_end(b"hello"), None);
    }

    #[test]
    fn what_is_no_image_is_refused() {
        assert!(cut_down(b"hello").is_err());
        let mut outside = sample(100, 8192);
        outside[96..104].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(cut_down(&outside).unwrap_err().contains("beyond the end"));
        let mut none = sample(100, 0);
        none[64] = 6;
        assert!(cut_down(&none).unwrap_err().contains("no loadable segment"));
    }
}
