//! `ldk`: a link editor puts a program together from all objects of some archives, as one links a kernel.
//!
//! It goes through the objects twice, in small reads: first headers and symbols, to see how long everything
//! is and who defines what; then contents and relocations, which it writes to the output. Then it reads the
//! output once more, for the digest that linkers leave in a program as its build id. (P. Cao et al.,
//! "Application-controlled file caching", OSDI 1994, linked the kernel of Ultrix.)
//!
//! | module | what |
//! |---|---|
//! | `archive` | where objects are in an archive |
//! | `object` | headers, symbols, relocations of one |
//! | [`layout`] | where sections go |
//! | `relocate` | what relocations write |
//! | `link` | both passes |
//! | `output` | the program in whole blocks |
//!
//! All members are taken, whether they are needed or not; of several definitions of a symbol the first
//! counts, but any other before a weak one; what nobody defines is 0. Groups of sections are not folded, and
//! indirect functions are called by the address of their resolver: the program is for comparing, not for
//! running.

mod archive;
pub mod layout;
mod link;
mod object;
mod output;
pub mod policy;
mod relocate;

use crate::digest::Digest;
use crate::files::{Advice, WorkFile};
use crate::lines::{BLOCK_BYTES, LineBatches, READ_BYTES};
use crate::sort::policy::LateMru;
use crate::workload::{Checked, Context, Program, RunError, blocks_of, open, read_task};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;
use core::ops::Range;
use link::Linker;
use serde::{Deserialize, Serialize};

/// Path of the task, a [`Task`] in JSON.
pub const TASK_PATH: &str = "ldk/task.json";
/// Path of the list of archives, one path a line.
pub const LIST_PATH: &str = "ldk/archives";
/// Path of the program, which the workload makes.
pub const OUTPUT_PATH: &str = "ldk/program";

/// What must come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The result.
    pub linked: Linked,
}

/// What can be told of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Linked {
    /// Objects.
    pub objects: u64,
    /// Global symbols.
    pub symbols: u64,
    /// Of these, symbols that nobody defines.
    pub undefined: u64,
    /// Relocations.
    pub relocations: u64,
    /// Bytes of the program.
    pub bytes: u64,
    /// Digest of the program.
    pub digest: u64,
}

/// The files of a task, open.
pub struct Files {
    archives: Vec<(String, WorkFile)>,
}

impl Files {
    /// Opens the archives.
    ///
    /// # Errors
    ///
    /// If one is missing.
    pub fn open(context: &Context<'_>) -> Result<Files, RunError> {
        let list = open(context, LIST_PATH)?;
        let mut archives = Vec::new();
        let mut batches = LineBatches::new(&list);
        while let Some(batch) = batches.next_batch().map_err(|error| RunError::file(LIST_PATH, error))? {
            for path in String::from_utf8_lossy(batch).lines() {
                archives.push((path.to_string(), open(context, path)?));
            }
        }
        Ok(Files { archives })
    }
}

impl Program for Files {
    fn data_blocks(&self) -> u64 {
        self.archives.iter().map(|(_, file)| blocks_of(file)).sum()
    }

    fn advise(&self, advice: Advice<'_>) {
        match advice {
            Advice::None => {}
            Advice::Own(cache) => policy::choose_own(cache),
            Advice::Hints(hints) => {
                // Objects share blocks, and are looked up again: as late as the own policy.
                let archives: Vec<&WorkFile> = self.archives.iter().map(|(_, file)| file).collect();
                hints.read_in_loops(&archives, 0, LateMru::LATE_BY);
            }
        }
    }

    fn run(&self, context: &Context<'_>) -> Result<Checked, RunError> {
        let task: Task = read_task(context, TASK_PATH)?;
        let finished = Finished { advice: context.advice, before: Cell::new(0) };
        let mut linker = Linker::default();
        for (path, archive) in &self.archives {
            linker.add_archive(path, archive, &mut |file, blocks| finished.say(file, blocks))?;
        }
        will_read(context, || linker.reads().into_iter())?;
        let output =
            context.storage.create(OUTPUT_PATH).map_err(|error| RunError::file(OUTPUT_PATH, error))?;
        let mut linked = linker.write(&output, &mut |file, end| finished.up_to(file, end))?;
        will_read(context, || core::iter::once((&output, 0..blocks_of(&output))))?;
        (linked.bytes, linked.digest) =
            digest_of(&output).map_err(|error| RunError::file(OUTPUT_PATH, error))?;
        context.storage.commit().map_err(|error| RunError::file(OUTPUT_PATH, error))?;
        let summary = |linked: &Linked| format!("{} objects, {} bytes", linked.objects, linked.bytes);
        let mut checked = Checked {
            passes: 2,
            expected: summary(&task.linked),
            actual: summary(&linked),
            ..Checked::default()
        };
        checked.compare("program", task.linked, linked);
        Ok(checked)
    }
}

/// Says of blocks of an archive that they have been read for the last time.
struct Finished<'c> {
    advice: Advice<'c>,
    /// Blocks of the current archive of which that has been said.
    before: Cell<u64>,
}

impl Finished<'_> {
    /// Everything before the byte `end` of an archive has been read for the last time. Archives are read
    /// front to back.
    fn up_to(&self, file: &WorkFile, end: u64) {
        let end = end / BLOCK_BYTES as u64;
        let start = if end < self.before.get() { 0 } else { self.before.get() };
        if start < end {
            self.before.set(end);
            self.say(file, start..end);
        }
    }

    fn say(&self, file: &WorkFile, blocks: Range<u64>) {
        match self.advice {
            Advice::None => {}
            Advice::Own(cache) => policy::has_read(cache, file, blocks),
            Advice::Hints(hints) => hints.done_with(file, blocks),
        }
    }
}

/// Blocks of files come next, in this order.
fn will_read<'f, R: Iterator<Item = (&'f WorkFile, Range<u64>)>>(
    context: &Context<'_>,
    reads: impl FnOnce() -> R,
) -> Result<(), RunError> {
    match context.advice {
        Advice::Own(cache) => policy::disclose(cache, reads).map_err(|error| RunError::file("ldk", error)),
        Advice::None | Advice::Hints(_) => Ok(()),
    }
}

/// Reads a file to its end: its length and the digest of its bytes.
fn digest_of(file: &WorkFile) -> Result<(u64, u64), crate::files::FileError> {
    let mut digest = Digest::default();
    let mut buffer = vec![0; READ_BYTES];
    let mut offset = 0;
    loop {
        let count = file.read_at(offset, &mut buffer)?;
        if count == 0 {
            return Ok((offset, digest.finish()));
        }
        digest.update(&buffer[..count]);
        offset += count as u64;
    }
}
