//! How a run of a cache went: hits over time, and how old blocks were when they left.

use libos_fs::cache::{Event, PolicyKind, Referenced, ReplacementPolicy, Simulation};
use std::collections::HashMap;

/// What an observer of a cache has seen.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Whether each reference hit.
    hits: Vec<bool>,
    /// Position of the last use of each block in the cache.
    last_use: HashMap<u64, usize>,
    /// Evictions by age class.
    ages: Vec<u64>,
}

impl History {
    /// The history of a policy with so many buffers.
    pub fn of(policy: &mut dyn ReplacementPolicy, buffers: usize, references: &[u64]) -> History {
        let mut history = History::default();
        let mut cache = Simulation::new(policy, buffers);
        for &block in references {
            match cache.reference(block) {
                Referenced::Hit => history.note(Event::Hit(block)),
                Referenced::Miss { evicted } => {
                    evicted.into_iter().for_each(|block| history.note(Event::Evicted(block)));
                    history.note(Event::Miss(block));
                }
            }
        }
        history
    }

    /// The history of one of the library's policies.
    pub fn of_kind(kind: PolicyKind, buffers: usize, references: &[u64]) -> History {
        History::of(&mut *kind.build(buffers), buffers, references)
    }

    /// Takes an event.
    pub fn note(&mut self, event: Event) {
        match event {
            Event::Hit(block) | Event::Miss(block) => {
                self.last_use.insert(block, self.hits.len());
                self.hits.push(matches!(event, Event::Hit(_)));
            }
            Event::Evicted(block) => {
                let Some(last_use) = self.last_use.remove(&block) else { return };
                // At least 1: the reference that needs the room is not yet among `hits`.
                let class = (self.hits.len() - last_use).ilog2() as usize;
                if class >= self.ages.len() {
                    self.ages.resize(class + 1, 0);
                }
                self.ages[class] += 1;
            }
        }
    }

    /// References that missed.
    pub fn misses(&self) -> u64 {
        self.hits.iter().filter(|hit| !**hit).count() as u64
    }

    /// Hits as a share of the references in each of so many equal parts of the run, with the position at
    /// which the part ends. Fewer parts if there are fewer references.
    pub fn hit_ratios(&self, parts: usize) -> Vec<(usize, f64)> {
        let length = self.hits.len();
        let parts = parts.min(length);
        (0..parts)
            .map(|part| {
                let (start, end) = (length * part / parts, length * (part + 1) / parts);
                let hits = self.hits[start..end].iter().filter(|hit| **hit).count();
                (end, hits as f64 / (end - start) as f64)
            })
            .collect()
    }

    /// Evictions by age: class k has those of blocks that were last used 2^k to 2^(k+1) − 1 references
    /// before.
    pub fn ages(&self) -> &[u64] {
        &self.ages
    }
}

/// Name of an age class: its first age.
pub fn age_class(class: usize) -> String {
    match class {
        0..10 => (1_u64 << class).to_string(),
        10..20 => format!("{}K", 1_u64 << (class - 10)),
        _ => format!("{}M", 1_u64.checked_shl(class as u32 - 20).unwrap_or(u64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_over_more_than_fits() {
        // LRU with 8 buffers in a loop over 10 blocks: no hit, and each block leaves 8 references after its
        // use.
        let references: Vec<u64> = (0..10).collect::<Vec<_>>().repeat(3);
        let lru = History::of_kind(PolicyKind::Lru, 8, &references);
        assert_eq!((lru.misses(), lru.ages()), (30, &[0, 0, 0, 22][..]));
        assert!(lru.hit_ratios(3).iter().all(|(_, ratio)| *ratio == 0.0));
        // MRU: the block used just before leaves.
        let mru = History::of_kind(PolicyKind::Mru, 8, &references);
        assert_eq!(mru.ages()[0], mru.misses() - 8);
        let ratios = mru.hit_ratios(3);
        assert_eq!(ratios.iter().map(|(end, _)| *end).collect::<Vec<_>>(), [10, 20, 30]);
        assert_eq!((ratios[0].1, ratios[2].1), (0.0, 0.8));
    }

    #[test]
    fn short_runs_and_names() {
        assert!(History::default().hit_ratios(5).is_empty());
        assert_eq!(History::of_kind(PolicyKind::Lru, 1, &[1, 1]).hit_ratios(5), [(1, 0.0), (2, 1.0)]);
        assert_eq!([0, 3, 10, 21].map(age_class), ["1", "8", "1K", "2M"]);
    }
}
