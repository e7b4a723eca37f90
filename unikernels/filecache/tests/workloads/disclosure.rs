//! What workloads disclose of the blocks that they will read, against what they read then.

use super::{data_of, options, run_on};
use filecache::files::{Advice, FileAccess, FileError, Storage, WorkFile};
use filecache::workload::Context;
use filecache::{Options, Policy, Workload, run_program};
use libos_fs::{CacheOptions, FileId, RamDisk, ReadAheadKind, Volume};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

/// Storage that notes which blocks of its files were disclosed, and which of them were read.
#[derive(Default)]
struct Foretold {
    /// Disclosed so often, and not read since.
    open: HashMap<(FileId, u64), u64>,
    disclosed: u64,
    /// Blocks that were disclosed before they were read, and that were not.
    told: u64,
    untold: u64,
}

struct Watched<'v>(&'v Volume, Rc<RefCell<Foretold>>);

struct WatchedFile(WorkFile, Rc<RefCell<Foretold>>);

impl Watched<'_> {
    fn watch(&self, file: WorkFile) -> WorkFile {
        WorkFile::new(WatchedFile(file, Rc::clone(&self.1)))
    }
}

impl Storage for Watched<'_> {
    fn open(&self, path: &str) -> Result<WorkFile, FileError> {
        Storage::open(self.0, path).map(|file| self.watch(file))
    }
    fn create(&self, path: &str) -> Result<WorkFile, FileError> {
        Storage::create(self.0, path).map(|file| self.watch(file))
    }
    fn remove(&self, path: &str) -> Result<(), FileError> {
        Storage::remove(self.0, path)
    }
    fn commit(&self) -> Result<(), FileError> {
        Storage::commit(self.0)
    }
}

impl FileAccess for WatchedFile {
    fn id(&self) -> FileId {
        FileId::from(&self.0)
    }
    fn bytes(&self) -> Result<u64, FileError> {
        self.0.bytes()
    }
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<usize, FileError> {
        let count = self.0.read_at(offset, into)?;
        let noted = &mut *self.1.borrow_mut();
        for block in offset / 4096..(offset + count as u64).div_ceil(4096) {
            match noted.open.get_mut(&(self.id(), block)).filter(|open| **open > 0) {
                Some(open) => (*open, noted.told) = (*open - 1, noted.told + 1),
                None => noted.untold += 1,
            }
        }
        Ok(count)
    }
    fn write_at(&self, offset: u64, from: &[u8]) -> Result<(), FileError> {
        self.0.write_at(offset, from)
    }
    fn will_need(&self, blocks: Range<u64>) -> Result<(), FileError> {
        let end = blocks.end.min(self.bytes()?.div_ceil(4096));
        let noted = &mut *self.1.borrow_mut();
        for block in blocks.start..end {
            *noted.open.entry((self.id(), block)).or_default() += 1;
            noted.disclosed += 1;
        }
        self.0.will_need(blocks)
    }
}

/// Runs a workload under its own policy; says what it disclosed.
fn foretold(workload: Workload, read_ahead: ReadAheadKind) -> Rc<RefCell<Foretold>> {
    let disk = RamDisk::from_bytes(data_of(workload).image.clone());
    let volume = Volume::mount(Box::new(disk), CacheOptions { read_ahead, ..CacheOptions::default() });
    let volume = volume.expect("is sound");
    let watched = Watched(&volume, Rc::default());
    let context =
        Context { storage: &watched, advice: Advice::Own(filecache::files::OwnCache::One(volume.cache())) };
    let mut resize = |blocks| {
        volume.cache().resize(blocks as usize).expect("nothing is dirty");
        Ok(())
    };
    let (_, checked) = run_program(&context, &Options::new(workload), &mut resize).expect("runs");
    assert!(checked.verified(), "{}: {:?}", workload.name(), checked.differences);
    watched.1
}

/// What is disclosed is read, and most of what is read has been disclosed: all but tasks and lists of files,
/// the link's first pass and its further looks at the blocks of an object, and the index of the join.
#[test]
fn workloads_disclose_what_they_will_read() {
    use Workload::{Cs, Cs1, Cs3, Din, Gli, Ldk, Pjn, Search, Sort};
    for (workload, share) in
        [(Cs, 95), (Cs1, 95), (Cs3, 95), (Search, 95), (Din, 95), (Sort, 95), (Gli, 95), (Ldk, 20), (Pjn, 25)]
    {
        let what = workload.name();
        let noted = foretold(workload, ReadAheadKind::Aggressive);
        let Foretold { disclosed, told, untold, .. } = *noted.borrow();
        println!("{what}: {disclosed} disclosed, {told} of them read, {untold} read besides");
        assert!(told * 100 >= disclosed * 98, "{what}: {told} of {disclosed} were read");
        assert!(told * 100 >= (told + untold) * share, "{what}: {told} told, {untold} not");
    }
}

/// Who does not make use of disclosures is not told any that take work, and sees the references of a program
/// that says nothing.
#[test]
fn nothing_changes_where_nobody_makes_use_of_disclosures() {
    for workload in Workload::ALL {
        let of = |policy| {
            let asked = options(workload, policy);
            run_on(&data_of(workload).image, &Options { read_ahead: ReadAheadKind::None, ..asked }).references
        };
        assert_eq!(of(Policy::Own), of(Policy::Default), "{}", workload.name());
    }
    let noted = foretold(Workload::Pjn, ReadAheadKind::Sequential);
    assert_eq!(noted.borrow().disclosed, 0);
}
