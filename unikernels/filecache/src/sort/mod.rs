//! `sort`: an external merge sort of the lines of a text.
//!
//! The input is read once and written as sorted runs of as many bytes as memory is allowed to hold; runs are
//! merged, a few at a time, until one is left; each is removed once it has been merged. Then the output is
//! read once more and checked. (P. Cao et al., "Application-controlled file caching", OSDI 1994.)

mod merge;
pub mod policy;
mod runs;
mod writer;

use crate::digest::digest;
use crate::files::{Advice, FileError, WorkFile};
use crate::lines::{self, LineBatches};
use crate::workload::{Checked, Context, Program, RunError, blocks_of, open, read_task};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use serde::{Deserialize, Serialize};

/// Path of the task, a [`Task`] in JSON.
pub const TASK_PATH: &str = "sort/task.json";
/// Path of the text to sort.
pub const INPUT_PATH: &str = "sort/input.txt";
/// Path of the sorted text, which the workload makes.
pub const OUTPUT_PATH: &str = "sort/output.txt";

/// What to do and what must come out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Bytes of lines that may be in memory at a time.
    pub memory_bytes: u32,
    /// Runs merged at a time; at least 2.
    pub fan_in: u32,
    /// Digest of the input's bytes.
    pub input_digest: u64,
    /// What the output must be.
    pub output: Summary,
}

/// What can be told of a text from one look at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Lines.
    pub lines: u64,
    /// Lines that are smaller than the line before.
    pub descents: u64,
    /// Sum of the digests of all lines, modulo 2⁶⁴: the same for the same lines in any order.
    pub lines_digest: u64,
    /// Digest of the bytes.
    pub content_digest: u64,
}

/// The files of a task, open.
pub struct Files {
    input: WorkFile,
}

impl Files {
    /// Opens the input.
    ///
    /// # Errors
    ///
    /// If it is missing.
    pub fn open(context: &Context<'_>) -> Result<Files, RunError> {
        Ok(Files { input: open(context, INPUT_PATH)? })
    }
}

impl Program for Files {
    fn data_blocks(&self) -> u64 {
        blocks_of(&self.input)
    }

    fn advise(&self, advice: Advice<'_>) {
        if let Advice::Own(cache) = advice {
            policy::choose_own(cache);
        }
    }

    fn run(&self, context: &Context<'_>) -> Result<Checked, RunError> {
        let task: Task = read_task(context, TASK_PATH)?;
        let mut sorter = Sorter::new(context, &task)?;
        let (runs, input_digest) = sorter.form_runs(INPUT_PATH, &self.input)?;
        sorter.merge_all(runs, OUTPUT_PATH)?;
        let output = sorter.summarize(OUTPUT_PATH)?;
        context.storage.commit().map_err(|error| RunError::file(OUTPUT_PATH, error))?;
        let mut checked = Checked {
            passes: 1,
            expected: format!("{} lines, {} descents", task.output.lines, task.output.descents),
            actual: format!("{} lines, {} descents", output.lines, output.descents),
            ..Checked::default()
        };
        checked.compare("contents of the input", task.input_digest, input_digest);
        checked.compare("output", task.output, output);
        Ok(checked)
    }
}

/// An external sort under way.
struct Sorter<'c> {
    context: &'c Context<'c>,
    memory_bytes: usize,
    fan_in: usize,
    runs_made: u32,
}

impl<'c> Sorter<'c> {
    fn new(context: &'c Context<'c>, task: &Task) -> Result<Sorter<'c>, RunError> {
        if task.fan_in < 2 {
            return Err(RunError::malformed(
                TASK_PATH,
                format!("can't merge {} runs at a time", task.fan_in),
            ));
        }
        let (memory_bytes, fan_in) = (task.memory_bytes as usize, task.fan_in as usize);
        Ok(Sorter { context, memory_bytes, fan_in, runs_made: 0 })
    }

    /// The number of the next run.
    fn new_run(&mut self) -> u32 {
        self.runs_made += 1;
        self.runs_made
    }

    fn run_path(number: u32) -> String {
        format!("sort/run-{number}")
    }

    fn create(&self, path: &str) -> Result<WorkFile, RunError> {
        self.context.storage.create(path).map_err(|error| RunError::file(path, error))
    }

    fn remove(&self, path: &str) -> Result<(), RunError> {
        self.context.storage.remove(path).map_err(|error| RunError::file(path, error))
    }

    /// Blocks of a file have been read for the last time.
    fn has_read(&self, file: &WorkFile, blocks: Range<u64>) {
        match self.context.advice {
            Advice::None => {}
            Advice::Own(cache) => policy::has_read(cache, file, blocks),
            Advice::Hints(hints) => hints.done_with(file, blocks),
        }
    }

    /// Blocks of a file will be read next.
    fn will_read(&self, file: &WorkFile, blocks: Range<u64>) -> Result<(), FileError> {
        match self.context.advice {
            Advice::Own(_) => policy::will_read(file, blocks),
            Advice::None | Advice::Hints(_) => Ok(()),
        }
    }

    /// Reads a text and tells what it is.
    fn summarize(&self, path: &str) -> Result<Summary, RunError> {
        let file = open(self.context, path)?;
        self.will_read(&file, 0..blocks_of(&file)).map_err(|error| RunError::file(path, error))?;
        let mut batches = LineBatches::new(&file);
        let mut summary = Summary::default();
        let mut last = Vec::new();
        while let Some(batch) = batches.next_batch().map_err(|error| RunError::file(path, error))? {
            summary.add(&last, batch);
            last.clear();
            last.extend_from_slice(lines::lines(batch).last().unwrap_or_default());
            self.has_read(&file, batches.last_read());
        }
        summary.content_digest = batches.digest();
        Ok(summary)
    }
}

impl Summary {
    /// Adds whole lines that follow the line `last`. The digest of the contents is left alone.
    fn add<'b>(&mut self, mut last: &'b [u8], batch: &'b [u8]) {
        for line in lines::lines(batch) {
            self.lines += 1;
            self.descents += u64::from(line < last);
            self.lines_digest = self.lines_digest.wrapping_add(digest(line));
            last = line;
        }
    }
}
