//! What the workloads have in common: how they get at their files, and how they report what they checked.

use crate::files::{Advice, FileError, Storage, WorkFile};
use crate::lines::{LineBatches, Source};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use results::PointReads;
use serde::de::DeserializeOwned;

/// What a workload runs on.
#[derive(Clone, Copy)]
pub struct Context<'v> {
    /// Where its files are.
    pub storage: &'v dyn Storage,
    /// Whom it may tell what it knows.
    pub advice: Advice<'v>,
    /// Tells the time in nanoseconds, from any origin.
    pub now_ns: &'v dyn Fn() -> u64,
}

/// A workload with its files open.
pub trait Program {
    /// Size of the files that it reads and that exist before it starts, in blocks: what a cache is sized by.
    fn data_blocks(&self) -> u64;

    /// Says what there is to say before the first access. The cache has its size by now.
    fn advise(&self, advice: Advice<'_>);

    /// Runs to the end and compares the result with what it must be.
    ///
    /// # Errors
    ///
    /// If a file can't be read or makes no sense.
    fn run(&self, context: &Context<'_>) -> Result<Checked, RunError>;
}

/// Why a workload could not run to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunError {
    /// A file could not be opened, read or written.
    File {
        /// Its path.
        path: String,
        /// What happened.
        error: FileError,
    },
    /// A file does not hold what the workload needs.
    Malformed {
        /// Its path.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The command line asks for something that does not exist.
    Argument {
        /// The key.
        key: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
}

impl RunError {
    pub(crate) fn file(path: &str, error: impl Into<FileError>) -> RunError {
        RunError::File { path: path.to_string(), error: error.into() }
    }

    pub(crate) fn malformed(path: &str, reason: String) -> RunError {
        RunError::Malformed { path: path.to_string(), reason }
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::File { path, error } => write!(f, "{path}: {error}"),
            RunError::Malformed { path, reason } => write!(f, "{path}: {reason}"),
            RunError::Argument { key, reason } => write!(f, "{key}=: {reason}"),
        }
    }
}

impl core::error::Error for RunError {}

/// The comparison of what came out with what must come out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checked {
    /// Times the workload went through its data.
    pub passes: u64,
    /// Comparisons made.
    pub comparisons: u64,
    /// What did not agree: what, expected, found.
    pub differences: Vec<String>,
    /// Summary of the expected result.
    pub expected: String,
    /// Summary of the result.
    pub actual: String,
    /// What point reads took, of a store.
    pub point_reads: Option<PointReads>,
}

impl Checked {
    /// Compares one part of the result.
    pub fn compare<T: PartialEq + fmt::Debug>(&mut self, what: &str, expected: T, actual: T) {
        self.comparisons += 1;
        if expected != actual {
            self.differences.push(format!("{what}: expected {expected:?}, found {actual:?}"));
        }
    }

    /// Whether something was compared and all of it agreed.
    pub fn verified(&self) -> bool {
        self.comparisons > 0 && self.differences.is_empty()
    }
}

impl Source for WorkFile {
    type Error = FileError;

    fn length(&self) -> u64 {
        // A length that can't be told shows as an error at the first read.
        self.bytes().unwrap_or(0)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, FileError> {
        WorkFile::read_at(self, offset, buffer)
    }
}

/// Opens a file, or says which one could not be opened.
pub fn open(context: &Context<'_>, path: &str) -> Result<WorkFile, RunError> {
    context.storage.open(path).map_err(|error| RunError::file(path, error))
}

/// A file was read once, and will not be again.
pub(crate) fn done_with(context: &Context<'_>, file: &WorkFile) {
    if let Advice::Own(cache) = context.advice {
        cache.done_with(file, 0..blocks_of(file));
    }
}

/// Size of a file in blocks.
pub fn blocks_of(file: &WorkFile) -> u64 {
    file.length().div_ceil(crate::lines::BLOCK_BYTES as u64)
}

/// Reads a task, which is a JSON text, from a file.
pub fn read_task<T: DeserializeOwned>(context: &Context<'_>, path: &str) -> Result<T, RunError> {
    let file = open(context, path)?;
    let mut text = Vec::new();
    let mut batches = LineBatches::new(&file);
    while let Some(batch) = batches.next_batch().map_err(|error| RunError::file(path, error))? {
        text.extend_from_slice(batch);
    }
    done_with(context, &file);
    serde_json::from_slice(&text).map_err(|error| RunError::malformed(path, error.to_string()))
}
