//! `pjn`: a join of two relations by an index.
//!
//! For every tuple of the outer relation, the index on the inner one is asked for the tuple with the same
//! key, and that is fetched. (P. Cao et al., "Application-controlled file caching", OSDI 1994, had Postgres
//! join relations of the Wisconsin benchmark: D. Bitton, D. J. DeWitt and C. Turbyfill, "Benchmarking
//! database systems: a systematic approach", VLDB 1983.)
//!
//! ```text
//!  Join ──► Scan         outer relation, front to back
//!    └────► Tree ──► Heap    index, then the inner tuple, here and there
//! ```

mod operators;
pub mod policy;
mod relation;

#[cfg(feature = "data")]
pub(crate) use relation::file_of;
pub use relation::{Heap, TUPLE_BYTES, Tuple};

use crate::btree::{Tree, TreeError};
use crate::digest::{digest, mix};
use crate::files::Advice;
use crate::workload::{Checked, Context, Program, RunError, blocks_of, open, read_task};
use alloc::format;
use alloc::string::ToString;
use operators::Join;
use serde::{Deserialize, Serialize};

/// Path of the task, a [`Task`] in JSON.
pub const TASK_PATH: &str = "pjn/task.json";
/// Path of the outer relation.
pub const OUTER_PATH: &str = "pjn/outer";
/// Path of the inner relation.
pub const INNER_PATH: &str = "pjn/inner";
/// Path of the nodes of the index on the inner relation's keys.
pub const INDEX_PATH: &str = "pjn/inner.index";
/// Path of its leaves.
pub const INDEX_LEAVES_PATH: &str = "pjn/inner.leaves";
/// Bytes of a value of the index: the number of the tuple, and the key as text, as Wisconsin's indices on
/// strings have.
pub const ENTRY_BYTES: usize = 24;

/// What must come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The result.
    pub result: Joined,
}

/// What can be told of the result of a join.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// Tuples of the outer relation.
    pub outer: u64,
    /// Tuples of the result.
    pub pairs: u64,
    /// Digest of the result, in the order of the outer relation.
    pub digest: u64,
}

impl Joined {
    /// Adds a tuple of the result.
    pub fn add(&mut self, outer: &Tuple, inner: &Tuple) {
        self.pairs += 1;
        self.digest = mix(mix(self.digest, digest(outer.bytes())), digest(inner.bytes()));
    }
}

/// The files of a task, open.
pub struct Files {
    outer: Heap,
    inner: Heap,
    index: Tree,
}

impl Files {
    /// Opens relations and index.
    ///
    /// # Errors
    ///
    /// If a file is missing or holds no tree.
    pub fn open(context: &Context<'_>) -> Result<Files, RunError> {
        let index =
            Tree::open(open(context, INDEX_PATH)?, open(context, INDEX_LEAVES_PATH)?).map_err(wrong)?;
        let (outer, inner) = (open(context, OUTER_PATH)?, open(context, INNER_PATH)?);
        Ok(Files { outer: Heap::new(outer), inner: Heap::new(inner), index })
    }
}

fn wrong(error: TreeError) -> RunError {
    match error {
        TreeError::File(error) => RunError::file("pjn", error),
        corrupt => RunError::malformed("pjn", corrupt.to_string()),
    }
}

impl Program for Files {
    fn data_blocks(&self) -> u64 {
        [self.outer.file(), self.inner.file(), self.index.index(), self.index.leaves()]
            .into_iter()
            .map(blocks_of)
            .sum()
    }

    fn advise(&self, advice: Advice<'_>) {
        match advice {
            Advice::None => {}
            Advice::Own(cache) => policy::choose_own(cache, &self.index),
            Advice::Hints(hints) => {
                hints.read_at_random(self.inner.file());
                hints.read_at_random(self.index.leaves());
            }
        }
    }

    fn run(&self, context: &Context<'_>) -> Result<Checked, RunError> {
        let task: Task = read_task(context, TASK_PATH)?;
        let mut joined = Joined::default();
        let mut join = Join::new(&self.outer, &self.index, &self.inner);
        let plan;
        if let Advice::Own(cache) = context.advice {
            plan = policy::plan(cache);
            policy::will_read_index(cache, &self.index).map_err(TreeError::from).map_err(wrong)?;
            let distance = policy::look_ahead_blocks(cache, &self.index);
            join.look_ahead(distance, &plan).map_err(TreeError::from).map_err(wrong)?;
        }
        while let Some((outer, inner)) = join.next().map_err(wrong)? {
            joined.outer += 1;
            if let Some(inner) = inner {
                joined.add(&outer, &inner);
            }
            let Some(finished) = join.finished_blocks() else { continue };
            match context.advice {
                // The plan says what else will be read.
                Advice::None | Advice::Own(_) => {}
                Advice::Hints(hints) => hints.done_with(self.outer.file(), finished),
            }
        }
        let mut checked = Checked {
            passes: 1,
            expected: format!("{} pairs", task.result.pairs),
            actual: format!("{} pairs", joined.pairs),
            ..Checked::default()
        };
        checked.compare("result", task.result, joined);
        Ok(checked)
    }
}
