//! What a program computes and which pages it touches, found out on this host by running it over a memory
//! that records; and the two limits for that.

use libos_fs::cache::{Opt, ReferenceString, Referenced, Simulation};
use pager::{Program, Recording};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// The limits of a program.
pub struct Limits {
    digest: String,
    references: Vec<u64>,
    optima: RefCell<BTreeMap<u64, u64>>,
}

impl Limits {
    /// Runs the program.
    pub fn of(program: Program, scale: usize) -> Limits {
        let memory = Recording::default();
        let digest = format!("{:016x}", program.run(scale, &memory));
        Limits { digest, references: memory.references(), optima: RefCell::default() }
    }

    /// The digest of its result.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Fewest pages that any policy can bring in with so many frames: Belady's optimum.
    pub fn opt_misses(&self, frames: u64) -> u64 {
        let compute = || {
            let mut policy = Opt::new(&self.references);
            let mut cache = Simulation::new(&mut policy, frames as usize);
            self.references.iter().filter(|page| cache.reference(**page) != Referenced::Hit).count() as u64
        };
        *self.optima.borrow_mut().entry(frames).or_insert_with(compute)
    }

    /// Misses of the best fixed set of so many pages.
    pub fn fixed_misses(&self, frames: u64) -> u64 {
        let string = ReferenceString::of(self.references.iter().copied()).unwrap_or_default();
        string.fixed_set_misses(&[frames as usize])[0]
    }
}
