//! The rows as text, and what to say below them.

use super::boot::{DIRECT, Sample};
use super::optimum::Optimum;
use super::summary::{Row, several_read_aheads};
use crate::units::{signed_percent, thousands};
use results::Role;
use std::collections::BTreeMap;
use std::fmt::Write;

/// A column of the table.
pub struct Column {
    /// Its head.
    pub head: &'static str,
    /// Whether it holds names, which stand to the left; numbers stand to the right.
    pub names: bool,
    /// Its cell in a row.
    pub cell: fn(&Row) -> String,
}

/// The columns. Read-ahead has one where there are several ways; also then a usual table stays below 120
/// characters.
pub fn columns(rows: &[Row]) -> Vec<Column> {
    let named = |head, cell| Column { head, names: true, cell };
    let counted = |head, cell| Column { head, names: false, cell };
    let mut columns = vec![
        named("workload", |row| row.line.workload.clone()),
        counted("cache", cache_size),
        named("policy", |row| row.line.policy.clone()),
        counted("reads", |row| thousands(row.reads)),
        counted("writes", |row| thousands(row.writes)),
        counted("requests", |row| thousands(row.read_requests)),
        counted("hits", |row| thousands(row.line.hits)),
        counted("of Belady's", |row| {
            known(row.share_of_optimum(), |share| format!("{:.1} %", share * 100.0))
        }),
        counted("time ms", |row| thousands(row.elapsed_ms.round() as u64)),
        counted("reads ±", |row| known(row.change, |change| signed_percent(change.reads))),
        counted("time ±", |row| known(row.change, |change| signed_percent(change.elapsed))),
    ];
    if several_read_aheads(rows.iter().map(|row| &row.line)) {
        let name =
            |row: &Row| known(Some(&row.line.read_ahead).filter(|name| !name.is_empty()), String::clone);
        columns.insert(3, named("read-ahead", name));
    }
    columns
}

/// Blocks of the cache, and the share of the data that these are.
pub fn cache_size(row: &Row) -> String {
    let share = row.line.cache_blocks as f64 / row.line.data_blocks.max(1) as f64 * 100.0;
    format!("{} ({share:.0} %)", thousands(row.line.cache_blocks))
}

/// A cell for what may be unknown.
fn known<T>(value: Option<T>, text: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "—".to_owned(), text)
}

/// The table as text.
pub fn table(rows: &[Row]) -> String {
    let columns = columns(rows);
    let heads = columns.iter().map(|column| column.head.to_owned()).collect();
    let cells = rows.iter().map(|row| columns.iter().map(|column| (column.cell)(row)).collect());
    let lines: Vec<Vec<String>> = std::iter::once(heads).chain(cells).collect();
    aligned(&lines, |column| columns[column].names)
}

/// Lines of cells under each other, the first the heads, with a rule below it and wherever the first cell is
/// another. Columns that hold names stand to the left.
pub fn aligned(lines: &[Vec<String>], names: impl Fn(usize) -> bool) -> String {
    let widths: Vec<usize> = (0..lines.first().map_or(0, Vec::len))
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
            let (before, after) = if names(column) { ("", &*padding) } else { (&*padding, "") };
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
                row.name,
                signed_percent(change.elapsed),
                row.runs,
                signed_percent(change.elapsed_range.0),
                signed_percent(change.elapsed_range.1)
            );
        }
    }
    if let Some(cores) = samples.iter().find_map(|sample| sample.line.cores) {
        text += &on_cores(rows, cores);
    }
    for (workload, optimum) in
        optima.iter().filter(|_| samples.iter().all(|sample| sample.line.cores.is_none()))
    {
        let Some(row) = rows.iter().find(|row| row.line.workload == *workload) else { continue };
        let blocks = row.line.cache_blocks;
        let _ = writeln!(
            text,
            "{workload}: {} references; Belady's optimum misses {} of them, the best fixed set {}, LRU simulated {}{}",
            thousands(optimum.references()),
            thousands(optimum.misses(blocks)),
            thousands(optimum.fixed_misses(blocks)),
            thousands(optimum.lru_misses(blocks)),
            if row.line.policy == "default" {
                format!(", LRU measured {}", thousands(row.line.misses))
            } else {
                String::new()
            }
        );
    }
    if let Some(lines) = policy_lines(samples) {
        let _ = writeln!(text, "Lines of code of the policies: {lines}.");
    }
    if let Some(how) = how_it_ran(samples) {
        let _ = writeln!(text, "{how}");
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

/// Why several cores count what they count.
fn on_cores(rows: &[Row], cores: u64) -> String {
    let mut text = format!(
        "{cores} cores, each with the whole workload, through one cache. Who is where when differs from run to run,\n\
         and counts with it: a block that one core has read is a hit for another that comes in time. Belady's\n\
         optimum and the best fixed set are those of the references of all cores in the order of that very run.\n"
    );
    for Row { line, name, .. } in rows {
        let limits = [line.opt_misses, line.fixed_misses].map(|limit| known(limit, thousands));
        let _ = writeln!(
            text,
            "{} under {name}: {} references of {cores} cores, {} misses; Belady's optimum {}, the best fixed set {}",
            line.workload,
            thousands(line.references),
            thousands(line.misses),
            limits[0],
            limits[1]
        );
    }
    text
}

/// How much code each policy is, where that is known, those of the same length together: `own of cs and din
/// 11, clock 40`.
pub fn policy_lines(samples: &[Sample]) -> Option<String> {
    let mut known: Vec<(&str, u64, Vec<&str>)> = Vec::new();
    for Sample { line, policy_lines, .. } in samples {
        let Some(lines) = *policy_lines else { continue };
        let at = known.iter().position(|(policy, count, _)| (*policy, *count) == (&*line.policy, lines));
        let at = at.unwrap_or_else(|| {
            known.push((&line.policy, lines, Vec::new()));
            known.len() - 1
        });
        let workloads = &mut known[at].2;
        if line.role == Role::Own && !workloads.contains(&&*line.workload) {
            workloads.push(&line.workload);
        }
    }
    let words = known.iter().map(|(policy, lines, workloads)| match workloads.split_last() {
        None => format!("{policy} {lines}"),
        Some((one, [])) => format!("{policy} of {one} {lines}"),
        Some((last, others)) => format!("{policy} of {} and {last} {lines}", others.join(", ")),
    });
    (!known.is_empty()).then(|| words.collect::<Vec<_>>().join("; "))
}

/// What is the same for all boots and not the usual: the platform, and a read-ahead that has no column.
fn how_it_ran(samples: &[Sample]) -> Option<String> {
    let first = samples.iter().find(|sample| sample.line.role != Role::Peer)?;
    let direct = first.line.platform.as_deref() == Some(DIRECT);
    let one = !several_read_aheads(samples.iter().map(|sample| &sample.line));
    let read_ahead = Some(&first.line.read_ahead).filter(|name| one && !name.is_empty());
    let said = [
        direct.then(|| "The unikernel ran directly on the machine, without HyperExo.".to_owned()),
        read_ahead.map(|name| format!("Read-ahead: {name}.")),
    ];
    let said: Vec<String> = said.into_iter().flatten().collect();
    (!said.is_empty()).then(|| said.join(" "))
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
    let any = |counted: fn(&Sample) -> bool| samples.iter().any(counted);
    match (any(|sample| sample.counts.hyperexo.is_some()), any(|sample| sample.counts.qemu.is_some())) {
        (true, true) => "the libOS, by HyperExo and by QEMU",
        (true, false) => "the libOS and by HyperExo",
        (false, _) => "the libOS and by QEMU",
    }
}

#[cfg(test)]
mod tests {
    use super::super::summary::{rows, tests::samples};
    use super::*;

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

    #[test]
    fn ways_to_read_ahead_have_a_column_that_fits() {
        let mut all = samples();
        for mut sample in samples() {
            sample.line.read_ahead = "aggressive".into();
            all.push(sample);
        }
        all.iter_mut().for_each(|sample| {
            let line = &mut sample.line;
            (line.cache_blocks, line.reads, line.writes, line.hits) = (1424, 14_256, 14_256, 14_256);
            (line.read_requests, line.elapsed_ms) = (14_256, 14_256.0);
        });
        let text = table(&rows(&all));
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
        assert!(text.starts_with("workload") && text.contains("  read-ahead  "), "{text}");
        assert!(!table(&rows(&samples())).contains("read-ahead"));
    }

    #[test]
    fn several_cores_are_told() {
        let mut samples = samples();
        samples.iter_mut().for_each(|sample| {
            (sample.line.cores, sample.line.opt_misses) = (Some(2), Some(77));
        });
        let told = remarks(&rows(&samples), &samples, &BTreeMap::new());
        assert!(told.contains("2 cores, each") && told.contains("Belady's optimum 77,"), "{told}");
    }

    #[test]
    fn policies_and_platform_are_told() {
        let mut samples = samples();
        let told = |samples: &[Sample]| remarks(&rows(samples), samples, &BTreeMap::new());
        assert!(told(&samples).contains("Lines of code of the policies: own of din 11.\n"));
        assert!(!told(&samples).contains("without HyperExo"));
        for sample in &mut samples {
            sample.line.platform = Some(DIRECT.into());
            sample.counts.hyperexo = None;
        }
        let told = told(&samples);
        assert!(
            told.contains("without HyperExo") && told.contains("by the libOS and by QEMU agree"),
            "{told}"
        );
    }
}
