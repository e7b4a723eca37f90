//! The two passes.

use super::archive::Members;
use super::layout::{Lengths, Place, Segment};
use super::object::{Member, Tables};
use super::output::Output;
use super::relocate::{Operand, Rule};
use super::{Linked, OUTPUT_PATH};
use crate::files::WorkFile;
use crate::lines::BLOCK_BYTES;
use crate::workload::RunError;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;
use core::iter;
use core::ops::Range;
use elf::abi;
use elf::section::SectionHeader;
use elf::symbol::Symbol;

/// What a symbol stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// Something in the program.
    Place(Place),
    /// A number.
    Absolute(u64),
    /// What the global symbol of this number stands for.
    Global(u32),
    /// Nothing that is in memory.
    Nothing,
}

/// A global symbol.
#[derive(Clone, Copy, Debug)]
struct Global {
    target: Target,
    /// Whether another definition may take its place: it is weak, or there is none.
    yields: bool,
}

/// A section that goes into the program.
struct Placed {
    header: SectionHeader,
    place: Place,
    relocations: Option<SectionHeader>,
}

/// An object after the first pass.
struct Object<'f> {
    member: Member<'f>,
    sections: Vec<Placed>,
    symbols: Vec<Target>,
}

impl Object<'_> {
    /// The blocks of the archive that the second pass reads, in the order of its reads.
    fn reads(&self) -> impl Iterator<Item = Range<u64>> {
        let stored = self.sections.iter().filter(|section| section.header.sh_type != abi::SHT_NOBITS);
        let headers = stored.flat_map(|section| [Some(section.header), section.relocations]).flatten();
        headers.map(|header| {
            let start = self.member.place.start.saturating_add(header.sh_offset);
            let end = start.saturating_add(header.sh_size);
            start / BLOCK_BYTES as u64..end.div_ceil(BLOCK_BYTES as u64)
        })
    }

    /// The same blocks in ascending order.
    fn blocks_read_again(&self) -> Vec<Range<u64>> {
        let mut blocks: Vec<Range<u64>> = self.reads().collect();
        blocks.sort_by_key(|blocks| blocks.start);
        blocks
    }
}

/// A link under way.
#[derive(Default)]
pub(super) struct Linker<'f> {
    objects: Vec<Object<'f>>,
    lengths: Lengths,
    numbers: BTreeMap<Vec<u8>, u32>,
    globals: Vec<Global>,
    /// Entries of the global offset table, by object and symbol; of global symbols, without object.
    entries: BTreeMap<(Option<usize>, u32), u64>,
    relocations: u64,
}

impl<'f> Linker<'f> {
    /// The first pass over an archive. `finished` hears which of its blocks the second pass does not read:
    /// those with nothing but headers, symbols and what is not part of a program in memory.
    pub(super) fn add_archive(
        &mut self,
        path: &'f str,
        file: &'f WorkFile,
        finished: &mut dyn FnMut(&WorkFile, Range<u64>),
    ) -> Result<(), RunError> {
        let mut members = Members::new(file, path);
        // Blocks before this one are settled.
        let mut settled = 0;
        while let Some(place) = members.next()? {
            let end = place.end / BLOCK_BYTES as u64;
            let member = Member { file, path, place };
            let again = match member.tables()? {
                Some(tables) => self.add_object(member, &tables)?.blocks_read_again(),
                None => Vec::new(),
            };
            // The block where the member ends is left to the next one, which begins in it.
            for needed in again.into_iter().chain(iter::once(end..end)) {
                if settled < needed.start {
                    finished(file, settled..needed.start);
                }
                settled = settled.max(needed.end);
            }
        }
        Ok(())
    }

    fn add_object(&mut self, member: Member<'f>, tables: &Tables) -> Result<&Object<'f>, RunError> {
        let mut places = Vec::new();
        let mut sections: Vec<Placed> = Vec::new();
        for (number, header) in tables.sections.iter().enumerate() {
            let place = match Segment::of(header) {
                Some(segment) => Some(self.reserve(&member, segment, header.sh_size, header.sh_addralign)?),
                None => None,
            };
            places.push(place);
            if let Some(place) = place {
                let of_this = |other: &&SectionHeader| {
                    other.sh_type == abi::SHT_RELA && other.sh_info as usize == number
                };
                let relocations = tables.sections.iter().find(of_this).copied();
                sections.push(Placed { header: *header, place, relocations });
            }
        }
        let mut symbols = Vec::new();
        for symbol in &tables.symbols {
            let target = self.target_of(&member, symbol, &places)?;
            symbols.push(if symbol.st_bind() == abi::STB_LOCAL {
                target.unwrap_or(Target::Nothing)
            } else {
                self.resolve(tables.name(symbol), target, symbol.st_bind() == abi::STB_WEAK)
            });
        }
        Ok(self.objects.push_mut(Object { member, sections, symbols }))
    }

    fn reserve(
        &mut self,
        member: &Member<'_>,
        segment: Segment,
        bytes: u64,
        align: u64,
    ) -> Result<Place, RunError> {
        self.lengths.add(segment, bytes, align).ok_or_else(|| {
            RunError::malformed(member.path, format!("no room for {bytes} bytes aligned to {align}"))
        })
    }

    /// What a symbol stands for by what its object says; `None` if that does not define it.
    fn target_of(
        &mut self,
        member: &Member<'_>,
        symbol: &Symbol,
        places: &[Option<Place>],
    ) -> Result<Option<Target>, RunError> {
        Ok(match symbol.st_shndx {
            abi::SHN_UNDEF => None,
            abi::SHN_ABS => Some(Target::Absolute(symbol.st_value)),
            abi::SHN_COMMON => {
                Some(Target::Place(self.reserve(member, Segment::Zero, symbol.st_size, symbol.st_value)?))
            }
            number => Some(match places.get(usize::from(number)).copied().flatten() {
                Some(place) => {
                    Target::Place(Place { offset: place.offset.wrapping_add(symbol.st_value), ..place })
                }
                None => Target::Nothing,
            }),
        })
    }

    /// Enters a global symbol, with its definition if this is one.
    fn resolve(&mut self, name: &[u8], definition: Option<Target>, weak: bool) -> Target {
        let number = match self.numbers.get(name) {
            Some(number) => *number,
            None => {
                let number = self.globals.len() as u32;
                self.numbers.insert(name.to_vec(), number);
                self.globals.push(Global { target: Target::Nothing, yields: true });
                number
            }
        };
        let global = &mut self.globals[number as usize];
        if let Some(target) = definition
            && global.yields
            && (global.target == Target::Nothing || !weak)
        {
            *global = Global { target, yields: weak };
        }
        Target::Global(number)
    }

    /// The address that a symbol stands for.
    fn address(&self, target: Target) -> u64 {
        match target {
            Target::Place(place) => self.lengths.address(place),
            Target::Absolute(value) => value,
            // A global symbol never stands for another.
            Target::Global(number) => match self.globals.get(number as usize).map(|global| global.target) {
                Some(Target::Place(place)) => self.lengths.address(place),
                Some(Target::Absolute(value)) => value,
                _ => 0,
            },
            Target::Nothing => 0,
        }
    }

    /// What the second pass will read: archives, and blocks of them, for each object once.
    pub(super) fn reads(&self) -> Vec<(&'f WorkFile, Range<u64>)> {
        let mut reads: Vec<(&WorkFile, Range<u64>)> = Vec::new();
        for object in &self.objects {
            let file = object.member.file;
            // Its first block may be the last one of the object before it.
            let first = reads.len().saturating_sub(1);
            for block in object.reads().flatten() {
                let is_there = |(of, blocks): &(&WorkFile, Range<u64>)| {
                    core::ptr::eq(*of, file) && blocks.contains(&block)
                };
                if reads[first..].iter().any(is_there) {
                    continue;
                }
                match reads.last_mut() {
                    Some((of, blocks)) if core::ptr::eq(*of, file) && blocks.end == block => blocks.end += 1,
                    _ => reads.push((file, block..block + 1)),
                }
            }
        }
        reads
    }

    /// The second pass. `finished` hears up to which byte an archive is no longer needed.
    pub(super) fn write(
        mut self,
        file: &WorkFile,
        finished: &mut dyn FnMut(&WorkFile, u64),
    ) -> Result<Linked, RunError> {
        let mut output = Output::new(file, &self.lengths);
        let objects = core::mem::take(&mut self.objects);
        for (number, object) in objects.iter().enumerate() {
            for section in object.sections.iter().filter(|section| section.header.sh_type != abi::SHT_NOBITS)
            {
                let contents = self.relocated(number, object, section, &mut output)?;
                output
                    .add(section.place.segment, section.place.offset, &contents)
                    .map_err(|error| RunError::file(OUTPUT_PATH, error))?;
            }
            finished(object.member.file, object.member.place.end);
        }
        output.finish().map_err(|error| RunError::file(OUTPUT_PATH, error))?;
        let undefined = self.globals.iter().filter(|global| global.target == Target::Nothing).count();
        Ok(Linked {
            objects: objects.len() as u64,
            symbols: self.globals.len() as u64,
            undefined: undefined as u64,
            relocations: self.relocations,
            ..Linked::default()
        })
    }

    /// The contents of a section as they are in the program.
    fn relocated(
        &mut self,
        number: usize,
        object: &Object<'f>,
        section: &Placed,
        output: &mut Output<'_>,
    ) -> Result<Vec<u8>, RunError> {
        let mut contents = object.member.contents(&section.header)?;
        let Some(relocations) = &section.relocations else { return Ok(contents) };
        let address = self.lengths.address(section.place);
        for relocation in object.member.relocations(relocations)? {
            let wrong = |what: &str| {
                let (path, kind, offset) = (object.member.path, relocation.r_type, relocation.r_offset);
                RunError::malformed(path, format!("relocation of type {kind} at byte {offset}: {what}"))
            };
            if relocation.r_type == abi::R_X86_64_NONE {
                continue;
            }
            let rule = Rule::of(relocation.r_type).ok_or_else(|| wrong("not known here"))?;
            let target = object.symbols.get(relocation.r_sym as usize).copied();
            let target = target.ok_or_else(|| wrong("there is no such symbol"))?;
            let operand = match rule.operand {
                Operand::Symbol => self.address(target),
                Operand::Entry => {
                    let key = match target {
                        Target::Global(global) => (None, global),
                        _ => (Some(number), relocation.r_sym),
                    };
                    let value = self.address(target);
                    let entry = *self.entries.entry(key).or_insert_with(|| output.add_entry(value));
                    output.entry_address(entry)
                }
            };
            if !rule.apply(&mut contents, address, relocation.r_offset, operand, relocation.r_addend) {
                return Err(wrong("outside its section"));
            }
            self.relocations += 1;
        }
        Ok(contents)
    }
}
