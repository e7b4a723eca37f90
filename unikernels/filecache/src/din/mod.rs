//! `din`: a simulator of processor caches, run several times over one memory-reference trace.
//!
//! What Dinero does (M. D. Hill): one pass over the trace for every cache whose misses somebody wants to
//! know. (P. Cao et al., "Application-controlled file caching", OSDI 1994, ran it nine times over a trace of
//! 8 MB.)

pub mod policy;
mod simulator;
mod trace;

pub use simulator::{BadShape, Counts, Replacement, Shape, Simulator};
pub use trace::{BadReference, KINDS, Kind, parse};

use crate::files::{Advice, WorkFile};
use crate::lines::LineBatches;
use crate::workload::{Checked, Context, Program, RunError, blocks_of, open, read_task};
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Path of the task, a [`Task`] in JSON.
pub const TASK_PATH: &str = "din/task.json";
/// Path of the trace.
pub const TRACE_PATH: &str = "din/trace.din";

/// A cache and what its simulation must count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// The cache.
    pub shape: Shape,
    /// What must be counted.
    pub counts: Counts,
}

/// What to do and what must come out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The simulations, in order.
    pub passes: Vec<Pass>,
    /// Digest of the trace's bytes.
    pub content_digest: u64,
}

/// The files of a task, open.
pub struct Files {
    trace: WorkFile,
}

impl Files {
    /// Opens the trace.
    ///
    /// # Errors
    ///
    /// If it is missing.
    pub fn open(context: &Context<'_>) -> Result<Files, RunError> {
        Ok(Files { trace: open(context, TRACE_PATH)? })
    }
}

impl Program for Files {
    fn data_blocks(&self) -> u64 {
        blocks_of(&self.trace)
    }

    fn advise(&self, advice: Advice<'_>) {
        match advice {
            Advice::None => {}
            Advice::Own(cache) => policy::choose_own(cache, &self.trace),
            Advice::Hints(hints) => hints.read_in_loops(&[&self.trace], 0, 0),
        }
    }

    fn run(&self, context: &Context<'_>) -> Result<Checked, RunError> {
        let task: Task = read_task(context, TASK_PATH)?;
        let mut checked = Checked { passes: task.passes.len() as u64, ..Checked::default() };
        let (mut misses, mut expected_misses) = (0, 0);
        if let Advice::Own(_) = context.advice {
            policy::disclose(&self.trace, task.passes.len())
                .map_err(|error| RunError::file(TRACE_PATH, error))?;
        }
        for (number, pass) in task.passes.iter().enumerate() {
            let (counts, content_digest) = simulate(&self.trace, &pass.shape)?;
            checked.compare(&format!("pass {number}: {}", pass.shape), pass.counts, counts);
            checked.compare(&format!("pass {number}: contents"), task.content_digest, content_digest);
            misses += counts.misses.iter().sum::<u64>();
            expected_misses += pass.counts.misses.iter().sum::<u64>();
        }
        checked.expected = format!("{expected_misses} misses in {} caches", task.passes.len());
        checked.actual = format!("{misses} misses in {} caches", task.passes.len());
        Ok(checked)
    }
}

fn simulate(trace: &WorkFile, shape: &Shape) -> Result<(Counts, u64), RunError> {
    let mut simulator = Simulator::new(shape).map_err(|bad| RunError::malformed(TASK_PATH, bad.0))?;
    let mut batches = LineBatches::new(trace);
    while let Some(batch) = batches.next_batch().map_err(|error| RunError::file(TRACE_PATH, error))? {
        parse(batch, |kind, address| simulator.refer(kind, address))
            .map_err(|bad| RunError::malformed(TRACE_PATH, bad.to_string()))?;
    }
    Ok((simulator.counts(), batches.digest()))
}
