//! The rows as text.

use super::super::table::aligned;
use super::Sample;
use crate::units::{signed_percent, thousands};
use results::{PagingLine, Role};
use std::fmt::Write;

/// The heads of the columns.
const HEADS: [&str; 10] = [
    "program",
    "frames",
    "policy",
    "misses",
    "of Belady's",
    "fixed set",
    "± default",
    "reads",
    "writes",
    "time ms",
];

/// Samples of the same program, memory and policy, the first for each.
fn rows(samples: &[Sample]) -> Vec<Vec<&PagingLine>> {
    let mut rows: Vec<Vec<&PagingLine>> = Vec::new();
    // How many frames Linux has differs a little from boot to boot.
    let frames = |line: &PagingLine| if line.role == Role::Peer { 0 } else { line.frames };
    let same = |a: &PagingLine, b: &PagingLine| {
        (&a.program, frames(a), &a.policy) == (&b.program, frames(b), &b.policy)
    };
    for Sample { line, .. } in samples {
        match rows.iter_mut().find(|row| same(row[0], line)) {
            Some(row) => row.push(line),
            None => rows.push(vec![line]),
        }
    }
    rows
}

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// How much more `value` is than `base`.
fn change(value: u64, base: u64) -> f64 {
    value as f64 / base.max(1) as f64 - 1.0
}

/// The table.
pub fn table(samples: &[Sample]) -> String {
    let rows = rows(samples);
    let mut lines = vec![HEADS.map(str::to_owned).to_vec()];
    for row in &rows {
        let line = row[0];
        let default = rows.iter().map(|row| row[0]).find(|other| {
            (&other.program, other.frames, other.role) == (&line.program, line.frames, Role::Default)
        });
        let against = |base: Option<u64>| {
            base.map_or_else(|| "—".to_owned(), |base| signed_percent(change(line.misses, base)))
        };
        let is_default = line.role == Role::Default;
        lines.push(vec![
            line.program.clone(),
            format!("{} ({} %)", line.frames, line.frames * 100 / line.pages.max(1)),
            line.policy.clone(),
            thousands(line.misses),
            against(line.opt_misses),
            against(line.fixed_misses),
            against(default.filter(|_| !is_default).map(|default| default.misses)),
            thousands(line.reads),
            thousands(line.writes),
            thousands(median(row.iter().map(|line| line.elapsed_ms).collect()).round() as u64),
        ]);
    }
    aligned(&lines, |column| column == 0 || column == 2)
}

/// What the table does not say.
pub fn remarks(samples: &[Sample]) -> String {
    let mut text = String::from(
        "\nMisses are pages that came into memory, as zeros or from the disk. Belady's optimum and the best fixed set\n\
         are those of the exact page references, recorded on this host by the same program. Who discards pages may\n\
         read less than the misses say.\n",
    );
    if samples.iter().any(|sample| sample.line.role == Role::Peer) {
        text += "Linux brings in pages beside the one that is missing: its misses are faults that waited for the disk, and\n\
                 pages made for the first time. Its control group has some more frames than were asked for: those it had for\n\
                 the data are shown, and the others have no more.\n";
    }
    let runs = samples.iter().map(|sample| sample.run).max().unwrap_or(0) + 1;
    if runs > 1 {
        for row in rows(samples).iter().filter(|row| row[0].policy != "own") {
            let line = row[0];
            let ratios: Vec<f64> = (0..runs).filter_map(|run| ratio(samples, line, run)).collect();
            if let (Some(low), Some(high)) =
                (ratios.iter().copied().reduce(f64::min), ratios.iter().copied().reduce(f64::max))
            {
                let (middle, low, high) =
                    (median(ratios), signed_percent(low - 1.0), signed_percent(high - 1.0));
                let _ = writeln!(
                    text,
                    "{} with {} frames: time of own against {} {} (median of {runs} interleaved pairs, {low} to {high})",
                    line.program,
                    line.frames,
                    line.policy,
                    signed_percent(middle - 1.0)
                );
            }
        }
    }
    let wrong = samples.iter().filter(|sample| !sample.line.verified).count();
    match wrong {
        0 => text += "Every result was checked and found right.\n",
        count => {
            let _ = writeln!(text, "WRONG RESULTS in {count} boots.");
        }
    }
    text
}

/// Time under the program's own policy against that of a row's boot in the same turn. Linux has a few frames
/// more or less than the others, which have what it had at first: the nearest.
fn ratio(samples: &[Sample], line: &PagingLine, run: u32) -> Option<f64> {
    let of = |policy: &str| {
        let fits = |sample: &&Sample| {
            let other = &sample.line;
            sample.run == run && other.program == line.program && other.policy == policy
        };
        let nearest =
            samples.iter().filter(fits).min_by_key(|sample| sample.line.frames.abs_diff(line.frames));
        nearest.map(|sample| sample.line.elapsed_ms)
    };
    Some(of("own")? / of(&line.policy)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(policy: &str, role: Role, run: u32, misses: u64, elapsed_ms: f64) -> Sample {
        let (frames, pages) = (50, 200);
        let program = "sort".to_owned();
        let (opt_misses, fixed_misses) = (Some(100), Some(150));
        let policy = policy.to_owned();
        let line =
            PagingLine { program, policy, role, frames, pages, misses, elapsed_ms, ..PagingLine::default() };
        Sample { line: PagingLine { opt_misses, fixed_misses, verified: true, ..line }, run }
    }

    #[test]
    fn rows_compare_with_both_limits_and_the_default() {
        let samples = [
            sample("default", Role::Default, 0, 200, 10.0),
            sample("own", Role::Own, 0, 110, 5.0),
            sample("own", Role::Own, 1, 110, 6.0),
            sample("default", Role::Default, 1, 200, 10.0),
        ];
        let text = table(&samples);
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(text.contains("50 (25 %)") && text.contains("−45.0 %") && text.contains("+10.0 %"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
        let told = remarks(&samples);
        assert!(
            told.contains("found right") && told.contains("own against default −40.0 % (median of 2"),
            "{told}"
        );
    }

    #[test]
    fn wrong_results_are_told() {
        let mut wrong = sample("own", Role::Own, 0, 110, 5.0);
        wrong.line.verified = false;
        assert!(remarks(&[wrong]).contains("WRONG RESULTS in 1"));
    }
}
