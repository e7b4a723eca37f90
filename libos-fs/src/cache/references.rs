//! The reference string on the console: runs of consecutive block numbers, a few on each line.
//!
//! ```text
//! refs din 4294967296+1024,4294967296+1024
//! ```
//!
//! says that the blocks 4294967296 to 4294968319 were referred to in order, twice. With `*` in place of `+`
//! they were asked for by one call. The numbers are those of [`reference()`](crate::cache::reference()); the
//! second word is a name, so that several strings can share a console.
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
        write!(f, "{:?} is no run of references like 4294967296+17 or 4294967296*17", self.0)
    }
}

impl core::error::Error for BadRun {}

/// References to consecutive blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first block.
    pub first: u64,
    /// How many.
    pub blocks: u64,
    /// Whether one call asked for all of them, and not each call for one.
    pub one_call: bool,
}

impl Run {
    /// The blocks, in order.
    pub fn references(self) -> impl Iterator<Item = u64> {
        (0..self.blocks).map(move |position| self.first.wrapping_add(position))
    }

    /// First block and number of blocks of each call.
    pub fn calls(self) -> impl Iterator<Item = (u64, u64)> {
        let (calls, blocks) = if self.one_call { (1, self.blocks) } else { (self.blocks, 1) };
        (0..calls).map(move |position| (self.first.wrapping_add(position), blocks))
    }
}

/// The lines for `references`, without line feeds.
pub fn to_lines<'r>(name: &'r str, references: &'r [u64]) -> impl Iterator<Item = String> + 'r {
    let runs = references.chunk_by(|before, after| before.checked_add(1) == Some(*after));
    lines_of(name, runs.map(|run| Run { first: run[0], blocks: run.len() as u64, one_call: false }))
}

fn lines_of<'r>(name: &'r str, runs: impl Iterator<Item = Run> + 'r) -> impl Iterator<Item = String> + 'r {
    let mut runs = runs.peekable();
    core::iter::from_fn(move || {
        runs.peek()?;
        let mut line = String::new();
        for (index, run) in runs.by_ref().take(RUNS_PER_LINE).enumerate() {
            let before = if index == 0 { ' ' } else { ',' };
            let sign = if run.one_call { '*' } else { '+' };
            // Writing to a string does not fail.
            let _ = write!(line, "{before}{}{sign}{}", run.first, run.blocks);
        }
        Some(alloc::format!("{PREFIX} {name}{line}"))
    })
}

/// Appends the runs of a line to `runs`. `None` if it is another kind of line, or of another name.
pub fn parse_line(name: &str, line: &str, runs: &mut Vec<Run>) -> Option<Result<(), BadRun>> {
    let texts = line.trim().strip_prefix(PREFIX)?.strip_prefix(' ')?.strip_prefix(name)?.strip_prefix(' ')?;
    Some(texts.split(',').try_for_each(|text| {
        runs.push(parse_run(text).ok_or_else(|| BadRun(text.into()))?);
        Ok(())
    }))
}

/// Blocks that a run may have: more is a damaged line, not a file.
const LONGEST_RUN: u64 = 1 << 24;

fn parse_run(text: &str) -> Option<Run> {
    let (first, blocks, one_call) = match text.split_once('+') {
        Some((first, blocks)) => (first, blocks, false),
        None => {
            let (first, blocks) = text.split_once('*')?;
            (first, blocks, true)
        }
    };
    let (first, blocks): (u64, u64) = (first.parse().ok()?, blocks.parse().ok()?);
    first.checked_add(blocks)?;
    (blocks <= LONGEST_RUN).then_some(Run { first, blocks, one_call })
}

/// The name under which `ReferenceLog` prints.
pub const LOG_NAME: &str = "all";

/// The line that a `ReferenceLog` ends with: without it, something is missing.
pub const LOG_END: &str = "refs all end";

/// Runs to collect before they are printed.
const AT_ONCE: usize = 512;

/// Prints references, some hundred runs at a time, and the rest when it is dropped.
pub(super) struct ReferenceLog {
    print: fn(&str),
    pending: Vec<Run>,
}

impl ReferenceLog {
    pub(super) fn new(print: fn(&str)) -> ReferenceLog {
        ReferenceLog { print, pending: Vec::new() }
    }

    /// A block was referred to; `goes_on` says whether by the call that asked for the one before it.
    pub(super) fn push(&mut self, block: u64, goes_on: bool) {
        match self.pending.last_mut() {
            Some(last) if goes_on && last.one_call => last.blocks += 1,
            Some(last) if goes_on => {
                // What the call begins with was taken for the end of a run.
                last.blocks -= 1;
                let first = last.first + last.blocks;
                if last.blocks == 0 {
                    self.pending.pop();
                }
                self.pending.push(Run { first, blocks: 2, one_call: true });
            }
            Some(last) if !last.one_call && last.first.checked_add(last.blocks) == Some(block) => {
                last.blocks += 1;
            }
            _ => {
                if self.pending.len() >= AT_ONCE {
                    self.print_pending();
                }
                self.pending.push(Run { first: block, blocks: 1, one_call: false });
            }
        }
    }

    fn print_pending(&mut self) {
        lines_of(LOG_NAME, self.pending.drain(..)).for_each(|line| (self.print)(&line));
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

    fn references(runs: &[Run]) -> Vec<u64> {
        runs.iter().flat_map(|run| run.references()).collect()
    }

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
        let parsed = super::tests::references(&parsed);
        assert!(references.starts_with(&parsed) && !parsed.is_empty());
        assert!(to_lines("cs", &[]).next().is_none());
    }

    #[test]
    fn damaged_lines_are_told_from_other_lines() {
        let mut references = Vec::new();
        assert_eq!(parse_line("cs", "hello", &mut references), None);
        for bad in [
            "refs cs 1",
            "refs cs 1+",
            "refs cs 1+2,x+1",
            "refs cs 0+99999999999",
            "refs cs 0*99999999999",
            "refs cs 1*2+3",
            "refs cs 18446744073709551615*2",
        ] {
            assert!(matches!(parse_line("cs", bad, &mut references), Some(Err(_))), "{bad}");
        }
    }

    thread_local! {
        static PRINTED: core::cell::RefCell<Vec<String>> = const { core::cell::RefCell::new(Vec::new()) };
    }

    #[test]
    fn calls_survive_the_console() {
        // First block and length of each call; some go on where the last ended.
        let mut calls: Vec<(u64, u64)> = vec![(5, 1), (6, 1), (7, 3), (10, 1), (11, 2), (13, 2), (0, 1)];
        calls.extend((0..2000).map(|call| (call * 7 % 100, 1 + call % 3)));
        let mut log = ReferenceLog::new(|line| PRINTED.with_borrow_mut(|lines| lines.push(line.into())));
        for (first, blocks) in &calls {
            (0..*blocks).for_each(|position| log.push(first + position, position > 0));
        }
        drop(log);
        let mut lines = PRINTED.take();
        assert_eq!(lines.pop().as_deref(), Some(LOG_END));
        let mut runs = Vec::new();
        lines.iter().for_each(|line| assert_eq!(parse_line(LOG_NAME, line, &mut runs), Some(Ok(()))));
        assert_eq!(runs.iter().flat_map(|run| run.calls()).collect::<Vec<_>>(), calls);
        assert_eq!(runs[0], Run { first: 5, blocks: 2, one_call: false });
    }
}
