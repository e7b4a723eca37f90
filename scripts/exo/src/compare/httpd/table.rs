//! The rows as text.

use super::super::table::aligned;
use super::{Build, Sample};
use crate::units::{median, signed_percent, thousands};
use std::fmt::Write;

/// The heads of the columns.
const HEADS: [&str; 10] = [
    "workload",
    "blocks",
    "build",
    "blocks read",
    "best shipped",
    "Belady's",
    "copied/byte",
    "packets",
    "exits",
    "instructions",
];

/// The table: of several boots of the same, the first.
pub fn table(samples: &[Sample]) -> String {
    let number = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
    };
    let mut lines = vec![HEADS.map(str::to_owned).to_vec()];
    for sample in samples.iter().filter(|sample| sample.run == 0) {
        let counted = sample.measured.counted;
        let reads = counted.map_or_else(|| "–".to_owned(), |counted| thousands(counted.blocks_read));
        lines.push(vec![
            sample.workload.to_owned(),
            format!("{} ({} %)", sample.cache_blocks, sample.cache_blocks * 100 / sample.site_blocks.max(1)),
            sample.build.name().to_owned(),
            reads,
            format!("{} {}", sample.best_shipped, thousands(sample.best_shipped_misses)),
            thousands(sample.opt_misses),
            number(sample.bytes_copied_per_byte, 3),
            number(sample.frames_sent_per_request, 2),
            number(sample.exits_per_request, 2),
            thousands(sample.instructions_per_request.round() as u64),
        ]);
    }
    aligned(&lines, |column| column == 0 || column == 2)
}

/// What the table does not say.
pub fn remarks(samples: &[Sample]) -> String {
    let mut text = String::from(
        "\nPackets sent, exits and instructions are those of one request; one client asks, and waits for each answer.\n\
         Instructions are those of the machine, its kernel included, without looking for a request that has not come.\n\
         Blocks read are counted by server, emulator and HyperExo alike. Best shipped: the policy of libos-fs that\n\
         misses least, and how often, by the simulator on the references that the default build made; Belady's optimum\n\
         is for the same.\n",
    );
    if samples.iter().any(|sample| sample.build == Build::Linux) {
        text += "nginx has the site in memory: it reads no blocks.\n";
    }
    for sample in samples.iter().filter(|sample| sample.run == 0 && sample.build != Build::Default) {
        let mut ratios: Vec<f64> = samples
            .iter()
            .filter(|other| is_same(other, sample))
            .filter_map(|other| ratio(samples, other))
            .collect();
        if ratios.len() > 1 {
            let runs = ratios.len();
            let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
            let most = ratios.iter().copied().fold(0.0, f64::max);
            let _ = writeln!(
                text,
                "{} with {} blocks by {}: time {} (median of {runs} interleaved pairs, {} to {})",
                sample.workload,
                sample.cache_blocks,
                sample.build.name(),
                signed_percent(median(&mut ratios) - 1.0),
                signed_percent(least - 1.0),
                signed_percent(most - 1.0)
            );
        }
    }
    text + "Every byte of every answer was compared.\n"
}

fn is_same(one: &Sample, other: &Sample) -> bool {
    (one.workload, one.cache_blocks, one.build) == (other.workload, other.cache_blocks, other.build)
}

/// Time of a boot against that of the default in the same turn.
fn ratio(samples: &[Sample], sample: &Sample) -> Option<f64> {
    let default = samples.iter().find(|other| {
        other.build == Build::Default
            && (other.workload, other.cache_blocks, other.run)
                == (sample.workload, sample.cache_blocks, sample.run)
    })?;
    Some(sample.measured.elapsed_ms / default.measured.elapsed_ms)
}

#[cfg(test)]
mod tests {
    use super::super::boot::{Counted, Measured};
    use super::*;

    fn sample(build: Build, run: u32, blocks_read: u64, elapsed_ms: f64) -> Sample {
        let counted = (build != Build::Linux).then(|| Counted { blocks_read, ..Counted::default() });
        let (platform, accel) = ("direct", "tcg");
        let measured = Measured { counted, instructions: 5_000_000, elapsed_ms, platform, accel };
        Sample {
            workload: "popular",
            build,
            run,
            cache_blocks: 200,
            site_blocks: 1000,
            requests_asked: 100,
            body_bytes: 9000,
            measured,
            instructions_per_request: 50_000.4,
            exits_per_request: counted.map(|_| 1.5),
            frames_sent_per_request: counted.map(|_| 2.0),
            bytes_copied_per_byte: counted.map(|_| 4.0),
            best_shipped: "lru-2",
            best_shipped_misses: 1234,
            opt_misses: 1000,
        }
    }

    #[test]
    fn rows_are_the_builds_and_times_are_ratios_of_pairs() {
        let samples = [
            sample(Build::Default, 0, 2000, 10.0),
            sample(Build::Own, 0, 1100, 5.0),
            sample(Build::Linux, 0, 0, 40.0),
            sample(Build::Own, 1, 1100, 6.0),
            sample(Build::Default, 1, 2000, 10.0),
        ];
        let text = table(&samples);
        assert_eq!(text.lines().count(), 5, "{text}");
        assert!(text.contains("200 (20 %)") && text.contains("lru-2 1,234"), "{text}");
        let linux = text.lines().find(|line| line.contains("nginx")).unwrap();
        assert!(linux.contains('–') && linux.contains("50,000"), "{linux}");
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
        let told = remarks(&samples);
        assert!(
            told.contains("by own: time −")
                && told.contains("(median of 2 interleaved pairs, −50.0 % to −40.0 %)"),
            "{told}"
        );
        assert!(told.contains("site in memory"), "{told}");
        assert!(!told.contains("by nginx on Linux: time"), "one pair is none: {told}");
    }
}
