//! From samples to rows.

use super::boot::Sample;
use crate::units::median;
use results::{CompareLine, Role};

/// One workload under one policy with one way to read ahead, over all its boots.
#[derive(Clone, Debug)]
pub struct Row {
    /// What tells it from the other rows of its workload: the policy, with the read-ahead where there are
    /// several.
    pub name: String,
    /// The line of its first boot; counts of later boots are in the medians below.
    pub line: CompareLine,
    /// Median of the blocks read.
    pub reads: u64,
    /// Median of the blocks written.
    pub writes: u64,
    /// Median of the read requests.
    pub read_requests: u64,
    /// Median of the time, in milliseconds.
    pub elapsed_ms: f64,
    /// Number of boots.
    pub runs: usize,
    /// Against the first row of its workload and size.
    pub change: Option<Change>,
}

/// Differences to the first row, as fractions: −0.5 is half.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// Of the blocks read.
    pub reads: f64,
    /// Of the time: median of the pairs of boots.
    pub elapsed: f64,
    /// Smallest and largest of the pairs.
    pub elapsed_range: (f64, f64),
}

impl Row {
    /// Hits as a share of those that Belady's optimum has. `None` if it has none, and for a peer that writes:
    /// what it does not read it may have written.
    pub fn share_of_optimum(&self) -> Option<f64> {
        if self.line.role == Role::Peer && self.writes > 0 {
            return None;
        }
        let least = self.line.opt_misses?;
        let best = (self.line.hits + self.line.misses).checked_sub(least).filter(|best| *best > 0)?;
        Some(self.line.hits as f64 / best as f64)
    }
}

/// Whether there are several ways to read ahead, so that they have to be named.
pub fn several_read_aheads<'l>(mut lines: impl Iterator<Item = &'l CompareLine>) -> bool {
    let own = |line: &&CompareLine| line.role != Role::Peer;
    let Some(first) = lines.by_ref().find(own) else { return false };
    lines.filter(own).any(|line| line.read_ahead != first.read_ahead)
}

/// The rows in the order in which workloads, policies and read-ahead were asked for.
pub fn rows(samples: &[Sample]) -> Vec<Row> {
    let several = several_read_aheads(samples.iter().map(|sample| &sample.line));
    let keys: Vec<Key<'_>> = samples.iter().filter(|sample| sample.run == 0).map(key).collect();
    keys.iter()
        .map(|key| {
            let own = of(samples, *key);
            let (workload, cache, policy, read_ahead) = *key;
            let first = keys.iter().find(|other| (other.0, other.1) == (workload, cache)).unwrap_or(key);
            let change = (first != key).then(|| change(&of(samples, *first), &own));
            let middle = |value: fn(&CompareLine) -> f64| {
                median(&mut own.iter().map(|sample| value(&sample.line)).collect::<Vec<_>>())
            };
            Row {
                name: match read_ahead {
                    "" => policy.to_owned(),
                    _ if several => format!("{policy}, {read_ahead}"),
                    _ => policy.to_owned(),
                },
                line: own[0].line.clone(),
                reads: middle(|line| line.reads as f64) as u64,
                writes: middle(|line| line.writes as f64) as u64,
                read_requests: middle(|line| line.read_requests as f64) as u64,
                elapsed_ms: middle(|line| line.elapsed_ms),
                runs: own.len(),
                change,
            }
        })
        .collect()
}

/// Boots of a row, in the order of their number.
pub fn of_row<'s>(samples: &'s [Sample], row: &'s Row) -> Vec<&'s Sample> {
    of(samples, key_of(&row.line))
}

/// What a row is about: workload, blocks of cache, policy, read-ahead.
type Key<'s> = (&'s str, u64, &'s str, &'s str);

fn key(sample: &Sample) -> Key<'_> {
    key_of(&sample.line)
}

fn key_of(line: &CompareLine) -> Key<'_> {
    let CompareLine { workload, cache_blocks, policy, read_ahead, .. } = line;
    (workload, *cache_blocks, policy, read_ahead)
}

/// Boots of a row, in the order of their number.
fn of<'s>(samples: &'s [Sample], wanted: Key<'_>) -> Vec<&'s Sample> {
    let mut own: Vec<&Sample> = samples.iter().filter(|sample| key(sample) == wanted).collect();
    own.sort_by_key(|sample| sample.run);
    own
}

fn change(first: &[&Sample], own: &[&Sample]) -> Change {
    let ratio = |before: f64, after: f64| if before > 0.0 { after / before - 1.0 } else { 0.0 };
    let pairs = |value: fn(&CompareLine) -> f64| -> Vec<f64> {
        first.iter().zip(own).map(|(before, after)| ratio(value(&before.line), value(&after.line))).collect()
    };
    let mut elapsed = pairs(|line| line.elapsed_ms);
    let middle = median(&mut elapsed);
    Change {
        reads: median(&mut pairs(|line| line.reads as f64)),
        elapsed: middle,
        elapsed_range: (elapsed.first().copied().unwrap_or(0.0), elapsed.last().copied().unwrap_or(0.0)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::boot::Counts;
    use super::*;
    use results::BENCH_COMPARE;

    pub(in super::super) fn sample(
        policy: &str,
        role: Role,
        run: u32,
        misses: u64,
        elapsed_ms: f64,
    ) -> Sample {
        let json = serde_json::json!({
            "bench": BENCH_COMPARE, "workload": "din", "policy": policy, "role": role, "cache_blocks": 80,
            "block_bytes": 4096, "data_blocks": 100, "reads": misses, "read_requests": 10, "writes": 0,
            "hits": 500 - misses, "misses": misses, "elapsed_ms": elapsed_ms, "verified": true, "references": 500,
            "mount_reads": 3, "opt_misses": 180, "fixed_misses": 200,
        });
        let line = CompareLine::parse(&json.to_string()).unwrap();
        let all = misses + 3;
        let counts = Counts {
            system: all,
            hyperexo: Some([all, 0]),
            qemu: Some([all, 0]),
            mounting: 3,
            writes: Some(0),
        };
        let policy_lines = (role == Role::Own).then_some(11);
        Sample { run, line, counts, references: vec![], policy_lines }
    }

    pub(in super::super) fn samples() -> Vec<Sample> {
        vec![
            sample("default", Role::Default, 0, 500, 1000.0),
            sample("own", Role::Own, 0, 180, 500.0),
            sample("own", Role::Own, 1, 180, 400.0),
            sample("default", Role::Default, 1, 500, 1000.0),
        ]
    }

    #[test]
    fn rows_compare_pairs() {
        let rows = rows(&samples());
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].change, None);
        let change = rows[1].change.unwrap();
        assert!((change.reads + 0.64).abs() < 1e-9);
        assert!((change.elapsed + 0.55).abs() < 1e-9);
        assert_eq!(rows[1].share_of_optimum(), Some(1.0));
        assert_eq!(rows[0].share_of_optimum(), Some(0.0));
    }

    #[test]
    fn ways_to_read_ahead_are_told_apart() {
        let mut all = samples();
        assert!(rows(&all).iter().all(|row| row.name == row.line.policy));
        for (sample, read_ahead) in all.iter_mut().zip(["none", "none", "none", "none"]) {
            sample.line.read_ahead = read_ahead.into();
        }
        assert_eq!(rows(&all)[1].name, "own", "one way needs no name");
        for mut sample in samples() {
            sample.line.read_ahead = "aggressive".into();
            sample.line.elapsed_ms /= 2.0;
            all.push(sample);
        }
        all.push(sample("linux", Role::Peer, 0, 300, 700.0));
        let rows = rows(&all);
        let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["default, none", "own, none", "default, aggressive", "own, aggressive", "linux"]);
        assert!((rows[2].change.unwrap().elapsed + 0.5).abs() < 1e-9, "against the first row");
    }
}
