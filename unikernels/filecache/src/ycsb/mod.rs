//! `ycsb`: a key-value store, six mixes of requests and one more.
//!
//! The mixes A to F are those of B. F. Cooper et al., "Benchmarking cloud serving systems with YCSB", SoCC
//! 2010; *GET-SCAN*, point reads with a long scan now and then, is that of T. Zussman et al., "cache_ext:
//! customizing the page cache with eBPF", SOSP 2025. The store is the tree of [`crate::btree`], its records
//! have 1000 bytes.
//!
//! Every byte that is read goes into a digest, which must be the one that the same requests to a map in
//! memory gave.

pub(crate) mod history;
pub mod policy;
mod requests;

pub use requests::{Mix, Request, Requests, key_of};

use crate::btree::{Tree, TreeError};
use crate::digest::{digest, mix};
use crate::files::{Advice, FileError};
use crate::workload::{Checked, Context, Program, RunError, blocks_of, open, read_task};
use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use results::PointReads;
use serde::{Deserialize, Serialize};

/// Path of the index of the store.
pub const INDEX_PATH: &str = "ycsb/index";
/// Path of its leaves.
pub const LEAVES_PATH: &str = "ycsb/leaves";
/// Bytes of a record.
pub const RECORD_BYTES: usize = 1000;

/// What to do and what must come out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Records in the store before the first request.
    pub records: u64,
    /// Number of requests.
    pub requests: u64,
    /// Start of the random numbers.
    pub seed: u64,
    /// What the requests must give.
    pub expected: Answers,
}

/// What can be told of all answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// Records read, those of scans included.
    pub read: u64,
    /// Records changed.
    pub changed: u64,
    /// Records added.
    pub added: u64,
    /// Records asked for that were not there.
    pub absent: u64,
    /// Digest of all records read, in order.
    pub digest: u64,
}

impl Answers {
    /// A record has been read.
    pub fn add_read(&mut self, key: u64, record: &[u8]) {
        self.read += 1;
        self.digest = mix(mix(self.digest, key), digest(record));
    }
}

/// Fills a record with the bytes that it has in its `version`: nothing that could be guessed from another
/// record.
pub fn fill(record: &mut [u8], key: u64, version: u64) {
    let (start, rest) = record.split_at_mut(8);
    start.copy_from_slice(&version.to_le_bytes());
    let mut state = mix(key, version);
    for word in rest.chunks_mut(8) {
        state = mix(state, version);
        word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
    }
}

/// The version of a record.
pub fn version(record: &[u8]) -> u64 {
    record.iter().take(8).rev().fold(0, |version, byte| version << 8 | u64::from(*byte))
}

/// The files of a task, open.
pub struct Files {
    mix: Mix,
    tree: RefCell<Tree>,
    /// Of each leaf, how often it was used in earlier runs, if its policy wants to know.
    history: Vec<u16>,
}

impl Files {
    /// Opens the store.
    ///
    /// # Errors
    ///
    /// If a file is missing or holds no tree.
    pub fn open(context: &Context<'_>, mix: Mix) -> Result<Files, RunError> {
        let (index, leaves) = (open(context, INDEX_PATH)?, open(context, LEAVES_PATH)?);
        let tree = RefCell::new(Tree::open(index, leaves).map_err(wrong)?);
        Ok(Files { mix, tree, history: history::read(context, mix)? })
    }

    /// Carries out requests. Returns the answers, and what each point read took, in nanoseconds.
    pub(crate) fn perform_all(
        &self,
        context: &Context<'_>,
        requests: Requests,
    ) -> Result<(Answers, Vec<u64>), RunError> {
        let mut answers = Answers::default();
        let mut times_ns = Vec::new();
        for request in requests {
            let start_ns = (context.now_ns)();
            self.perform(request, &mut answers).map_err(wrong)?;
            if matches!(request, Request::Read(_)) {
                times_ns.push((context.now_ns)().saturating_sub(start_ns));
            }
        }
        Ok((answers, times_ns))
    }

    /// Carries out one request.
    fn perform(&self, request: Request, answers: &mut Answers) -> Result<(), TreeError> {
        let count = |there: bool, counter: &mut u64, absent: &mut u64| {
            *(if there { counter } else { absent }) += 1;
        };
        match request {
            Request::Read(record) => {
                let key = key_of(record);
                let there = self.tree.borrow().get(key, |bytes| answers.add_read(key, bytes))?;
                answers.absent += u64::from(there.is_none());
            }
            Request::Update(record) => {
                let key = key_of(record);
                let there = self.tree.borrow().update(key, |bytes| fill(bytes, key, version(bytes) + 1))?;
                count(there, &mut answers.changed, &mut answers.absent);
            }
            Request::ReadModifyWrite(record) => {
                self.perform(Request::Read(record), answers)?;
                self.perform(Request::Update(record), answers)?;
            }
            Request::Insert(record) => {
                let key = key_of(record);
                let mut bytes = vec![0; RECORD_BYTES];
                fill(&mut bytes, key, 0);
                self.tree.borrow_mut().insert(key, &bytes)?;
                answers.added += 1;
            }
            Request::Scan(record, length) => {
                let show = |key, bytes: &[u8]| answers.add_read(key, bytes);
                self.tree.borrow().scan(key_of(record), length, show)?;
            }
        }
        Ok(())
    }
}

fn wrong(error: TreeError) -> RunError {
    match error {
        TreeError::File(error) => RunError::file("ycsb", error),
        corrupt => RunError::malformed("ycsb", corrupt.to_string()),
    }
}

impl Program for Files {
    fn data_blocks(&self) -> u64 {
        let tree = self.tree.borrow();
        blocks_of(tree.index()) + blocks_of(tree.leaves())
    }

    fn advise(&self, advice: Advice<'_>) {
        let tree = self.tree.borrow();
        match advice {
            Advice::None => {}
            Advice::Own(cache) => policy::choose_own(cache, &tree, &self.history, self.mix),
            Advice::Hints(hints) => {
                hints.read_at_random(tree.index());
                hints.read_at_random(tree.leaves());
            }
        }
    }

    fn run(&self, context: &Context<'_>) -> Result<Checked, RunError> {
        let task: Task = read_task(context, self.mix.task())?;
        let (answers, times_ns) = self.perform_all(context, Requests::new(self.mix, &task))?;
        context.storage.commit().map_err(|error: FileError| RunError::file("ycsb", error))?;
        let point_reads = PointReads::of(times_ns);
        let mut checked = Checked { passes: 1, point_reads, ..Checked::default() };
        checked.compare("answers", task.expected, answers);
        let summary = |answers: &Answers| format!("{} read, {} changed", answers.read, answers.changed);
        checked.expected = summary(&task.expected);
        checked.actual = summary(&answers);
        Ok(checked)
    }
}

/// The records of a store with their keys, in the order of the keys.
pub fn records(count: u64) -> Vec<(u64, Vec<u8>)> {
    let mut records: Vec<(u64, Vec<u8>)> = (0..count)
        .map(|record| {
            let mut bytes = vec![0; RECORD_BYTES];
            fill(&mut bytes, key_of(record), 0);
            (key_of(record), bytes)
        })
        .collect();
    records.sort_unstable();
    records
}
