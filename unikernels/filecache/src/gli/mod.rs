//! `gli`: text search by a two-level index, as by glimpse.
//!
//! The articles lie in *partitions* of some dozen. The index says of every word in which partitions it
//! occurs, but not where. A query reads all of the index, for the words that contain its pattern, and then
//! searches the partitions that these words occur in. (U. Manber and S. Wu, "GLIMPSE: a tool to search
//! through entire file systems", USENIX Winter 1994; P. Cao et al., "Application-controlled file caching",
//! OSDI 1994.)

pub mod policy;

use crate::cs::{Found, TextSearch};
use crate::digest::mix;
use crate::files::{Advice, WorkFile};
use crate::lines::{self, LineBatches};
use crate::workload::{Checked, Context, Program, RunError, blocks_of, open, read_task};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};

/// Path of the task, a [`Task`] in JSON.
pub const TASK_PATH: &str = "gli/task.json";
/// Path of the index: lines of a word and the numbers of its partitions, ascending, with spaces between.
pub const INDEX_PATH: &str = "gli/index";
/// Path of the list of partitions, one path a line.
pub const LIST_PATH: &str = "gli/partitions";

/// A query and what it must find.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// Letters and digits to look for.
    pub pattern: String,
    /// Lines that hold it.
    pub found: Found,
}

/// What to do and what must come out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The queries, in order.
    pub queries: Vec<Query>,
    /// Digest of the contents of each partition.
    pub partitions: Vec<u64>,
}

/// The files of a task, open.
pub struct Files {
    index: WorkFile,
    partitions: Vec<WorkFile>,
}

impl Files {
    /// Opens index and partitions.
    ///
    /// # Errors
    ///
    /// If one is missing.
    pub fn open(context: &Context<'_>) -> Result<Files, RunError> {
        let index = open(context, INDEX_PATH)?;
        Ok(Files { index, partitions: crate::cs::open_listed(context, LIST_PATH)? })
    }

    /// Reads the index, for a pattern and, if there is one, for the next query's.
    fn look_up(&self, pattern: &[u8], next: Option<&[u8]>) -> Result<Wanted, RunError> {
        let none = || vec![false; self.partitions.len()];
        let mut wanted = Wanted { now: none(), next: none() };
        let (finder, next) = (Finder::new(pattern), next.map(Finder::new));
        let mut batches = LineBatches::new(&self.index);
        while let Some(batch) = batches.next_batch().map_err(|error| RunError::file(INDEX_PATH, error))? {
            for line in lines::lines(batch) {
                let mut words = line.split(|byte| *byte == b' ');
                let Some(word) = words.next() else { continue };
                if finder.find(word).is_some() {
                    mark(&mut wanted.now, words.clone())?;
                }
                if next.as_ref().is_some_and(|next| next.find(word).is_some()) {
                    mark(&mut wanted.next, words)?;
                }
            }
        }
        Ok(wanted)
    }

    /// The partitions that are marked.
    fn chosen(&self, wanted: &[bool]) -> impl Iterator<Item = &WorkFile> {
        self.partitions.iter().zip(wanted).filter(|(_, wanted)| **wanted).map(|(partition, _)| partition)
    }

    /// Searches the partitions that are wanted. Returns what was found and the digest of each partition read.
    fn search(&self, pattern: &str, wanted: &[bool]) -> Result<(Found, Vec<(usize, u64)>), RunError> {
        let mut search = TextSearch::new(pattern.as_bytes());
        let mut contents = Vec::new();
        for (number, partition) in self.partitions.iter().enumerate().filter(|(number, _)| wanted[*number]) {
            search.start_file(number as u64);
            let failed = |error| RunError::file(&format!("partition {number}"), error);
            let digest =
                crate::cs::for_each_batch(partition, |batch| search.search(batch)).map_err(failed)?;
            contents.push((number, digest));
        }
        Ok((search.found(), contents))
    }
}

/// For each partition whether it holds a word with the pattern.
struct Wanted {
    now: Vec<bool>,
    /// For the query after this one.
    next: Vec<bool>,
}

/// Marks the partitions of these numbers.
fn mark<'n>(wanted: &mut [bool], numbers: impl Iterator<Item = &'n [u8]>) -> Result<(), RunError> {
    for number in numbers {
        let place = number.iter().fold(0usize, |number, digit| {
            number.wrapping_mul(10).wrapping_add(usize::from(digit.wrapping_sub(b'0')))
        });
        *wanted
            .get_mut(place)
            .ok_or_else(|| RunError::malformed(INDEX_PATH, format!("there is no partition {place}")))? = true;
    }
    Ok(())
}

/// These files come next, each from its start to its end.
fn will_read<'f>(
    context: &Context<'_>,
    files: impl IntoIterator<Item = &'f WorkFile>,
) -> Result<(), RunError> {
    match context.advice {
        Advice::Own(cache) => policy::plan(cache, files).map_err(|error| RunError::file("gli", error)),
        Advice::None | Advice::Hints(_) => Ok(()),
    }
}

impl Program for Files {
    fn data_blocks(&self) -> u64 {
        self.partitions.iter().chain([&self.index]).map(blocks_of).sum()
    }

    fn advise(&self, advice: Advice<'_>) {
        match advice {
            Advice::None => {}
            Advice::Own(cache) => policy::choose_own(cache),
            Advice::Hints(hints) => {
                hints.read_in_loops(&self.partitions.iter().collect::<Vec<_>>(), blocks_of(&self.index), 0);
            }
        }
    }

    fn run(&self, context: &Context<'_>) -> Result<Checked, RunError> {
        let task: Task = read_task(context, TASK_PATH)?;
        let mut checked = Checked { passes: task.queries.len() as u64, ..Checked::default() };
        let (mut matches, mut expected_matches) = (0, 0);
        will_read(context, task.queries.first().map(|_| &self.index))?;
        for (number, query) in task.queries.iter().enumerate() {
            let next = task.queries.get(number + 1).filter(|_| matches!(context.advice, Advice::Own(_)));
            let wanted = self.look_up(query.pattern.as_bytes(), next.map(|next| next.pattern.as_bytes()))?;
            let later = |by: usize| task.queries.get(number + by).map(|_| &self.index);
            if number == 0 {
                will_read(context, self.chosen(&wanted.now).chain(later(1)))?;
            }
            will_read(context, self.chosen(&wanted.next).chain(later(2)))?;
            let (found, contents) = self.search(&query.pattern, &wanted.now)?;
            checked.compare(&format!("query {:?}", query.pattern), query.found, found);
            let expected = contents.iter().map(|(number, _)| task.partitions.get(*number).copied());
            let combined = |digests: &mut dyn Iterator<Item = u64>| digests.fold(0, mix);
            checked.compare(
                &format!("query {:?}: contents", query.pattern),
                combined(&mut expected.map(Option::unwrap_or_default)),
                combined(&mut contents.iter().map(|(_, digest)| *digest)),
            );
            matches += found.matches;
            expected_matches += query.found.matches;
        }
        checked.expected = format!("{expected_matches} matches");
        checked.actual = format!("{matches} matches");
        Ok(checked)
    }
}
