//! What a division of the cache between managers must keep, as tests with figures.
//!
//! P. Cao, E. W. Felten and K. Li (OSDI 1994, section 3) ask three things of it, and try them with programs
//! that read the first N blocks of a file again and again (ReadN) and with mixes of real ones:
//!
//! | [`Criterion`] | who | compared with one LRU for all | may lose |
//! |---|---|---|---|
//! | `Oblivious` | a program that says nothing, beside a smart one | reads and time | 2 % |
//! | `Foolish` | a program that says nothing, beside a foolish one | reads | 2 % |
//! | `Smart` | a smart program, alone and in mixes | reads | nothing |
//!
//! The last holds for the same references in the same order: a program that misses less runs faster, and then
//! uses more blocks in the time that its neighbour takes for one. So `Smart` is judged on the order that one
//! LRU for all leads to; the other two are judged with everybody as fast as they are.
//!
//! The programs are strings of references with the sizes of the paper's ([`Program`]), in caches of the
//! paper's sizes ([`CACHE_BLOCKS`]); time is calculated ([`run`]). The cache is the
//! [`ManagedSimulation`](crate::cache::ManagedSimulation), so what is judged is the code that caches blocks.

mod programs;
mod schedule;

pub use programs::{Conduct, Program, Step};
pub use schedule::{Figures, Run, Runner, replay, run};

use crate::cache::allocation::Allocation;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// 6.4, 8, 12 and 16 MB in the paper's blocks of 8 KB.
pub const CACHE_BLOCKS: [usize; 4] = [819, 1024, 1536, 2048];

/// What an oblivious program may lose, in thousandths.
const TOLERANCE: u64 = 20;

/// What is asked of an [`Allocation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Criterion {
    /// Oblivious programs fare as under LRU.
    Oblivious,
    /// Foolish programs don't hurt others.
    Foolish,
    /// Smart programs fare at least as well as under LRU.
    Smart,
}

impl Criterion {
    /// All three.
    pub const ALL: [Criterion; 3] = [Criterion::Oblivious, Criterion::Foolish, Criterion::Smart];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Criterion::Oblivious => "oblivious",
            Criterion::Foolish => "foolish",
            Criterion::Smart => "smart",
        }
    }

    /// All mixes in which it is tried.
    pub fn mixes(self) -> Vec<Mix> {
        let neighbours = || {
            [
                Program::din,
                Program::cs2,
                Program::cs3,
                Program::gli,
                Program::ldk,
                Program::pjn,
                Program::sort,
            ]
        };
        let disks = [[0, 0], [0, 1]];
        let mut mixes = Vec::new();
        match self {
            Criterion::Oblivious => {
                for blocks in READ_N {
                    for (neighbour, disks) in neighbours().into_iter().flat_map(|n| disks.map(|d| (n, d))) {
                        let judged = (Program::read_n(blocks, 20), Conduct::Oblivious, disks[0]);
                        mixes.push(Mix::of([judged, (neighbour(), Conduct::Smart, disks[1])]));
                    }
                }
            }
            Criterion::Foolish => {
                for (blocks, disks) in READ_N.into_iter().flat_map(|n| disks.map(|d| (n, d))) {
                    let judged = (Program::read_n(blocks, 20), Conduct::Oblivious, disks[0]);
                    let fool = (Program::moving(300, 4, 5), Conduct::Foolish, disks[1]);
                    mixes.push(Mix::of([judged, fool]));
                }
            }
            Criterion::Smart => {
                mixes.extend(neighbours().map(|one| Mix::of([(one(), Conduct::Smart, 0)])));
                for (blocks, one) in READ_N.into_iter().flat_map(|n| neighbours().map(|one| (n, one))) {
                    let other = (Program::read_n(blocks, 20), Conduct::Oblivious, 0);
                    mixes.push(Mix::of([(one(), Conduct::Smart, 0), other]));
                }
                for (number, one) in neighbours().into_iter().enumerate() {
                    for other in &neighbours()[..number] {
                        mixes.push(Mix::of([(one(), Conduct::Smart, 0), (other(), Conduct::Smart, 0)]));
                    }
                }
                mixes.extend(Mix::of_the_paper());
            }
        }
        mixes
    }

    /// Whose figures count.
    fn concerns(self, conduct: Conduct) -> bool {
        match self {
            Criterion::Oblivious | Criterion::Foolish => conduct == Conduct::Oblivious,
            Criterion::Smart => conduct == Conduct::Smart,
        }
    }

    /// Tries an allocation in all mixes, with a cache of so many blocks.
    pub fn judge(self, allocation: Allocation, cache_blocks: usize) -> Vec<Case> {
        let mut cases = Vec::new();
        for mix in self.mixes() {
            let before = run(cache_blocks, Allocation::GlobalLru, &mix.runners);
            let after = match self {
                Criterion::Smart => replay(cache_blocks, allocation, &mix.runners, &before.order),
                _ => run(cache_blocks, allocation, &mix.runners).figures,
            };
            for ((runner, before), after) in mix.runners.iter().zip(before.figures).zip(after) {
                if self.concerns(runner.conduct) {
                    let (mix, program) = (mix.name(), runner.program.name.clone());
                    cases.push(Case { criterion: self, cache_blocks, mix, program, before, after });
                }
            }
        }
        cases
    }
}

/// The N of the paper's ReadN. Beside 300 blocks of another program, the first two fit easily into the
/// smallest cache, the other two just about.
const READ_N: [u64; 4] = [390, 400, 490, 500];

/// Programs that run side by side.
#[derive(Clone, Debug)]
pub struct Mix {
    /// The programs, and how each behaves.
    pub runners: Vec<Runner>,
}

impl Mix {
    fn of(runners: impl IntoIterator<Item = (Program, Conduct, usize)>) -> Mix {
        let runners = runners.into_iter().map(|(program, conduct, disk)| Runner { program, conduct, disk });
        Mix { runners: runners.collect() }
    }

    /// The mixes of two to four smart programs on one disk.
    pub fn of_the_paper() -> Vec<Mix> {
        let [din, cs1, cs2, cs3] = [Program::din, Program::cs1, Program::cs2, Program::cs3];
        let [gli, ldk, sort] = [Program::gli, Program::ldk, Program::sort];
        let mixes: [&[fn() -> Program]; 7] = [
            &[cs2, gli],
            &[cs3, ldk],
            &[gli, sort],
            &[din, sort],
            &[din, cs2, ldk],
            &[cs1, gli, ldk],
            &[din, cs3, gli, ldk],
        ];
        mixes.map(|mix| Mix::of(mix.iter().map(|program| (program(), Conduct::Smart, 0)))).into()
    }

    /// `cs2 smart + gli smart`.
    pub fn name(&self) -> String {
        let mut name = String::new();
        for Runner { program, conduct, disk } in &self.runners {
            let between = if name.is_empty() { "" } else { " + " };
            let disk = if *disk > 0 { ", on another disk" } else { "" };
            name += &format!("{between}{} {}{disk}", program.name, conduct.name());
        }
        name
    }
}

/// How one program fared in one mix.
#[derive(Clone, Debug)]
pub struct Case {
    /// What was tried.
    pub criterion: Criterion,
    /// Size of the cache.
    pub cache_blocks: usize,
    /// In which company.
    pub mix: String,
    /// The program that is judged.
    pub program: String,
    /// How it fares under one LRU for all.
    pub before: Figures,
    /// How it fares under the allocation that is judged.
    pub after: Figures,
}

impl Case {
    /// Change of the figure that is judged, in percent; positive is worse. For oblivious programs the worse
    /// one of reads and time, otherwise reads.
    pub fn change_percent(&self) -> f64 {
        let change = |before: u64, after: u64| (after as f64 / before.max(1) as f64 - 1.0) * 100.0;
        let reads = change(self.before.reads, self.after.reads);
        match self.criterion {
            Criterion::Oblivious => reads.max(change(self.before.elapsed_ns, self.after.elapsed_ns)),
            Criterion::Foolish | Criterion::Smart => reads,
        }
    }

    /// Whether the criterion holds.
    pub fn passes(&self) -> bool {
        let within = |before: u64, after: u64| after * 1000 <= before * (1000 + TOLERANCE);
        let Case { before, after, .. } = self;
        match self.criterion {
            Criterion::Oblivious => {
                within(before.reads, after.reads) && within(before.elapsed_ns, after.elapsed_ns)
            }
            Criterion::Foolish => within(before.reads, after.reads),
            Criterion::Smart => after.reads <= before.reads,
        }
    }
}
