//! The reference string on the console: runs of consecutive block numbers, a few on each line.
//!
//! ```text
//! refs din 4294967296+1024,4294967296+1024
//! ```
//!
//! says that the blocks 4294967296 to 4294968319 were referred to in order, twice. The numbers are those of
//! [`libos_fs::cache::reference`].

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

/// First word of a line with references.
pub const PREFIX: &str = "refs";

/// Runs that a line holds at most.
const RUNS_PER_LINE: usize = 40;

/// A line that should hold references and does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRun(pub String);

impl fmt::Display for BadRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no run of references like 4294967296+17", self.0)
    }
}

impl core::error::Error for BadRun {}

/// The lines for `references`, without line feeds.
pub fn to_lines<'r>(workload: &'r str, references: &'r [u64]) -> impl Iterator<Item = String> + 'r {
    let mut runs = references.chunk_by(|before, after| before.checked_add(1) == Some(*after)).peekable();
    core::iter::from_fn(move || {
        runs.peek()?;
        let mut line = String::new();
        for (index, run) in runs.by_ref().take(RUNS_PER_LINE).enumerate() {
            let before = if index == 0 { ' ' } else { ',' };
            // Writing to a string does not fail.
            let _ = write!(line, "{before}{}+{}", run[0], run.len());
        }
        Some(alloc::format!("{PREFIX} {workload}{line}"))
    })
}

/// Appends the references of a line to `references`. `None` if it is another kind of line, or of another workload.
pub fn parse_line(workload: &str, line: &str, references: &mut Vec<u64>) -> Option<Result<(), BadRun>> {
    let runs =
        line.trim().strip_prefix(PREFIX)?.strip_prefix(' ')?.strip_prefix(workload)?.strip_prefix(' ')?;
    Some(runs.split(',').try_for_each(|run| {
        let (first, end) = parse_run(run).ok_or_else(|| BadRun(run.into()))?;
        references.extend(first..end);
        Ok(())
    }))
}

/// Blocks that a run may have: more is a damaged line, not a file.
const LONGEST_RUN: u64 = 1 << 24;

fn parse_run(run: &str) -> Option<(u64, u64)> {
    let (first, length) = run.split_once('+')?;
    let (first, length): (u64, u64) = (first.parse().ok()?, length.parse().ok()?);
    (length <= LONGEST_RUN).then_some((first, first.checked_add(length)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_survive_the_console() {
        let mut references = Vec::new();
        for number in 0..200u64 {
            references.extend(number << 32..(number << 32) + number % 5);
        }
        references.extend([7, 7, 8, u64::MAX, 0]);
        let lines: Vec<String> = to_lines("cs", &references).collect();
        assert!(lines.len() > 1 && lines.iter().all(|line| line.len() < 2000));
        let mut parsed = Vec::new();
        let mut other = Vec::new();
        for line in &lines {
            if line.contains("18446744073709551615") {
                // The end of this run can't be named; it can't occur either: no file has that many blocks.
                continue;
            }
            assert_eq!(parse_line("cs", line, &mut parsed), Some(Ok(())));
            assert_eq!(parse_line("c", line, &mut other), None);
        }
        assert!(references.starts_with(&parsed) && !parsed.is_empty());
        assert!(to_lines("cs", &[]).next().is_none());
    }

    #[test]
    fn damaged_lines_are_told_from_other_lines() {
        let mut references = Vec::new();
        assert_eq!(parse_line("cs", "hello", &mut references), None);
        for bad in ["refs cs 1", "refs cs 1+", "refs cs 1+2,x+1", "refs cs 0+99999999999"] {
            assert!(matches!(parse_line("cs", bad, &mut references), Some(Err(_))), "{bad}");
        }
    }
}
