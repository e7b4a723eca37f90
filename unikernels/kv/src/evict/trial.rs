//! A small store beside the large one, to see how well it would do another way.

use super::level::Level;
use alloc::collections::BTreeSet;
use hashbrown::HashMap;

/// A store without values that gives up the keys of the lowest level, and counts what it has not: a
/// miniature simulation (C. Waldspurger et al., "Cache Modeling and Optimization using Miniature
/// Simulations", USENIX ATC 2017). Of so many keys it sees one, and of the memory it has the same part.
#[derive(Default)]
pub struct Trial {
    order: BTreeSet<(Level, u64)>,
    held: HashMap<u64, (Level, u64)>,
    bytes: u64,
    /// What it had not, lately: a miss is `MISS`.
    misses: u64,
}

impl Trial {
    /// Weight of a miss that was just counted.
    const MISS: u64 = 1 << 16;

    /// A key is used that has this level and size now. `memory` is what all keys may take.
    pub fn used(&mut self, key: u64, level: Level, bytes: u64, memory: u64) {
        if !self.removed(key) {
            self.misses += Trial::MISS;
        }
        self.order.insert((level, key));
        self.held.insert(key, (level, bytes));
        self.bytes += bytes;
        while self.bytes > memory {
            let Some((_, lowest)) = self.order.first().copied() else { break };
            self.removed(lowest);
        }
    }

    /// A key is no more. Whether it was there.
    pub fn removed(&mut self, key: u64) -> bool {
        let Some((level, bytes)) = self.held.remove(&key) else { return false };
        self.order.remove(&(level, key));
        self.bytes -= bytes;
        true
    }

    /// What it had not; later misses count more.
    pub fn misses(&self) -> u64 {
        self.misses
    }

    /// Lets what was counted so far count less.
    pub fn age(&mut self) {
        self.misses -= self.misses / 8;
    }

    /// Begins anew: levels are others.
    pub fn clear(&mut self) {
        *self = Trial { misses: self.misses, ..Trial::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_leave_and_misses_count() {
        let mut trial = Trial::default();
        for (key, level) in [(1, 5), (2, 3), (3, 4)] {
            trial.used(key, level, 10, 20);
        }
        assert_eq!((trial.misses(), trial.bytes), (3 * Trial::MISS, 20));
        trial.used(1, 6, 10, 20);
        assert_eq!(trial.misses(), 3 * Trial::MISS, "it was there");
        trial.used(2, 4, 10, 20);
        assert_eq!(trial.misses(), 4 * Trial::MISS, "it had left");
        assert!(trial.removed(1) && !trial.removed(1));
        trial.used(4, 1, 100, 20);
        assert_eq!(trial.bytes, 10, "what is too large has left, and nothing else");
    }
}
