//! The programs, by name.

mod collector;
mod graph;
mod join;
mod matrix;
mod sort;

use crate::memory::Memory;
use core::fmt;
use core::str::FromStr;
use libos_fs::PolicyKind;

/// A program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// A matrix product, row by row: all of the second matrix for each row of the first.
    Matmul,
    /// The same product by blocks.
    Blocked,
    /// A merge sort that does not fit.
    Sort,
    /// PageRank on a power-law graph.
    PageRank,
    /// Breadth-first search on the same graph.
    Bfs,
    /// A hash join.
    Join,
    /// A collector: marks what can be reached, sweeps over all.
    Collector,
}

impl Program {
    /// All of them.
    pub const ALL: [Program; 7] = [
        Program::Matmul,
        Program::Blocked,
        Program::Sort,
        Program::PageRank,
        Program::Bfs,
        Program::Join,
        Program::Collector,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Program::Matmul => "matmul",
            Program::Blocked => "blocked",
            Program::Sort => "sort",
            Program::PageRank => "pagerank",
            Program::Bfs => "bfs",
            Program::Join => "join",
            Program::Collector => "collector",
        }
    }

    /// Pages of its arrays, with a guard for each.
    pub fn pages(self) -> u64 {
        self.data_pages() + self.arrays().len() as u64
    }

    /// Pages of its arrays.
    pub fn data_pages(self) -> u64 {
        self.arrays().iter().map(|words| words.div_ceil(crate::PAGE_WORDS) as u64).sum()
    }

    /// Words of its arrays.
    fn arrays(self) -> &'static [usize] {
        match self {
            Program::Matmul | Program::Blocked => &matrix::ARRAYS,
            Program::Sort => &sort::ARRAYS,
            Program::PageRank => &graph::PAGERANK_ARRAYS,
            Program::Bfs => &graph::BFS_ARRAYS,
            Program::Join => &join::ARRAYS,
            Program::Collector => &collector::ARRAYS,
        }
    }

    /// Whether its accesses follow from its code alone, so that it can know them.
    pub fn regular(self) -> bool {
        matches!(self, Program::Matmul | Program::Blocked | Program::Sort)
    }

    /// The library's policy that makes the most of what the program says.
    pub fn own_policy(self) -> PolicyKind {
        match self {
            // What they know is little: their accesses follow from their data.
            Program::Bfs | Program::Join => PolicyKind::WTinyLfu,
            // Marking follows pointers: no policy tried does better than CLOCK.
            Program::Collector => PolicyKind::Clock,
            _ => PolicyKind::Hinted,
        }
    }

    /// Runs it; returns a digest of its result.
    pub fn run(self, memory: &impl Memory) -> u64 {
        match self {
            Program::Matmul => matrix::by_rows(memory),
            Program::Blocked => matrix::by_blocks(memory),
            Program::Sort => sort::sort(memory),
            Program::PageRank => graph::pagerank(memory),
            Program::Bfs => graph::bfs(memory),
            Program::Join => join::join(memory),
            Program::Collector => collector::collect(memory),
        }
    }
}

/// No program has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownProgram;

impl fmt::Display for UnknownProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown program, there are: ")?;
        Program::ALL.iter().enumerate().try_for_each(|(position, program)| {
            let comma = if position == 0 { "" } else { ", " };
            write!(f, "{comma}{}", program.name())
        })
    }
}

impl core::error::Error for UnknownProgram {}

impl FromStr for Program {
    type Err = UnknownProgram;

    fn from_str(name: &str) -> Result<Program, UnknownProgram> {
        Program::ALL.into_iter().find(|program| program.name() == name).ok_or(UnknownProgram)
    }
}
