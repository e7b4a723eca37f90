//! The reference string on the console: runs of consecutive block numbers, a few on each line.
//!
//! ```text
//! refs din 4294967296+1024,4294967296+1024
//! ```
//!
//! says that the blocks 4294967296 to 4294968319 were referred to in order, twice. The numbers are those of
//! [`reference()`](crate::cache::reference()); the second word is a name, so that several strings can share a
//! console.
//!
//! `ReferenceLog` prints the references of any program while it runs, if the device says where to; see
//! [`BlockDevice::reference_log`](crate::BlockDevice::reference_log).

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
pub fn to_lines<'r>(name: &'r str, references: &'r [u64]) -> impl Iterator<Item = String> + 'r {
    let mut runs = references.chunk_by(|before, after| before.checked_add(1) == Some(*after)).peekable();
    core::iter::from_fn(move || {
        runs.peek()?;
        let mut line = String::new();
        for (index, run) in runs.by_ref().take(RUNS_PER_LINE).enumerate() {
            let before = if index == 0 { ' ' } else { ',' };
            // Writing to a string does not fail.
            let _ = write!(line, "{before}{}+{}", run[0], run.len());
        }
        Some(alloc::format!("{PREFIX} {name}{line}"))
    })
}

/// Appends the references of a line to `references`. `None` if it is another kind of line, or of another
/// name.
pub fn parse_line(name: &str, line: &str, references: &mut Vec<u64>) -> Option<Result<(), BadRun>> {
    let runs = line.trim().strip_prefix(PREFIX)?.strip_prefix(' ')?.strip_prefix(name)?.strip_prefix(' ')?;
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

/// The name under which `ReferenceLog` prints.
pub const LOG_NAME: &str = "all";

/// The line that a `ReferenceLog` ends with: without it, something is missing.
pub const LOG_END: &str = "refs all end";

/// References to collect before they are printed.
const AT_ONCE: usize = 2048;

/// Prints references, some thousand at a time, and the rest when it is dropped.
pub(super) struct ReferenceLog {
    print: fn(&str),
    pending: Vec<u64>,
}

impl ReferenceLog {
    pub(super) fn new(print: fn(&str)) -> ReferenceLog {
        ReferenceLog { print, pending: Vec::new() }
    }

    pub(super) fn push(&mut self, block: u64) {
        self.pending.push(block);
        if self.pending.len() >= AT_ONCE {
            self.print_pending();
        }
    }

    fn print_pending(&mut self) {
        to_lines(LOG_NAME, &self.pending).for_each(|line| (self.print)(&line));
        self.pending.clear();
    }
}

impl Drop for ReferenceLog {
    fn drop(&mut self) {
        self.print_pending();
        (self.print)(LOG_END);
    }
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
