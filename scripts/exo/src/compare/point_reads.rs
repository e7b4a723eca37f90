//! Point reads by themselves: how many a second, and how long they take. A line for each row of a store.

use super::boot::Sample;
use super::summary::{Row, of_row};
use super::table::{aligned, cache_size};
use crate::units::{median, signed_percent, thousands};
use results::PointReads;

/// Something that can be told of point reads.
type Figure = fn(&PointReads) -> f64;

/// The figures, with their heads. Of times, less is better.
const FIGURES: [(&str, Figure); 3] = [
    ("a second", |reads| reads.per_second),
    ("P50 µs", |reads| reads.p50_us),
    ("P99 µs", |reads| reads.p99_us),
];

/// The lines as text: medians over the boots, and beside each the change against the first row of the same
/// workload and size, median of the pairs of boots. `None` if no row has point reads.
pub fn table(rows: &[Row], samples: &[Sample]) -> Option<String> {
    let mut heads = vec!["workload".to_owned(), "cache".into(), "policy".into(), "GETs".into()];
    heads.extend(FIGURES.iter().flat_map(|(head, _)| [(*head).to_owned(), "±".into()]));
    let mut lines = vec![heads];
    for row in rows {
        let Some(first) = row.line.point_reads else { continue };
        let same = |other: &&Row| {
            (&other.line.workload, other.line.cache_blocks) == (&row.line.workload, row.line.cache_blocks)
        };
        let before = rows.iter().find(same).unwrap_or(row);
        let mut line =
            vec![row.line.workload.clone(), cache_size(row), row.name.clone(), thousands(first.count)];
        for (_, figure) in FIGURES {
            let values = |row: &Row| -> Vec<f64> {
                of_row(samples, row)
                    .iter()
                    .filter_map(|one| one.line.point_reads.as_ref().map(figure))
                    .collect()
            };
            let (own, others) = (values(row), values(before));
            let mut changes: Vec<f64> = own
                .iter()
                .zip(&others)
                .filter(|(_, other)| **other > 0.0)
                .map(|(own, other)| own / other - 1.0)
                .collect();
            line.push(thousands(median(&mut own.clone()).round() as u64));
            line.push(if std::ptr::eq(before, row) || changes.is_empty() {
                "—".into()
            } else {
                let middle = signed_percent(median(&mut changes));
                match (changes.first(), changes.last()) {
                    (Some(least), Some(most)) if changes.len() > 1 => {
                        format!("{middle} ({} to {})", signed_percent(*least), signed_percent(*most))
                    }
                    _ => middle,
                }
            });
        }
        lines.push(line);
    }
    (lines.len() > 1).then(|| {
        format!("\nGETs alone, one client:\n{}", aligned(&lines, |column| column == 0 || column == 2))
    })
}

#[cfg(test)]
mod tests {
    use super::super::summary::rows;
    use super::super::summary::tests::samples;
    use super::*;

    #[test]
    fn there_is_a_line_for_each_row_with_point_reads_and_none_for_others() {
        let mut all = samples();
        assert_eq!(table(&rows(&all), &all), None);
        let micros = |of: &[u64]| PointReads::of(of.iter().map(|micro| micro * 1000).collect());
        for sample in &mut all {
            sample.line.point_reads =
                if sample.line.policy == "own" { micros(&[1, 4]) } else { micros(&[1, 9]) };
        }
        let text = table(&rows(&all), &all).expect("all have them");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2 + 2 + 2, "{text}");
        assert!(lines[5].contains("400,000") && lines[5].contains("+100.0 %"), "{text}");
        assert!(lines[5].contains("−55.6 % (−55.6 % to −55.6 %)"), "{text}");
        assert!(lines[4].contains('—'), "{text}");
    }
}
