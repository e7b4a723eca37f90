//! The table and the lines.

use super::counts::Counts;
use super::plan::{App, Case, Mode};
use super::{PAGES, Rate};
use crate::machine::conditions::Conditions;
use crate::units::median;
use serde::Serialize;

/// What was found of one case in one mode. A line of the JSON file.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    app: &'static str,
    mode: &'static str,
    /// What was asked: a page, a command, or the direction of a stream as the machine sees it.
    asks: &'static str,
    clients: u32,
    pipeline: u32,
    /// Median of the rounds; `None` of a stream.
    requests_per_s: Option<f64>,
    /// Payload, 10⁶ bytes a second, median of the rounds; `None` of commands.
    megabytes_per_s: Option<f64>,
    /// Of a stream, 64 KiB count as a request.
    instructions_per_request: Option<f64>,
    exits_per_request: Option<f64>,
    frames_sent_per_request: Option<f64>,
    /// By libOS and kernel, for each byte of the payload that it sent; of a stream that comes in, received.
    bytes_copied_per_byte: Option<f64>,
    /// The rate as a multiple of Linux's in the same round: least, median, most.
    ratio_to_linux: Option<[f64; 3]>,
    rounds: usize,
    /// Why what is `None` can't be had.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    absent: Vec<&'static str>,
}

/// A line of the file, with its conditions.
#[derive(Serialize)]
pub struct Json<'a> {
    pub bench: &'static str,
    #[serde(flatten)]
    pub row: &'a Row,
    #[serde(flatten)]
    pub conditions: &'a Conditions,
}

/// The rows of one server.
pub fn rows(
    app: App,
    cases: &[Case],
    modes: &[Mode],
    counts: &[(Case, Mode, Counts)],
    rates: &[Rate],
) -> Vec<Row> {
    let pairs = cases.iter().flat_map(|case| modes.iter().map(move |mode| (case, *mode)));
    pairs.map(|(case, mode)| row(app, case, mode, counts, rates)).collect()
}

fn row(app: App, case: &Case, mode: Mode, counts: &[(Case, Mode, Counts)], rates: &[Rate]) -> Row {
    let of = |wanted: Mode| {
        rates.iter().filter(move |rate| rate.mode == wanted && rate.case == *case).collect::<Vec<_>>()
    };
    let (own, linux) = (of(mode), of(Mode::Linux));
    let mut values: Vec<f64> = own.iter().map(|rate| rate.per_second).collect();
    let rate = (!values.is_empty()).then(|| median(&mut values));
    let ratios = own.iter().filter_map(|rate| {
        let peer = linux.iter().find(|peer| peer.round == rate.round)?;
        Some(rate.per_second / peer.per_second)
    });
    let counted = counts.iter().find(|(other, of, _)| other == case && *of == mode);
    let counted = counted.map(|(_, _, counts)| *counts).unwrap_or_default();
    let page = PAGES.iter().find(|(name, _)| case.asks().strip_prefix('/') == Some(name));
    let bytes = if case.is_stream() { Some(1.0) } else { page.map(|(_, bytes)| *bytes as f64) };
    Row {
        app: app.name(),
        mode: mode.name(),
        asks: case.asks(),
        clients: case.clients,
        pipeline: case.pipeline,
        requests_per_s: rate.filter(|_| !case.is_stream()),
        megabytes_per_s: rate.zip(bytes).map(|(rate, bytes)| rate * bytes / 1e6),
        instructions_per_request: counted.instructions,
        exits_per_request: counted.exits,
        frames_sent_per_request: counted.frames_sent,
        bytes_copied_per_byte: counted.copied,
        ratio_to_linux: if mode == Mode::Linux { None } else { range(ratios.collect()) },
        rounds: own.len(),
        absent: absent(mode, &counted),
    }
}

/// Why a count is missing.
fn absent(mode: Mode, counted: &Counts) -> Vec<&'static str> {
    let mut reasons = Vec::new();
    if counted.instructions.is_none() {
        reasons.push("nothing was counted (--no-counts)");
    } else if mode == Mode::Linux {
        reasons.push("Linux counts no exits and no copies of a request");
    } else if counted.copied.is_none() {
        reasons.push("the server tells no copies");
    }
    reasons
}

/// Least, median, most.
fn range(mut values: Vec<f64>) -> Option<[f64; 3]> {
    let least = values.iter().copied().reduce(f64::min)?;
    let most = values.iter().copied().reduce(f64::max)?;
    Some([least, median(&mut values), most])
}

/// The table.
pub fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<8} {:<6} {:>7} {:>8} {:<9} {:>11} {:>9} {:>13} {:>8} {:>7} {:>7}  times Linux\n",
        "app",
        "asks",
        "clients",
        "pipeline",
        "mode",
        "requests/s",
        "MB/s",
        "instructions",
        "exits",
        "frames",
        "copies"
    );
    let number = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
    };
    for row in rows {
        let ratio = row
            .ratio_to_linux
            .map_or_else(String::new, |[least, median, most]| format!("{median:.2} ({least:.2}-{most:.2})"));
        text += &format!(
            "{:<8} {:<6} {:>7} {:>8} {:<9} {:>11} {:>9} {:>13} {:>8} {:>7} {:>7}  {ratio}\n",
            row.app,
            row.asks,
            row.clients,
            row.pipeline,
            row.mode,
            number(row.requests_per_s, 0),
            number(row.megabytes_per_s, 1),
            number(row.instructions_per_request, 0),
            number(row.exits_per_request, 3),
            number(row.frames_sent_per_request, 2),
            number(row.bytes_copied_per_byte, 2),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::net::plan::Wish;

    #[test]
    fn ratios_are_those_of_a_round() {
        let case = Case { wish: Wish::Page("/1k"), clients: 1, pipeline: 1 };
        let rate = |mode, round, per_second| Rate { case, mode, round, per_second };
        let rates = [
            rate(Mode::Direct, 0, 30.0),
            rate(Mode::Linux, 0, 10.0),
            rate(Mode::Direct, 1, 100.0),
            rate(Mode::Linux, 1, 50.0),
        ];
        let counts = [(case, Mode::Direct, Counts { instructions: Some(7000.0), ..Counts::default() })];
        let rows = rows(App::Httpd, &[case], &[Mode::Direct, Mode::Linux], &counts, &rates);
        assert_eq!(rows[0].ratio_to_linux, Some([2.0, 2.5, 3.0]));
        assert_eq!((rows[0].requests_per_s, rows[0].instructions_per_request), (Some(65.0), Some(7000.0)));
        assert_eq!(rows[1].ratio_to_linux, None);
        let text = table(&rows);
        assert!(text.contains("2.50 (2.00-3.00)") && text.contains("7000"), "{text}");
        let json = serde_json::to_value(&rows[1]).unwrap();
        assert!(json["exits_per_request"].is_null() && json["mode"] == "linux", "{json}");
    }
}
