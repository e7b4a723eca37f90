//! The kernel's own page tables: all of RAM by identity, as the boot code made them, and here what may be
//! done with it.
//!
//! ```text
//! constants of the image          read
//! code of the image               read, execute
//! lowest page of each stack       nothing: a stack that is too small ends in a page fault
//! page of the trampoline          all, while processors are being started
//! everything else                 read, write
//! ```
//!
//! The boot code maps pages of 2 MiB. One that needs more than one kind of access is split into 512 small
//! ones.
#![forbid(unsafe_code)]

use crate::machine::memory::PhysicalMemory;
use core::ops::Range;
use hyperexo_abi::{FRAME_SHIFT, LARGE_FRAMES};

const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const ENTRIES: usize = 512;

/// What may be done with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    Nothing,
    /// Reading.
    Read,
    /// Reading and writing.
    ReadWrite,
    /// Reading and executing.
    Code,
    /// Everything.
    All,
}

impl Access {
    fn bits(self) -> u64 {
        match self {
            Access::Nothing => 0,
            Access::Read => PRESENT | NO_EXECUTE,
            Access::ReadWrite => PRESENT | WRITE | NO_EXECUTE,
            Access::Code => PRESENT,
            Access::All => PRESENT | WRITE,
        }
    }
}

/// There was no frame for a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfFrames;

/// The page tables with their top in one frame, in frames that `memory` reaches.
pub struct Map {
    memory: PhysicalMemory,
    root: u64,
}

impl Map {
    /// The tables with their top at this physical address.
    pub fn new(memory: PhysicalMemory, root: u64) -> Map {
        Map { memory, root: root >> FRAME_SHIFT }
    }

    /// Makes everything not executable that is mapped in pages of 2 MiB, up to `end_frame`.
    pub fn forbid_execution(&self, end_frame: u64) {
        for frame in (0..end_frame).step_by(LARGE_FRAMES as usize) {
            if let Some((table, index)) = self.directory_entry(frame) {
                let entry = self.memory.word(table, index);
                if entry & LARGE != 0 {
                    self.memory.set_word(table, index, entry | NO_EXECUTE);
                }
            }
        }
    }

    /// Sets what may be done with frames that are mapped. `table` gives frames for tables. The processor may
    /// go by the old entries until it is told to forget them.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`]: frames before that are set already.
    pub fn set(
        &self,
        frames: Range<u64>,
        access: Access,
        mut table: impl FnMut() -> Option<u64>,
    ) -> Result<(), OutOfFrames> {
        for frame in frames {
            let Some((directory, index)) = self.directory_entry(frame) else { continue };
            let entry = self.memory.word(directory, index);
            let lowest = if entry & LARGE != 0 {
                let lowest = table().ok_or(OutOfFrames)?;
                self.split(entry, lowest);
                self.memory.set_word(directory, index, lowest << FRAME_SHIFT | PRESENT | WRITE);
                lowest
            } else {
                (entry & ADDRESS) >> FRAME_SHIFT
            };
            self.memory.set_word(lowest, frame as usize % ENTRIES, frame << FRAME_SHIFT | access.bits());
        }
        Ok(())
    }

    /// Fills a table with small pages that say the same as a large one.
    fn split(&self, entry: u64, lowest: u64) {
        for offset in 0..ENTRIES {
            self.memory.set_word(lowest, offset, (entry & !LARGE) + ((offset as u64) << FRAME_SHIFT));
        }
    }

    /// The directory (its frame) that has the entry for a frame, and where; `None` if the frame is not
    /// mapped.
    fn directory_entry(&self, frame: u64) -> Option<(u64, usize)> {
        let index = |level: u32| (frame >> (9 * level)) as usize % ENTRIES;
        let down = |table: u64, level| {
            let entry = self.memory.word(table, index(level));
            (entry & PRESENT != 0).then_some((entry & ADDRESS) >> FRAME_SHIFT)
        };
        let directory = down(down(self.root, 3)?, 2)?;
        (self.memory.word(directory, index(1)) & PRESENT != 0).then_some((directory, index(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::memory::identity;

    /// Pages of the test program that serve as tables.
    #[repr(C, align(4096))]
    #[derive(Clone)]
    struct Table([u64; ENTRIES]);

    fn frame_of(table: &Table) -> u64 {
        core::ptr::from_ref(table) as u64 >> FRAME_SHIFT
    }

    /// Top, pointers, one directory of 1 GiB in 2 MiB pages, and two tables in reserve.
    fn tables() -> (Vec<Table>, Map) {
        let mut tables = vec![Table([0; ENTRIES]); 5];
        let frames: Vec<u64> = tables.iter().map(frame_of).collect();
        tables[0].0[0] = frames[1] << FRAME_SHIFT | PRESENT | WRITE;
        tables[1].0[0] = frames[2] << FRAME_SHIFT | PRESENT | WRITE;
        for (index, entry) in tables[2].0.iter_mut().enumerate() {
            *entry = (index as u64) << 21 | LARGE | PRESENT | WRITE;
        }
        let map = Map::new(identity(), frames[0] << FRAME_SHIFT);
        (tables, map)
    }

    /// What the tables say of a frame: where it leads, and its bits.
    fn entry(map: &Map, frame: u64) -> (u64, u64) {
        let (directory, index) = map.directory_entry(frame).unwrap();
        let entry = map.memory.word(directory, index);
        if entry & LARGE != 0 {
            return (((entry & ADDRESS) >> FRAME_SHIFT) + frame % LARGE_FRAMES, entry & !ADDRESS & !LARGE);
        }
        let entry = map.memory.word((entry & ADDRESS) >> FRAME_SHIFT, frame as usize % ENTRIES);
        ((entry & ADDRESS) >> FRAME_SHIFT, entry & !ADDRESS)
    }

    #[test]
    fn pages_get_the_access_they_are_for_and_the_rest_stays() {
        let (tables, map) = tables();
        map.forbid_execution(1 << 30);
        let mut reserve = tables[3..].iter().map(frame_of);
        map.set(700..720, Access::Code, || reserve.next()).unwrap();
        map.set(720..721, Access::Nothing, || reserve.next()).unwrap();
        map.set(721..730, Access::Read, || reserve.next()).unwrap();
        for frame in [0, 511, 512, 699, 700, 719, 720, 721, 729, 730, 1023, 1024, 100_000] {
            let expected = match frame {
                700..720 => Access::Code,
                720 => Access::Nothing,
                721..730 => Access::Read,
                _ => Access::ReadWrite,
            };
            assert_eq!(entry(&map, frame), (frame, expected.bits()), "frame {frame}");
        }
        assert_eq!(reserve.len(), 1, "one page of 2 MiB was split");
    }

    #[test]
    fn without_a_frame_for_a_table_nothing_changes() {
        let (_tables, map) = tables();
        assert_eq!(map.set(5..6, Access::Nothing, || None), Err(OutOfFrames));
        assert_eq!(entry(&map, 5), (5, Access::All.bits()));
        assert_eq!(map.set(1 << 20..1 << 21, Access::Read, || None), Ok(()), "not mapped");
    }
}
