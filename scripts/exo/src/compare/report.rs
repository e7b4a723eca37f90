//! The page: one file, no scripts, readable in light and dark, every chart also a table.

use super::analysis::Analysis;
use super::boot::Sample;
use super::charts::section;
use super::matrix::{Matrix, NOTE, matrix};
use super::summary::Row;
use super::table::{columns, counters, policy_lines};
use crate::machine::conditions::Conditions;
use crate::page::{Table, document, escape, facts};
use crate::units::{human_bytes, signed_percent, thousands};
use results::Role;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The page. `analyses` are by workload; one without shows only what was measured.
pub fn page(
    rows: &[Row],
    samples: &[Sample],
    conditions: &Conditions,
    analyses: &BTreeMap<String, Analysis>,
) -> String {
    let mut body = String::new();
    for headline in headlines(rows) {
        let _ = writeln!(body, "<p class=\"headline\">{}</p>", escape(&headline).replace(" %", "&nbsp;%"));
    }
    body.push_str(&table(rows));
    if let Some(found) = matrix(rows) {
        body.push_str(&by_size(found));
    }
    for workload in workloads(rows) {
        let own: Vec<&Row> = rows.iter().filter(|row| row.line.workload == workload).collect();
        body.push_str(&section(workload, &own, analyses.get(workload)));
    }
    body.push_str(&about(samples, conditions));
    document("File caching: the application’s policy against the default", &body)
}

/// The workloads in the order of the rows.
fn workloads(rows: &[Row]) -> Vec<&str> {
    let mut names: Vec<&str> = rows.iter().map(|row| row.line.workload.as_str()).collect();
    names.dedup();
    names
}

/// What the application's own policy brought, in a sentence for each workload and size.
fn headlines(rows: &[Row]) -> impl Iterator<Item = String> + '_ {
    rows.iter().filter(|row| row.line.role == Role::Own).filter_map(|row| {
        let same = |other: &&Row| (&other.line.workload, &other.name) == (&row.line.workload, &row.name);
        let several = rows.iter().filter(same).count() > 1;
        let change = row.change?;
        let cache = if several {
            format!(" with {} blocks", thousands(row.line.cache_blocks))
        } else {
            String::new()
        };
        let name = if row.name == row.line.policy { String::new() } else { format!(", {}", row.name) };
        let reads =
            format!("{}{name}{cache}: block reads {}", row.line.workload, signed_percent(change.reads));
        // The time of a single boot says more about the host than about the policy.
        let time = (row.runs > 1).then(|| format!(", time {}", signed_percent(change.elapsed)));
        Some(reads + &time.unwrap_or_default())
    })
}

fn table(rows: &[Row]) -> String {
    let columns = columns(rows);
    let cells = |row: &Row| columns.iter().map(|column| (column.cell)(row)).collect();
    let table = Table {
        caption: "Medians over all boots of a policy. Sizes and counts in blocks of 4096 bytes; changes are against the \
                  first row of the workload.",
        heads: columns.iter().map(|column| column.head.to_owned()).collect(),
        names: 2,
        lines: rows.iter().map(|row| (row.line.role.to_string(), cells(row))).collect(),
    };
    table.html()
}

/// Reads by size of the cache.
fn by_size(found: Matrix) -> String {
    let note = if found.makes_blocks { format!(" {NOTE}") } else { String::new() };
    let table = Table {
        caption: &format!("Blocks read, by size of the cache.{note}"),
        heads: found.heads,
        names: 1,
        lines: found.lines.into_iter().map(|line| (String::new(), line)).collect(),
    };
    table.html()
}

fn about(samples: &[Sample], conditions: &Conditions) -> String {
    let agreeing = samples.iter().filter(|sample| sample.counts.agree()).count();
    let verified = samples.iter().filter(|sample| sample.line.verified).count();
    let (platform, accel) = samples
        .first()
        .map_or((None, None), |sample| (sample.line.platform.as_deref(), sample.line.accel.as_deref()));
    let lines = policy_lines(samples).unwrap_or_else(|| "unknown".into());
    let known = [
        ("Checked results", format!("{verified} of {} boots", samples.len())),
        ("Counts agree", format!("{agreeing} of {} boots (by {})", samples.len(), counters(samples))),
        ("Lines of code of the policies", lines),
        ("Disk", conditions.disk()),
        ("Platform", format!("{}, {}", platform.unwrap_or("unknown"), accel.unwrap_or("unknown"))),
        ("Machine", format!("{}, {}", conditions.machine, human_bytes(conditions.memory_bytes))),
        ("Emulator", conditions.emulator.clone()),
        ("Host", format!("{} × {}", conditions.host_cores, conditions.host_cpu)),
        ("Commit", conditions.commit.clone()),
    ];
    format!("<section>\n<h2>Conditions</h2>\n{}</section>\n", facts(known))
}

#[cfg(test)]
pub mod tests {
    use super::super::analysis::analyse;
    use super::super::optimum::Optimum;
    use super::super::summary::{rows, tests::samples};
    use super::*;
    use crate::page::browser::{browser, judge};
    use crate::page::tests::stands_alone;

    pub(in super::super) fn conditions() -> Conditions {
        Conditions {
            commit: "abc".into(),
            emulator: "QEMU <test>".into(),
            host_cpu: "cpu".into(),
            host_cores: 2,
            machine: "q35".into(),
            firmware: None,
            cores: 1,
            memory_bytes: 256 << 20,
            disk_iops: None,
            disk_mbps: Some(20),
        }
    }

    /// A page about one size, with the analysis of a workload.
    fn page_of_one_size() -> String {
        let samples = samples();
        let rows = rows(&samples);
        let optimum = Optimum::of((0..100).collect::<Vec<_>>().repeat(5));
        let analysis = analyse(&optimum, &rows.iter().collect::<Vec<_>>(), None).unwrap().unwrap();
        page(&rows, &samples, &conditions(), &BTreeMap::from([("din".to_owned(), analysis)]))
    }

    /// A page about two sizes.
    fn page_of_two_sizes() -> String {
        let mut all = samples();
        for mut sample in samples() {
            sample.line.cache_blocks = 90;
            all.push(sample);
        }
        page(&rows(&all), &all, &conditions(), &BTreeMap::new())
    }

    #[test]
    fn a_browser_finds_no_fault_in_the_pages() {
        let Some(browser) = browser("a_browser_finds_no_fault_in_the_pages") else { return };
        judge(&browser, &page_of_one_size());
        judge(&browser, &page_of_two_sizes());
    }

    #[test]
    fn the_page_stands_alone() {
        let text = page_of_one_size();
        if let Some(path) = std::env::var_os("EXO_TEST_PAGE") {
            std::fs::write(path, &text).unwrap();
        }
        assert_eq!(text.matches("<svg").count(), 6);
        assert_eq!(text.matches("<table").count(), 4, "all rows, and one for each chart beyond them");
        stands_alone(&text);
        assert!(text.contains("QEMU &lt;test&gt;"), "text is escaped");
        assert!(text.contains("own of din 11"), "{text}");
        assert!(text.contains("din: block reads −64.0&nbsp;%, time −55.0&nbsp;%"), "{text}");
        assert!(text.contains("1 of 1 come out the same"), "{text}");
    }

    #[test]
    fn several_sizes_become_curves() {
        let text = page_of_two_sizes();
        assert_eq!(text.matches("<svg").count(), 3);
        // default and own in three charts, and the limit of the reads.
        assert_eq!(text.matches("<polyline").count(), 7);
        assert!(text.contains("din with 90 blocks: block reads"), "{text}");
        stands_alone(&text);
    }
}
