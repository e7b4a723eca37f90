//! The archives of `ldk`, and what the link must give, computed by a linker of another make: everything in
//! memory, one list of chunks, the objects read by the crate `object`.

use super::image::{ImageFile, json};
use super::{Collected, DataError, METADATA_BYTES, Origin, packages, sources};
use crate::digest::digest;
use crate::ldk::layout::{BASE, PAGE_BYTES, Segment, THREAD_ALIGN, ZERO_BASE};
use crate::ldk::{LIST_PATH, Linked, TASK_PATH, Task};
use object::read::archive::ArchiveFile;
use object::read::elf::{ElfFile64, SectionHeader};
use object::{
    LittleEndian, Object, ObjectSection, ObjectSymbol, RelocationFlags, RelocationKind, RelocationTarget,
    SectionIndex, SymbolIndex, elf,
};
use std::collections::HashMap;
use std::path::Path;

/// Debian's package with the objects of the C library.
const PACKAGE: &str = "libc6-dev";
/// Where its files are on a host that has it installed.
const INSTALLED: &str = "/usr/lib/x86_64-linux-gnu";
/// The archives: the C library, and its mathematics, whose file is named after the version.
const ARCHIVES: [&str; 2] = ["libc.a", "libm-"];

/// The archives and the task.
pub(super) fn collect(origin: &Origin<'_>) -> Result<Collected, DataError> {
    let (folder, note) = match packages::unpack(PACKAGE, origin.downloads) {
        Ok(folder) => (folder, format!("objects from Debian's {PACKAGE}")),
        Err(error) => (INSTALLED.into(), format!("objects from {INSTALLED}: {error}")),
    };
    let found = sources::files_below(Path::new(&folder), &["a"])?;
    let mut archives = Vec::new();
    for wanted in ARCHIVES {
        let named = |path: &&std::path::PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(wanted))
        };
        let path = found.iter().find(named).ok_or_else(|| DataError::Package {
            package: PACKAGE.into(),
            reason: format!("no file named like {wanted} in {}", folder.display()),
        })?;
        archives.push(std::fs::read(path).map_err(DataError::host(path))?);
    }
    Ok(Collected { files: files(&archives)?, spare_bytes: 4 * METADATA_BYTES, notes: vec![note] })
}

/// All files of the image for these archives.
pub fn files(archives: &[Vec<u8>]) -> Result<Vec<ImageFile>, DataError> {
    let linked = link(archives).map_err(|error| DataError::Objects { reason: error.to_string() })?;
    let paths: Vec<String> = (0..archives.len()).map(|number| format!("ldk/{number}.a")).collect();
    let list: String = paths.iter().flat_map(|path| [path.as_str(), "\n"]).collect();
    let mut files = vec![
        json(TASK_PATH, &Task { linked })?,
        ImageFile { path: LIST_PATH.into(), bytes: list.into_bytes() },
    ];
    let contents = paths.into_iter().zip(archives);
    files.extend(contents.map(|(path, bytes)| ImageFile { path, bytes: bytes.clone() }));
    Ok(files)
}

type Elf<'d> = ElfFile64<'d, LittleEndian>;

/// Where sections are: by object and section, the segment and the offset in it.
type Places = HashMap<(usize, SectionIndex), (Segment, u64)>;

/// The program as far as it is known before relocation.
struct Plan<'d> {
    objects: Vec<Elf<'d>>,
    places: Places,
    lengths: HashMap<Segment, u64>,
    /// Definitions of global symbols: object, symbol, whether it is weak. Without one it is undefined.
    globals: HashMap<Vec<u8>, Option<(usize, SymbolIndex, bool)>>,
}

fn link(archives: &[Vec<u8>]) -> object::Result<Linked> {
    let mut plan = Plan {
        objects: Vec::new(),
        places: HashMap::new(),
        lengths: HashMap::new(),
        globals: HashMap::new(),
    };
    for archive in archives {
        for member in ArchiveFile::parse(archive.as_slice())?.members() {
            if let Ok(object) = Elf::parse(member?.data(archive.as_slice())?) {
                plan.add(object)?;
            }
        }
    }
    let mut program = plan.image();
    let (relocations, table) = plan.relocate(&mut program)?;
    program.extend(table.iter().flat_map(|entry| entry.to_le_bytes()));
    program.resize(program.len().next_multiple_of(PAGE_BYTES as usize), 0);
    Ok(Linked {
        objects: plan.objects.len() as u64,
        symbols: plan.globals.len() as u64,
        undefined: plan.globals.values().filter(|definition| definition.is_none()).count() as u64,
        relocations,
        bytes: program.len() as u64,
        digest: digest(&program),
    })
}

impl<'d> Plan<'d> {
    fn add(&mut self, object: Elf<'d>) -> object::Result<()> {
        let number = self.objects.len();
        for section in object.sections() {
            let header = section.elf_section_header();
            let (kind, flags) = (header.sh_type(LittleEndian), header.sh_flags(LittleEndian));
            let has = |flag: u32| flags & u64::from(flag) != 0;
            if !has(elf::SHF_ALLOC) {
                continue;
            }
            let segment = if kind == elf::SHT_NOBITS {
                if has(elf::SHF_TLS) { Segment::ThreadZero } else { Segment::Zero }
            } else if has(elf::SHF_TLS) {
                Segment::ThreadData
            } else if has(elf::SHF_EXECINSTR) {
                Segment::Text
            } else if has(elf::SHF_WRITE) {
                Segment::Data
            } else {
                Segment::Constants
            };
            let length = self.lengths.entry(segment).or_default();
            let offset = length.next_multiple_of(section.align().max(1));
            *length = offset + section.size();
            self.places.insert((number, section.index()), (segment, offset));
        }
        for symbol in object.symbols().filter(|symbol| !symbol.is_local()) {
            let definition = self.globals.entry(symbol.name_bytes()?.to_vec()).or_default();
            let better = match definition {
                None => true,
                Some((_, _, weak)) => *weak && !symbol.is_weak(),
            };
            if !symbol.is_undefined() && better {
                *definition = Some((number, symbol.index(), symbol.is_weak()));
            }
        }
        self.objects.push(object);
        Ok(())
    }

    fn length(&self, segment: Segment) -> u64 {
        self.lengths.get(&segment).copied().unwrap_or(0)
    }

    /// Offset of a segment in the file.
    fn start(&self, segment: Segment) -> u64 {
        let before = Segment::IN_FILE.iter().take_while(|other| **other != segment);
        before.map(|other| self.length(*other).next_multiple_of(PAGE_BYTES)).sum()
    }

    /// The address of an offset in a segment, or its distance to the thread pointer.
    fn address(&self, segment: Segment, offset: u64) -> u64 {
        let data = self.length(Segment::ThreadData).next_multiple_of(THREAD_ALIGN);
        let all = data + self.length(Segment::ThreadZero).next_multiple_of(THREAD_ALIGN);
        match segment {
            Segment::Zero => ZERO_BASE + offset,
            Segment::ThreadData => offset.wrapping_sub(all),
            Segment::ThreadZero => (data + offset).wrapping_sub(all),
            _ => BASE + self.start(segment) + offset,
        }
    }

    /// The value of a symbol of an object.
    fn value(&self, number: usize, index: SymbolIndex) -> object::Result<u64> {
        let symbol = self.objects[number].symbol_by_index(index)?;
        let (number, symbol) = if symbol.is_local() {
            (number, symbol)
        } else {
            match self.globals.get(symbol.name_bytes()?).copied().flatten() {
                Some((definer, index, _)) => (definer, self.objects[definer].symbol_by_index(index)?),
                None => return Ok(0),
            }
        };
        Ok(match symbol.section_index() {
            Some(section) => self
                .places
                .get(&(number, section))
                .map_or(0, |(segment, offset)| self.address(*segment, offset + symbol.address())),
            None if symbol.is_undefined() => 0,
            None => symbol.address(),
        })
    }

    /// The contents of all sections, where they belong.
    fn image(&self) -> Vec<u8> {
        let mut program = vec![0; self.start(Segment::Zero) as usize];
        for ((number, section), (segment, offset)) in &self.places {
            let contents = self.objects[*number].section_by_index(*section).and_then(|one| one.data());
            if let (Ok(contents), true) = (contents, Segment::IN_FILE.contains(segment)) {
                let start = (self.start(*segment) + offset) as usize;
                program[start..start + contents.len()].copy_from_slice(contents);
            }
        }
        program
    }

    /// Carries out all relocations; returns how many there are, and the global offset table.
    fn relocate(&self, program: &mut [u8]) -> object::Result<(u64, Vec<u64>)> {
        let mut table: Vec<u64> = Vec::new();
        let mut entries: HashMap<(usize, Vec<u8>), u64> = HashMap::new();
        let mut count = 0;
        for (number, object) in self.objects.iter().enumerate() {
            for section in object.sections() {
                let Some((segment, offset)) = self.places.get(&(number, section.index())) else { continue };
                for (at, relocation) in section.relocations() {
                    let RelocationTarget::Symbol(index) = relocation.target() else { continue };
                    let value = self.value(number, index)?;
                    let kind = match (relocation.kind(), relocation.flags()) {
                        (
                            RelocationKind::Unknown,
                            RelocationFlags::Elf { r_type: elf::R_X86_64_GOTTPOFF },
                        ) => RelocationKind::GotRelative,
                        (RelocationKind::Unknown, RelocationFlags::Elf { r_type: elf::R_X86_64_TPOFF32 }) => {
                            RelocationKind::Absolute
                        }
                        (kind, _) => kind,
                    };
                    let operand = if kind == RelocationKind::GotRelative {
                        let symbol = object.symbol_by_index(index)?;
                        let key = if symbol.is_local() {
                            (number, index.0.to_le_bytes().to_vec())
                        } else {
                            (usize::MAX, symbol.name_bytes()?.to_vec())
                        };
                        let entry = *entries.entry(key).or_insert_with(|| {
                            table.push(value);
                            table.len() as u64 - 1
                        });
                        BASE + self.start(Segment::Zero) + 8 * entry
                    } else {
                        value
                    };
                    let base = if kind == RelocationKind::Absolute {
                        0
                    } else {
                        self.address(*segment, offset + at)
                    };
                    let result = operand.wrapping_add_signed(relocation.addend()).wrapping_sub(base);
                    let bytes = match relocation.flags() {
                        RelocationFlags::Elf { r_type: elf::R_X86_64_64 | elf::R_X86_64_PC64 } => 8,
                        _ => 4,
                    };
                    let place = (self.start(*segment) + offset + at) as usize;
                    program[place..place + bytes].copy_from_slice(&result.to_le_bytes()[..bytes]);
                    count += 1;
                }
            }
        }
        Ok((count, table))
    }
}
