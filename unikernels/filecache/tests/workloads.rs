//! All workloads under all policies, on a disk in memory: results, counts of reads, and that damage is noticed.

use filecache::data::sources::SourceFile;
use filecache::data::{DataSet, write};
use filecache::{CacheSize, Options, Outcome, Policy, RunError, Workload, run};
use libos_fs::cache::optimal_misses;
use libos_fs::{BlockDevice, Completion, Operation, PolicyKind, RamDisk, Rejected, Request};
use std::cell::Cell;
use std::rc::Rc;

/// A small generator of numbers: the data are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit
    }
}

const WORDS: [&str; 16] = [
    "fn",
    "alpha",
    "beta",
    "let",
    "gamma",
    "struct",
    "unsafe impl",
    "TODO",
    "delta(x)",
    "assert_eq!(a, b)",
    "macro_rules! epsilon",
    "// note",
    "zeta",
    "Result<()",
    "wrapping_add",
    "enum",
];

fn text(numbers: &mut Numbers, lines: u64) -> String {
    let mut text = String::new();
    for _ in 0..lines {
        for _ in 0..1 + numbers.below(9) {
            text.push_str(WORDS[numbers.below(16) as usize]);
            text.push_str(["", "_a", "_b", "1"][numbers.below(4) as usize]);
            text.push(' ');
        }
        text.push('\n');
    }
    text
}

fn data_set() -> DataSet {
    let mut numbers = Numbers(2026);
    let sources = (0..40)
        .map(|index| {
            let lines = 100 + numbers.below(900);
            SourceFile {
                path: format!("p-{}/src/f{index:02}.rs", index / 7),
                text: text(&mut numbers, lines),
            }
        })
        .collect();
    let mut trace = String::new();
    let mut fetch = 0x40_1000;
    for _ in 0..90_000 {
        fetch = if numbers.below(5) == 0 { 0x40_1000 + numbers.below(1 << 15) } else { fetch + 4 };
        trace.push_str(&format!("2 {fetch:x}\n"));
        if numbers.below(3) == 0 {
            trace.push_str(&format!("{} {:x}\n", numbers.below(2), 0x7fff_0000 + numbers.below(1 << 17)));
        }
    }
    DataSet { sources, trace, text: text(&mut numbers, 30_000) }
}

/// A disk with the image of [`data_set`].
fn image() -> Vec<u8> {
    let disk = RamDisk::new(4096);
    let blocks = disk.clone();
    let files = data_set().files().expect("tasks can be written as JSON");
    write(&files, &mut || Ok(Box::new(blocks.clone())), &mut |_| ()).expect("the image has room");
    disk.to_bytes()
}

fn options(workload: Workload, policy: Policy) -> Options {
    Options { policy, record: true, ..Options::new(workload) }
}

fn run_on(image: &[u8], options: &Options) -> Outcome {
    run(Box::new(RamDisk::from_bytes(image.to_vec())), options, &|| 0).expect("the workload runs to its end")
}

fn policies() -> Vec<Policy> {
    let forced = PolicyKind::ALL.into_iter().map(Policy::Forced);
    [Policy::Default, Policy::Own].into_iter().chain(forced).collect()
}

#[test]
fn every_workload_is_right_under_every_policy_and_never_beats_the_optimum() {
    let image = image();
    for workload in Workload::ALL {
        for policy in policies() {
            let outcome = run_on(&image, &options(workload, policy));
            let what = format!("{} {}", workload.name(), policy.name());
            assert!(outcome.line.verified, "{what}: {:?}", outcome.differences);
            let line = &outcome.line;
            assert_eq!(line.references, outcome.references.len() as u64, "{what}");
            assert_eq!(line.hits + line.misses, line.references, "{what}");
            let optimum = optimal_misses(line.cache_blocks as usize, &outcome.references);
            assert!(line.misses >= optimum, "{what}: {} misses, optimum {optimum}", line.misses);
            let wasted = outcome.statistics.staged_wasted;
            assert_eq!(line.reads, line.misses - line.allocated + wasted + line.metadata_reads, "{what}");
            println!(
                "{what}: cache {} of {}, reads {}, requests {}, writes {}, misses {}, optimum {optimum}",
                line.cache_blocks, line.data_blocks, line.reads, line.read_requests, line.writes, line.misses
            );
        }
    }
}

#[test]
fn own_policies_save_what_the_formula_promises() {
    let image = image();
    for workload in [Workload::Cs, Workload::Din] {
        let default = run_on(&image, &options(workload, Policy::Default)).line;
        let own = run_on(&image, &options(workload, Policy::Own));
        let (passes, data, cache) = (default.passes, default.data_blocks, default.cache_blocks);
        // Task, list of files and metadata come on top of the loops, once.
        let once = default.metadata_reads + 8;
        assert!(default.reads >= passes * data && default.reads <= passes * data + once, "{default:?}");
        let promised = data + (passes - 1) * (data - cache);
        assert!(own.line.reads <= (promised + once) * 105 / 100, "{} > {promised}", own.line.reads);
        assert!(own.line.reads * 10 <= default.reads * 4, "{} of {}", own.line.reads, default.reads);
        let optimum = optimal_misses(own.line.cache_blocks as usize, &own.references);
        assert!(own.line.misses * 100 <= optimum * 105, "{} misses, optimum {optimum}", own.line.misses);
    }
}

#[test]
fn sort_reads_and_writes_less_when_it_says_what_it_knows() {
    let image = image();
    let default = run_on(&image, &options(Workload::Sort, Policy::Default)).line;
    let own = run_on(&image, &options(Workload::Sort, Policy::Own)).line;
    assert!(own.reads < default.reads, "{} reads of {}", own.reads, default.reads);
    assert!(own.writes <= default.writes, "{} writes of {}", own.writes, default.writes);
}

/// A disk that changes one bit of one block in every read after the first `good` ones of that block.
struct Lying {
    disk: RamDisk,
    block: u64,
    good: u64,
    reads: Rc<Cell<u64>>,
    pending: Vec<(u64, u64)>,
}

impl BlockDevice for Lying {
    fn blocks(&self) -> u64 {
        self.disk.blocks()
    }
    fn max_request_blocks(&self) -> usize {
        self.disk.max_request_blocks()
    }
    fn read_only(&self) -> bool {
        self.disk.read_only()
    }
    fn submit(&mut self, request: Request) -> Result<(), Rejected> {
        let end = request.block + request.buffers.len() as u64;
        if request.operation == Operation::Read && (request.block..end).contains(&self.block) {
            self.pending.push((request.tag, self.block - request.block));
        }
        self.disk.submit(request)
    }
    fn poll(&mut self) -> Option<Completion> {
        let mut completion = self.disk.poll()?;
        if let Some(at) = self.pending.iter().position(|(tag, _)| *tag == completion.tag) {
            let (_, index) = self.pending.swap_remove(at);
            self.reads.set(self.reads.get() + 1);
            if self.reads.get() > self.good {
                completion.buffers[index as usize].0[1234] ^= 1;
            }
        }
        Some(completion)
    }
    fn wait(&mut self) {
        self.disk.wait();
    }
}

/// The first block of the image that starts like `start`.
fn block_of(image: &[u8], start: &[u8]) -> u64 {
    image.chunks(4096).position(|block| block.starts_with(start)).expect("the image holds the file") as u64
}

#[test]
fn a_cache_that_lies_cannot_pass() {
    let image = image();
    let data = data_set();
    let source = &data.sources[20].text;
    for (workload, start) in [
        (Workload::Cs, &source.as_bytes()[4096..4196]),
        (Workload::Din, &data.trace.as_bytes()[40960..41060]),
        (Workload::Sort, &data.text.as_bytes()[40960..41060]),
    ] {
        let block = block_of(&image, start);
        // Wrong from the first read, and, where blocks are read again, wrong only later.
        for good in if workload == Workload::Sort { 0..1 } else { 0..4 } {
            let reads = Rc::new(Cell::new(0));
            let device = Lying {
                disk: RamDisk::from_bytes(image.clone()),
                block,
                good,
                reads: Rc::clone(&reads),
                pending: Vec::new(),
            };
            let result = run(Box::new(device), &options(workload, Policy::Default), &|| 0);
            assert!(reads.get() > good, "the damage was seen");
            match result {
                Ok(outcome) => {
                    assert!(!outcome.line.verified, "{} {good}", workload.name());
                    assert!(!outcome.differences.is_empty());
                }
                Err(error) => assert!(matches!(error, RunError::Malformed { .. }), "{error}"),
            }
        }
    }
}

#[test]
fn a_damaged_file_is_named() {
    let image = vec![0; 4096 * 64];
    let result = run(Box::new(RamDisk::from_bytes(image)), &Options::new(Workload::Din), &|| 0);
    assert!(matches!(&result, Err(RunError::File { path, .. }) if path == "the volume"), "{result:?}");
}

#[test]
fn command_lines_are_understood_or_refused_with_the_key() {
    let parse = |line: &'static str| {
        Options::parse(|key| line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('=')))
    };
    let full = parse("workload=cs policy=mru cache=800 read_ahead=none record=1").expect("is sound");
    assert_eq!(full.workload, Workload::Cs);
    assert_eq!(full.policy, Policy::Forced(PolicyKind::Mru));
    assert_eq!(full.cache, CacheSize::Blocks(800));
    assert!(full.record);
    assert_eq!(parse("workload=din").expect("is sound"), Options::new(Workload::Din));
    for (line, key) in [
        ("policy=own", "workload"),
        ("workload=x", "workload"),
        ("workload=cs policy=best", "policy"),
        ("workload=cs cache=0%", "cache"),
        ("workload=cs cache=many", "cache"),
        ("workload=cs read_ahead=far", "read_ahead"),
        ("workload=cs record=yes", "record"),
    ] {
        assert!(
            matches!(parse(line), Err(RunError::Argument { key: named, .. }) if named == key),
            "{line}: {:?}",
            parse(line)
        );
    }
}
