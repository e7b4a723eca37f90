//! `exo bench size`: how much code there is, and how much of it must be trusted.
//!
//! Lines are counted without blank ones, comments and tests; so are blocks of `unsafe`. The trusted base is
//! what runs with all rights: the exokernel, and the two crates that it is built on. Its budgets stand here
//! and nowhere else, and a test fails when one is exceeded.

use crate::error::Result;
use crate::host::checkout::Checkout;
use crate::host::output::{expect, write_lines};
use crate::source;
use crate::units::thousands;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Arguments of `exo bench size`.
#[derive(Debug, clap::Args)]
pub struct SizeArgs {
    /// Writes JSON lines
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What is counted: crate, folder, and the most lines of code it may have if it belongs to the trusted base.
const PARTS: [(&str, &str, Option<u64>); 5] = [
    ("hyperexo", "hyperexo/src", Some(11_440)),
    ("hyperexo-abi", "hyperexo/abi/src", Some(1_130)),
    ("hyperexo-hw", "hyperexo/hw/src", Some(3_030)),
    ("libos-core", "libos-core/src", None),
    ("libos-fs", "libos-fs/src", None),
];
/// The most lines of code that the trusted base may have altogether.
const TRUSTED_LINES: u64 = 15_590;
/// What the sum of the trusted base is called.
const TRUSTED: &str = "trusted base";

/// One line of the result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Size {
    #[serde(rename = "crate")]
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    folder: Option<&'static str>,
    lines: u64,
    unsafe_blocks: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_lines: Option<u64>,
}

impl Size {
    /// Whether there is more than may be.
    fn is_over(&self) -> bool {
        self.budget_lines.is_some_and(|most| self.lines > most)
    }
}

/// The verb.
pub fn size(args: &SizeArgs) -> Result<()> {
    expect(&[args.json.as_deref()])?;
    let sizes = measure(&Checkout::find()?)?;
    print!("{}", table(&sizes));
    args.json.as_deref().map_or(Ok(()), |path| write_lines(path, sizes.iter()))
}

/// All parts, and the sum of those that must be trusted.
fn measure(checkout: &Checkout) -> Result<Vec<Size>> {
    let mut sizes = Vec::new();
    for (name, folder, budget_lines) in PARTS {
        let (lines, unsafe_blocks) = count(&checkout.root.join(folder))?;
        sizes.push(Size { name, folder: Some(folder), lines, unsafe_blocks, budget_lines });
    }
    sizes.push(sum(&sizes));
    Ok(sizes)
}

/// The trusted base as a whole.
fn sum(sizes: &[Size]) -> Size {
    let trusted = || sizes.iter().filter(|size| size.budget_lines.is_some());
    Size {
        name: TRUSTED,
        folder: None,
        lines: trusted().map(|size| size.lines).sum(),
        unsafe_blocks: trusted().map(|size| size.unsafe_blocks).sum(),
        budget_lines: Some(TRUSTED_LINES),
    }
}

/// Lines of code and blocks of `unsafe` in the sources of a folder.
fn count(folder: &Path) -> Result<(u64, u64)> {
    let mut sum = (0, 0);
    for (path, text) in source::without_tests(folder)? {
        sum.0 += source::lines(&text).map_err(source::no_rust(&path))?;
        sum.1 += source::unsafe_blocks(&text).map_err(source::no_rust(&path))?;
    }
    Ok(sum)
}

fn table(sizes: &[Size]) -> String {
    let mut text = format!("{:<14}{:>10}{:>10}{:>10}\n", "crate", "lines", "budget", "unsafe");
    for size in sizes {
        let budget = size.budget_lines.map(thousands).unwrap_or_default();
        let over = if size.is_over() { "  over its budget" } else { "" };
        let (lines, blocks) = (thousands(size.lines), thousands(size.unsafe_blocks));
        text += &format!("{:<14}{lines:>10}{budget:>10}{blocks:>10}{over}\n", size.name);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trusted_base_is_within_its_budget() {
        let sizes = measure(&Checkout::find().unwrap()).unwrap();
        assert!(!sizes.iter().any(Size::is_over), "the budgets stand in {}\n{}", file!(), table(&sizes));
    }

    #[test]
    fn what_is_over_its_budget_is_told() {
        let part =
            |name, lines, budget_lines| Size { name, folder: None, lines, unsafe_blocks: 2, budget_lines };
        let mut sizes = vec![part("a", 5, Some(4)), part("b", 4, Some(4)), part("c", 1000, None)];
        sizes.push(sum(&sizes));
        assert_eq!((sizes[3].lines, sizes[3].unsafe_blocks), (9, 4), "c is not trusted");
        let over: Vec<&str> = sizes.iter().filter(|size| size.is_over()).map(|size| size.name).collect();
        assert_eq!(over, ["a"]);
        let table = table(&sizes);
        let said: Vec<&str> = table.lines().filter(|line| line.ends_with("over its budget")).collect();
        assert!(matches!(said[..], [line] if line.starts_with('a')), "{table}");
    }
}
