//! The page: one file, no scripts, readable in light and dark, every chart also a table.

use super::boot::Sample;
use super::summary::{HEADS, Row, cells, counters, signed_percent};
use crate::conditions::Conditions;
use crate::page::bars::{Bar, Mark, bars};
use crate::page::{Table, document, escape, facts};
use crate::units::{human_bytes, thousands};
use results::Role;
use std::fmt::Write;

/// The page.
pub fn page(rows: &[Row], samples: &[Sample], conditions: &Conditions) -> String {
    let mut body = String::new();
    for headline in headlines(rows) {
        let _ = writeln!(body, "<p class=\"headline\">{}</p>", escape(&headline).replace(" %", "&nbsp;%"));
    }
    body.push_str(&table(rows));
    for workload in workloads(rows) {
        let own: Vec<&Row> = rows.iter().filter(|row| row.line.workload == workload).collect();
        body.push_str(&charts(workload, &own));
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

/// What the application's own policy brought, in a sentence for each workload.
fn headlines(rows: &[Row]) -> impl Iterator<Item = String> + '_ {
    rows.iter().filter(|row| row.line.role == Role::Own).filter_map(|row| {
        let change = row.change?;
        Some(format!(
            "{}: block reads {}, time {}",
            row.line.workload,
            signed_percent(change.reads),
            signed_percent(change.elapsed)
        ))
    })
}

fn table(rows: &[Row]) -> String {
    let table = Table {
        caption: "Medians over all boots of a policy. Sizes and counts in blocks of 4096 bytes; changes are against the \
                  first policy of the workload.",
        heads: HEADS.iter().map(|head| (*head).to_owned()).collect(),
        names: 2,
        lines: rows.iter().map(|row| (row.line.role.to_string(), cells(row).into())).collect(),
    };
    table.html()
}

fn charts(workload: &str, rows: &[&Row]) -> String {
    let bar = |row: &&Row, value: f64, text: String| Bar {
        label: row.line.policy.clone(),
        value,
        text,
        class: row.line.role.to_string(),
    };
    let reads: Vec<Bar> = rows.iter().map(|row| bar(row, row.reads as f64, thousands(row.reads))).collect();
    let times: Vec<Bar> = rows
        .iter()
        .map(|row| bar(row, row.elapsed_ms, format!("{} ms", thousands(row.elapsed_ms.round() as u64))))
        .collect();
    let references = |row: &Row| (row.line.hits + row.line.misses).max(1) as f64;
    let ratio = |row: &&Row| row.line.hits as f64 / references(row) * 100.0;
    let hits: Vec<Bar> =
        rows.iter().map(|row| bar(row, ratio(row), format!("{:.1} %", ratio(row)))).collect();
    let first = rows[0];
    let optimum = first.line.opt_misses.map(|least| {
        let share = (references(first) - least as f64) / references(first) * 100.0;
        Mark { value: share, label: format!("Belady’s optimum {share:.1} %") }
    });
    // Misses of blocks that are new need no read, so only without writes is the optimum a count of reads.
    let fewest = first.line.opt_misses.filter(|_| rows.iter().all(|row| row.writes == 0));
    let fewest = fewest
        .map(|least| Mark { value: least as f64, label: format!("Belady’s optimum {}", thousands(least)) });
    format!(
        "<section>\n<h2>{}</h2>\n<p>Cache of {} for {} of data.</p>\n{}{}{}</section>\n",
        escape(workload),
        human_bytes(first.line.cache_blocks * first.line.block_bytes),
        human_bytes(first.line.data_blocks * first.line.block_bytes),
        bars("Blocks read", "blocks", &reads, fewest.as_ref()),
        bars("Elapsed", "", &times, None),
        bars("Hits, share of references", "", &hits, optimum.as_ref()),
    )
}

fn about(samples: &[Sample], conditions: &Conditions) -> String {
    let agreeing = samples.iter().filter(|sample| sample.counts.agree()).count();
    let verified = samples.iter().filter(|sample| sample.line.verified).count();
    let (platform, accel) = samples
        .first()
        .map_or((None, None), |sample| (sample.line.platform.as_deref(), sample.line.accel.as_deref()));
    let known = [
        ("Checked results", format!("{verified} of {} boots", samples.len())),
        ("Counts agree", format!("{agreeing} of {} boots (by {})", samples.len(), counters(samples))),
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
mod tests {
    use super::super::summary::{rows, tests::samples};
    use super::*;
    use crate::page::tests::stands_alone;

    fn conditions() -> Conditions {
        Conditions {
            commit: "abc".into(),
            emulator: "QEMU <test>".into(),
            host_cpu: "cpu".into(),
            host_cores: 2,
            machine: "q35".into(),
            cores: 1,
            memory_bytes: 256 << 20,
            disk_iops: None,
            disk_mbps: Some(20),
        }
    }

    #[test]
    fn the_page_stands_alone() {
        let samples = samples();
        let text = page(&rows(&samples), &samples, &conditions());
        if let Some(path) = std::env::var_os("EXO_TEST_PAGE") {
            std::fs::write(path, &text).unwrap();
        }
        assert_eq!(text.matches("<svg").count(), 3);
        stands_alone(&text);
        assert!(text.contains("QEMU &lt;test&gt;"), "text is escaped");
        assert!(text.contains("din: block reads −64.0&nbsp;%, time −55.0&nbsp;%"), "{text}");
    }
}
