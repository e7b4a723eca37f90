//! From samples to the rows of the table.

use super::boot::Sample;
use super::optimum::Optimum;
use crate::units::{median, thousands};
use results::{CompareLine, Role};
use std::collections::BTreeMap;
use std::fmt::Write;

/// One workload under one policy, over all its boots.
#[derive(Clone, Debug)]
pub struct Row {
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
    /// Against the first policy of the table.
    pub change: Option<Change>,
}

/// Differences to the first policy, as fractions: −0.5 is half.
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
    /// Hits as a share of those that Belady's optimum has. `None` if it has none, and for a peer that writes: what it
    /// does not read it may have written.
    pub fn share_of_optimum(&self) -> Option<f64> {
        if self.line.role == Role::Peer && self.writes > 0 {
            return None;
        }
        let least = self.line.opt_misses?;
        let best = (self.line.hits + self.line.misses).checked_sub(least).filter(|best| *best > 0)?;
        Some(self.line.hits as f64 / best as f64)
    }
}

/// The rows in the order in which workloads and policies were asked for.
pub fn rows(samples: &[Sample]) -> Vec<Row> {
    let keys: Vec<Key<'_>> = samples.iter().filter(|sample| sample.run == 0).map(key).collect();
    keys.iter()
        .map(|key| {
            let own = of(samples, *key);
            let (workload, cache, _) = *key;
            let first = keys.iter().find(|other| (other.0, other.1) == (workload, cache)).unwrap_or(key);
            let change = (first != key).then(|| change(&of(samples, *first), &own));
            let middle = |value: fn(&CompareLine) -> f64| {
                median(&mut own.iter().map(|sample| value(&sample.line)).collect::<Vec<_>>())
            };
            Row {
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

/// What a row is about: workload, blocks of cache, policy.
type Key<'s> = (&'s str, u64, &'s str);

fn key(sample: &Sample) -> Key<'_> {
    (&sample.line.workload, sample.line.cache_blocks, &sample.line.policy)
}

/// Boots of a workload under a policy, in the order of their number.
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

/// A fraction as a percentage with its sign.
pub fn signed_percent(fraction: f64) -> String {
    format!("{:+.1} %", fraction * 100.0).replace('-', "−")
}

/// Heads of the columns.
pub const HEADS: [&str; 11] = [
    "workload",
    "cache",
    "policy",
    "reads",
    "writes",
    "requests",
    "hits",
    "of Belady's",
    "elapsed ms",
    "reads change",
    "time change",
];

/// The cells of a row, in the order of [`HEADS`].
pub fn cells(row: &Row) -> [String; 11] {
    let line = &row.line;
    let share = line.cache_blocks as f64 / line.data_blocks.max(1) as f64 * 100.0;
    let none = || "—".to_owned();
    [
        line.workload.clone(),
        format!("{} ({share:.0} %)", thousands(line.cache_blocks)),
        line.policy.clone(),
        thousands(row.reads),
        thousands(row.writes),
        thousands(row.read_requests),
        thousands(line.hits),
        row.share_of_optimum().map_or_else(none, |share| format!("{:.1} %", share * 100.0)),
        thousands(row.elapsed_ms.round() as u64),
        row.change.map_or_else(none, |change| signed_percent(change.reads)),
        row.change.map_or_else(none, |change| signed_percent(change.elapsed)),
    ]
}

/// The table as text.
pub fn table(rows: &[Row]) -> String {
    let lines: Vec<[String; 11]> =
        std::iter::once(HEADS.map(str::to_owned)).chain(rows.iter().map(cells)).collect();
    let widths: Vec<usize> = (0..HEADS.len())
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        if number > 0 && (number == 1 || line[0] != lines[number - 1][0]) {
            text.push_str(&"─".repeat(widths.iter().sum::<usize>() + 2 * (widths.len() - 1)));
            text.push('\n');
        }
        for (column, cell) in line.iter().enumerate() {
            let padding = " ".repeat(widths[column] - cell.chars().count());
            // Names to the left, numbers to the right.
            let (before, after) = if matches!(column, 0 | 2) { ("", &*padding) } else { (&*padding, "") };
            let gap = if column == 0 { "" } else { "  " };
            let _ = write!(text, "{gap}{before}{cell}{after}");
        }
        text.push('\n');
    }
    text
}

/// What the table does not say.
pub fn remarks(rows: &[Row], samples: &[Sample], optima: &BTreeMap<String, Optimum>) -> String {
    let mut text = String::from("\n");
    for row in rows.iter().filter(|row| row.change.is_some() && row.runs > 1) {
        if let Some(change) = row.change {
            let _ = writeln!(
                text,
                "{} under {}: time {} (median of {} interleaved pairs, {} to {})",
                row.line.workload,
                row.line.policy,
                signed_percent(change.elapsed),
                row.runs,
                signed_percent(change.elapsed_range.0),
                signed_percent(change.elapsed_range.1)
            );
        }
    }
    for (workload, optimum) in optima {
        let Some(row) = rows.iter().find(|row| row.line.workload == *workload) else { continue };
        let blocks = row.line.cache_blocks;
        let _ = writeln!(
            text,
            "{workload}: {} references; Belady's optimum misses {} of them, LRU simulated {}{}",
            thousands(optimum.references()),
            thousands(optimum.misses(blocks)),
            thousands(optimum.lru_misses(blocks)),
            if row.line.policy == "default" {
                format!(", LRU measured {}", thousands(row.line.misses))
            } else {
                String::new()
            }
        );
    }
    let (peers, own): (Vec<&Sample>, Vec<&Sample>) =
        samples.iter().partition(|sample| sample.line.role == Role::Peer);
    for (boots, counters) in [(own, counters(samples)), (peers, "Linux and by QEMU")] {
        if !boots.is_empty() {
            text += &agreement(&boots, counters);
        }
    }
    let unverified = samples.iter().filter(|sample| !sample.line.verified).count();
    match unverified {
        0 => text.push_str("Every result was checked and found right.\n"),
        count => {
            let _ = writeln!(text, "WRONG RESULTS in {count} boots.");
        }
    }
    text
}

/// Whether the counts of these boots agree, in a line.
fn agreement(boots: &[&Sample], counters: &str) -> String {
    let disagreeing = boots.iter().filter(|sample| !sample.counts.agree()).count();
    let mounting: Vec<u64> = boots.iter().map(|sample| sample.counts.mounting).collect();
    let (least, most) = (mounting.iter().min().unwrap_or(&0), mounting.iter().max().unwrap_or(&0));
    let mounting = if least == most {
        thousands(*least)
    } else {
        format!("{} to {}", thousands(*least), thousands(*most))
    };
    let verdict = match disagreeing {
        0 => format!("agree exactly in all {} boots", boots.len()),
        count => format!("DIFFER in {count} of {} boots", boots.len()),
    };
    let (what, before) = match boots.first().map(|sample| sample.line.role) {
        Some(Role::Peer) => ("read", "mounting and opening"),
        _ => ("read and written", "mounting"),
    };
    format!(
        "Blocks {what} as counted by {counters} {verdict}; besides the reads of the table, {before} took {mounting}.\n"
    )
}

/// Who counted blocks.
pub fn counters(samples: &[Sample]) -> &'static str {
    let by_qemu = samples.iter().any(|sample| sample.counts.qemu.is_some());
    if by_qemu { "the libOS, by HyperExo and by QEMU" } else { "the libOS and by HyperExo" }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::boot::Counts;
    use super::*;
    use results::{BENCH_COMPARE, Role};

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
            "mount_reads": 3, "opt_misses": 180,
        });
        let line = CompareLine::parse(&json.to_string()).unwrap();
        let all = misses + 3;
        let counts = Counts {
            system: all,
            hyperexo: Some(all),
            qemu: Some([all, 0]),
            mounting: 3,
            writes: Some([0; 2]),
        };
        Sample { run, line, counts, references: vec![] }
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
    fn the_table_lines_up() {
        let text = table(&rows(&samples()));
        let widths: Vec<usize> = text.lines().map(|line| line.trim_end().chars().count()).collect();
        assert!(widths.windows(2).all(|pair| pair[0] == pair[1]), "{text}");
        assert!(text.contains("−64.0 %") && text.contains("100.0 %"), "{text}");
    }

    #[test]
    fn disagreeing_counts_are_told() {
        let mut samples = samples();
        assert!(remarks(&rows(&samples), &samples, &BTreeMap::new()).contains("agree exactly in all 4"));
        samples[0].counts.qemu = Some([504, 0]);
        assert!(remarks(&rows(&samples), &samples, &BTreeMap::new()).contains("DIFFER in 1 of 4"));
        let error = samples[0].counts.check("din under default").unwrap_err().to_string();
        assert!(error.contains("din under default") && error.contains("504 read by QEMU"), "{error}");
    }
}
