//! Nested page tables: the secure binding itself.
//!
//! Guest-physical addresses are host-physical addresses, so the table translates nothing. An entry is there
//! exactly if the environment has bound that frame, with the rights of the binding. The hardware enforces it
//! without the kernel. Runs of 512 frames that start at a multiple of 512 get one 2 MiB entry.
//!
//! The algorithm is one for both vendors; [`EntryFormat`] says how an entry looks (SDM vol. 3 §29.3 "The
//! Extended Page Table Mechanism"; APM vol. 2 §15.25 "Nested Paging").
//!
//! After an entry was taken away or weakened, translations cached by a processor must go before the change is
//! relied on: [`NestedTable::take_flush`] says when.
#![forbid(unsafe_code)]

mod entry;

use core::ops::Range;
use hyperexo_abi::capability::Rights;
use hyperexo_abi::{FRAME_SHIFT, LARGE_FRAMES};

pub use entry::EntryFormat;

/// Where tables lie, for those who only look.
pub trait TableReader {
    /// Reads an entry (`index` below 512) of the table in a frame.
    fn read(&self, table: u64, index: usize) -> u64;
}

/// Where tables lie, and who must know of changes.
pub trait TableMemory: TableReader {
    /// Writes an entry.
    fn write(&mut self, table: u64, index: usize, entry: u64);
    /// A frame of zeros for a table without entries; `None` when none is left or the environment may not have
    /// more.
    fn allocate(&mut self) -> Option<u64>;
    /// Takes back the frame of a table.
    fn release(&mut self, table: u64);
    /// Entries that are present in a table, as [`TableMemory::set_entries`] said last.
    fn entries(&self, table: u64) -> u16;
    /// Notes how many entries are present in a table.
    fn set_entries(&mut self, table: u64, entries: u16);
    /// A frame has become bound (`large`: and the 511 after it).
    fn bound(&mut self, frame: u64, large: bool);
    /// A frame is no longer bound (`large`: nor are the 511 after it).
    fn unbound(&mut self, frame: u64, large: bool);
    /// This frame and the 511 after it were bound by one entry, and are by 512 now.
    fn split(&mut self, first: u64);
}

/// There was no frame for a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfTables;

/// The nested page table of one environment: four levels.
///
/// Each table's entries are counted, so that nobody has to look for the last one. One lowest table that has
/// become empty is kept: who binds and unbinds one frame again and again does not make and clear a table each
/// time.
pub struct NestedTable {
    root: u64,
    flush: bool,
    format: EntryFormat,
    /// First frame of the 512 whose table is kept although it is empty.
    spare: Option<u64>,
}

/// How 512 frames that share a lowest table are bound.
enum Lowest {
    /// Not at all: there is no such table.
    Absent,
    /// By one entry.
    Large,
    /// One by one, by the entries of this table.
    Table(u64),
}

const LEVELS: u32 = 4;
/// One past the highest frame that a table can name.
const END_FRAME: u64 = 1 << (9 * LEVELS);
/// How much [`NestedTable::take_apart`] does at once: tables of the lowest level count [`TABLE_WORK`], all
/// else 1.
const WORK: u32 = 32;
const TABLE_WORK: u32 = 16;

/// Index of a frame's entry in the tables of a level (0: lowest).
#[inline(always)]
fn index(frame: u64, level: u32) -> usize {
    (frame >> (9 * level) & 511) as usize
}

/// First frame of the 512 that share a lowest table.
fn region(frame: u64) -> u64 {
    frame / LARGE_FRAMES * LARGE_FRAMES
}

/// Missing tables that [`NestedTable::tables_needed`] has counted: the last one of each level.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted([Option<u64>; LEVELS as usize]);

impl NestedTable {
    /// An empty table.
    ///
    /// # Errors
    ///
    /// [`OutOfTables`].
    pub fn new(format: EntryFormat, memory: &mut impl TableMemory) -> Result<Self, OutOfTables> {
        let root = memory.allocate().ok_or(OutOfTables)?;
        Ok(NestedTable { root, flush: false, format, spare: None })
    }

    /// Frame of the top table, for the control structure of the virtual CPU.
    pub fn root(&self) -> u64 {
        self.root
    }

    /// Whether cached translations must be flushed before the guest runs again; asking clears it.
    pub fn take_flush(&mut self) -> bool {
        core::mem::take(&mut self.flush)
    }

    /// Binds one frame in a lowest table that is there. Returns whether there is one.
    #[inline]
    pub fn bind_in_place(&mut self, memory: &mut impl TableMemory, frame: u64, rights: Rights) -> bool {
        let Lowest::Table(table) = self.lowest(memory, frame) else { return false };
        let old = memory.read(table, index(frame, 0));
        memory.write(table, index(frame, 0), self.format.leaf(frame, rights, false));
        if self.format.is_present(old) {
            self.flush = true;
        } else {
            if self.spare == Some(region(frame)) {
                self.spare = None;
            }
            memory.bound(frame, false);
            memory.set_entries(table, memory.entries(table) + 1);
        }
        true
    }

    /// Ends the binding of one frame in a lowest table that is there, if it is there. Returns whether it was.
    #[inline]
    pub fn unbind_in_place(&mut self, memory: &mut impl TableMemory, frame: u64) -> bool {
        let Lowest::Table(table) = self.lowest(memory, frame) else { return false };
        if !self.format.is_present(memory.read(table, index(frame, 0))) {
            return false;
        }
        self.clear_entries(memory, table, frame, frame + 1);
        true
    }

    /// Binds `count` frames from `first` with `rights`; frames that are bound already get the new rights.
    ///
    /// # Errors
    ///
    /// [`OutOfTables`]; frames bound until then stay bound: the caller unbinds the run.
    pub fn map(
        &mut self,
        memory: &mut impl TableMemory,
        first: u64,
        count: u64,
        rights: Rights,
    ) -> Result<(), OutOfTables> {
        let end = first + count;
        let mut frame = first;
        while frame < end {
            if self.format.starts_large(frame, end - frame, rights) {
                self.map_large(memory, frame, rights)?;
                frame += LARGE_FRAMES;
            } else {
                self.map_small(memory, frame, rights)?;
                frame += 1;
            }
        }
        Ok(())
    }

    fn map_large(
        &mut self,
        memory: &mut impl TableMemory,
        frame: u64,
        rights: Rights,
    ) -> Result<(), OutOfTables> {
        let directory = self.descend(memory, frame, 1)?;
        let old = memory.read(directory, index(frame, 1));
        if self.format.is_present(old) && !self.format.is_large(old) {
            self.unmap(memory, frame, LARGE_FRAMES);
            self.drop_spare(memory);
        }
        if self.format.is_present(old) && self.format.is_large(old) {
            self.flush = true;
        } else {
            memory.bound(frame, true);
        }
        self.set(memory, directory, index(frame, 1), self.format.leaf(frame, rights, true));
        Ok(())
    }

    fn map_small(
        &mut self,
        memory: &mut impl TableMemory,
        frame: u64,
        rights: Rights,
    ) -> Result<(), OutOfTables> {
        let table = self.descend(memory, frame, 0)?;
        if self.spare == Some(region(frame)) {
            self.spare = None;
        }
        let old = memory.read(table, index(frame, 0));
        if self.format.is_present(old) {
            self.flush = true;
        } else {
            memory.bound(frame, false);
        }
        self.set(memory, table, index(frame, 0), self.format.leaf(frame, rights, false));
        Ok(())
    }

    /// Writes an entry and keeps count.
    fn set(&self, memory: &mut impl TableMemory, table: u64, index: usize, entry: u64) {
        let before = self.format.is_present(memory.read(table, index));
        let after = self.format.is_present(entry);
        memory.write(table, index, entry);
        if before != after {
            let entries = memory.entries(table);
            memory.set_entries(table, if after { entries + 1 } else { entries - 1 });
        }
    }

    /// The table of `level` that has the frame's entry; makes the tables on the way, splits a large entry in
    /// the way.
    fn descend(&mut self, memory: &mut impl TableMemory, frame: u64, level: u32) -> Result<u64, OutOfTables> {
        let mut table = self.root;
        for above in (level + 1..LEVELS).rev() {
            let entry = memory.read(table, index(frame, above));
            table = if !self.format.is_present(entry) {
                let new = memory.allocate().ok_or(OutOfTables)?;
                self.set(memory, table, index(frame, above), self.format.table(new));
                new
            } else if above == 1 && self.format.is_large(entry) {
                self.split(memory, table, frame, entry)?
            } else {
                self.format.frame(entry)
            };
        }
        Ok(table)
    }

    /// Replaces a 2 MiB entry by a table of 512 entries that say the same.
    fn split(
        &mut self,
        memory: &mut impl TableMemory,
        directory: u64,
        frame: u64,
        entry: u64,
    ) -> Result<u64, OutOfTables> {
        let new = memory.allocate().ok_or(OutOfTables)?;
        let first = self.format.leaf(region(frame), self.format.rights(entry), false);
        for offset in 0..LARGE_FRAMES {
            memory.write(new, offset as usize, first + (offset << FRAME_SHIFT));
        }
        memory.set_entries(new, LARGE_FRAMES as u16);
        memory.split(region(frame));
        memory.write(directory, index(frame, 1), self.format.table(new));
        self.flush = true;
        Ok(new)
    }

    /// Ends the bindings of `count` frames from `first`; frames that are not bound are passed over.
    ///
    /// When a 2 MiB entry has to be split and there is no frame for the table, the *whole* entry goes:
    /// protection before convenience. Callers that promised otherwise check with [`NestedTable::needs_split`]
    /// first.
    pub fn unmap(&mut self, memory: &mut impl TableMemory, first: u64, count: u64) {
        let end = first.saturating_add(count);
        let mut frame = first;
        while frame < end {
            frame = self.unmap_next(memory, frame, end);
        }
    }

    /// Whether an empty table is kept.
    pub fn has_spare(&self) -> bool {
        self.spare.is_some()
    }

    /// Gives back the empty table that is kept, if there is one. A processor may have cached the way to the
    /// table even if nothing in it was ever used: what the frame holds next must not be taken for entries.
    pub fn drop_spare(&mut self, memory: &mut impl TableMemory) {
        let Some(frame) = self.spare.take() else { return };
        let mut directory = self.root;
        for level in (2..LEVELS).rev() {
            directory = self.format.frame(memory.read(directory, index(frame, level)));
        }
        let entry = memory.read(directory, index(frame, 1));
        self.set(memory, directory, index(frame, 1), 0);
        memory.release(self.format.frame(entry));
        self.flush = true;
    }

    /// How many frames for tables [`NestedTable::map`] of this run would take, besides those in `counted`: a
    /// long run may be looked at in pieces, from the lowest on.
    pub fn tables_needed(
        &self,
        memory: &impl TableReader,
        first: u64,
        count: u64,
        rights: Rights,
        counted: &mut Counted,
    ) -> u64 {
        let end = first + count;
        let (mut needed, mut frame) = (0, first);
        let Counted(counted) = counted;
        while frame < end {
            let next = ((frame / LARGE_FRAMES + 1) * LARGE_FRAMES).min(end);
            let lowest = u32::from(self.format.starts_large(frame, next - frame, rights));
            let mut table = Some(self.root);
            for above in (lowest + 1..LEVELS).rev() {
                let entry = table.map(|table| memory.read(table, index(frame, above)));
                let entry = entry.filter(|entry| self.format.is_present(*entry));
                let large = above == 1 && entry.is_some_and(|entry| self.format.is_large(entry));
                table = entry.filter(|_| !large).map(|entry| self.format.frame(entry));
                let place = Some(frame >> (9 * above));
                if table.is_none() && counted[above as usize] != place {
                    counted[above as usize] = place;
                    needed += 1;
                }
            }
            frame = next;
        }
        needed
    }

    /// Unmaps what lies at `frame`, no further than `end`; returns where to go on.
    fn unmap_next(&mut self, memory: &mut impl TableMemory, frame: u64, end: u64) -> u64 {
        let mut table = self.root;
        for level in (1..LEVELS).rev() {
            let span = 1u64 << (9 * level);
            let next = (frame / span + 1) * span;
            let entry = memory.read(table, index(frame, level));
            if !self.format.is_present(entry) {
                return next.min(end);
            }
            if level == 1 && self.format.is_large(entry) {
                let whole = frame.is_multiple_of(LARGE_FRAMES) && next <= end;
                if whole || self.split(memory, table, frame, entry).is_err() {
                    self.set(memory, table, index(frame, 1), 0);
                    memory.unbound(region(frame), true);
                    self.flush = true;
                    return next;
                }
                return frame;
            }
            table = self.format.frame(entry);
        }
        let next = (region(frame) + LARGE_FRAMES).min(end);
        self.clear_entries(memory, table, frame, next);
        next
    }

    /// Ends the bindings from `first` up to `end` that a lowest table has.
    fn clear_entries(&mut self, memory: &mut impl TableMemory, table: u64, first: u64, end: u64) {
        let mut entries = memory.entries(table);
        for frame in first..end {
            if entries == 0 {
                break;
            }
            if self.format.is_present(memory.read(table, index(frame, 0))) {
                memory.write(table, index(frame, 0), 0);
                memory.unbound(frame, false);
                entries -= 1;
                self.flush = true;
            }
        }
        memory.set_entries(table, entries);
        // An empty table is on somebody's account: one is kept, no more.
        if entries == 0 && self.spare != Some(region(first)) {
            self.drop_spare(memory);
            self.spare = Some(region(first));
        }
    }

    /// Whether unmapping the run would have to split a 2 MiB entry, and so needs a frame for a table.
    pub fn needs_split(&self, memory: &impl TableReader, first: u64, count: u64) -> bool {
        let cuts = |edge: u64| {
            !edge.is_multiple_of(LARGE_FRAMES) && self.entry(memory, edge).is_some_and(|(_, large)| large)
        };
        count != 0 && (cuts(first) || cuts(first + count))
    }

    /// The leaf that binds a frame, and whether it is large.
    fn entry(&self, memory: &impl TableReader, frame: u64) -> Option<(u64, bool)> {
        if frame >> (9 * LEVELS) != 0 {
            return None;
        }
        let mut table = self.root;
        for level in (1..LEVELS).rev() {
            let entry = memory.read(table, index(frame, level));
            if !self.format.is_present(entry) {
                return None;
            }
            if level == 1 && self.format.is_large(entry) {
                return Some((entry, true));
            }
            table = self.format.frame(entry);
        }
        let entry = memory.read(table, index(frame, 0));
        self.format.is_present(entry).then_some((entry, false))
    }

    /// How the 512 frames around a frame are bound.
    fn lowest(&self, memory: &impl TableReader, frame: u64) -> Lowest {
        let mut table = self.root;
        for level in (1..LEVELS).rev() {
            let entry = memory.read(table, index(frame, level));
            if !self.format.is_present(entry) {
                return Lowest::Absent;
            }
            if level == 1 && self.format.is_large(entry) {
                return Lowest::Large;
            }
            table = self.format.frame(entry);
        }
        Lowest::Table(table)
    }

    /// Entries for single frames among the 512 around a frame. `entries` says how many a table has.
    pub fn small_entries(&self, memory: &impl TableReader, frame: u64, entries: impl Fn(u64) -> u16) -> u64 {
        match self.lowest(memory, frame) {
            Lowest::Table(table) => entries(table).into(),
            Lowest::Absent | Lowest::Large => 0,
        }
    }

    /// Whether all frames of a run within 512 are bound. `entries` says how many a table has.
    pub fn all_bound(
        &self,
        memory: &impl TableReader,
        mut run: Range<u64>,
        entries: impl Fn(u64) -> u16,
    ) -> bool {
        match self.lowest(memory, run.start) {
            Lowest::Absent => run.is_empty(),
            Lowest::Large => true,
            Lowest::Table(table) if run.end - run.start == LARGE_FRAMES => {
                u64::from(entries(table)) == LARGE_FRAMES
            }
            Lowest::Table(table) => {
                run.all(|frame| self.format.is_present(memory.read(table, index(frame, 0))))
            }
        }
    }

    /// Rights with which a frame is bound; `None` if it is not.
    pub fn lookup(&self, memory: &impl TableReader, frame: u64) -> Option<Rights> {
        self.entry(memory, frame).map(|(entry, _)| self.format.rights(entry))
    }

    /// Ends bindings and gives back tables, a piece at a time; no guest uses the table any more, and nobody
    /// will change it. `cursor` is 0 at first, then what the last call returned; `None`: nothing is left, not
    /// even the top table.
    pub fn take_apart(&mut self, memory: &mut impl TableMemory, cursor: u64) -> Option<u64> {
        let (mut frame, mut work) = (cursor, 0);
        self.drop_spare(memory);
        while work < WORK {
            if frame >= END_FRAME {
                memory.release(self.root);
                return None;
            }
            let next = self.unmap_next(memory, frame, END_FRAME);
            if self.spare.is_some() {
                self.drop_spare(memory);
                work += TABLE_WORK;
            }
            work += 1;
            self.drop_passed(memory, frame, next);
            frame = next;
        }
        Some(frame)
    }

    /// Gives back the tables above the lowest whose last frame lies between `from` and `to`.
    fn drop_passed(&mut self, memory: &mut impl TableMemory, from: u64, to: u64) {
        for level in 1..LEVELS - 1 {
            let span = 1u64 << (9 * (level + 1));
            if from / span == to / span {
                return;
            }
            let mut parent = self.root;
            for above in (level + 2..LEVELS).rev() {
                let entry = memory.read(parent, index(from, above));
                if !self.format.is_present(entry) {
                    return;
                }
                parent = self.format.frame(entry);
            }
            let entry = memory.read(parent, index(from, level + 1));
            if self.format.is_present(entry) {
                self.set(memory, parent, index(from, level + 1), 0);
                memory.release(self.format.frame(entry));
            }
        }
    }
}

#[cfg(test)]
mod tests;
