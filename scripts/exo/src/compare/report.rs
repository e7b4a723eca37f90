//! The page: one file, no scripts, readable in light and dark, every chart also a table.

use super::boot::Sample;
use super::chart::{Bar, Mark, bars, escape};
use super::summary::{HEADS, Row, cells, counters, signed_percent};
use crate::conditions::Conditions;
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
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>File caching: the application's policy against the default</title>\n<style>{STYLE}</style>\n</head>\n\
         <body>\n<main>\n<h1>File caching: the application’s policy against the default</h1>\n{body}</main>\n</body>\n\
         </html>\n"
    )
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
    let mut text = String::from(
        "<div class=\"wide\"><table>\n<caption>Medians over all boots of a policy. Sizes and counts in blocks of 4096 \
         bytes; changes are against the first policy of the workload.</caption>\n<thead><tr>",
    );
    for head in HEADS {
        let _ = write!(text, "<th scope=\"col\">{}</th>", escape(head));
    }
    text.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        let _ = write!(text, "<tr class=\"{}\">", row.line.role);
        for (column, cell) in cells(row).iter().enumerate() {
            let tag = if column == 2 { "th scope=\"row\"" } else { "td" };
            let end = if column == 2 { "th" } else { "td" };
            let _ = write!(text, "<{tag}>{}</{end}>", escape(cell));
        }
        text.push_str("</tr>\n");
    }
    text.push_str("</tbody></table></div>\n");
    text
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
    let facts = [
        ("Checked results", format!("{verified} of {} boots", samples.len())),
        ("Counts agree", format!("{agreeing} of {} boots (by {})", samples.len(), counters(samples))),
        ("Disk", conditions.disk()),
        ("Platform", format!("{}, {}", platform.unwrap_or("unknown"), accel.unwrap_or("unknown"))),
        ("Machine", format!("{}, {}", conditions.machine, human_bytes(conditions.memory_bytes))),
        ("Emulator", conditions.emulator.clone()),
        ("Host", format!("{} × {}", conditions.host_cores, conditions.host_cpu)),
        ("Commit", conditions.commit.clone()),
    ];
    let mut text = String::from("<section>\n<h2>Conditions</h2>\n<dl>\n");
    for (name, value) in facts {
        let _ = writeln!(text, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(&value));
    }
    text.push_str("</dl>\n</section>\n");
    text
}

const STYLE: &str = "
:root { --paper: #fdfdfb; --ink: #1b1f24; --faint: #5b6470; --line: #d8dce1; --default: #7b8794; --own: #0b7a57;
  --other: #a06a1b; --mark: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --ink: #e8eaed; --faint: #a4adb8; --line: #353c44;
  --default: #8b97a5; --own: #3fbf93; --other: #d29b4a; --mark: #ff8a80; } }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 66rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.2rem; margin: 2rem 0 .25rem; }
.headline { font-size: 1.1rem; margin: .2rem 0; border-left: 4px solid var(--own); padding-left: .6rem; }
.wide { overflow-x: auto; margin-top: 1.5rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .92rem; }
caption { caption-side: bottom; text-align: left; color: var(--faint); padding-top: .5rem; }
th, td { padding: .3rem .4rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child, th:nth-child(3), tbody th { text-align: left; }
tr.own th, tr.own td { font-weight: 600; }
svg { display: block; width: 100%; max-width: 40rem; height: auto; margin: .75rem 0; }
svg text { font: 14px system-ui, sans-serif; fill: var(--ink); }
svg .title { font-weight: 600; } svg .note { fill: var(--mark); font-size: 13px; }
svg .default { fill: var(--default); } svg .own { fill: var(--own); } svg .other { fill: var(--other); }
svg .mark { stroke: var(--mark); stroke-width: 2; stroke-dasharray: 5 4; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; } dt { color: var(--faint); }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 34rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .5rem; } }
@media print { body { background: none; } section { break-inside: avoid; } }
";

#[cfg(test)]
mod tests {
    use super::super::summary::{rows, tests::samples};
    use super::*;

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
        assert!(!text.contains("<script") && !text.contains("http"), "nothing is loaded from elsewhere");
        assert!(text.contains("QEMU &lt;test&gt;"), "text is escaped");
        assert!(text.contains("din: block reads −64.0&nbsp;%, time −55.0&nbsp;%"), "{text}");
        for tag in ["table", "section", "dl", "svg", "main", "tbody"] {
            let (open, close) = (format!("<{tag}"), format!("</{tag}>"));
            assert_eq!(text.matches(&open).count(), text.matches(&close).count(), "{tag}");
        }
    }
}
