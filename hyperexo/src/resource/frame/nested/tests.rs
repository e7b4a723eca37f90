//! Nested page tables against a model, and against what the manuals demand.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};

#[derive(Default)]
struct Memory {
    tables: HashMap<u64, [u64; 512]>,
    next: u64,
    limit: usize,
    bound: BTreeMap<u64, ()>,
    entries: HashMap<u64, u16>,
    released: bool,
}

impl Memory {
    fn with_limit(limit: usize) -> Memory {
        Memory { next: 1 << 30, limit, ..Memory::default() }
    }
}

impl TableReader for Memory {
    fn read(&self, table: u64, index: usize) -> u64 {
        self.tables[&table][index]
    }
}

impl TableMemory for Memory {
    fn write(&mut self, table: u64, index: usize, entry: u64) {
        self.tables.get_mut(&table).unwrap()[index] = entry;
    }
    fn allocate(&mut self) -> Option<u64> {
        if self.tables.len() >= self.limit {
            return None;
        }
        self.next += 1;
        self.tables.insert(self.next, [0; 512]);
        self.entries.insert(self.next, 0);
        Some(self.next)
    }
    fn release(&mut self, table: u64) {
        let entries = self.tables.remove(&table).expect("release of a table that is not there");
        assert!(entries.iter().all(|entry| *entry == 0), "a table is empty when it is given back");
        self.released = true;
    }
    fn entries(&self, table: u64) -> u16 {
        self.entries[&table]
    }
    fn set_entries(&mut self, table: u64, entries: u16) {
        self.entries.insert(table, entries);
    }
    fn bound(&mut self, frame: u64, large: bool) {
        for frame in frame..frame + if large { LARGE_FRAMES } else { 1 } {
            assert!(self.bound.insert(frame, ()).is_none(), "frame {frame} bound twice");
        }
    }
    fn split(&mut self, first: u64) {
        assert!((first..first + LARGE_FRAMES).all(|frame| self.bound.contains_key(&frame)));
    }
    fn unbound(&mut self, frame: u64, large: bool) {
        for frame in frame..frame + if large { LARGE_FRAMES } else { 1 } {
            assert!(self.bound.remove(&frame).is_some(), "frame {frame} was not bound");
        }
    }
}

impl Memory {
    /// Each table's count is that of its entries.
    fn counts_are_right(&self) -> bool {
        self.tables.iter().all(|(table, entries)| {
            entries.iter().filter(|entry| **entry & 1 != 0).count() == usize::from(self.entries[table])
        })
    }
}

fn take_apart(mut table: NestedTable, memory: &mut Memory) {
    let mut cursor = 0;
    while let Some(next) = table.take_apart(memory, cursor) {
        assert!(next > cursor, "it gets on");
        cursor = next;
    }
}

#[test]
fn leaves_look_as_the_manuals_say() {
    let leaf = |format: EntryFormat, rights, large| format.leaf(0x12345, rights, large);
    assert_eq!(leaf(EntryFormat::Npt, Rights::READ, false), 1 << 63 | 0x1234_5005);
    assert_eq!(leaf(EntryFormat::Npt, Rights::ALL, true), 0x1234_5087);
    assert_eq!(leaf(EntryFormat::Ept, Rights::READ, false), 0x1234_5071);
    assert_eq!(leaf(EntryFormat::Ept, Rights::ALL, true), 0x1234_50f7);
    assert_eq!(EntryFormat::Ept.table(1), 0x1007);
}

#[test]
fn aligned_runs_take_one_large_entry() {
    let mut memory = Memory::with_limit(100);
    let mut table = NestedTable::new(EntryFormat::Npt, &mut memory).unwrap();
    table.map(&mut memory, 512, 1024, Rights::READ_WRITE).unwrap();
    assert_eq!(memory.tables.len(), 3);
    assert!(!table.take_flush(), "new entries need no flush");
    assert!(table.needs_split(&memory, 600, 1) && !table.needs_split(&memory, 512, 512));
    table.unmap(&mut memory, 600, 1);
    assert!(table.take_flush() && !table.take_flush());
    assert_eq!(memory.tables.len(), 4);
    assert_eq!(table.lookup(&memory, 600), None);
    assert_eq!(table.lookup(&memory, 599), Some(Rights::READ_WRITE));
    table.map(&mut memory, 512, 512, Rights::READ).unwrap();
    assert_eq!(memory.tables.len(), 3);
    take_apart(table, &mut memory);
    assert!(memory.tables.is_empty() && memory.bound.is_empty());
}

#[test]
fn a_released_table_is_flushed_even_if_nothing_was_in_it() {
    let mut memory = Memory::with_limit(100);
    let mut table = NestedTable::new(EntryFormat::Npt, &mut memory).unwrap();
    table.map(&mut memory, 512, 1, Rights::READ).unwrap();
    assert!(!table.take_flush());
    table.unmap(&mut memory, 512, 1);
    assert!(table.take_flush() && !memory.released, "one empty table is kept");
    table.map(&mut memory, 1024, 1, Rights::READ).unwrap();
    table.unmap(&mut memory, 1024, 1);
    assert!(table.take_flush() && memory.released, "only one");
    assert_eq!(memory.tables.len(), 4);
    memory.released = false;
    table.drop_spare(&mut memory);
    assert!(table.take_flush() && memory.released);
    assert_eq!(memory.tables.len(), 3, "the empty tables are gone");
    table.map(&mut memory, 512, 512, Rights::READ).unwrap();
    assert_eq!(memory.tables.len(), 3);
}

#[test]
fn one_frame_bound_again_and_again_costs_no_table() {
    let mut memory = Memory::with_limit(4);
    let mut table = NestedTable::new(EntryFormat::Ept, &mut memory).unwrap();
    for _ in 0..3 {
        table.map(&mut memory, 700, 1, Rights::READ_WRITE).unwrap();
        assert_eq!((memory.tables.len(), table.lookup(&memory, 700)), (4, Some(Rights::READ_WRITE)));
        table.unmap(&mut memory, 700, 1);
        assert!(!memory.released && table.lookup(&memory, 700).is_none());
    }
    table.map(&mut memory, 512, 512, Rights::READ).unwrap();
    assert_eq!(memory.tables.len(), 3, "a large entry has no use for it");
    take_apart(table, &mut memory);
    assert!(memory.tables.is_empty());
}

#[test]
fn without_a_table_to_split_into_the_whole_large_entry_goes() {
    let mut memory = Memory::with_limit(3);
    let mut table = NestedTable::new(EntryFormat::Npt, &mut memory).unwrap();
    table.map(&mut memory, 0, 512, Rights::READ).unwrap();
    table.unmap(&mut memory, 7, 1);
    assert_eq!(table.lookup(&memory, 7), None);
    assert_eq!(table.lookup(&memory, 8), None);
    assert!(table.take_flush());
}

#[test]
fn lookups_beyond_the_address_space_find_nothing() {
    let mut memory = Memory::with_limit(100);
    let mut table = NestedTable::new(EntryFormat::Npt, &mut memory).unwrap();
    table.map(&mut memory, 0, 1, Rights::READ).unwrap();
    assert_eq!(table.lookup(&memory, 1 << 36), None);
    assert_eq!(table.lookup(&memory, u64::MAX), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn agrees_with_a_map_from_frame_to_rights(
        steps in prop::collection::vec((any::<bool>(), 0u64..1100, 1u64..700, 1u8..8), 1..16),
        format in prop::sample::select(vec![EntryFormat::Npt, EntryFormat::Ept, EntryFormat::EptSmallCode]),
    ) {
        let mut memory = Memory::with_limit(usize::MAX);
        let mut table = NestedTable::new(format, &mut memory).unwrap();
        let mut model = BTreeMap::new();
        for (map, first, count, rights) in steps {
            let rights = Rights(rights).union(Rights::READ);
            let weaker = (first..first + count).any(|frame| model.get(&frame).is_some_and(|old| !map || *old != rights));
            memory.released = false;
            if map {
                let needed = table.tables_needed(&memory, first, count, rights, &mut Counted::default());
                let before = memory.tables.len();
                memory.limit = before + needed as usize;
                table.map(&mut memory, first, count, rights).unwrap();
                memory.limit = usize::MAX;
                model.extend((first..first + count).map(|frame| (frame, rights)));
            } else {
                table.unmap(&mut memory, first, count);
                (first..first + count).for_each(|frame| { model.remove(&frame); });
            }
            let flush = table.take_flush();
            prop_assert!(flush || !weaker, "an entry changed without a flush");
            prop_assert!(flush || !memory.released, "a table was released without a flush");
            for frame in 0..1800 {
                prop_assert_eq!(table.lookup(&memory, frame), model.get(&frame).copied());
            }
            prop_assert_eq!(memory.bound.len(), model.len());
            prop_assert!(memory.counts_are_right());
        }
        take_apart(table, &mut memory);
        prop_assert!(memory.tables.is_empty() && memory.bound.is_empty());
    }
}

#[test]
fn where_large_code_is_unsafe_only_data_has_large_entries() {
    let mut memory = Memory::with_limit(100);
    let mut table = NestedTable::new(EntryFormat::EptSmallCode, &mut memory).unwrap();
    let is_large =
        |table: &NestedTable, memory: &Memory| table.entry(memory, 512).is_some_and(|(_, large)| large);
    table.map(&mut memory, 512, 512, Rights::READ_WRITE).unwrap();
    assert!(is_large(&table, &memory));
    let all = Rights::READ_WRITE.union(Rights::EXECUTE);
    let (before, needed) =
        (memory.tables.len(), table.tables_needed(&memory, 512, 512, all, &mut Counted::default()));
    table.map(&mut memory, 512, 512, all).unwrap();
    assert!(!is_large(&table, &memory));
    assert_eq!(memory.tables.len() - before, needed as usize, "counted before");
    assert!((512..1024).all(|frame| table.lookup(&memory, frame) == Some(all)));
    table.map(&mut memory, 512, 512, Rights::READ).unwrap();
    assert!(is_large(&table, &memory), "data again");
}
