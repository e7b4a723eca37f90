//! The charts of a workload: what was measured, and what the references say beyond it.

use super::analysis::Analysis;
use super::history::{History, age_class};
use super::summary::Row;
use crate::cache::page::{miss_ratio_curves, table};
use crate::page::bars::{Bar, Mark, bars};
use crate::page::histogram::{Series, histogram};
use crate::page::lines::{Chart, Line, Scale};
use crate::page::{Table, escape, series_class};
use crate::units::{human_bytes, thousands};

/// The section of a workload: `rows` are all of it.
pub fn section(workload: &str, rows: &[&Row], analysis: Option<&Analysis>) -> String {
    let mut sizes: Vec<u64> = rows.iter().map(|row| row.line.cache_blocks).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let measured = match sizes.as_slice() {
        [_] => at_one_size(rows),
        _ => by_size(rows),
    };
    let caches: Vec<String> =
        sizes.iter().map(|blocks| human_bytes(blocks * rows[0].line.block_bytes)).collect();
    format!(
        "<section>\n<h2>{}</h2>\n<p>Cache of {} for {} of data.</p>\n{measured}{}</section>\n",
        escape(workload),
        caches.join(", "),
        human_bytes(rows[0].line.data_blocks * rows[0].line.block_bytes),
        analysis.map_or(String::new(), |analysis| beyond(workload, analysis))
    )
}

fn references(row: &Row) -> f64 {
    (row.line.hits + row.line.misses).max(1) as f64
}

/// Bars: a cache of one size.
fn at_one_size(rows: &[&Row]) -> String {
    let bar = |row: &&Row, value: f64, text: String| Bar {
        label: row.name.clone(),
        value,
        text,
        class: row.line.role.to_string(),
    };
    let reads: Vec<Bar> = rows.iter().map(|row| bar(row, row.reads as f64, thousands(row.reads))).collect();
    let time = |row: &Row| format!("{} ms", thousands(row.elapsed_ms.round() as u64));
    let times: Vec<Bar> = rows.iter().map(|row| bar(row, row.elapsed_ms, time(row))).collect();
    let ratio = |row: &&Row| row.line.hits as f64 / references(row) * 100.0;
    let hits: Vec<Bar> =
        rows.iter().map(|row| bar(row, ratio(row), format!("{:.1} %", ratio(row)))).collect();
    let first = rows[0];
    let optimum = first.line.opt_misses.map(|least| {
        let share = (references(first) - least as f64) / references(first) * 100.0;
        Mark { value: share, label: format!("Belady’s optimum {share:.1} %") }
    });
    let fewest = fewest_reads(rows)
        .map(|least| Mark { value: least as f64, label: format!("Belady’s optimum {}", thousands(least)) });
    [
        bars("Blocks read", "blocks", &reads, fewest.as_ref()),
        bars("Elapsed", "", &times, None),
        bars("Hits, share of references", "", &hits, optimum.as_ref()),
    ]
    .concat()
}

/// The fewest reads possible. Misses of blocks that are new need no read, so only without writes is the
/// optimum a count of reads.
fn fewest_reads(rows: &[&Row]) -> Option<u64> {
    rows[0].line.opt_misses.filter(|_| rows.iter().all(|row| row.writes == 0))
}

/// Curves: caches of several sizes.
fn by_size(rows: &[&Row]) -> String {
    let mut reads = of_policies(rows, |row| row.reads as f64);
    if fewest_reads(rows).is_some() {
        let mut limit: Vec<(f64, f64)> = rows
            .iter()
            .filter_map(|row| Some((row.line.cache_blocks as f64, row.line.opt_misses? as f64)))
            .collect();
        limit.sort_by(|a, b| a.0.total_cmp(&b.0));
        limit.dedup();
        reads.push(Line { name: "opt".into(), points: limit, class: series_class("opt", 0) });
    }
    let times = of_policies(rows, |row| row.elapsed_ms);
    let hits = of_policies(rows, |row| row.line.hits as f64 / references(row));
    let chart = |title, scale, lines: &[Line]| Chart { title, x_name: "cache, blocks", scale, lines }.svg();
    [
        chart("Blocks read", Scale::Count, &reads),
        chart("Elapsed, milliseconds", Scale::Count, &times),
        chart("Hits, share of references", Scale::Share, &hits),
    ]
    .concat()
}

/// A curve over the sizes for each policy.
fn of_policies(rows: &[&Row], value: impl Fn(&Row) -> f64) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for row in rows {
        let point = (row.line.cache_blocks as f64, value(row));
        match lines.iter_mut().find(|line| line.name == row.name) {
            Some(line) => line.points.push(point),
            None => {
                let class = series_class(&row.name, lines.len());
                lines.push(Line { name: row.name.clone(), points: vec![point], class });
            }
        }
    }
    lines.iter_mut().for_each(|line| line.points.sort_by(|a, b| a.0.total_cmp(&b.0)));
    lines
}

/// Parts of a run in the chart over time.
const PARTS: usize = 24;

/// Curves, runs over time, ages.
fn beyond(workload: &str, analysis: &Analysis) -> String {
    let curves = miss_ratio_curves(&analysis.curves);
    let curves = Chart {
        title: "Misses by cache size, share of references",
        x_name: "cache, blocks",
        scale: Scale::Share,
        lines: &curves,
    };
    let mut sizes: Vec<u64> = analysis.curves.iter().map(|misses| misses.size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let (same, looked_for) = analysis.agreeing;
    let blocks = thousands(analysis.blocks);
    let name = escape(workload);
    let (over_time, ages) = (over_time(analysis), ages(analysis));
    format!(
        "<h3>{name}: misses at all sizes</h3>\n<p>The program was run again on the host: under each policy at the \
         measured sizes, under <i>own</i> at others, too. The rest is simulated over the recorded references, by the \
         same code. Of the misses measured above, {same} of {looked_for} come out the same, to the block.</p>\n{}{}<h3>{name}: a run with {blocks} blocks</h3>\n{over_time}{ages}",
        curves.svg(),
        table(&analysis.curves, &sizes).html()
    )
}

/// Hit ratios over time, as chart and table.
fn over_time(analysis: &Analysis) -> String {
    let ratios: Vec<Vec<(usize, f64)>> =
        analysis.histories.iter().map(|(_, history)| history.hit_ratios(PARTS)).collect();
    let line = |(index, (name, _)): (usize, &(String, History))| Line {
        name: name.clone(),
        points: ratios[index].iter().map(|(end, ratio)| (*end as f64, *ratio)).collect(),
        class: series_class(name, index),
    };
    let lines: Vec<Line> = analysis.histories.iter().enumerate().map(line).collect();
    let chart = Chart {
        title: "Hits over time, share of the references of each part of the run",
        x_name: "references made",
        scale: Scale::Share,
        lines: &lines,
    };
    let ends: Vec<usize> =
        ratios.first().map_or(Vec::new(), |ratios| ratios.iter().map(|(end, _)| *end).collect());
    let cells =
        |part: usize| ratios.iter().map(move |ratios| ratios.get(part).map(|(_, ratio)| percent(*ratio)));
    let table = Table {
        caption: "Hits as a share of references, by parts of the run.",
        heads: heads("up to reference", analysis),
        names: 0,
        lines: ends
            .iter()
            .enumerate()
            .map(|(part, end)| line_of(thousands(*end as u64), cells(part)))
            .collect(),
    };
    chart.svg() + &table.html()
}

/// Ages of evicted blocks, as chart and table.
fn ages(analysis: &Analysis) -> String {
    let count = analysis.histories.iter().map(|(_, history)| history.ages().len()).max().unwrap_or(0);
    let classes: Vec<String> = (0..count).map(age_class).collect();
    let shares = |history: &History| -> Vec<f64> {
        let all = history.ages().iter().sum::<u64>().max(1) as f64;
        (0..count).map(|class| history.ages().get(class).map_or(0.0, |count| *count as f64 / all)).collect()
    };
    let series: Vec<Series> = analysis
        .histories
        .iter()
        .enumerate()
        .map(|(index, (name, history))| Series {
            name: format!("{name}, {} evictions", thousands(history.ages().iter().sum())),
            shares: shares(history),
            class: series_class(name, index),
        })
        .collect();
    let cells =
        |class: usize| series.iter().map(move |series| series.shares.get(class).map(|share| percent(*share)));
    let table = Table {
        caption: "Evicted blocks by the number of references since their last use: shares of each policy’s evictions; \
                  a class reaches to the next.",
        heads: heads("age from", analysis),
        names: 0,
        lines: classes.iter().enumerate().map(|(class, name)| line_of(name.clone(), cells(class))).collect(),
    };
    let chart = histogram(
        "Age of evicted blocks, share of evictions",
        "references since the last use (a class reaches to the next)",
        &classes,
        &series,
    );
    if chart.is_empty() { "<p>No block was evicted.</p>\n".into() } else { chart + &table.html() }
}

/// Heads of a table with a column for each policy.
fn heads(first: &str, analysis: &Analysis) -> Vec<String> {
    std::iter::once(first.to_owned()).chain(analysis.histories.iter().map(|(name, _)| name.clone())).collect()
}

fn line_of(name: String, cells: impl Iterator<Item = Option<String>>) -> (String, Vec<String>) {
    (String::new(), std::iter::once(name).chain(cells.map(Option::unwrap_or_default)).collect())
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}
