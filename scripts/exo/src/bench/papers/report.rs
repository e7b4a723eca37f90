//! Rows of results, as text, as JSON and as a page.

use super::boots::{Measured, Platform};
use super::tables::{Row, Table};
use crate::page::bars::{Bar, Mark, bars};
use crate::page::{document, escape};
use crate::units::thousands;
use serde::Serialize;

/// A row of the JSON file.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// Always `papers`.
    bench: &'static str,
    /// Name of the table.
    table: &'static str,
    operation: &'static str,
    /// Unit of `ours` and `linux`.
    unit: &'static str,
    /// The paper's own figure for what it proposes.
    paper: Option<f64>,
    /// The paper's figure for the system that it compares with.
    paper_other: Option<f64>,
    /// Unit of these two.
    paper_unit: &'static str,
    ours: Option<f64>,
    linux: Option<f64>,
    /// What we aim at, at most.
    aim: Option<f64>,
    platform: &'static str,
}

impl Found {
    /// How many times less the paper's system takes than the other; how many times less ours takes than
    /// Linux.
    fn ratios(&self) -> [Option<f64>; 2] {
        let ratio = |less: Option<f64>, more: Option<f64>| Some(more? / less.filter(|less| *less > 0.0)?);
        [ratio(self.paper, self.paper_other), ratio(self.ours, self.linux)]
    }
}

/// The rows of these tables, of one platform.
pub fn rows(tables: &[&Table], ours: &Measured, linux: Option<&Measured>, platform: Platform) -> Vec<Found> {
    let found = |table: &Table, row: &Row| Found {
        bench: "papers",
        table: table.name,
        operation: row.operation,
        unit: platform.unit(),
        paper: row.paper[0],
        paper_other: row.paper[1],
        paper_unit: table.unit,
        ours: ours.get(row.ours).copied(),
        linux: linux.and_then(|linux| linux.get(row.linux?)).copied(),
        aim: row.aim.filter(|_| platform.unit() == "instructions"),
        platform: platform.name(),
    };
    tables.iter().flat_map(|table| table.rows.iter().map(|row| found(table, row))).collect()
}

/// A figure with as many digits as it has.
fn figure(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(value) if value >= 1000.0 => thousands(value.round() as u64),
        Some(value) => format!("{:.1}", value),
    }
}

/// A figure of a paper, as printed.
fn printed(value: Option<f64>) -> String {
    value.map_or("-".into(), |value| value.to_string())
}

fn times(ratio: Option<f64>) -> String {
    ratio.map_or("-".into(), |ratio| format!("{ratio:.2}x"))
}

/// A table of text.
pub fn text(table: &Table, found: &[Found]) -> String {
    let mut text = format!("{}: {}\n  {}\n", table.name, table.title, table.source);
    text += &format!(
        "  {:<32} {:>9} {:>9} {:>7}  {:<9} {:>12} {:>12} {:>9}  {:>5}\n",
        "",
        table.systems[0].split(' ').next().unwrap_or(""),
        table.systems[1],
        "times",
        "platform",
        "ours",
        "linux",
        "times",
        "aim"
    );
    for one in found.iter().filter(|one| one.table == table.name) {
        let [theirs, ours] = one.ratios();
        text += &format!(
            "  {:<32} {:>9} {:>9} {:>7}  {:<9} {:>12} {:>12} {:>9}  {:>5}\n",
            one.operation,
            printed(one.paper),
            printed(one.paper_other),
            times(theirs),
            one.platform,
            figure(one.ours),
            figure(one.linux),
            times(ours),
            one.aim.map_or(String::new(), |aim| format!("{aim}")),
        );
    }
    text + &format!("  papers: {}; ours and Linux's: instructions (Bochs: ticks)\n\n", table.unit)
}

/// Rows in which the paper's system took more than the other, in which ours takes more than Linux, and in
/// which it takes more than aimed at; what could not be measured.
pub fn losses(found: &[Found]) -> String {
    let mut text = String::new();
    let mut tell = |what: &str, lost: &dyn Fn(&Found) -> bool| {
        let mut names: Vec<String> = Vec::new();
        for one in found.iter().filter(|one| lost(one)) {
            let name = format!("{} {} ({})", one.table, one.operation, one.platform);
            names.extend((!names.contains(&name)).then_some(name));
        }
        let names = if names.is_empty() { "nothing".into() } else { names.join("; ") };
        text += &format!("{what}: {names}\n");
    };
    tell("the paper's system takes more than the other", &|one| {
        one.ratios()[0].is_some_and(|times| times < 1.0)
    });
    tell("ours takes more than Linux", &|one| one.ratios()[1].is_some_and(|times| times < 0.995));
    tell("ours takes more than aimed at", &|one| one.ours.zip(one.aim).is_some_and(|(ours, aim)| ours > aim));
    tell("not measured, as the platform has no such thing", &|one| one.ours.is_none());
    text
}

/// The page: for each row two bars, ours and Linux's, and the paper's ratio in words.
pub fn page(tables: &[&Table], found: &[Found]) -> String {
    let mut body = String::new();
    for table in tables {
        let title = escape(table.title);
        body += &format!("<section>\n<h2>{}: {title}</h2>\n<p>{}</p>\n", table.name, escape(table.source));
        for row in table.rows {
            let of_row = |one: &&Found| one.table == table.name && one.operation == row.operation;
            found.iter().filter(of_row).for_each(|one| body += &chart(table, one));
        }
        body += "</section>\n";
    }
    body += &format!(
        "<section>\n<h2>Losses</h2>\n<p>{}</p>\n</section>\n",
        escape(&losses(found)).replace('\n', "<br>")
    );
    document("The papers' tables, ours, and Linux’s", &body)
}

fn chart(table: &Table, one: &Found) -> String {
    let [theirs, ours] = one.ratios();
    let paper = match (one.paper, one.paper_other) {
        (None, None) => String::new(),
        (paper, other) => {
            let [proposed, compared] = table.systems;
            let (paper, other, unit) = (printed(paper), printed(other), one.paper_unit);
            format!(
                " In the paper: {proposed} {paper} {unit}, {compared} {other} {unit} ({}).",
                times(theirs)
            )
        }
    };
    let bar = |label: &str, value: Option<f64>, class: &str| {
        let bar = |value| Bar { label: label.into(), value, text: figure(Some(value)), class: class.into() };
        value.map(bar)
    };
    let all: Vec<Bar> =
        [bar("ours", one.ours, "own"), bar("Linux", one.linux, "peer")].into_iter().flatten().collect();
    if all.is_empty() {
        return String::new();
    }
    let mark = one.aim.map(|aim| Mark { value: aim, label: format!("aim {aim}") });
    let title = format!("{}, {} ({})", one.operation, one.unit, one.platform);
    let times = escape(&format!("Linux over ours: {}.{paper}", times(ours)));
    format!("{}<p>{times}</p>\n", bars(&title, one.unit, &all, mark.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::papers::tables::TABLES;
    use crate::page::tests::stands_alone;

    fn found() -> (Vec<&'static Table>, Vec<Found>) {
        let tables: Vec<&Table> = TABLES.iter().collect();
        let ours = [("prot100", 12.0), ("trap", 90.5), ("matrix", 200.0), ("prot1", 150.0)];
        let linux = [("prot100", 161.0), ("trap", 3974.0), ("matrix", 100.0)];
        let map =
            |figures: &[(&str, f64)]| figures.iter().map(|(name, of)| (name.to_string(), *of)).collect();
        let found = rows(&tables, &map(&ours), Some(&map(&linux)), Platform::QemuSvm);
        (tables, found)
    }

    #[test]
    fn ratios_are_of_the_same_machine() {
        let (tables, found) = found();
        let table = tables.iter().find(|table| table.name == "sosp95-10").unwrap();
        let text = text(table, &found);
        let line = text.lines().find(|line| line.trim_start().starts_with("prot100")).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, ["prot100", "1.09", "1.02", "0.94x", "qemu-svm", "12.0", "161.0", "13.42x", "20"]);
    }

    #[test]
    fn losses_are_told() {
        let text = losses(&found().1);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with("sosp95-10 prot100 (qemu-svm); sosp95-10 unprot100 (qemu-svm)"), "{text}");
        assert!(lines[1].ends_with("Linux: sosp95-9 matrix (qemu-svm)"), "{text}");
        assert!(lines[2].contains("sosp95-10 prot1 (qemu-svm)") && !lines[2].contains("trap"), "{text}");
        assert!(lines[3].contains("sosp95-5 unaligned (qemu-svm)"), "{text}");
    }

    #[test]
    fn the_page_stands_alone_and_json_has_the_columns() {
        let (tables, found) = found();
        let page = page(&tables, &found);
        stands_alone(&page);
        assert!(page.contains("In the paper: ExOS 1.09 us, Ultrix 1.02 us (0.94x)."));
        let json = serde_json::to_value(&found[0]).unwrap();
        for column in ["table", "operation", "unit", "paper", "ours", "linux", "platform"] {
            assert!(json.get(column).is_some(), "{column}");
        }
    }
}
