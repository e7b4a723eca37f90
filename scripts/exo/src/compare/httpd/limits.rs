//! How often the policies that are shipped, and Belady's optimum, miss for the references of a workload.

use crate::error::{Error, Result};
use libos_fs::cache::references::{LOG_END, LOG_NAME, parse_line};
use libos_fs::cache::{Opt, PolicyKind, simulate};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// The references of a workload, as the default build makes them.
pub struct Limits {
    references: Vec<u64>,
    found: RefCell<BTreeMap<u64, Found>>,
}

/// Misses with so many blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The best policy that is shipped.
    pub best: PolicyKind,
    /// Its misses.
    pub best_misses: u64,
    /// Those of Belady's optimum.
    pub opt_misses: u64,
}

impl Limits {
    /// From what a server printed that was told to record.
    ///
    /// # Errors
    ///
    /// If it is not complete.
    pub fn of(lines: &[String]) -> Result<Limits> {
        let wrong = |why: &str| Error::Measurement(format!("references of httpd: {why}"));
        let mut runs = Vec::new();
        for line in lines.iter().filter(|line| line.trim() != LOG_END) {
            if let Some(Err(bad)) = parse_line(LOG_NAME, line.trim(), &mut runs) {
                return Err(wrong(&bad.to_string()));
            }
        }
        if !lines.iter().any(|line| line.trim() == LOG_END) {
            return Err(wrong("the end is missing"));
        }
        let references = runs.into_iter().flat_map(|run| run.references()).collect();
        Ok(Limits { references, found: RefCell::default() })
    }

    /// With so many blocks.
    pub fn with(&self, blocks: u64) -> Found {
        let compute = || {
            let kinds = PolicyKind::ALL.into_iter().filter(|kind| *kind != PolicyKind::Hinted);
            let misses = |kind: PolicyKind| simulate(&mut *kind.build(0), blocks as usize, &self.references);
            let best = kinds.map(|kind| (misses(kind), kind)).min_by_key(|(misses, _)| *misses);
            let (best_misses, best) = best.unwrap_or_default();
            let mut optimum = Opt::new(&self.references);
            let opt_misses = simulate(&mut optimum, blocks as usize, &self.references);
            Found { best, best_misses, opt_misses }
        };
        *self.found.borrow_mut().entry(blocks).or_insert_with(compute)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn the_best_policy_is_found_for_what_was_printed() {
        // Around in a circle that is one block too large: what goes first comes next, but for the last used.
        let turn = format!("refs {LOG_NAME} 1+3");
        let limits = Limits::of(&lines(&[&turn, "hello", &turn, &turn, &turn, LOG_END])).unwrap();
        assert_eq!(limits.references.len(), 12);
        let found = limits.with(2);
        let lru = simulate(&mut *PolicyKind::Lru.build(0), 2, &limits.references);
        assert!(found.opt_misses <= found.best_misses && found.best_misses < lru, "{found:?}");
        assert_eq!(limits.with(3).best_misses, 3);
    }

    #[test]
    fn references_without_end_are_refused() {
        let turn = format!("refs {LOG_NAME} 1+3");
        assert!(Limits::of(&lines(&[&turn])).is_err());
        assert!(Limits::of(&lines(&[&format!("refs {LOG_NAME} 1+x"), LOG_END])).is_err());
    }
}
