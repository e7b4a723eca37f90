//! `cs`: searches in a source tree, as a programmer does all day with cscope.
//!
//! A query looks up a symbol in the cross-reference database, from its first block to its last, or looks for
//! a text in every source file, in the order of the list of files. P. Cao et al., "Application-controlled
//! file caching", OSDI 1994, run symbols as *cs1*, texts as *cs2*, and texts in a smaller tree as *cs3*; `cs`
//! has both in turn. Ten passes over the tree, [`Variant::REPEATED`], is the file search of T. Zussman et
//! al., "cache_ext: customizing the page cache with eBPF", SOSP 2025.

pub mod policy;
mod search;

pub use search::{DEFINITION_MARKS, FILE_MARK, Found, SymbolSearch, TextSearch};

use crate::files::{Advice, FileError, WorkFile};
use crate::lines::{LineBatches, Source};
use crate::workload::{Checked, Context, Program, RunError, done_with, open, read_task};
use crate::{digest::mix, lines};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Path of the list of source files, one path a line.
pub const LIST_PATH: &str = "cs/cscope.files";
/// Path of the list of a part of them.
pub const PART_LIST_PATH: &str = "cs/part.files";
/// Path of the cross-reference database.
pub const DATABASE_PATH: &str = "cs/cscope.out";

/// Which searches, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Path of the task, a [`Task`] in JSON.
    pub task: &'static str,
    /// Path of the list of the source files to search for texts, if any are.
    pub list: Option<&'static str>,
    /// Whether symbols are looked up in the database.
    pub symbols: bool,
}

impl Variant {
    /// `cs`: symbols and texts in turn.
    pub const BOTH: Variant = Variant { task: "cs/task.json", list: Some(LIST_PATH), symbols: true };
    /// `cs1`: symbols.
    pub const SYMBOLS: Variant = Variant { task: "cs/cs1.json", list: None, symbols: true };
    /// `cs2`: texts.
    pub const TEXTS: Variant = Variant { task: "cs/cs2.json", list: Some(LIST_PATH), symbols: false };
    /// `cs3`: texts in a smaller tree.
    pub const PART: Variant = Variant { task: "cs/cs3.json", list: Some(PART_LIST_PATH), symbols: false };
    /// `search`: texts, ten passes.
    pub const REPEATED: Variant = Variant { task: "cs/search.json", list: Some(LIST_PATH), symbols: false };
    /// All of them.
    pub const ALL: [Variant; 5] =
        [Variant::BOTH, Variant::SYMBOLS, Variant::TEXTS, Variant::PART, Variant::REPEATED];
}

/// Something to look for and what must be found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sought {
    /// A symbol, or a text.
    pub pattern: String,
    /// What that finds.
    pub found: Found,
}

/// One query: what is looked for in one pass over the files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// Symbol to look up in the database, if there is one in this variant.
    pub symbol: Option<Sought>,
    /// Text to look for in the sources, if they are searched in this variant.
    pub text: Option<Sought>,
}

/// What to do and what must come out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The queries, in order.
    pub queries: Vec<Query>,
    /// Digest of the contents of database and sources, as far as they are read; see [`combine`].
    pub content_digest: u64,
}

/// The files of a task, open.
pub struct Files {
    variant: Variant,
    database: Option<WorkFile>,
    sources: Vec<WorkFile>,
}

impl Files {
    /// Opens the database and the sources, as far as the variant reads them.
    ///
    /// # Errors
    ///
    /// If one is missing.
    pub fn open(context: &Context<'_>, variant: Variant) -> Result<Files, RunError> {
        let database = variant.symbols.then(|| open(context, DATABASE_PATH)).transpose()?;
        let sources = match variant.list {
            Some(list) => open_listed(context, list)?,
            None => Vec::new(),
        };
        Ok(Files { variant, database, sources })
    }

    fn all(&self) -> impl Iterator<Item = &WorkFile> {
        self.database.iter().chain(&self.sources)
    }

    /// The files that a query reads, each from its start to its end, in their order.
    fn read_by<'f>(&'f self, query: &Query) -> impl Iterator<Item = &'f WorkFile> + use<'f> {
        let database = if query.symbol.is_some() { self.database.as_ref() } else { None };
        let sources = if query.text.is_some() { &*self.sources } else { &[] };
        database.into_iter().chain(sources)
    }

    /// Makes one pass. Returns what was found of symbol and text, and the digest of everything that was read.
    fn search(&self, query: &Query) -> Result<(Option<Found>, Option<Found>, u64), FileError> {
        let mut content_digest = 0;
        let mut symbol = query.symbol.as_ref().map(|sought| SymbolSearch::new(sought.pattern.as_bytes()));
        if let (Some(symbol), Some(database)) = (&mut symbol, &self.database) {
            content_digest = combine(content_digest, for_each_batch(database, |batch| symbol.search(batch))?);
        }
        let mut text = query.text.as_ref().map(|sought| TextSearch::new(sought.pattern.as_bytes()));
        if let Some(text) = &mut text {
            for (number, source) in self.sources.iter().enumerate() {
                text.start_file(number as u64);
                let file_digest = for_each_batch(source, |batch| text.search(batch))?;
                content_digest = combine(content_digest, file_digest);
            }
        }
        Ok((symbol.map(|search| search.found()), text.map(|search| search.found()), content_digest))
    }
}

/// Opens the files that a list names, one path a line.
pub(crate) fn open_listed(context: &Context<'_>, list: &str) -> Result<Vec<WorkFile>, RunError> {
    let file = open(context, list)?;
    let mut listed = Vec::new();
    let mut batches = LineBatches::new(&file);
    while let Some(batch) = batches.next_batch().map_err(|error| RunError::file(list, error))? {
        for path in lines::lines(batch) {
            let path =
                core::str::from_utf8(path).map_err(|error| RunError::malformed(list, format!("{error}")))?;
            listed.push(open(context, path)?);
        }
    }
    done_with(context, &file);
    Ok(listed)
}

impl Program for Files {
    fn data_blocks(&self) -> u64 {
        self.all().map(crate::workload::blocks_of).sum()
    }

    fn advise(&self, advice: Advice<'_>) {
        match advice {
            Advice::None => {}
            Advice::Own(cache) => policy::choose_own(cache),
            Advice::Hints(hints) => hints.read_in_loops(&self.all().collect::<Vec<_>>(), 0, 0),
        }
    }

    fn run(&self, context: &Context<'_>) -> Result<Checked, RunError> {
        let task: Task = read_task(context, self.variant.task)?;
        let mut checked = Checked { passes: task.queries.len() as u64, ..Checked::default() };
        let (mut matches, mut expected_matches) = (0, 0);
        if let Advice::Own(cache) = context.advice {
            policy::disclose(cache, self, &task.queries).map_err(|error| RunError::file("cs", error))?;
        }
        for (number, query) in task.queries.iter().enumerate() {
            let (symbol, text, content_digest) =
                self.search(query).map_err(|error| RunError::file("cs", error))?;
            for (sought, found) in [(&query.symbol, symbol), (&query.text, text)] {
                let Some(sought) = sought else { continue };
                checked.compare(&format!("query {number}: {:?}", sought.pattern), Some(sought.found), found);
                matches += found.map_or(0, |found| found.matches);
                expected_matches += sought.found.matches;
            }
            checked.compare(&format!("query {number}: contents"), task.content_digest, content_digest);
        }
        checked.expected = format!("{expected_matches} matches");
        checked.actual = format!("{matches} matches");
        Ok(checked)
    }
}

/// Folds the content digest of one more file into that of the files before it, which starts as 0.
pub fn combine(so_far: u64, file: u64) -> u64 {
    mix(so_far, file)
}

/// Reads a file to its end; returns the digest of its contents.
pub(crate) fn for_each_batch<S: Source>(file: &S, mut search: impl FnMut(&[u8])) -> Result<u64, S::Error> {
    let mut batches = LineBatches::new(file);
    while let Some(batch) = batches.next_batch()? {
        search(batch);
    }
    Ok(batches.digest())
}
