//! Read-ahead as `libos_fs::cache::Replay` foretells it from the references, against what a run did.

use super::{data_of, options};
use filecache::{CacheSize, Options, Policy, Workload, run};
use libos_fs::cache::references::{LOG_END, LOG_NAME, parse_line};
use libos_fs::cache::{Replay, block_of};
use libos_fs::device::DiskTime;
use libos_fs::{
    BLOCK_BYTES, BlockDevice, CacheOptions, CachePlan, CacheStatistics, Completion, FileId, RamDisk,
    ReadAheadKind, Rejected, Request, Volume,
};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::task::Waker;

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// A disk that has the references to its files printed.
struct Logged(RamDisk);

impl BlockDevice for Logged {
    fn blocks(&self) -> u64 {
        self.0.blocks()
    }
    fn max_request_blocks(&self) -> usize {
        self.0.max_request_blocks()
    }
    fn read_only(&self) -> bool {
        self.0.read_only()
    }
    fn submit(&mut self, request: Request) -> Result<(), Rejected> {
        self.0.submit(request)
    }
    fn poll(&mut self) -> Option<Completion> {
        self.0.poll()
    }
    fn wait(&mut self) {
        self.0.wait();
    }
    fn ready(&mut self, waker: &Waker) -> bool {
        self.0.ready(waker)
    }
    fn reference_log(&self) -> Option<fn(&str)> {
        Some(|line| LINES.with_borrow_mut(|lines| lines.push(line.to_owned())))
    }
}

/// What a run counts, and its calls: first block and number of blocks.
fn run_logged(image: &[u8], options: &Options) -> (CacheStatistics, Vec<(u64, u64)>) {
    LINES.take();
    let disk = Logged(RamDisk::from_bytes(image.to_vec()));
    let outcome = run(Box::new(disk), options, &|| 0).expect("the workload runs to its end");
    let mut lines = LINES.take();
    assert_eq!(lines.pop().as_deref(), Some(LOG_END));
    let mut runs = Vec::new();
    for line in &lines {
        parse_line(LOG_NAME, line, &mut runs).expect("a line of references").expect("a good one");
    }
    (outcome.statistics, runs.iter().flat_map(|run| run.calls()).collect())
}

/// Blocks of every file.
fn lengths(volume: &Volume) -> BTreeMap<FileId, u64> {
    let paths = volume.files_below("").expect("a directory");
    let length = |path: &String| {
        let file = volume.open(path).expect("a file");
        (file.id(), file.len().expect("a length").div_ceil(BLOCK_BYTES as u64))
    };
    paths.iter().map(length).collect()
}

/// Blocks and requests are foretold exactly, where the files lie in one piece and are not written.
#[test]
fn read_ahead_does_what_is_foretold() {
    for (workload, plan) in [
        (Workload::Cs, "0=mru"),
        (Workload::Gli, "1=lru,/gli/index=1,0=mru"),
        (Workload::Din, "0=clock-pro"),
        (Workload::Pjn, "0=w-tinylfu,1=lirs,/pjn/inner=1"),
    ] {
        for kind in
            [ReadAheadKind::None, ReadAheadKind::OneBlock, ReadAheadKind::Sequential, ReadAheadKind::Cluster]
        {
            let plan = CachePlan { read_ahead: Some(kind), ..plan.parse().unwrap() };
            let image = &data_of(workload).image;
            let setting = Options {
                cache: CacheSize::Blocks(60),
                plan: Some(plan.clone()),
                ..options(workload, Policy::Default)
            };
            let (done, calls) = run_logged(image, &setting);
            let volume = Volume::mount(Box::new(RamDisk::from_bytes(image.clone())), CacheOptions::default());
            let volume = volume.expect("an image");
            let time = DiskTime { request_ns: 1, block_ns: 1 };
            let cache = CacheOptions { blocks: 60, ..CacheOptions::default() };
            let lengths = lengths(&volume);
            let replay = Replay::new(cache, lengths.clone(), time);
            plan.apply(&volume).expect("the files are there");
            for (priority, policy) in &plan.policies {
                replay.manager().set_policy(*priority, *policy);
            }
            for file in lengths.keys() {
                let priority = volume.cache().get_priority(*file);
                replay.manager().set_priority(*file, priority).expect("a file of the only manager");
            }
            replay.set_read_ahead(kind);
            for (first, blocks) in calls {
                let (file, block) = block_of(first);
                replay.call(file, block..block + blocks).expect("a buffer");
            }
            let foretold = replay.statistics();
            let counts =
                |counted: &CacheStatistics| (counted.misses, counted.blocks_read, counted.read_requests);
            assert_eq!(counts(&foretold), counts(&done), "{} {plan}", workload.name());
        }
    }
}
