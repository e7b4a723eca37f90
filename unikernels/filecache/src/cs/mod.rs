//! `cs`: searches in a source tree, as a programmer does all day with cscope.
//!
//! Each of several queries looks up a symbol in the cross-reference database, from its first block to its last, and
//! then looks for a text in every source file, in the order of the list of files. (P. Cao et al., "Application-controlled
//! file caching", OSDI 1994, run them as *cs1* and *cs2*.)

pub mod policy;
mod search;

pub use search::{DEFINITION_MARKS, FILE_MARK, Found, SymbolSearch, TextSearch};

use crate::lines::{LineBatches, Source};
use crate::workload::{Checked, Context, RunError, open, read_task};
use crate::{digest::mix, lines};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use libos_fs::{File, FsError};
use serde::{Deserialize, Serialize};

/// Path of the task, a [`Task`] in JSON.
pub const TASK_PATH: &str = "cs/task.json";
/// Path of the list of source files, one path a line.
pub const LIST_PATH: &str = "cs/cscope.files";
/// Path of the cross-reference database.
pub const DATABASE_PATH: &str = "cs/cscope.out";

/// One query and what it must find.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// Symbol to look up in the database.
    pub symbol: String,
    /// What that finds.
    pub symbol_found: Found,
    /// Text to look for in the sources.
    pub text: String,
    /// What that finds.
    pub text_found: Found,
}

/// What to do and what must come out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The queries, in order.
    pub queries: Vec<Query>,
    /// Digest of the contents of database and sources; see [`combine`].
    pub content_digest: u64,
}

/// The files of a task, open.
pub struct Files {
    database: File,
    sources: Vec<File>,
}

impl Files {
    /// Opens the database and all sources.
    pub fn open(context: &Context<'_>) -> Result<Files, RunError> {
        let list = open(context, LIST_PATH)?;
        let database = open(context, DATABASE_PATH)?;
        let mut sources = Vec::new();
        let mut batches = LineBatches::new(&list);
        while let Some(batch) = batches.next_batch().map_err(|error| RunError::file(LIST_PATH, error))? {
            for path in lines::lines(batch) {
                let path = core::str::from_utf8(path)
                    .map_err(|error| RunError::malformed(LIST_PATH, format!("{error}")))?;
                sources.push(open(context, path)?);
            }
        }
        Ok(Files { database, sources })
    }

    /// Size of what every query reads, in blocks.
    pub fn data_blocks(&self) -> u64 {
        self.sources.iter().chain([&self.database]).map(crate::workload::blocks_of).sum()
    }
}

/// Folds the content digest of one more file into that of the files before it, which starts as 0.
pub fn combine(so_far: u64, file: u64) -> u64 {
    mix(so_far, file)
}

/// Runs all queries and compares with what they must find.
pub fn run(context: &Context<'_>, files: &Files) -> Result<Checked, RunError> {
    let task: Task = read_task(context, TASK_PATH)?;
    let mut checked = Checked { passes: task.queries.len() as u64, ..Checked::default() };
    let (mut matches, mut expected_matches) = (0, 0);
    for (number, query) in task.queries.iter().enumerate() {
        let (symbol, text, content_digest) =
            search_all(files, query).map_err(|error| RunError::file("cs", error))?;
        checked.compare(&format!("query {number}: symbol {}", query.symbol), query.symbol_found, symbol);
        checked.compare(&format!("query {number}: text {:?}", query.text), query.text_found, text);
        checked.compare(&format!("query {number}: contents"), task.content_digest, content_digest);
        matches += symbol.matches + text.matches;
        expected_matches += query.symbol_found.matches + query.text_found.matches;
    }
    checked.expected = format!("{expected_matches} matches");
    checked.actual = format!("{matches} matches");
    Ok(checked)
}

fn search_all(files: &Files, query: &Query) -> Result<(Found, Found, u64), FsError> {
    let mut symbol = SymbolSearch::new(query.symbol.as_bytes());
    let mut content_digest = combine(0, for_each_batch(&files.database, |batch| symbol.search(batch))?);
    let mut text = TextSearch::new(query.text.as_bytes());
    for (number, source) in files.sources.iter().enumerate() {
        text.start_file(number as u64);
        let file_digest = for_each_batch(source, |batch| text.search(batch))?;
        content_digest = combine(content_digest, file_digest);
    }
    Ok((symbol.found(), text.found(), content_digest))
}

/// Reads a file to its end; returns the digest of its contents.
fn for_each_batch<S: Source>(file: &S, mut search: impl FnMut(&[u8])) -> Result<u64, S::Error> {
    let mut batches = LineBatches::new(file);
    while let Some(batch) = batches.next_batch()? {
        search(batch);
    }
    Ok(batches.digest())
}
