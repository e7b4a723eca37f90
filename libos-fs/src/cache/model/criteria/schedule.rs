//! Several programs, each on its processor, with some disks and one cache, in calculated time.

use super::programs::{Conduct, Program, Step};
use crate::cache::allocation::Allocation;
use crate::cache::model::managed::ManagedSimulation;
use crate::cache::model::simulation::Referenced;
use crate::cache::policies::PolicyKind;
use alloc::vec;
use alloc::vec::Vec;

/// Time of a block on its disk, in nanoseconds: about what the disks of the paper took for 8 KB, near to the
/// last.
const BLOCK_NS: u64 = 12_000_000;

/// A program that runs.
#[derive(Clone, Debug)]
pub struct Runner {
    /// What it does.
    pub program: Program,
    /// What it does about its caching.
    pub conduct: Conduct,
    /// Number of its disk.
    pub disk: usize,
}

/// How a program fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Blocks it read from its disk.
    pub reads: u64,
    /// From the start of all to its end, in nanoseconds.
    pub elapsed_ns: u64,
}

/// How several fared, and when.
#[derive(Clone, Debug)]
pub struct Run {
    /// Of each.
    pub figures: Vec<Figures>,
    /// Which of them made each step.
    pub order: Vec<usize>,
}

/// Several programs and the cache they share.
struct Machine<'r> {
    runners: &'r [Runner],
    cache: ManagedSimulation,
    /// By program: its next step.
    next: Vec<usize>,
    /// By program: when it can make that step.
    ready_ns: Vec<u64>,
    /// By disk: when it has served all it was given.
    disks_ns: Vec<u64>,
    figures: Vec<Figures>,
}

impl<'r> Machine<'r> {
    fn new(cache_blocks: usize, allocation: Allocation, runners: &'r [Runner]) -> Machine<'r> {
        let mut cache = ManagedSimulation::new(cache_blocks, allocation);
        for (index, runner) in runners.iter().enumerate() {
            start(&mut cache, index, runner);
        }
        let disks = runners.iter().map(|runner| runner.disk + 1).max().unwrap_or(0);
        Machine {
            runners,
            cache,
            next: vec![0; runners.len()],
            ready_ns: vec![0; runners.len()],
            disks_ns: vec![0; disks],
            figures: vec![Figures::default(); runners.len()],
        }
    }

    /// The program that is ready first and has something to do.
    fn first_ready(&self) -> Option<usize> {
        let goes_on = |index: &usize| self.next[*index] < self.runners[*index].program.steps.len();
        (0..self.runners.len()).filter(goes_on).min_by_key(|index| self.ready_ns[*index])
    }

    /// A program makes its next step.
    fn step(&mut self, index: usize) {
        let runner = &self.runners[index];
        let Some(step) = runner.program.steps.get(self.next[index]).copied() else { return };
        self.next[index] += 1;
        let (file, block, read) = match step {
            Step::Read(file, block) => (file, block, true),
            Step::Write(file, block) => (file, block, false),
            Step::DoneWith(file, block) => {
                if runner.conduct == Conduct::Smart {
                    self.cache.set_temporary_priority(Program::file(index, file), block..block + 1, -1);
                }
                return;
            }
        };
        self.ready_ns[index] += runner.program.compute_ns;
        if self.cache.refer(Program::file(index, file), block) != Referenced::Hit && read {
            let disk_ns = &mut self.disks_ns[runner.disk];
            *disk_ns = (*disk_ns).max(self.ready_ns[index]) + BLOCK_NS;
            self.ready_ns[index] = *disk_ns;
            self.figures[index].reads += 1;
        }
        self.figures[index].elapsed_ns = self.ready_ns[index];
    }
}

/// Runs programs side by side, each on a processor of its own, so that they meet in the cache and at the disk
/// only. Who is ready first makes its next step; a block that is not in the cache is read from the program's
/// disk, which serves one after the other. Deterministic.
pub fn run(cache_blocks: usize, allocation: Allocation, runners: &[Runner]) -> Run {
    let mut machine = Machine::new(cache_blocks, allocation, runners);
    let mut order = Vec::new();
    while let Some(index) = machine.first_ready() {
        order.push(index);
        machine.step(index);
    }
    Run { figures: machine.figures, order }
}

/// Runs programs in a given order of steps, not in the order in which they are ready: the same references
/// under another allocation.
pub fn replay(
    cache_blocks: usize,
    allocation: Allocation,
    runners: &[Runner],
    order: &[usize],
) -> Vec<Figures> {
    let mut machine = Machine::new(cache_blocks, allocation, runners);
    order.iter().for_each(|index| machine.step(*index));
    machine.figures
}

/// Makes a program's manager and tells it what the program chooses.
fn start(cache: &mut ManagedSimulation, index: usize, runner: &Runner) {
    let manager = cache.manager(&alloc::format!("{index}"));
    for file in 0..16 {
        cache.set_priority(manager, Program::file(index, file), 0);
    }
    match runner.conduct {
        Conduct::Oblivious => {}
        Conduct::Foolish => cache.set_policy(manager, 0, PolicyKind::Mru),
        Conduct::Smart => {
            for (priority, policy) in &runner.program.policies {
                cache.set_policy(manager, *priority, *policy);
            }
            for (file, priority) in &runner.program.priorities {
                cache.set_priority(manager, Program::file(index, *file), *priority);
            }
        }
    }
}
