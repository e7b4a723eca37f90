//! What workloads disclose of the blocks that they will read, against what they read then.

use super::{data_of, options, run_on};
use filecache::files::{Advice, FileAccess, FileError, Storage, WorkFile};
use filecache::workload::Context;
use filecache::{CacheSize, Options, Outcome, Policy, Workload, run_observed, run_program};
use libos_fs::cache::{Event, Observer, block_of, fixed_set_misses, optimal_misses};
use libos_fs::device::{DiskTime, SimulatedClock, TimedDisk};
use libos_fs::{CacheOptions, FileId, RamDisk, ReadAheadKind, Volume};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
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
    let advice = Advice::Own(filecache::files::OwnCache::One(volume.cache()));
    let context = Context { storage: &watched, advice, now_ns: &|| 0 };
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

/// Of a record, how often each block is used.
fn uses(references: &[u64]) -> BTreeMap<(FileId, u64), u64> {
    let mut uses = BTreeMap::new();
    references.iter().for_each(|number| *uses.entry(block_of(*number)).or_default() += 1);
    uses
}

/// The program of a workload is the same whatever it tells the cache: it uses the same blocks in the same
/// order. A store reads its counts before. The join asks the index sooner, and for that reads outer tuples a
/// second time.
#[test]
fn nothing_changes_where_nobody_makes_use_of_disclosures() {
    for workload in Workload::ALL {
        let of = |policy| {
            let asked = options(workload, policy);
            run_on(&data_of(workload).image, &Options { read_ahead: ReadAheadKind::None, ..asked }).references
        };
        let (mut own, default) = (of(Policy::Own), of(Policy::Default));
        let (used_by_own, used) = (uses(&own), uses(&default));
        match workload {
            Workload::Pjn => {
                assert_eq!(own.len() as u64, default.len() as u64 + outer_blocks(), "{}", workload.name());
                let more = used_by_own.iter().filter(|(block, count)| used.get(block) != Some(count)).count();
                assert_eq!(more as u64, outer_blocks(), "{} blocks are used more often", workload.name());
                continue;
            }
            Workload::Ycsb(_) => {
                let counts = used_by_own.len() - used.len();
                assert!(counts <= 1, "the counts fit into a block");
                own.retain(|number| used.contains_key(&block_of(*number)));
            }
            _ => {}
        }
        assert_eq!(own, default, "{}", workload.name());
    }
    let noted = foretold(Workload::Gli, ReadAheadKind::Sequential);
    assert_eq!(noted.borrow().disclosed, 0);
}

fn outer_blocks() -> u64 {
    let files = &data_of(Workload::Pjn).files;
    let outer = files.iter().find(|file| file.path == filecache::pjn::OUTER_PATH).expect("there is one");
    outer.bytes.len().div_ceil(4096) as u64
}

/// Knowing what the next query reads, `gli` misses what the optimum does, and one block: the last it read of
/// the first query may have been the wrong one.
#[test]
fn a_known_next_query_comes_to_the_optimum() {
    for cache in CacheSize::PAPER {
        let asked = options(Workload::Gli, Policy::Own);
        let asked = Options { cache, read_ahead: ReadAheadKind::None, ..asked };
        let outcome = run_on(&data_of(Workload::Gli).image, &asked);
        let optimum = optimal_misses(outcome.line.cache_blocks as usize, &outcome.references);
        assert!(outcome.line.misses <= optimum * 101 / 100, "{} of {optimum}", outcome.line.misses);
    }
}

/// Looking ahead in the outer relation is worth the blocks that it reads a second time.
#[test]
fn a_join_that_looks_ahead_misses_less_than_the_best_fixed_set() {
    for cache in CacheSize::PAPER {
        let of = |policy| {
            let asked = options(Workload::Pjn, policy);
            run_on(
                &data_of(Workload::Pjn).image,
                &Options { cache, read_ahead: ReadAheadKind::None, ..asked },
            )
        };
        let (own, default) = (of(Policy::Own).line, of(Policy::Default));
        let fixed = fixed_set_misses(&[own.cache_blocks as usize], default.references)[0];
        println!("{} blocks: {} misses, fixed {fixed}", own.cache_blocks, own.misses);
        assert!(own.misses * 100 <= fixed * 105, "{} misses, fixed {fixed}", own.misses);
    }
}

/// What a workload takes in calculated time under its own policy, on a disk of 20 MB/s, and its result.
fn takes(workload: Workload, read_ahead: ReadAheadKind, compute_ns: u64) -> (u64, Outcome) {
    let time = DiskTime { request_ns: 50_000, block_ns: 4096 * 1_000_000_000 / 20_000_000 };
    let clock = SimulatedClock::default();
    let disk = RamDisk::from_bytes(data_of(workload).image.clone());
    let disk = TimedDisk::new(disk, time, clock.clone(), 16);
    let computing = clock.clone();
    let observer: Observer = Box::new(move |event| {
        if !matches!(event, Event::Evicted(_)) {
            computing.advance(compute_ns);
        }
    });
    let asked = Options { read_ahead, policy: Policy::Own, ..Options::new(workload) };
    let outcome = run_observed(Box::new(disk), &asked, &|| clock.now_ns(), Some(observer)).expect("runs");
    (clock.now_ns(), outcome)
}

/// However much a workload computes for each block: fetching what it discloses never takes longer than
/// fetching nothing ahead, and hardly more is read.
#[test]
fn prefetching_costs_no_workload_time() {
    use Workload::{Cs, Din, Gli, Ldk, Pjn, Search, Sort};
    for workload in [Din, Cs, Search, Sort, Gli, Ldk, Pjn] {
        for compute_ns in [0, 50_000, 200_000, 800_000] {
            let (none_ns, none) = takes(workload, ReadAheadKind::None, compute_ns);
            let (aggressive_ns, aggressive) = takes(workload, ReadAheadKind::Aggressive, compute_ns);
            let (none, aggressive) = (none.line, aggressive.line);
            let what = format!("{} computing {compute_ns} ns a block", workload.name());
            println!("{what}: {none_ns} to {aggressive_ns} ns, {} to {} reads", none.reads, aggressive.reads);
            assert!(aggressive_ns <= none_ns, "{what}: {none_ns} to {aggressive_ns} ns");
            assert!(
                aggressive.reads * 100 <= none.reads * 110,
                "{what}: {} to {} reads",
                none.reads,
                aggressive.reads
            );
        }
    }
}
