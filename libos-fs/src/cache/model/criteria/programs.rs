//! Programs as strings of references: what they touch, in which order, and what they could tell the cache.

use crate::cache::policies::PolicyKind;
use crate::device::fault::Dice;
use crate::file_id::FileId;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

/// One step of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Reads a block of one of its files.
    Read(u32, u64),
    /// Writes a whole block of one of its files, which needs no read.
    Write(u32, u64),
    /// Will not need a block soon. Only a smart program says so.
    DoneWith(u32, u64),
}

/// What a program does about its caching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    /// It says nothing and gets LRU.
    Oblivious,
    /// It chooses what suits it.
    Smart,
    /// It chooses MRU for everything although LRU would suit it.
    Foolish,
}

impl Conduct {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Conduct::Oblivious => "oblivious",
            Conduct::Smart => "smart",
            Conduct::Foolish => "foolish",
        }
    }
}

/// A program.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// What it does, from its start to its end.
    pub steps: Vec<Step>,
    /// Time it computes for each block, in nanoseconds.
    pub compute_ns: u64,
    /// What it chooses if it is smart: policies of priorities.
    pub policies: Vec<(i32, PolicyKind)>,
    /// What it chooses if it is smart: priorities of its files.
    pub priorities: Vec<(u32, i32)>,
}

const MS: u64 = 1_000_000;

impl Program {
    fn new(name: impl Into<String>, compute_ns: u64, steps: Vec<Step>) -> Program {
        let (policies, priorities) = (Vec::new(), Vec::new());
        Program { name: name.into(), steps, compute_ns, policies, priorities }
    }

    /// Reads the first `blocks` blocks of a file in order, `passes` times: the ReadN of section 5 of the
    /// paper. Smart is MRU.
    pub fn read_n(blocks: u64, passes: u64) -> Program {
        let program = Program::new(format!("Read{blocks}"), MS, passes_over(0, 0..blocks, passes));
        Program { policies: Vec::from([(0, PolicyKind::Mru)]), ..program }
    }

    /// Reads `blocks` blocks of a file in order, `passes` times, then as many of the next blocks, and so on
    /// for `parts` parts: what it needs moves on. LRU suits it, MRU keeps what it has left behind.
    pub fn moving(blocks: u64, parts: u64, passes: u64) -> Program {
        let steps = (0..parts).flat_map(|part| passes_over(0, part * blocks..(part + 1) * blocks, passes));
        Program::new(format!("Moving{blocks}"), MS, steps.collect())
    }

    /// Cache simulations over one trace of 8 MB: nine times through it. Smart is MRU.
    pub fn din() -> Program {
        let program = Program::new("din", 6 * MS, passes_over(0, 0..1024, 9));
        Program { policies: Vec::from([(0, PolicyKind::Mru)]), ..program }
    }

    /// Symbol searches: eight times through a database of 9 MB. Smart is MRU.
    pub fn cs1() -> Program {
        let program = Program::new("cs1", 3 * MS, passes_over(0, 0..1152, 8));
        Program { policies: Vec::from([(0, PolicyKind::Mru)]), ..program }
    }

    /// Text searches: four times through 18 MB of sources. Smart is MRU.
    pub fn cs2() -> Program {
        let program = Program::new("cs2", 3 * MS, passes_over(0, 0..2304, 4));
        Program { policies: Vec::from([(0, PolicyKind::Mru)]), ..program }
    }

    /// The same in 10 MB.
    pub fn cs3() -> Program {
        let program = Program::new("cs3", 3 * MS, passes_over(0, 0..1280, 4));
        Program { policies: Vec::from([(0, PolicyKind::Mru)]), ..program }
    }

    /// Full-text queries: each reads an index of 2 MB and some of the partitions of 40 MB of articles, always
    /// in the same order. Smart is priority 1 for the index, and MRU for the articles.
    pub fn gli() -> Program {
        const PARTITION: u64 = 64;
        let mut dice = Dice::new(1994);
        let mut steps = Vec::new();
        for _query in 0..5 {
            steps.extend(passes_over(0, 0..256, 1));
            for partition in 0..80 {
                if dice.below(3) == 0 {
                    steps.extend(passes_over(1, partition * PARTITION..(partition + 1) * PARTITION, 1));
                }
            }
        }
        Program {
            policies: Vec::from([(0, PolicyKind::Mru)]),
            priorities: Vec::from([(0, 1)]),
            ..Program::new("gli", 3 * MS, steps)
        }
    }

    /// A link editor: 25 MB of object files, each block by several small reads in a row and never again.
    /// Smart is done-with.
    pub fn ldk() -> Program {
        let mut steps = Vec::new();
        for block in 0..3200 {
            steps.extend([Step::Read(0, block); 4]);
            steps.push(Step::DoneWith(0, block));
        }
        Program::new("ldk", MS, steps)
    }

    /// An indexed join: for each block of the outer relation, 3.2 MB of which are read once, 50 looks into an
    /// index of 5 MB and as many into an inner relation of 32 MB. Smart is priority 1 for the index.
    pub fn pjn() -> Program {
        let mut dice = Dice::new(7);
        let mut steps = Vec::new();
        for outer in 0..410 {
            steps.push(Step::Read(2, outer));
            for _ in 0..20 {
                steps.extend([Step::Read(0, 0), Step::Read(0, 1 + dice.below(639))]);
                steps.push(Step::Read(1, dice.below(4096)));
            }
        }
        Program { priorities: Vec::from([(0, 1)]), ..Program::new("pjn", MS, steps) }
    }

    /// An external sort of 17 MB: reads the input, writes 16 runs, merges them eight at a time, twice. Smart
    /// is done-with after each read, and MRU for what was written.
    pub fn sort() -> Program {
        const RUN: u64 = 136;
        let mut steps = Vec::new();
        let read = |steps: &mut Vec<Step>, file, block| {
            steps.extend([Step::Read(file, block), Step::DoneWith(file, block)]);
        };
        for block in 0..16 * RUN {
            read(&mut steps, 0, block);
            steps.push(Step::Write(1, block));
        }
        for half in 0..2 {
            for at in 0..RUN {
                for run in 0..8 {
                    read(&mut steps, 1, (half * 8 + run) * RUN + at);
                    steps.push(Step::Write(2, (half * RUN + at) * 8 + run));
                }
            }
        }
        for at in 0..8 * RUN {
            for half in 0..2 {
                read(&mut steps, 2, half * 8 * RUN + at);
                steps.push(Step::Write(3, at * 2 + half));
            }
        }
        Program { policies: Vec::from([(0, PolicyKind::Mru)]), ..Program::new("sort", 2 * MS, steps) }
    }

    /// Its file `number`, where it is the program `index` of several.
    pub(super) fn file(index: usize, number: u32) -> FileId {
        FileId(index as u64 * 16 + u64::from(number))
    }
}

fn passes_over(file: u32, blocks: Range<u64>, passes: u64) -> Vec<Step> {
    (0..passes).flat_map(|_| blocks.clone().map(move |block| Step::Read(file, block))).collect()
}
