//! What the workloads have in common: how they get at their files, and how they report what they checked.

use crate::lines::{LineBatches, Source};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use libos_fs::{File, FsError, Volume};
use serde::de::DeserializeOwned;

/// What a workload runs on.
pub struct Context<'v> {
    /// The volume with its files.
    pub volume: &'v Volume,
    /// Whether it may tell the cache what it knows.
    pub own_policy: bool,
}

/// Why a workload could not run to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunError {
    /// A file could not be opened, read or written.
    File {
        /// Its path.
        path: String,
        /// What happened.
        error: FsError,
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
    pub(crate) fn file(path: &str, error: FsError) -> RunError {
        RunError::File { path: path.to_string(), error }
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

impl Source for File {
    type Error = FsError;

    fn length(&self) -> u64 {
        // A length that can't be told shows as an error at the first read.
        self.len().unwrap_or(0)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, FsError> {
        File::read_at(self, offset, buffer)
    }
}

/// Opens a file, or says which one could not be opened.
pub fn open(context: &Context<'_>, path: &str) -> Result<File, RunError> {
    context.volume.open(path).map_err(|error| RunError::file(path, error))
}

/// Size of a file in blocks.
pub fn blocks_of(file: &File) -> u64 {
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
    serde_json::from_slice(&text).map_err(|error| RunError::malformed(path, error.to_string()))
}
