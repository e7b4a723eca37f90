//! The programs, by name.

mod collector;
mod graph;
mod index;
mod join;
mod matrix;
mod sort;

use crate::memory::Memory;
use alloc::vec::Vec;
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
    /// Transactions and queries: an index is made again or paged in.
    Index,
}

impl Program {
    /// All of them.
    pub const ALL: [Program; 8] = [
        Program::Matmul,
        Program::Blocked,
        Program::Sort,
        Program::PageRank,
        Program::Bfs,
        Program::Join,
        Program::Collector,
        Program::Index,
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
            Program::Index => "index",
        }
    }

    /// Pages of its arrays, with a guard for each. `scale`: how many times the usual data there are.
    pub fn pages(self, scale: usize) -> u64 {
        self.data_pages(scale) + self.arrays(scale).len() as u64
    }

    /// Pages of its arrays.
    pub fn data_pages(self, scale: usize) -> u64 {
        self.arrays(scale).iter().map(|words| words.div_ceil(crate::PAGE_WORDS) as u64).sum()
    }

    /// Words of its arrays.
    fn arrays(self, scale: usize) -> Vec<usize> {
        match self {
            Program::Matmul | Program::Blocked => matrix::arrays(scale).into(),
            Program::Sort => sort::arrays(scale).into(),
            Program::PageRank | Program::Bfs => graph::arrays(scale).into(),
            Program::Join => join::arrays(scale).into(),
            Program::Collector => collector::arrays(scale).into(),
            Program::Index => index::arrays(scale).into(),
        }
    }

    /// The share of its pages that are in memory unless it is asked for: a quarter. The data of
    /// [`Program::Index`] fit, and all its indices do not.
    pub fn usual_frames(self) -> &'static str {
        if self == Program::Index { "66%" } else { "25%" }
    }

    /// Whether its accesses follow from its code alone, so that it can know them.
    pub fn regular(self) -> bool {
        matches!(self, Program::Matmul | Program::Blocked | Program::Sort)
    }

    /// Whether what it does next depends on what it is told of memory. Then Belady's optimum for the accesses
    /// of who is told nothing is no bound.
    pub fn adapts(self) -> bool {
        matches!(self, Program::Collector | Program::Index)
    }

    /// The policy that makes the most of what the program says.
    pub fn own_policy(self) -> OwnPolicy {
        match self {
            Program::Blocked | Program::Bfs | Program::Join => OwnPolicy::Foretold,
            // Marking follows pointers: what it knows, it does not say but do.
            Program::Collector | Program::Index => OwnPolicy::Library(PolicyKind::Clock),
            _ => OwnPolicy::Library(PolicyKind::Hinted),
        }
    }

    /// Runs it; returns a digest of its result.
    pub fn run(self, scale: usize, memory: &impl Memory) -> u64 {
        match self {
            Program::Matmul => matrix::by_rows(memory, scale),
            Program::Blocked => matrix::by_blocks(memory, scale),
            Program::Sort => sort::sort(memory, scale),
            Program::PageRank => graph::pagerank(memory, scale),
            Program::Bfs => graph::bfs(memory, scale),
            Program::Join => join::join(memory, scale),
            Program::Collector => collector::collect(memory, scale),
            Program::Index => index::transactions(memory, scale),
        }
    }
}

/// The policy that a program brings with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnPolicy {
    /// One of the library's, to which it gives advice.
    Library(PolicyKind),
    /// [`libos_pager::Foretold`]: by the uses that it foretells.
    Foretold,
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
