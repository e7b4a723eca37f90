//! Object files: x86-64 ELF relocatables, read in small pieces from inside an archive.
//!
//! Source: "System V Application Binary Interface", chapters 4 (object files), and its AMD64 supplement.

use crate::files::WorkFile;
use crate::workload::RunError;
use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use elf::abi;
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader, parse_ident};
use elf::parse::ParsingTable;
use elf::relocation::Rela;
use elf::section::SectionHeader;
use elf::string_table::StringTable;
use elf::symbol::Symbol;

/// Bytes of a file header.
const HEADER_BYTES: usize = 64;
/// Bytes of the part of it that says what kind of ELF file it is.
const IDENT_BYTES: usize = 16;
/// Bytes of a section header.
const SECTION_BYTES: u64 = 64;
/// No object file has a table of more bytes than that; more is damage.
const LARGEST: u64 = 1 << 26;

/// A member of an archive.
pub(super) struct Member<'f> {
    pub(super) file: &'f WorkFile,
    pub(super) path: &'f str,
    /// Where it is in the file, in bytes.
    pub(super) place: Range<u64>,
}

/// What a linker wants to know of an object file before it looks at its contents.
pub(super) struct Tables {
    pub(super) sections: Vec<SectionHeader>,
    pub(super) symbols: Vec<Symbol>,
    strings: Vec<u8>,
}

impl Tables {
    /// The name of a symbol.
    pub(super) fn name(&self, symbol: &Symbol) -> &[u8] {
        StringTable::new(&self.strings).get_raw(symbol.st_name as usize).unwrap_or_default()
    }
}

impl Member<'_> {
    fn malformed(&self, reason: &str) -> RunError {
        RunError::malformed(self.path, format!("member at byte {}: {reason}", self.place.start))
    }

    /// Bytes of the member.
    fn read(&self, offset: u64, count: u64) -> Result<Vec<u8>, RunError> {
        let length = self.place.end - self.place.start;
        if count > LARGEST || offset.checked_add(count).is_none_or(|end| end > length) {
            return Err(self.malformed(&format!("{count} bytes at byte {offset} are not there")));
        }
        let mut bytes = vec![0; count as usize];
        let read = self.file.read_at(self.place.start + offset, &mut bytes);
        let read = read.map_err(|error| RunError::file(self.path, error))?;
        if read == bytes.len() { Ok(bytes) } else { Err(self.malformed("the archive is cut off")) }
    }

    /// Headers and symbols; `None` if the member is no object file: archives hold indices, too.
    pub(super) fn tables(&self) -> Result<Option<Tables>, RunError> {
        if self.place.end - self.place.start < HEADER_BYTES as u64 {
            return Ok(None);
        }
        let header = self.read(0, HEADER_BYTES as u64)?;
        if !header.starts_with(&abi::ELFMAGIC) {
            return Ok(None);
        }
        let (ident, tail) = header.split_at(IDENT_BYTES);
        let header = parse_ident::<LittleEndian>(ident).and_then(|ident| FileHeader::parse_tail(ident, tail));
        let header = header.map_err(|error| self.malformed(&error.to_string()))?;
        let kind = (header.class, header.e_type, header.e_machine);
        if kind != (Class::ELF64, abi::ET_REL, abi::EM_X86_64) {
            return Err(self.malformed("no relocatable x86-64 object"));
        }
        let bytes = self.read(header.e_shoff, u64::from(header.e_shnum) * SECTION_BYTES)?;
        let sections: Vec<SectionHeader> = table(&bytes).iter().collect();
        let mut tables = Tables { sections, symbols: Vec::new(), strings: Vec::new() };
        let found = tables.sections.iter().find(|section| section.sh_type == abi::SHT_SYMTAB);
        if let Some(found) = found.copied() {
            let strings = tables.sections.get(found.sh_link as usize).copied();
            let strings = strings.ok_or_else(|| self.malformed("no names of symbols"))?;
            tables.symbols = table(&self.read(found.sh_offset, found.sh_size)?).iter().collect();
            tables.strings = self.read(strings.sh_offset, strings.sh_size)?;
        }
        Ok(Some(tables))
    }

    /// The contents of a section.
    pub(super) fn contents(&self, section: &SectionHeader) -> Result<Vec<u8>, RunError> {
        self.read(section.sh_offset, section.sh_size)
    }

    /// The relocations in a section.
    pub(super) fn relocations(&self, section: &SectionHeader) -> Result<Vec<Rela>, RunError> {
        let bytes = self.contents(section)?;
        Ok(table(&bytes).iter().collect())
    }
}

fn table<P: elf::parse::ParseAt>(bytes: &[u8]) -> ParsingTable<'_, LittleEndian, P> {
    ParsingTable::new(LittleEndian, Class::ELF64, bytes)
}
