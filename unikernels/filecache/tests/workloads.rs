//! All workloads under all policies, on a disk in memory: results, counts of reads, and that damage is
//! noticed.

#[path = "workloads/cores.rs"]
mod cores;
#[path = "workloads/disclosure.rs"]
mod disclosure;
#[path = "workloads/read_ahead.rs"]
mod read_ahead;

use filecache::data::sources::SourceFile;
use filecache::data::{DataSet, ImageFile, Origin, Sizes, collect, gli, ldk, write};
use filecache::files::FileError;
use filecache::ycsb::Mix;
use filecache::{CacheSize, DataFamily, Options, Outcome, Policy, RunError, Workload, din, run};
use libos_fs::cache::{
    Allocation, ManagedSimulation, ManagerId, Referenced, block_of, fixed_set_misses, optimal_misses,
    simulate,
};
use libos_fs::{
    BlockDevice, CacheOptions, CachePlan, Completion, FileId, FsError, Operation, PolicyKind, RamDisk,
    ReadAheadKind, Rejected, Request, Volume,
};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::task::Waker;

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
    let sources = (0..30)
        .map(|index| {
            let lines = 150 + numbers.below(450);
            SourceFile {
                path: format!("p-{}/src/f{index:02}.rs", index / 7),
                text: text(&mut numbers, lines),
            }
        })
        .collect();
    let mut trace = String::new();
    let mut fetch = 0x40_1000;
    for _ in 0..40_000 {
        fetch = if numbers.below(5) == 0 { 0x40_1000 + numbers.below(1 << 15) } else { fetch + 4 };
        trace.push_str(&format!("2 {fetch:x}\n"));
        if numbers.below(3) == 0 {
            trace.push_str(&format!("{} {:x}\n", numbers.below(2), 0x7fff_0000 + numbers.below(1 << 17)));
        }
    }
    DataSet { sources, trace, text: text(&mut numbers, 12_000) }
}

/// A disk with these files.
fn disk_with(files: &[ImageFile]) -> RamDisk {
    let disk = RamDisk::new(2048);
    write(files, &mut || Ok(Box::new(disk.clone())), &mut |_| ()).expect("the image has room");
    disk
}

/// A partition: words from a few hundred, some of them common.
fn articles(numbers: &mut Numbers) -> String {
    let mut text = String::new();
    for _ in 0..300 {
        for _ in 0..8 {
            let word = numbers.below(30) * numbers.below(30);
            text.push_str(&format!("word{word} "));
        }
        text.push('\n');
    }
    text
}

/// An archive of the toolchain: objects that are the same for everybody.
fn archive(name: &str) -> Vec<u8> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = Command::new(rustc).args(["--print", "target-libdir"]).output().expect("rustc is there");
    let folder = String::from_utf8(said.stdout).expect("a path");
    let found = std::fs::read_dir(folder.trim()).expect("the toolchain's libraries");
    let path = found.filter_map(|entry| Some(entry.ok()?.path())).find(|path| {
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        file.starts_with(&format!("{name}-")) && file.ends_with(".rlib")
    });
    std::fs::read(path.expect("the toolchain has it")).expect("can be read")
}

/// Data that take a moment each.
const SIZES: Sizes = Sizes {
    source_bytes: 0,
    trace_bytes: 0,
    text_bytes: 0,
    article_bytes: 0,
    relation_bytes: 600_000,
    store_bytes: 600_000,
};

/// The files of a workload's family, and an image with them.
struct Data {
    files: Vec<ImageFile>,
    image: Vec<u8>,
}

fn data_of(workload: Workload) -> &'static Data {
    static DATA: [OnceLock<Data>; DataFamily::ALL.len()] = [const { OnceLock::new() }; DataFamily::ALL.len()];
    let family = workload.family();
    DATA[family as usize].get_or_init(|| {
        let files = match family {
            DataFamily::Texts => data_set().files().expect("tasks can be written as JSON"),
            DataFamily::Articles => {
                let mut numbers = Numbers(1994);
                let partitions: Vec<String> = (0..40).map(|_| articles(&mut numbers)).collect();
                gli::files(&partitions).expect("tasks can be written as JSON")
            }
            DataFamily::Objects => {
                ldk::files(&[archive("libcompiler_builtins"), archive("liballoc")]).expect("can be linked")
            }
            _ => {
                let here = Path::new(".");
                let origin = Origin { workspace: here, downloads: here };
                let made = collect(family, &origin, &SIZES, &mut |_| ());
                made.expect("needs nothing of the host").files
            }
        };
        let image = disk_with(&files).to_bytes();
        Data { files, image }
    })
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
    for workload in Workload::ALL {
        let image = &data_of(workload).image;
        for policy in policies() {
            let outcome = run_on(image, &options(workload, policy));
            let what = format!("{} {}", workload.name(), policy.name());
            assert!(outcome.line.verified, "{what}: {:?}", outcome.differences);
            let line = &outcome.line;
            assert_eq!(line.references, outcome.references.len() as u64, "{what}");
            assert_eq!(line.hits + line.misses, line.references, "{what}");
            let optimum = optimal_misses(line.cache_blocks as usize, &outcome.references);
            assert!(line.misses >= optimum, "{what}: {} misses, optimum {optimum}", line.misses);
            let wasted = outcome.statistics.staged_wasted;
            let used = line.misses - line.allocated + wasted + line.metadata_reads;
            let still_staged = line.reads - used;
            assert!(still_staged <= line.cache_blocks / 16 + 1, "{what}: {} reads, {used} used", line.reads);
            println!(
                "{what}: cache {} of {}, reads {}, requests {}, writes {}, misses {}, optimum {optimum}",
                line.cache_blocks, line.data_blocks, line.reads, line.read_requests, line.writes, line.misses
            );
        }
    }
}

/// Without read-ahead, the cache misses what a simulator of the same policy misses on the references that it
/// recorded. Workloads that remove files are left out: a removed block makes room, of which a reference
/// string knows nothing.
#[test]
fn misses_are_those_of_the_simulator() {
    for workload in Workload::ALL.into_iter().filter(|workload| *workload != Workload::Sort) {
        let image = &data_of(workload).image;
        let blocks = run_on(image, &Options::new(workload)).line.cache_blocks;
        for kind in PolicyKind::ALL {
            let options = Options {
                cache: CacheSize::Blocks(blocks),
                read_ahead: ReadAheadKind::None,
                ..options(workload, Policy::Forced(kind))
            };
            let outcome = run_on(image, &options);
            let blocks = blocks as usize;
            let simulated = simulate(&mut *kind.build(blocks), blocks, &outcome.references);
            assert_eq!(outcome.line.misses, simulated, "{} {}", workload.name(), kind.name());
        }
    }
}

/// A plan from outside misses what a simulation of managers foretells, whatever files it names.
#[test]
fn plans_miss_what_is_foretold() {
    for (workload, plan) in [
        (Workload::Cs, "0=mru"),
        (Workload::Gli, "1=w-tinylfu,2=lru,/gli/index=2,/gli/partitions=1,0=mru"),
        (Workload::Ldk, "0=clock-pro,1=fifo,/ldk/0.a=1"),
        (Workload::Pjn, "0=w-tinylfu,1=lirs,2=mru,/pjn/inner=1,/pjn/inner.index=2"),
    ] {
        let plan: CachePlan = plan.parse().unwrap();
        let image = &data_of(workload).image;
        let setting = Options {
            cache: CacheSize::Blocks(60),
            read_ahead: ReadAheadKind::None,
            plan: Some(plan.clone()),
            ..options(workload, Policy::Default)
        };
        let outcome = run_on(image, &setting);
        let volume = Volume::mount(Box::new(RamDisk::from_bytes(image.clone())), CacheOptions::default());
        let volume = volume.expect("an image");
        let mut cache = ManagedSimulation::new(60, Allocation::default());
        for (priority, policy) in &plan.policies {
            cache.set_policy(ManagerId::DEFAULT, *priority, *policy);
        }
        // The volume's own cache knows which file has which priority.
        plan.apply(&volume).expect("the files are there");
        let files: BTreeSet<FileId> = outcome.references.iter().map(|number| block_of(*number).0).collect();
        for file in files {
            cache.set_priority(ManagerId::DEFAULT, file, volume.cache().get_priority(file));
        }
        let foretold = outcome.references.iter().filter(|number| {
            let (file, block) = block_of(**number);
            cache.refer(file, block) != Referenced::Hit
        });
        assert_eq!(outcome.line.misses, foretold.count() as u64, "{} {plan}", workload.name());
    }
}

#[test]
fn own_policies_save_what_the_formula_promises() {
    use Workload::{Cs, Cs1, Cs2, Cs3, Din, Search};
    for workload in [Cs, Cs1, Cs2, Cs3, Search, Din] {
        let image = &data_of(workload).image;
        let default = run_on(image, &options(workload, Policy::Default)).line;
        let own = run_on(image, &options(workload, Policy::Own));
        let (passes, data, cache) = (default.passes, default.data_blocks, default.cache_blocks);
        // Task, list of files and metadata come on top of the loops, once.
        let once = default.metadata_reads + 8;
        assert!(default.reads >= passes * data && default.reads <= passes * data + once, "{default:?}");
        let promised = data + (passes - 1) * (data - cache);
        assert!(own.line.reads <= (promised + once) * 105 / 100, "{} > {promised}", own.line.reads);
        assert!(
            passes < 8 || own.line.reads * 10 <= default.reads * 4,
            "{} of {}",
            own.line.reads,
            default.reads
        );
        let optimum = optimal_misses(own.line.cache_blocks as usize, &own.references);
        assert!(own.line.misses * 100 <= optimum * 105, "{} misses, optimum {optimum}", own.line.misses);
    }
}

/// The link releases what its second pass does not need. Two archives are small data: in the two smallest
/// caches it is only held to miss less than by default.
#[test]
fn the_link_misses_hardly_more_than_the_optimum() {
    let image = &data_of(Workload::Ldk).image;
    for (cache, close) in CacheSize::PAPER.into_iter().zip([false, false, true, true]) {
        let of = |policy| {
            let asked = options(Workload::Ldk, policy);
            run_on(image, &Options { cache, read_ahead: ReadAheadKind::None, ..asked })
        };
        let (default, own) = (of(Policy::Default).line.misses, of(Policy::Own));
        let optimum = optimal_misses(own.line.cache_blocks as usize, &own.references);
        let own = own.line.misses;
        assert!(own < default || default == optimum, "{cache:?}: {own} of {default} misses");
        assert!(!close || own * 100 <= optimum * 105, "{cache:?}: {own} misses, optimum {optimum}");
    }
}

/// Misses of a workload under its own policy, without read-ahead, at the four sizes of the paper; with them
/// the blocks of the cache, and the references of the program that says nothing.
fn own_misses(workload: Workload) -> (Vec<(usize, u64)>, Vec<u64>) {
    let image = &data_of(workload).image;
    let of = |policy, cache| {
        let asked = options(workload, policy);
        run_on(image, &Options { cache, read_ahead: ReadAheadKind::None, ..asked })
    };
    let misses = CacheSize::PAPER.into_iter().map(|cache| {
        let line = of(Policy::Own, cache).line;
        (line.cache_blocks as usize, line.misses)
    });
    (misses.collect(), of(Policy::Default, CacheSize::Percent(80)).references)
}

/// Who knows how often each leaf was used in earlier runs need not learn it: hardly more misses than the set
/// of blocks that this run uses most often, which nobody can know.
#[test]
fn a_store_with_a_history_comes_near_the_best_fixed_set() {
    for mix in [Mix::A, Mix::B, Mix::C, Mix::E, Mix::F, Mix::GetScan] {
        let (misses, references) = own_misses(Workload::Ycsb(mix));
        for (blocks, misses) in misses {
            let fixed = fixed_set_misses(&[blocks], references.iter().copied())[0];
            println!("{mix:?}: {misses} misses in {blocks} blocks, the fixed set {fixed}");
            assert!(misses * 100 <= fixed * 105, "{mix:?}: {misses} misses in {blocks} blocks, {fixed}");
        }
    }
}

/// The counts are of other runs than the one that is measured: of as many requests, eight times.
#[test]
fn a_history_is_not_of_the_run_itself() {
    let workload = Workload::Ycsb(Mix::C);
    let data = data_of(workload);
    let file = |path: &str| &data.files.iter().find(|file| file.path == path).expect("is there").bytes;
    let counts = file(Mix::C.history().expect("has one")).as_chunks::<2>().0;
    let counts: Vec<u64> = counts.iter().map(|count| u64::from(u16::from_le_bytes(*count))).collect();
    assert_eq!(counts.len(), file(filecache::ycsb::LEAVES_PATH).len().div_ceil(4096));
    let (_, references) = own_misses(workload);
    let mut own = vec![0; counts.len()];
    let used: Vec<(FileId, u64)> = references.iter().map(|number| block_of(*number)).collect();
    // Of index, leaves and task, the leaves have the highest block.
    let leaf_file = used.iter().max_by_key(|(_, block)| *block).expect("blocks were used").0;
    let leaves = used.into_iter().filter(|(file, _)| *file == leaf_file);
    leaves.for_each(|(_, leaf)| own[leaf as usize] += 1);
    let (sum, own_sum): (u64, u64) = (counts.iter().sum(), own.iter().sum());
    assert_eq!(sum, 8 * own_sum, "each request uses a leaf");
    let unlike = counts.iter().zip(&own).filter(|(count, own)| **count != 8 * **own).count();
    assert!(unlike * 2 > counts.len(), "{unlike} of {} leaves were used otherwise", counts.len());
}

/// No policy that comes with the library misses less than what the application says of itself. `sort` is left
/// out, as it removes files, of which references tell nothing; and mix D, whose policy is one of the
/// library's.
#[test]
fn own_policies_miss_no_more_than_any_of_the_library() {
    let others = [Workload::Sort, Workload::Ycsb(Mix::D)];
    for workload in Workload::ALL.into_iter().filter(|workload| !others.contains(workload)) {
        let (misses, references) = own_misses(workload);
        for (blocks, misses) in misses {
            for kind in PolicyKind::ALL {
                let other = simulate(&mut *kind.build(blocks), blocks, &references);
                let what = format!("{} in {blocks} blocks", workload.name());
                assert!(misses <= other, "{what}: {misses} misses, {} {other}", kind.name());
            }
        }
    }
}

#[test]
fn sort_reads_and_writes_less_when_it_says_what_it_knows() {
    let image = &data_of(Workload::Sort).image;
    let default = run_on(image, &options(Workload::Sort, Policy::Default)).line;
    let own = run_on(image, &options(Workload::Sort, Policy::Own)).line;
    assert!(own.reads < default.reads, "{} reads of {}", own.reads, default.reads);
    assert!(own.writes <= default.writes, "{} writes of {}", own.writes, default.writes);
}

/// A disk that changes one bit of one block whenever it is read.
struct Lying {
    disk: RamDisk,
    block: u64,
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
            completion.buffers[index as usize].0[1234] ^= 1;
        }
        Some(completion)
    }
    fn wait(&mut self) {
        self.disk.wait();
    }
    fn ready(&mut self, waker: &Waker) -> bool {
        self.disk.ready(waker)
    }
}

#[test]
fn a_disk_that_lies_is_caught_before_the_workload_sees_it() {
    let Data { files, image } = data_of(Workload::Din);
    let trace = files.iter().find(|file| file.path == din::TRACE_PATH).expect("is there");
    let start = &trace.bytes[40960..41060];
    let block = image.chunks(4096).position(|block| block.starts_with(start)).expect("is there") as u64;
    let device = Lying { disk: RamDisk::from_bytes(image.to_vec()), block, pending: Vec::new() };
    let result = run(Box::new(device), &Options::new(Workload::Din), &|| 0);
    assert!(
        matches!(result, Err(RunError::File { error: FileError::Library(FsError::Checksum { .. }), .. })),
        "{result:?}"
    );
}

/// A change to the bytes of a file.
type Change<'c> = &'c dyn Fn(&mut Vec<u8>);

/// Runs a workload on files that were changed after the expected results had been computed, as if a cache
/// gave back the wrong bytes.
fn run_changed(workload: Workload, path: &str, change: Change<'_>) -> Result<Outcome, RunError> {
    let mut files = data_of(workload).files.clone();
    let file = files.iter_mut().find(|file| file.path.ends_with(path)).expect("the image has the file");
    change(&mut file.bytes);
    run(Box::new(disk_with(&files)), &Options::new(workload), &|| 0)
}

#[test]
fn wrong_bytes_cannot_pass() {
    let flip = |bytes: &mut Vec<u8>| bytes[5000] ^= 1;
    let swap = |bytes: &mut Vec<u8>| {
        let (first, second) = bytes.split_at_mut(8192);
        first[4096..].swap_with_slice(&mut second[..4096]);
    };
    let stale = |bytes: &mut Vec<u8>| bytes.copy_within(4096..8192, 8192);
    let short = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 1);
    let changes: [(&str, Change<'_>); 4] =
        [("flip", &flip), ("swap", &swap), ("stale", &stale), ("short", &short)];
    for (workload, path) in [
        (Workload::Cs, "src/f20.rs"),
        (Workload::Cs, "cscope.out"),
        (Workload::Din, "trace.din"),
        (Workload::Sort, "input.txt"),
        (Workload::Gli, "articles/0007"),
        (Workload::Pjn, "pjn/outer"),
    ] {
        for (name, change) in changes {
            match run_changed(workload, path, change) {
                Ok(outcome) => {
                    assert!(!outcome.line.verified, "{path} {name}");
                    assert!(!outcome.differences.is_empty(), "{path} {name}");
                }
                Err(error) => assert!(matches!(error, RunError::Malformed { .. }), "{path} {name}: {error}"),
            }
        }
        assert!(run_changed(workload, path, &|_| ()).expect("runs").line.verified, "unchanged");
    }
}

#[test]
fn wrong_records_cannot_pass() {
    // Which records are read is chance, and much of an object is no part of a program: damage in every block
    // meets something that is.
    let everywhere = |bytes: &mut Vec<u8>| bytes.chunks_mut(4096).for_each(|block| block[999] ^= 1);
    for (workload, path) in [
        (Workload::Ldk, "ldk/1.a"),
        (Workload::Pjn, "pjn/inner"),
        (Workload::Ycsb(Mix::A), "ycsb/leaves"),
        (Workload::Ycsb(Mix::GetScan), "ycsb/leaves"),
    ] {
        match run_changed(workload, path, &everywhere) {
            Ok(outcome) => assert!(!outcome.line.verified, "{path}"),
            Err(error) => assert!(matches!(error, RunError::Malformed { .. }), "{path}: {error}"),
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
